"""What a person may set: the numbers of a recipe, and what a version's `create` takes."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

import microgpt
from microgpt import Config, InputError

from microgpt_lab.base.hints import hint as hint
from microgpt_lab.base.versions import Version, pick


def recipe(name: str, numbers: Mapping[str, Any]) -> Config:
    """A recipe by name, with those of its numbers that are given replaced."""
    if name not in microgpt.RECIPES:
        raise InputError(f"no recipe {name!r}{hint(name, microgpt.RECIPES)}")
    given = {key: value for key, value in numbers.items() if value is not None}
    return replace(microgpt.RECIPES[name], **given)


def runnable(name: str) -> tuple[Version, Any]:
    """A version and its module, if its framework is here."""
    (version,) = pick([name])
    if version.missing:
        raise InputError(f"{version.name} cannot run: {version.missing}")
    return version, version.load()


def parameters(module: Any) -> dict[str, inspect.Parameter]:
    """What a version's create() takes beyond the recipe and the snapshot, dtype first."""
    return dict(list(inspect.signature(module.create).parameters.items())[2:])


def read(
    version: Version,
    module: Any,
    dtype: str | None,
    device: str | None,
    pairs: Iterable[str],
) -> dict[str, Any]:
    """Options of create() from flags and `name=value` pairs. Raises InputError."""
    known, given = parameters(module), dict[str, Any]()
    texts = [("dtype", dtype), ("device", device)]
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"option {pair!r} has no value: write --option {pair}=…")
        texts.append((name.replace("-", "_"), value))
    for name, text in texts:
        if text is None:
            continue
        if name not in known:
            has = ", ".join(known)
            raise InputError(f"{version.name} has no option {name!r}: it has {has}")
        given[name] = value_of(version, known[name], text)
    return given


def value_of(version: Version, parameter: inspect.Parameter, text: str) -> Any:
    """A text as what the parameter's annotation says."""
    kind, name = parameter.annotation, parameter.name
    choices = version.dtypes if name == "dtype" else get_args(kind)
    if kind is bool:
        choices = ("yes", "no")
    if choices and text not in choices:
        raise InputError(f"{name} {text!r}: {version.name} has {', '.join(choices)}")
    if kind is bool:
        return text == "yes"
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise InputError(f"{name} is {text!r}: it must be a number ({kind.__name__})") from None


def carried_over(version: Version, module: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of another version's options that this one takes too, such as its dtype."""
    kept = {}
    for name, parameter in parameters(module).items():
        choices = version.dtypes if name == "dtype" else get_args(parameter.annotation)
        if name in options and (options[name] in choices or not choices):
            kept[name] = options[name]
    return kept
