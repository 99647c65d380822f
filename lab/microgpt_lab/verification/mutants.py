"""Mutants: wrong programs that the checks must fail, and harmless rewrites that must pass.

A mutant is one small edit of a version's own source, kept as data in
`spec/mutants/<version>.toml`. `microgpt mutants` runs the checks on each edited program and
reports the first check and case that fail. If that happens, the mutant is *killed*.
"""

import functools
import math
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np
from rich.console import Console

from microgpt_lab.base.versions import REFERENCE, ROOT, Version, edited, find, load_source, pick
from microgpt_lab.verification import answers, child, output, vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding

FOLDER = ROOT / "spec" / "mutants"
# A harmless rewrite is run on these cases only: together they ask for every check.
HARMLESS = ("first-steps", "hot", "ragged-batch", "two-layers", "last-step", "seed")
FIRST = ("first-steps", "ragged-batch", "hot", "unlike-recipes")
LONG = 100  # steps or names
# The tables of a file: those of "distributed" need several workers, and tests run them.
KINDS = ("mutant", "harmless", "distributed")
NEEDED = ("id", "find", "replace", "why")
KEYS = (*NEEDED, "rule", "variant")


@dataclass(frozen=True)
class Mutant:
    """One edit: the text `find` stands exactly once in the version's program."""

    version: str
    id: str
    find: str
    replace: str
    why: str
    rule: str = ""
    harmless: bool = False
    variant: str = ""  # the variant of the version in which the edit takes effect

    @property
    def edit(self) -> dict[str, str]:
        return {"find": self.find, "replace": self.replace}


# ---------------------------------------------------------------- Files


def read_mutants(version: str) -> list[Mutant]:
    """All mutants and harmless rewrites of a version; none if it has no file. Raises
    InputError that names the file, the mutant and the key."""
    path, where = FOLDER / f"{version}.toml", f"spec/mutants/{version}.toml"
    if not path.exists():
        return []
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{where} cannot be read: {e}") from None
    if unknown := [kind for kind in tables if kind not in KINDS]:
        kinds = ", ".join(f"[[{kind}]]" for kind in KINDS)
        raise InputError(f"{where}: {unknown[0]!r} is unknown: a file has {kinds}")
    found = [
        mutant_from(where, version, kind, table)
        for kind in ("mutant", "harmless")
        for table in tables_of(where, kind, tables)
    ]
    ids = [mutant.id for mutant in found]
    if twice := [key for key in ids if ids.count(key) > 1]:
        raise InputError(f"{where}: {twice[0]}: this id stands {ids.count(twice[0])} times")
    return found


