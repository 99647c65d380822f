"""Command-line options that several commands share, and how --help shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args

from microgpt import OPTIONS, Config, InputError, in_recipes

import tyro
from tyro.conf import OmitArgPrefixes, UseAppendAction
from tyro.constructors import PrimitiveConstructorSpec

from microgpt_lab.base import files


def flag(metavar: str, default: str = "", name: str | None = None) -> Any:
    """How --help shows an option whose default in Python is None or ()."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, name=name)


def sentence(text: str) -> str:
    """A phrase of 01's --help as a sentence of the lab's."""
    return f"{text[0].upper()}{text[1:]}."


# ---------------------------------------------------------------- Shared with 01

# The versions' programs have the same options, and 01 says what they mean.
Recipe = Annotated[
    str, tyro.conf.arg(metavar="{seed,gist,scaled}", help="Set of numbers to start from.")
]
Seed = Annotated[
    int, tyro.conf.arg(help="Seed of the shuffle, the initial weights and the sampling.")
]
Data = Annotated[str, tyro.conf.arg(metavar="DATA", help="File, URL, makemore, names.")]


# ---------------------------------------------------------------- Numbers of a recipe


def number_or_none(kind: Any) -> PrimitiveConstructorSpec[Any]:
    """An option for a number (or for one of some words) that is None if it is not given."""
    choices = get_args(kind)
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(choices)}}}" if choices else kind.__name__.upper(),
        instance_from_str=lambda texts: texts[0] if choices else kind(texts[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
        choices=choices or None,
    )


def options_of(name: str, kind: Any) -> list[tuple[str, Any, Any]]:
    """The option of one of a recipe's numbers. A bool has two, --x and --no-x, as in the versions'
    programs; without either of them the recipe decides."""
    hint = f"({in_recipes(name)})"
    shown = tyro.conf.arg(help=sentence(OPTIONS[name].meaning), help_behavior_hint=hint)
    if kind is not bool:
        return [(name, Annotated[Any, number_or_none(kind), shown], field(default=None))]
    opposite = tyro.conf.arg(help=f"The opposite of --{dashed(name)}.", help_behavior_hint="")
    return [
        (name, Annotated[bool, shown], field(default=False)),
        (f"no_{name}", Annotated[bool, opposite], field(default=False)),
    ]


def dashed(name: str) -> str:
    return name.replace("_", "-")


def given_numbers(numbers: Any) -> dict[str, Any]:
    """{field of Config: value, or None where none was given} from the parsed options. Raises
    InputError if both --x and --no-x were given."""
    given: dict[str, Any] = vars(numbers).copy()
    for f in fields(Config):
        if f.type is bool:
            yes, no = given[f.name], given.pop(f"no_{f.name}")
            if yes and no:
                flags = f"--{dashed(f.name)} and --no-{dashed(f.name)}"
                raise InputError(f"{flags} contradict each other: give one of them")
            given[f.name] = True if yes else False if no else None
    return given


Numbers: Any = make_dataclass(
    "Numbers", [option for f in fields(Config) for option in options_of(f.name, f.type)]
)
Numbers.__doc__ = "Replace single numbers of the recipe."
RecipeNumbers = Annotated[OmitArgPrefixes[Numbers], tyro.conf.arg(name="recipe")]


# ---------------------------------------------------------------- Options of a version


@dataclass
class FrameworkOptions:
    """Options that only some versions have; microgpt doctor shows the devices."""

    dtype: Annotated[str | None, flag("DTYPE", "the version's")] = None
    """Precision: float32 or float64."""
    device: Annotated[str | None, flag("DEVICE", "the version's")] = None
    """Where to compute, such as cpu or cuda."""
    option: Annotated[tuple[str, ...], UseAppendAction, flag("OPTION")] = ()
    """Any other option of the version's program, such as compile, no-compile or accumulate=3."""

    @property
    def chosen(self) -> tuple[str | None, str | None, tuple[str, ...]]:
        return self.dtype, self.device, self.option


# ---------------------------------------------------------------- Empty values

MAY_BE_EMPTY = ("--prompt",)  # an empty prompt has no letters; anything else would have no meaning


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raises InputError for an empty value: it must not be taken as one that was not given."""
    for before, argument in pairwise(["", *arguments]):
        name, equals, value = argument.partition("=")
        if not argument:
            name = before if before.startswith("-") else "an argument"
        elif value or not (equals and name.startswith("--")):
            continue
        if name not in MAY_BE_EMPTY:
            raise InputError(f"{name} is empty: give a value or leave it out")


# ---------------------------------------------------------------- Files to write


def ensure_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raises InputError if a file that was asked for cannot be written, or is one of the command's
    other files: a check before the work. Both are {option: file}."""
    known = {name: path for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        files.ensure_writable(path)
        for other, its in known.items():
            if files.same_file(path, its):
                raise InputError(f"{name} and {other} are both {str(path)!r}: give another file")
        known[name] = path


# ---------------------------------------------------------------- Limits


def at_least(least: float, **numbers: float) -> None:
    """Raises InputError for a number below the limit, and for NaN and infinity."""
    for name, value in numbers.items():
        if not least <= value < math.inf:
            raise InputError(f"{name} is {value}: it must be {least} or more, and finite")


def positive(name: str, text: str) -> list[int]:
    """Whole numbers from 1 on, separated by commas. Raises InputError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"{name} is {text!r}: it must be whole numbers from 1 on, as in 1,2,4")
    return found
