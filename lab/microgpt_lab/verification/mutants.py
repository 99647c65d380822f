"""Wrong programs that the suite must kill, and harmless rewrites that it must let live.

A mutant is one small edit of a version's own source, kept as data in
`spec/mutants/<version>.toml`. `microgpt mutants` climbs the ladder with each and says which
check of which case catches it first; MUTANTS.md is made from that.
"""

import functools
import json
import subprocess
import sys
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
from microgpt_lab.verification import answers, vectors
from microgpt_lab.verification.checks import Finding

FOLDER = ROOT / "spec" / "mutants"
PAGE = ROOT / "spec" / "MUTANTS.md"
# Between them these ask for every check; a harmless rewrite is not put to all the others too.
HARMLESS = ("first-steps", "hot", "ragged-batch", "two-layers", "last-step", "seed")


@dataclass(frozen=True)
class Mutant:
    """One edit: its text stands exactly once in the version's program."""

    version: str
    id: str
    find: str
    replace: str
    why: str
    rule: str = ""
    harmless: bool = False
    variant: str = ""  # the variant of create() in which the edit acts

    @property
    def edit(self) -> dict[str, str]:
        return {"find": self.find, "replace": self.replace}


def read(version: str) -> list[Mutant]:
    """All of a version's mutants and harmless rewrites; none if it has no file."""
    path = FOLDER / f"{version}.toml"
    if not path.exists():
        return []
    tables = tomllib.loads(path.read_text())
    found = []
    for kind in ("mutant", "harmless"):
        for table in tables.get(kind, []):
            try:
                mutant = Mutant(version, harmless=kind == "harmless", **table)
            except TypeError as e:
                raise InputError(f"{path.name}: {table.get('id')}: {e}") from None
            if kind == "mutant" and not mutant.rule:
                raise InputError(f"{path.name}: {mutant.id} names no rule that it breaks")
            found.append(mutant)
    return found


def apply(version: Version, mutants: Sequence[Mutant]) -> Any:
    """The version's module with these edits made; those of 01 reach it through what it
    imports."""
    name = "_and_".join(m.id for m in mutants).replace("-", "_")
    shared = load_shared(tuple(m for m in mutants if m.version == REFERENCE))
    if version.name == REFERENCE:
        return shared
    own = [m for m in mutants if m.version == version.name]
    return load_edited(version, name, own, None if shared is microgpt else shared)


@functools.cache
def load_shared(mutants: tuple[Mutant, ...]) -> Any:
    """01 after some edits: what a version then imports."""
    return load_edited(find()[REFERENCE], "shared", mutants)


def load_edited(version: Version, name: str, mutants: Sequence[Mutant], shared: Any = None) -> Any:
    """A version's program after some edits, as a module; the untouched 01 is itself."""
    if version.name == REFERENCE and not mutants:
        return microgpt
    source = edited(version.path.read_text(), [m.edit for m in mutants], f"{version.name} {name}")
    return load_source(f"mutant_{version.name}_{name}", version.path, source, shared)


@np.errstate(all="ignore")  # a wrong program may well divide by zero
def judge(version: Version, mutant: Mutant, dtype: str) -> Finding | None:
    """The first finding that kills it: the cheapest cases come first. None: it lives."""
    module = apply(version, [mutant])
    options = version.variants.get(mutant.variant, {})
    for case in vectors.read_for(mutant.variant):
        if mutant.harmless and case["id"] not in HARMLESS:
            continue
        for finding in answers.run_checks(module, case, dtype, options):
            if not finding.passed:
                return finding
    return None


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    killed: Finding | None
    dtype: str
    reason: str = ""  # why it was not run

    @property
    def right(self) -> bool:
        """A wrong program died of its numbers, or a harmless one lived. One that cannot even
        run proves nothing."""
        if self.killed and self.killed.check == "error":
            return False
        return not self.reason and (self.killed is None) == self.mutant.harmless


