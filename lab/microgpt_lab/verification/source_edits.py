"""Find known mistakes in a version's source. The code is compared, not its text: comments, line
breaks and white space do not matter."""

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterator

import numpy as np

from microgpt_lab.base.versions import REFERENCE, Version, find, load_source
from microgpt_lab.verification import answers, mutants
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.mutants import Mutant

PLACES = 400  # lines of a program after which a deleted line is tried


def code(text: str) -> list[str]:
    """The lines of a program, or of some statements of one, as Python itself writes them; of a
    part that is no statement, its lines without comments."""
    try:
        return ast.unparse(ast.parse(textwrap.dedent(text).strip("\n"))).splitlines()
    except SyntaxError:
        lines = [without_comment(line).rstrip() for line in text.splitlines()]
        return [line for line in lines if line.strip()]


def without_comment(line: str) -> str:
    """A line up to its comment, if it has one outside a string."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.COMMENT:
                return line[: line.index(token.string)]
    except (tokenize.TokenError, IndentationError, SyntaxError):
        pass
    return line


def places(lines: list[str], part: list[str]) -> list[int]:
    """Where a part stands in a program, whatever its indentation."""
    bare, wanted = [x.strip() for x in lines], [x.strip() for x in part]
    size = len(wanted)
    return [i for i in range(len(bare) - size + 1) if size and bare[i : i + size] == wanted]


def put(lines: list[str], start: int, size: int, part: list[str], like: int) -> str:
    """The program with `part` instead of `size` lines, indented as the line `like` is."""
    line = lines[min(like, len(lines) - 1)]
    indent = line[: len(line) - len(line.lstrip())]
    block = [indent + x for x in textwrap.dedent("\n".join(part)).splitlines()]
    return "\n".join([*lines[:start], *block, *lines[start + size :]])


def undone(lines: list[str], mutant: Mutant) -> Iterator[str]:
    """The programs in which a mutant's edit may be undone; none if its edit is not there."""
    right, wrong = code(mutant.find), code(mutant.replace)
    while right and wrong and right[-1].strip() == wrong[-1].strip():
        right, wrong = right[:-1], wrong[:-1]
    while right and wrong and right[0].strip() == wrong[0].strip():
        right, wrong = right[1:], wrong[1:]
    if right and places(lines, right):
        return
    if wrong:
        for start in places(lines, wrong):
            yield put(lines, start, len(wrong), right, start)
    else:  # lines were deleted: try every place
        for start in range(min(len(lines), PLACES)):
            yield put(lines, start, 0, right, start)


@np.errstate(all="ignore")
def mutants_in_source(of: str, case: Case) -> list[Mutant]:
    """The mutants whose edit stands in a version's program: without it the case passes."""
    found = []
    for name in dict.fromkeys((of, REFERENCE)):
        version = find().get(name)
        if version is None or version.missing:
            continue
        lines = code(version.path.read_text())
        for mutant in mutants.read_mutants(name):
            if mutant.harmless:
                continue
            programs = undone(lines, mutant)
            if any(passes(version, source, case) for source in programs):
                found.append(mutant)
    return found


def passes(version: Version, source: str, case: Case) -> bool:
    """Whether a program gives the right answer to a case."""
    try:
        module = load_source("corrected", version.path, source)
        dtype = version.dtypes[-1]
        return all(f.passed for f in answers.run_checks(module, case, dtype))
    except Exception:
        return False
