"""The ideas under beyond/: a folder `NN_name` each, with these files.

    main.py       the program: one idea
    claims.py     a function for each measurement: `def name(idea) -> float`, or a dict of floats;
                  `idea` is main.py as a module. And `def picture(idea, figures, path)`, where
                  figures is {claim: what was measured}.
    claims.toml   what is claimed: for each measurement a threshold, and at least one control
    README.md     with the markers of pages.py, between which the figures are written

A control is an edit of main.py that makes it wrong: the same measurement must then break the
threshold. A mistake in a folder is an InputError of one line that names the file and the key.
"""

import ast
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files, schema
from microgpt_lab.base.hints import hint
from microgpt_lab.base.versions import ROOT

FOLDER = ROOT / "beyond"
Value = float | dict[str, float] | None  # None: it is not a finite number

# ---------------------------------------------------------------- claims.toml


class Control(schema.Schema, frozen=True):
    """A wrong program: an edit of main.py. `find` must stand there exactly once."""

    says: str  # what is wrong
    find: str
    replace: str


class Claim(schema.Schema, frozen=True):
    """Exactly one of at_most, at_least and within is given. Of a dict, `key` names the number
    that is compared; without it all are."""

    name: str
    says: str
    measure: str  # a function in claims.py
    control: list[Control]
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    within: tuple[float, float] | None = None
    key: str = ""
    recorded: bool = False  # it takes long: measured by --write and --long only

    @property
    def limits(self) -> tuple[float, float]:
        low, high = self.within or (self.at_least, self.at_most)
        return (-math.inf if low is None else low), (math.inf if high is None else high)

    @property
    def threshold(self) -> dict[str, Any]:
        """The threshold as the record keeps it."""
        within = list(self.within) if self.within else None
        given: dict[str, Any] = {
            "at_most": self.at_most,
            "at_least": self.at_least,
            "within": within,
        }
        given["key"] = self.key
        return {name: value for name, value in given.items() if value not in (None, "")}

    def accepts(self, value: Value) -> bool:
        """Whether what was measured keeps the threshold. NaN, None and an empty dict do not."""
        named = value if isinstance(value, dict) else {"": value}
        found = [named.get(self.key)] if self.key else [*named.values()]
        low, high = self.limits
        return bool(found) and all(x is not None and low <= x <= high for x in found)


class Claims(schema.Schema, frozen=True):
    """A whole claims.toml. The picture is also written to `picture`, a path from the root on."""

    title: str
    claim: list[Claim]
    picture: str = ""


@dataclass(frozen=True)
class Idea:
    """A folder under beyond/."""

    name: str
    folder: Path
    title: str
    claims: tuple[Claim, ...]
    picture: str

    @property
    def source(self) -> str:
        return files.read_text(self.folder / "main.py")

    def edited(self, control: Control) -> str:
        return self.source.replace(control.find, control.replace)

    def digest(self, claim: Claim) -> str:
        """Of the code behind a figure: main.py and the function that measures, without comments.
        A recorded figure with another digest was measured with another program."""
        functions = ast.parse(files.read_text(self.folder / "claims.py")).body
        measures = [f for f in functions if getattr(f, "name", "") == claim.measure]
        parts = [ast.parse(self.source), *measures]
        return hashlib.sha256("\n".join(map(ast.unparse, parts)).encode()).hexdigest()[:12]


# ---------------------------------------------------------------- Reading


