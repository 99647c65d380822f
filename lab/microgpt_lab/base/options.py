"""Options that a person can set: the numbers of a recipe, and the parameters of a version's
`create` (dtype, device and others, such as compile)."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

import microgpt
from microgpt import Config, InputError

from microgpt_lab.base.hints import hint as hint
from microgpt_lab.base.versions import Version, pick


def recipe(name: str, numbers: Mapping[str, Any]) -> Config:
    """A recipe by name, with the given numbers replaced; None means not given.
    Raises InputError for an unknown name and for a number out of range."""
    if name not in microgpt.RECIPES:
        raise InputError(f"no recipe {name!r}{hint(name, microgpt.RECIPES)}")
    given = {key: value for key, value in numbers.items() if value is not None}
    return replace(microgpt.RECIPES[name], **given)


def runnable(name: str) -> tuple[Version, Any]:
    """A version and its loaded module. Raises InputError if its framework is not installed."""
    (version,) = pick([name])
    if version.missing:
        raise InputError(f"{version.name} cannot run: {version.missing}")
    return version, version.load()


def parameters(module: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a version's create() after the recipe and the snapshot; dtype is first."""
    return dict(list(inspect.signature(module.create).parameters.items())[2:])


def for_create(
    version: Version,
    module: Any,
    dtype: str | None,
    device: str | None,
    texts: Iterable[str],
) -> dict[str, Any]:
    """{parameter of create(): value} from --dtype, --device and the texts of --option.
    Raises InputError for a parameter that the version does not have, and for a wrong value."""
    known, found = parameters(module), dict[str, Any]()
    given = [("dtype", dtype), ("device", device)]
    given += [name_and_value(text, known) for text in texts]
    for name, value in given:
        if value is None:
            continue
        if name not in known:
            has = ", ".join(known)
            raise InputError(f"{version.name} has no option {name!r}: it has {has}")
        found[name] = parse_value(version, known[name], value)
    return found


def name_and_value(text: str, known: Mapping[str, inspect.Parameter]) -> tuple[str, str]:
    """The two parts of an option's text. "accumulate=3" has both; "compile" and "no-compile" stand
    for yes and no, as --compile and --no-compile do in the versions' own programs."""
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    positive = name.removeprefix("no_") if name not in known else name
    if positive in known and known[positive].annotation is bool:
        if equals:
            flag = positive.replace("_", "-")
            raise InputError(
                f"option {text!r}: {flag} takes no value, write --option {flag} or "
                f"--option no-{flag}"
            )
        return positive, "yes" if name == positive else "no"
    if name in known and not equals:
        raise InputError(f"option {text!r} has no value: write --option {text}=…")
    return name, value


def parse_value(version: Version, parameter: inspect.Parameter, text: str) -> Any:
    """A text as a value of the parameter's annotated type. Raises InputError."""
    kind, name = parameter.annotation, parameter.name
    if kind is bool:
        return text == "yes"
    choices = version.dtypes if name == "dtype" else get_args(kind)
    if choices and text not in choices:
        raise InputError(f"{name} {text!r}: {version.name} has {', '.join(choices)}")
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise InputError(f"{name} is {text!r}: it must be a number ({kind.__name__})") from None


def carried_over(version: Version, module: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of another version that this one takes too, such as its dtype: for a run that
    changes from one version to another."""
    kept = {}
    for name, parameter in parameters(module).items():
        choices = version.dtypes if name == "dtype" else get_args(parameter.annotation)
        if name in options and (options[name] in choices or not choices):
            kept[name] = options[name]
    return kept
