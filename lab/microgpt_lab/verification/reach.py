"""Which lines and branches of a version's program `verify` reaches, measured by coverage.py.

What no case runs is not verified. Each statement that is not reached gets a reason: a device
that is not here, a message, the command line. A statement without a reason is a gap.
"""

import ast
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from microgpt import InputError

from rich.console import Console

from microgpt_lab.base import files, json_text, processes
from microgpt_lab.base.versions import ROOT, Version, installed, pick
from microgpt_lab.verification import output, reach_page, verified_page

GAP = ""  # the reason of what should be reached
# Decorators of functions that become machine code before they run, and what PyTorch compiles.
COMPILED = ("compiled", "inlined", "called_by_python", "intrinsic", "njit", "type_callable")
HELPERS = "for several workers: tests run it"
MACHINE_CODE = "runs as machine code, where lines are not counted"
# Words in the condition of an `if` that is about other workers.
OTHERS = ("rank()", "interrupted")
MESSAGE = "a message about what cannot work"
START = "the start of the program: `verify` runs it in a process of its own"
COMMAND_LINE = "documents, checkpoints, command line: they run in other processes, not counted here"
REASONS = {
    "main": COMMAND_LINE,
    "whole_step": MACHINE_CODE,
    "choose_device": "a device other than the CPU: not verified",
    "devices_of": "a device other than the CPU: not verified",
    "join_workers": HELPERS,
    "while_all_have_batches": HELPERS,
}
# The sections of a program that come after everything that computes.
RULER = "# ---------------------------------------------------------------- "
SECTIONS = ("Data and command line", "Checkpoints", "Command line")


def measure(version: Version) -> dict[str, Any]:
    """Run `verify` of one version under coverage.py -> {file: its part of the report}. Raises
    InputError if coverage.py is missing or the run fails."""
    if not installed("coverage"):
        raise InputError("coverage is not installed: pip install coverage")
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "data", Path(folder) / "report"
        steps = [
            ["run", "--branch", f"--data-file={data}", f"--include={version.path.parent}/*",
             "-m", "microgpt_lab.verification.verify", version.name],
            ["json", f"--data-file={data}", "-o", str(report)],
        ]  # fmt: skip
        for step in steps:
            command = [sys.executable, "-m", "coverage", *step]
            # without what Numba compiled before: the code that writes machine code then runs too
            fresh = version.with_variables | {"NUMBA_CACHE_DIR": folder}
            done = processes.run(command, cwd=ROOT, env=fresh)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise InputError(f"{version.name}: coverage failed: {last}")
        return dict(json.loads(report.read_text("utf-8"))["files"])


def missed(version: Version, files: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for each statement that was not reached: file, line, its first words, reason."""
    found = []
    for name, part in sorted(files.items()):
        path = ROOT / name
        source = path.read_text("utf-8")
        reasons = dict(reasons_of(version, path, source))
        lines = source.splitlines()
        starts = {start for start, _ in part.get("missing_branches", [])}
        for line in sorted({*part["missing_lines"], *starts}):
            words = " ".join(lines[line - 1].split()[:6])
            found.append(
                {"file": path.name, "line": line, "words": words, "reason": reasons.get(line, GAP)}
            )
    return found


def computing(source: str) -> str:
    """What computes in a program: the code before the sections that only run it, without its start,
    comments, positions and docstrings."""
    ends = (i for i, line in enumerate(source.splitlines()) if line.removeprefix(RULER) in SECTIONS)
    tree = ast.parse("\n".join(source.splitlines()[: next(ends, None)]))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and is_start(node))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return ast.dump(tree)


def fingerprint(source: str) -> str:
    """Changes if and only if what computes changes: then the lines are to be measured again."""
    return hashlib.sha256(computing(source).encode()).hexdigest()[:16]


def reasons_of(version: Version, path: Path, source: str) -> Iterator[tuple[int, str]]:
    """(line, reason) of each line that need not be reached; the last reason of a line counts."""
    tree, lines = ast.parse(source), source.splitlines()
    if path != version.path and "compile" not in source:
        yield from ((line, HELPERS) for line in range(1, len(lines) + 1))
    after = [i for i, line in enumerate(lines, 1) if line.removeprefix(RULER) in SECTIONS]
    yield from ((line, COMMAND_LINE) for line in range(min(after, default=10**9), len(lines) + 1))
    for node in ast.walk(tree):
        reason = reason_of(node)
        if reason and isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from ((line, reason) for line in range(node.lineno, (node.end_lineno or 0) + 1))


def is_start(node: ast.If) -> bool:
    return "__name__" in ast.unparse(node.test)


def reason_of(node: ast.AST) -> str:
    """Why the lines of a statement need not be reached; "" if they must be."""
    if isinstance(node, ast.FunctionDef):
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        if any(word in decorators for word in COMPILED):
            return MACHINE_CODE
        return REASONS.get(node.name, "")
    if isinstance(node, ast.ExceptHandler):
        return MESSAGE
    if isinstance(node, ast.If):
        if is_start(node):
            return START
        if "sys.version_info" in ast.unparse(node.test):
            return MESSAGE
        if any(word in ast.unparse(node.test) for word in OTHERS):
            return HELPERS
        if isinstance(node.body[-1], ast.Raise):
            return MESSAGE
    return ""


def summary(version: Version, files: dict[str, Any]) -> dict[str, Any]:
    """What the report says of one version: percentages, and what was not reached."""
    totals = [part["summary"] for part in files.values()]

    def percent(covered: str, all_of: str) -> int:
        whole = sum(total[all_of] for total in totals)
        return int(100 * sum(total[covered] for total in totals) / whole) if whole else 100

    return {
        "lines": percent("covered_lines", "num_statements"),
        "branches": percent("covered_branches", "num_branches"),
        "program": fingerprint(version.path.read_text("utf-8")),
        "missed": missed(version, files),
    }


def gaps(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What was not reached, without a reason."""
    return [line for line in summary["missed"] if line["reason"] == GAP]


def measure_all(names: Sequence[str], write: bool, console: Console) -> list[bool]:
    """Measure versions and show the gaps -> whether each has none. With `write`, put the
    results into the record and the page."""
    record, right = reach_page.read_record(), []
    for version in pick(names):
        if version.missing:
            output.print_line(console, "–", "yellow", f"{version.name}: {version.missing}")
            continue
        entry = summary(version, measure(version))
        text = f"{version.name}: {entry['lines']} % of lines, {entry['branches']} % of branches"
        missing = gaps(entry)
        mark, style = ("✗", "red") if missing else ("✓", "green")
        output.print_line(console, mark, style, text)
        for line in missing:
            where = f"{version.name}/{line['file']}:{line['line']}"
            output.print_failure(console, f"{where}: no case reaches {line['words']!r}")
        right.append(not missing)
        record[version.name] = entry
    if write:
        files.write(ROOT / reach_page.RECORD, json_text.to_json(dict(sorted(record.items()))))
        places = verified_page.Places()
        verified_page.write_pages(verified_page.read_record(places), places)
    return right