def read(folder: Path) -> Idea:
    """The idea in a folder. Raises InputError."""
    where = f"beyond/{folder.name}/claims.toml"
    for name in ("main.py", "claims.py", "claims.toml", "README.md"):
        if not (folder / name).is_file():
            raise InputError(f"beyond/{folder.name}: {name} is missing")
    try:
        tables = tomllib.loads(files.read_text(folder / "claims.toml"))
        text = json.dumps(tables, allow_nan=False)
    except tomllib.TOMLDecodeError as e:
        raise InputError(f"{where} is not TOML: {e}") from None
    except (ValueError, TypeError):
        raise InputError(f"{where} has nan, inf or a date: a threshold is a number") from None
    found = schema.decode(text.encode(), Claims, where)
    idea = Idea(folder.name, folder, found.title, tuple(found.claim), found.picture)
    if not idea.claims:
        raise InputError(f"{where}: there is no [[claim]]: an idea needs at least one")
    functions = functions_of(folder)
    for claim in idea.claims:
        check_claim(idea, claim, f"{where}: {claim.name}", functions)
    return idea


def functions_of(folder: Path) -> list[str]:
    """The functions of claims.py. Raises InputError if it is no Python."""
    try:
        body = ast.parse(files.read_text(folder / "claims.py")).body
    except SyntaxError as e:
        raise InputError(f"beyond/{folder.name}/claims.py, line {e.lineno}: {e.msg}") from None
    return [node.name for node in body if isinstance(node, ast.FunctionDef)]


def check_claim(idea: Idea, claim: Claim, where: str, functions: Sequence[str]) -> None:
    """Raises InputError for a claim that cannot be measured, or could not fail."""
    if [c.name for c in idea.claims].count(claim.name) > 1:
        raise InputError(f"{where}: two claims have this name: give one another")
    if sum(x is not None for x in (claim.at_most, claim.at_least, claim.within)) != 1:
        raise InputError(f"{where}: give exactly one of at_most, at_least and within")
    low, high = claim.limits
    if not low <= high:
        raise InputError(f"{where}: within is [{low:g}, {high:g}]: the smaller number comes first")
    if claim.measure not in functions:
        said = f"there is no function {claim.measure!r} in claims.py"
        raise InputError(f"{where}: measure: {said}{hint(claim.measure, functions)}")
    if not claim.control:
        raise InputError(f"{where}: there is no [[claim.control]]: a claim needs a wrong program")
    for control in claim.control:
        if (places := idea.source.count(control.find)) != 1:
            said = f"find stands {places} times in main.py: it must stand there once"
            raise InputError(f"{where}: {control.says}: {said}")
        if control.replace == control.find:
            raise InputError(f"{where}: {control.says}: replace is equal to find")


def folders(root: Path) -> dict[str, Path]:
    """The folders of ideas by name, in order."""
    found = {path.name: path for path in sorted(root.glob("[0-9][0-9]_*"))}
    return {name: path for name, path in found.items() if any(path.glob("*.*"))}


def pick(names: Sequence[str], root: Path) -> list[tuple[Idea, list[Claim]]]:
    """The ideas of these names (none: all) with the claims to measure. A name is a folder, its
    number, or the beginning of it; `02.bytes` is one claim. Raises InputError."""
    known = folders(root)
    if not known:
        raise InputError(f"there is no idea in {str(root)!r}: its folders are NN_name")
    picked: dict[str, tuple[Idea, list[Claim]]] = {}
    for name in names or known:
        before, dot, wanted = name.partition(".")
        folder = folder_of(before, known)
        idea, mine = picked.setdefault(folder, (read(known[folder]), []))
        claims = {claim.name: claim for claim in idea.claims}
        if dot and wanted not in claims:
            raise InputError(f"{folder} has no claim {wanted!r}{hint(wanted, claims)}")
        mine += [claim for claim in idea.claims if wanted in ("", claim.name) and claim not in mine]
    return [picked[folder] for folder in sorted(picked)]


def folder_of(name: str, known: Mapping[str, Path]) -> str:
    """The folder that a name means. Raises InputError if there is not exactly one."""
    fits = [key for key in known if name and name in (key, key[:2], key[3:])]
    fits = fits or [key for key in known if name and key.startswith((name, f"{key[:3]}{name}"))]
    if len(fits) != 1:
        said = f": it can be {' or '.join(fits)}" if fits else hint(name, known)
        raise InputError(f"no idea {name!r}{said}")
    return fits[0]