def tables_of(where: str, kind: str, tables: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of one kind in a file of mutants. Raises InputError."""
    found = tables.get(kind, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise InputError(f"{where}: {kind} must be tables: write [[{kind}]] above each")
    return found


def mutant_from(where: str, version: str, kind: str, table: dict[str, Any]) -> Mutant:
    """A table of a file -> a mutant. Raises InputError."""
    where = f"{where}: {table.get('id', f'a [[{kind}]] without id')}"
    needed = NEEDED if kind == "harmless" else (*NEEDED, "rule")
    if unknown := [key for key in table if key not in KEYS]:
        raise InputError(f"{where}: unknown key {unknown[0]!r}: there are {', '.join(KEYS)}")
    if missing := [key for key in needed if key not in table]:
        raise InputError(f"{where}: the key {missing[0]!r} is missing")
    if wrong := [key for key, value in table.items() if not isinstance(value, str)]:
        raise InputError(f"{where}: {wrong[0]} is {table[wrong[0]]!r}: it must be a text")
    if empty := [key for key in needed if key != "replace" and not table[key].strip()]:
        raise InputError(f"{where}: {empty[0]} is empty")
    return Mutant(version, harmless=kind == "harmless", **table)


def check_mutants(version: Version) -> None:
    """Raises InputError if an edit does not fit the version's program in exactly one place, or
    names a variant that the version does not have."""
    source = version.path.read_text("utf-8")
    for mutant in read_mutants(version.name):
        where = f"spec/mutants/{version.name}.toml: {mutant.id}"
        if (places := source.count(mutant.find)) != 1:
            program = f"{version.name}/{version.program}"
            raise InputError(
                f"{where}: find stands {places} times in {program}: it must stand there once"
            )
        if mutant.variant not in ("", *version.variants):
            known = ", ".join(version.variants) or "none"
            raise InputError(f"{where}: no variant {mutant.variant!r}: {version.name} has {known}")


# ---------------------------------------------------------------- Running


def apply(version: Version, mutants: Sequence[Mutant]) -> Any:
    """The version's module with these edits. An edit of 01 takes effect in the copy of 01
    that the version imports. Raises InputError if an edit does not fit."""
    name = "_and_".join(m.id for m in mutants).replace("-", "_")
    shared = load_shared(tuple(m for m in mutants if m.version == REFERENCE))
    if version.name == REFERENCE:
        return shared
    own = [m for m in mutants if m.version == version.name]
    return load_edited(version, name, own, None if shared is microgpt else shared)


@functools.cache
def load_shared(mutants: tuple[Mutant, ...]) -> Any:
    """01 with some edits, for a version to import."""
    return load_edited(find()[REFERENCE], "shared", mutants)


def load_edited(version: Version, name: str, mutants: Sequence[Mutant], shared: Any = None) -> Any:
    """A version's program with some edits, as a module; 01 without edits is `microgpt`."""
    if version.name == REFERENCE and not mutants:
        return microgpt
    source = edited(
        version.path.read_text("utf-8"), [m.edit for m in mutants], f"{version.name} {name}"
    )
    return load_source(f"mutant_{version.name}_{name}", version.path, source, shared)


def turn(case: Case) -> int:
    """When a mutant is put to a case: those first that fail the most mutants, the long ones last.
    Where a version compiles for each case, the order saves minutes."""
    if case["id"] in FIRST:
        return FIRST.index(case["id"])
    long = max(case["steps"], case["count"]) > LONG or case["id"] == "scaled"
    return len(FIRST) + int(long)


@np.errstate(all="ignore")  # a wrong program may divide by zero
def first_failure(version: Version, mutant: Mutant, dtype: str) -> Finding | None:
    """The first finding that fails, of the shorter cases first; None if all pass."""
    module = apply(version, [mutant])
    options = version.variants.get(mutant.variant, {})
    for case in sorted(vectors.vectors_for(mutant.variant), key=turn):
        if mutant.harmless and case["id"] not in HARMLESS:
            continue
        for finding in answers.run_checks(module, case, dtype, options):
            if not finding.passed:
                return finding
    return None


@dataclass(frozen=True)
class Verdict:
    """The result of one mutant."""

    mutant: Mutant
    killed: Finding | None  # the first check that failed
    dtype: str
    reason: str = ""  # why it was not run

    @property
    def right(self) -> bool:
        """Whether a wrong program gave wrong numbers, or a harmless one passed. A program that
        raises gives no numbers, and so does not count as killed."""
        if self.killed and self.killed.check == "error":
            return False
        return not self.reason and (self.killed is None) == self.mutant.harmless

    @property
    def fate(self) -> str:
        """What became of it, in words."""
        if self.reason:
            return f"not run: {self.reason}"
        if self.killed:
            return f"{self.killed.check}, {self.killed.case}"
        return "passed" if self.mutant.harmless else "survived"


def serve_version(name: str, *chosen: str) -> Iterator[Any]:
    """In the process of one version: yields (id, dtype, fields of the failure) of each mutant,
    or only of those with the chosen ids."""
    (version,) = pick([name])
    dtype = "float64" if "float64" in version.dtypes else "float32"
    for mutant in read_mutants(name):
        if not chosen or mutant.id in chosen:
            found = first_failure(version, mutant, dtype)
            infinite = found is not None and math.isinf(found.worst)
            worst = {"worst": None} if infinite else {}
            yield mutant.id, dtype, found.fields() | worst if found else None


def run_version(version: Version) -> list[Verdict]:
    """All verdicts of one version, made in a process of its own."""
    mutants = {m.id: m for m in read_mutants(version.name)}
    if version.missing:
        return [Verdict(m, None, "", version.missing) for m in mutants.values()]
    values, last_words = child.run_module(version, "microgpt_lab.verification.mutants")
    verdicts = {}
    for key, dtype, fields in values:
        killed = None
        if fields:
            worst = math.inf if fields["worst"] is None else fields["worst"]
            killed = Finding(**fields | {"worst": worst})
        verdicts[key] = Verdict(mutants[key], killed, dtype)
    return [verdicts.get(key) or Verdict(m, None, "", last_words) for key, m in mutants.items()]


def run_all(names: Sequence[str], jobs: int) -> Iterator[Verdict]:
    """The verdicts of the named versions (none: all), `jobs` versions at a time. Raises
    InputError if a file of mutants is wrong, before anything runs, or if there is no mutant."""
    picked = pick(names)
    for version in picked:
        check_mutants(version)
    if not any(read_mutants(version.name) for version in picked):
        said = ", ".join(version.name for version in picked) or "no version"
        raise InputError(f"there is nothing to run: {said} has no mutant in spec/mutants")
    with ThreadPoolExecutor(jobs) as pool:
        for verdicts in pool.map(run_version, picked):
            yield from verdicts


# ---------------------------------------------------------------- Showing


def show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """A line for each mutant with the check and case that killed it; then the counts."""
    for v in verdicts:
        kind = " (harmless)" if v.mutant.harmless else ""
        fate = f"killed by {v.fate}" if v.killed else v.fate
        mark, style = ("✓", "green") if v.right else ("✗", "red")
        output.print_line(console, mark, style, f"{v.mutant.version}: {v.mutant.id}{kind}: {fate}")
        if v.killed and (v.mutant.harmless or v.killed.check == "error"):
            output.print_line(console, "   ", "", v.killed.line())
    wrong = [v for v in verdicts if not v.mutant.harmless]
    harmless = [v for v in verdicts if v.mutant.harmless]
    console.print(
        f"{sum(v.right for v in wrong)} of {len(wrong)} wrong programs killed, "
        f"{sum(v.right for v in harmless)} of {len(harmless)} harmless rewrites passed"
    )


if __name__ == "__main__":
    child.serve(serve_version)
