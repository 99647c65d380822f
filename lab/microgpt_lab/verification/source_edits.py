"""Find known mistakes in a version's source. The code is compared, not its text: comments, line
breaks and white space do not matter."""

import ast
import functools
import math
import textwrap
import time
from collections.abc import Iterator

import numpy as np

from microgpt_lab.base.versions import REFERENCE, Version, find, load_source
from microgpt_lab.verification import answers, mutants
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.mutants import Mutant


@functools.cache
def code(text: str) -> list[str] | None:
    """The lines of a program, or of some statements of one, as Python itself writes them; None
    for a part that is no whole statement."""
    try:
        return ast.unparse(ast.parse(textwrap.dedent(text.strip("\n")))).splitlines()
    except SyntaxError:
        return None


@functools.cache
def without_comments(text: str) -> str:
    """A program, or a part of one, without comments and empty lines."""
    lines = [without_comment(line).rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line.strip())


def without_comment(line: str) -> str:
    """A line up to its comment, if it has one outside a string."""
    quote = ""
    for i, c in enumerate(line):
        if c == "#" and not quote:
            return line[:i]
        if c in "\"'":
            quote = "" if quote == c else quote or c
    return line


def places(lines: list[str], part: list[str]) -> list[int]:
    """Where a part stands in a program, whatever its indentation."""
    bare, wanted = [x.strip() for x in lines], [x.strip() for x in part]
    size = len(wanted)
    return [i for i in range(len(bare) - size + 1) if size and bare[i : i + size] == wanted]


def put(lines: list[str], start: int, size: int, part: list[str]) -> str:
    """The program with `part` instead of `size` lines, indented as the first of these is."""
    line = lines[start]
    indent = line[: len(line) - len(line.lstrip())]
    return "\n".join([*lines[:start], *(indent + x for x in part), *lines[start + size :]])


def undone(source: str, mutant: Mutant) -> Iterator[str]:
    """The programs in which a mutant's edit may be undone; none if its edit is not there."""
    lines, right, wrong = code(source), code(mutant.find), code(mutant.replace)
    if lines is None or right is None or wrong is None:
        yield from undone_in_text(source, mutant)
    elif found := places(lines, wrong):
        yield from (put(lines, start, len(wrong), right) for start in found)
    elif not wrong and is_missing(source, mutant, lines):  # deleted: try every place
        yield from (put(lines, start, 0, right) for start in range(len(lines)))
    elif wrong and not places(lines, right):
        yield from undone_in_text(source, mutant)


def is_missing(source: str, mutant: Mutant, lines: list[str]) -> bool:
    """Whether the right lines of a mutant are in the program neither as code nor as text."""
    right = code(mutant.find) or []
    text = without_comments(mutant.find).strip()
    return not places(lines, right) and text not in without_comments(source)


def undone_in_text(source: str, mutant: Mutant) -> Iterator[str]:
    """The same for an edit of a part of a statement: its text is compared, without comments."""
    text = without_comments(source)
    right, wrong = without_comments(mutant.find), without_comments(mutant.replace)
    if wrong and (right in wrong or right not in text):
        parts = text.split(wrong)
        for i in range(1, len(parts)):
            yield wrong.join(parts[:i]) + right + wrong.join(parts[i:])


@np.errstate(all="ignore")
def mutants_in_source(of: str, case: Case, until: float = math.inf) -> list[Mutant]:
    """The mutants whose edit stands in a version's program, or in 01, which it imports: without
    it the case passes. `until`: the time on the monotonic clock at which to stop."""
    version, found = find().get(of), []
    if version is None or version.missing:
        return []
    if passes(version, of, version.path.read_text("utf-8"), case):
        return []  # what failed is not this file
    for name in dict.fromkeys((of, REFERENCE)):
        source = find()[name].path.read_text("utf-8")
        for mutant in mutants.read_mutants(name):
            if not mutant.harmless and any(
                time.monotonic() < until and passes(version, name, right, case)
                for right in undone(source, mutant)
            ):
                found.append(mutant)
    return found


def passes(version: Version, corrected: str, source: str, case: Case) -> bool:
    """Whether a version gives the right answer to a case if it, or the 01 that it imports, has
    this source."""
    try:
        path = find()[corrected].path
        module = load_source("corrected", path, source)
        if corrected != version.name:
            module = load_source("corrected_version", version.path, None, module)
        dtype = version.dtypes[-1]
        return all(f.passed for f in answers.run_checks(module, case, dtype))
    except Exception:
        return False
