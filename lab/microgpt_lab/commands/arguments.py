"""Options that several commands share, and how they read on the command line."""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, get_args

from microgpt import OPTIONS, Config, InputError

import tyro
from tyro.conf import OmitArgPrefixes, UseAppendAction
from tyro.constructors import PrimitiveConstructorSpec


def flag(metavar: str, default: str = "", name: str | None = None) -> Any:
    """How an option reads in --help."""
    said = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=said, name=name)


def number(kind: Any) -> PrimitiveConstructorSpec[Any]:
    """A recipe's number on the command line, None where it is not given."""
    choices = get_args(kind) or (("yes", "no") if kind is bool else ())

    def read(texts: list[str]) -> Any:
        return texts[0] == "yes" if kind is bool else texts[0] if choices else kind(texts[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(choices) if choices else kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
        choices=choices or None,
    )


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


NUMBERS = [
    (
        f.name,
        Annotated[
            Any,
            number(f.type),
            tyro.conf.arg(help=sentence(OPTIONS[f.name].meaning), help_behavior_hint=""),
        ],
        field(default=None),
    )
    for f in fields(Config)
]
Numbers: Any = make_dataclass("Numbers", NUMBERS)
Numbers.__doc__ = "Numbers of the recipe, for this run another."
RecipeNumbers = Annotated[OmitArgPrefixes[Numbers], tyro.conf.arg(name="recipe")]


@dataclass
class Own:
    """Options of the version's own; microgpt doctor shows what runs here."""

    dtype: Annotated[str | None, flag("DTYPE", "the version's")] = None
    """Precision: float32 or float64."""
    device: Annotated[str | None, flag("DEVICE", "the version's")] = None
    """Where it computes, such as cpu or cuda."""
    option: Annotated[tuple[str, ...], UseAppendAction, flag("NAME=VALUE")] = ()
    """Any other, such as compile=yes."""

    @property
    def chosen(self) -> tuple[str | None, str | None, tuple[str, ...]]:
        return self.dtype, self.device, self.option


def at_least(least: float, **numbers: float) -> None:
    """Raises InputError for a number that is less, or none at all."""
    for name, value in numbers.items():
        if not value >= least:
            raise InputError(f"{name} is {value}: it must be {least} or more")


def positive(name: str, text: str) -> list[int]:
    """Numbers from 1 on, separated by commas. Raises InputError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"{name} is {text!r}: it must be whole numbers from 1 on, as in 1,2,4")
    return found