def child(name: str, *chosen: str) -> None:
    """What the process of one version does: a JSON line for each verdict."""
    (version,) = pick([name])
    dtype = "float64" if "float64" in version.dtypes else "float32"
    for mutant in read(name):
        if not chosen or mutant.id in chosen:
            found = judge(version, mutant, dtype)
            record = found.record() | {"worst": str(found.worst)} if found else None
            print(json.dumps([mutant.id, dtype, record]), flush=True)


def run_version(version: Version) -> list[Verdict]:
    """All verdicts of one version, made in a process of its own."""
    mutants = {m.id: m for m in read(version.name)}
    if version.missing:
        return [Verdict(m, None, "", version.missing) for m in mutants.values()]
    command = [sys.executable, "-m", "microgpt_lab.verification.mutants", version.name]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=version.with_variables
    )
    verdicts = {}
    for line in done.stdout.splitlines():
        key, dtype, record = json.loads(line)
        killed = Finding(**record | {"worst": float(record["worst"])}) if record else None
        verdicts[key] = Verdict(mutants[key], killed, dtype)
    why = (done.stderr.strip().splitlines() or ["its process ended early"])[-1]
    return [verdicts.get(key) or Verdict(m, None, "", why) for key, m in mutants.items()]


def run_all(names: Sequence[str], jobs: int) -> Iterator[Verdict]:
    """The verdicts of all versions, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        for verdicts in pool.map(run_version, pick(names)):
            yield from verdicts


# ---------------------------------------------------------------- Showing


def show(verdicts: Sequence[Verdict], console: Console) -> None:
    """A line a mutant: what killed it, or that it lives; then the counts."""
    for v in verdicts:
        fate = f"killed by {v.killed.check} in {v.killed.case}" if v.killed else "lives"
        color = "green" if v.right else "red"
        kind = " (harmless)" if v.mutant.harmless else ""
        text = f"{v.mutant.version}: {v.mutant.id}{kind}: {v.reason or fate}"
        console.print(f"[{color}]{'✓' if v.right else '✗'}[/] {text}", highlight=False)
        if v.killed and (v.mutant.harmless or v.killed.check == "error"):
            console.print(f"    {v.killed.line()}", highlight=False, soft_wrap=True)
    wrong = [v for v in verdicts if not v.mutant.harmless]
    alive = [v for v in verdicts if v.mutant.harmless]
    console.print(
        f"{sum(v.right for v in wrong)} of {len(wrong)} wrong programs killed, "
        f"{sum(v.right for v in alive)} of {len(alive)} harmless rewrites let live"
    )


# ---------------------------------------------------------------- MUTANTS.md


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The page that teaches why the checks are as they are."""
    wrong = [v for v in verdicts if not v.mutant.harmless]
    harmless = [v for v in verdicts if v.mutant.harmless]
    lines = [
        "# Mutants",
        "",
        "Wrong programs, each one small edit of a version's own source, and the check that "
        "catches each first. The suite must kill every one of them and let every harmless "
        "rewrite live: `microgpt mutants` tries that and makes this page, and `.ci/run` fails on "
        "a survivor or a false alarm. Try one yourself: make the edit, then run "
        "`microgpt verify` with the version's number.",
        "",
        f"{len(wrong)} wrong programs, {len(harmless)} harmless rewrites.",
    ]
    for name in dict.fromkeys(v.mutant.version for v in verdicts):
        lines += ["", f"## {name}", "", "| mutant | rule | why one would write it | killed by |"]
        lines.append("|---|---|---|---|")
        for v in wrong:
            if v.mutant.version == name:
                by = f"{v.killed.check}, {v.killed.case}" if v.killed else "**survived**"
                lines.append(f"| `{v.mutant.id}` | {v.mutant.rule} | {v.mutant.why} | {by} |")
        mine = [v for v in harmless if v.mutant.version == name]
        if mine:
            lines += ["", "Harmless, and let live:", ""]
            lines += [f"- `{v.mutant.id}`: {v.mutant.why}" for v in mine]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    child(*sys.argv[1:])
