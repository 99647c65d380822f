"""Mutants of the lab itself: wrong edits of its modules, and the tests that must notice each.

The lab makes claims of its own: which documents are held out, how long a step takes, whether a
check has passed. `spec/mutants/lab.toml` lists edits that make such a claim false. `microgpt
mutants lab` applies each edit to a copy of the lab and runs the tests that the edit names. An
edit is *killed* if one of them fails.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from microgpt import InputError

from rich.console import Console

from microgpt_lab.base import processes
from microgpt_lab.base.versions import ROOT, edited, ensure_checkout
from microgpt_lab.verification import lab_driver, output
from microgpt_lab.verification.mutants import FOLDER, tables_of

LAB = Path("lab") / "microgpt_lab"
WHERE = "spec/mutants/lab.toml"
Task = tuple[str, list[str]]  # a folder with a copy of the lab, and the tests to run on it
TEST_FAILED = 1  # pytest's exit status; 2 and more: it could not run the tests


@dataclass(frozen=True)
class LabMutant:
    """One edit: the text `find` stands exactly once in the file."""

    id: str
    file: str  # in lab/microgpt_lab
    find: str
    replace: str
    why: str
    tests: tuple[str, ...]  # in tests/; one of them must fail

    @property
    def source(self) -> str:
        """The file's text with the edit. Raises InputError if the edit does not fit."""
        path = ROOT / LAB / self.file
        if not path.is_file():
            raise InputError(f"{WHERE}: {self.id}: there is no file {self.file!r} in {LAB}")
        edit = {"find": self.find, "replace": self.replace}
        return edited(path.read_text("utf-8"), [edit], f"{WHERE}: {self.id}")


@dataclass(frozen=True)
class LabVerdict:
    """What became of one mutant."""

    mutant: LabMutant
    status: int  # pytest's
    said: str  # what pytest printed

    @property
    def killed(self) -> bool:
        return self.status == TEST_FAILED

    @property
    def fate(self) -> str:
        """What became of it, in words: the test that failed, or why there is none."""
        lines = self.said.strip().splitlines() or [f"status {self.status}"]
        if self.killed:
            failed = [line for line in lines if line.startswith("FAILED ")]
            return "killed by " + failed[0].split()[1].split("::")[-1] if failed else "killed"
        return "survived" if self.status == 0 else f"its tests could not run: {lines[-1]}"


# ---------------------------------------------------------------- The file


def read_lab_mutants(path: Path = FOLDER / "lab.toml") -> list[LabMutant]:
    """All mutants of the lab. Raises InputError that names the file, the mutant and the key."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{WHERE} cannot be read: {e}") from None
    found = [lab_mutant_from(table) for table in tables_of(WHERE, "mutant", tables)]
    if not found:
        raise InputError(f"{WHERE} has no [[mutant]]: there is nothing to run")
    ids = [mutant.id for mutant in found]
    if twice := [key for key in ids if ids.count(key) > 1]:
        raise InputError(f"{WHERE}: {twice[0]}: this id stands {ids.count(twice[0])} times")
    return found


def lab_mutant_from(table: dict[str, Any]) -> LabMutant:
    """A table of the file -> a mutant. Raises InputError."""
    where, keys = f"{WHERE}: {table.get('id', 'a [[mutant]] without id')}", fields(LabMutant)
    known = [key.name for key in keys]
    if wrong := [key for key in table if key not in known]:
        raise InputError(f"{where}: unknown key {wrong[0]!r}: there are {', '.join(known)}")
    if missing := [key for key in known if not table.get(key) and key != "replace"]:
        raise InputError(f"{where}: {missing[0]} is missing or empty")
    return LabMutant(**{"replace": "", **table, "tests": tuple(table["tests"])})


def chosen_mutants(ids: Sequence[str]) -> list[LabMutant]:
    """The mutants with these ids (all of them for no ids). Raises InputError."""
    found = {mutant.id: mutant for mutant in read_lab_mutants()}
    for key in ids:
        if key not in found:
            raise InputError(f"no mutant {key!r} in {WHERE}")
    return [found[key] for key in ids] if ids else list(found.values())


# ---------------------------------------------------------------- Running


def copy_tree(folder: Path, mutant: LabMutant | None) -> None:
    """A copy of the repository in which the lab is edited. All else is linked, not copied."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name != "lab" and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / LAB, folder / LAB)  # with compiled files, whose times still fit
    if mutant:
        (folder / LAB / mutant.file).write_text(mutant.source, "utf-8")


def run_mutants(mutants: Sequence[LabMutant], jobs: int) -> Iterator[tuple[LabVerdict, float]]:
    """(verdict, processor seconds) of each mutant, as each ends. The tests run on the lab as it
    is, too. Raises InputError if an edit does not fit or a test fails without any edit."""
    ensure_checkout("microgpt mutants lab")
    if not hasattr(os, "fork"):
        raise InputError("the mutants of the lab need fork(): run them on Linux or macOS")
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / f"{number:03}" for number in range(len(mutants) + 1)]
        every_test = sorted({test for mutant in mutants for test in mutant.tests})
        tasks = [(str(folders[0]), every_test)]
        copy_tree(folders[0], None)
        for folder, mutant in zip(folders[1:], mutants):
            copy_tree(folder, mutant)
            tasks.append((str(folder), list(mutant.tests)))
        for number, status, seconds, said in drive(tasks, jobs):
            if number:
                yield LabVerdict(mutants[number - 1], status, said), seconds
            elif status:
                raise InputError(f"a test fails on the lab as it is: {first_failure(said)}")


def first_failure(said: str) -> str:
    """The first test that failed, or pytest's last line."""
    lines = said.strip().splitlines() or ["pytest printed nothing"]
    return next((line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1])


def drive(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, int, float, str]]:
    """Start the script that runs the tests -> (number, exit status, processor seconds, what pytest
    printed) of each task, as each ends."""
    command = [sys.executable, lab_driver.__file__, str(jobs)]
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    # pytest's plugins take longer to start than most tests, and no test of the lab needs one
    alone = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = os.environ | threads | alone
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with processes.started(command, **pipes, env=environment) as driver:
        assert driver.stdin
        assert driver.stdout
        driver.stdin.write(json.dumps(tasks))
        driver.stdin.close()
        for line in driver.stdout:
            number, status, seconds, said = json.loads(line)
            yield number, status, seconds, said
        driver.wait()
    if driver.returncode > 0:
        raise InputError(f"the tests could not be run: {lab_driver.__file__} has ended")


def run_and_show(ids: Sequence[str], jobs: int, console: Console) -> int:
    """Run mutants of the lab and print a line for each -> exit status."""
    mutants = chosen_mutants(ids)
    if not mutants:
        raise InputError("there is nothing to run: spec/mutants/lab.toml has no mutant")
    killed, used = 0, 0.0
    for verdict, seconds in run_mutants(mutants, jobs):
        killed, used = killed + verdict.killed, used + seconds
        mark, style = ("✓", "green") if verdict.killed else ("✗", "red")
        output.print_line(console, mark, style, f"lab: {verdict.mutant.id}: {verdict.fate}")
    console.print(
        f"{killed} of {len(mutants)} wrong edits of the lab killed, "
        f"in {used:.0f} s of processor time"
    )
    return 0 if killed == len(mutants) else 1
