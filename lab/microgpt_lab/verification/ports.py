"""Ports in any language: put the cases to a program, or read its answers from a file.

The protocol is described in `spec/README.md`. Whatever a port does (crash, hang, print
rubbish, answer for another case), the outcome is a line that says so, and a failure.
"""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microgpt import InputError

from rich.console import Console
from rich.table import Table

from microgpt_lab.verification import checks, diagnosis
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding


@dataclass
class Reply:
    """What a port said to one case, and what is to be said of it."""

    case: Case
    answer: Case = field(default_factory=dict)
    error: str = ""  # why there is no answer to compare
    findings: list[Finding] = field(default_factory=list)

    @property
    def dtype(self) -> str:
        return str(self.answer.get("dtype"))


def question(case: Case) -> Case:
    """A case without its answer, and without a shuffle of documents that it does not hold."""
    asked = {key: value for key, value in case.items() if key not in ("answer", "why", "made_by")}
    if asked.get("stream", {}).get("documents") == "names":
        del asked["stream"]
    return asked


def run_program(command: str, cases: Sequence[Case], timeout: float) -> list[Reply]:
    """Start the program once for each case; `timeout` in seconds for each."""
    return [judge(put(command, case, timeout)) for case in cases]


def put(command: str, case: Case, timeout: float) -> Reply:
    """One case to one run of the program."""
    try:
        process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError, IndexError) as e:
        why = getattr(e, "strerror", None) or e
        raise InputError(f"cannot start --program {command!r}: {why}") from None
    try:
        out, err = process.communicate(json.dumps(question(case)).encode(), timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too
        process.communicate()
        return Reply(case, error=f"it gave no answer within {timeout:g} s and was stopped")
    if process.returncode:
        lines = err.decode(errors="replace").strip().splitlines()
        said = f": {checks.shorten(lines[-1])}" if lines else ""
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            return Reply(case, error=f"it crashed with {name}{said}")
        return Reply(case, error=f"it ended with status {process.returncode}{said}")
    return read_answer(case, out)


def read_answer(case: Case, raw: bytes) -> Reply:
    """Output -> reply, with an error if it is not a JSON object."""
    if not raw.strip():
        return Reply(case, error="it wrote nothing to standard output")
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as e:
        return Reply(case, error=f"its output is not JSON: {e}; it begins {raw[:30]!r}")
    if not isinstance(answer, dict):
        return Reply(case, error=f"its answer is not a JSON object: {checks.shorten(answer)}")
    return Reply(case, answer)


def read_results(path: Path, cases: Sequence[Case]) -> list[Reply]:
    """Answers that were written to a file: a JSON list of them, or one a line."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or "not UTF-8 text"
        raise InputError(f"cannot read --results {str(path)!r}: {why}") from None
    try:
        whole = json.loads(text)
        answers = whole if isinstance(whole, list) else [whole]
    except (ValueError, RecursionError):
        answers = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                answers += [json.loads(line)] if line.strip() else []
            except (ValueError, RecursionError) as e:
                raise InputError(f"--results {str(path)!r}, line {number}: not JSON: {e}") from None
    known = {case["id"]: case for case in cases}
    given: dict[str, Any] = {}
    for answer in answers:
        key = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(key, str) or key not in known:
            said = checks.shorten(key if isinstance(answer, dict) else answer)
            raise InputError(f"--results {str(path)!r}: there is no case {said}")
        if key in given:
            raise InputError(f"--results {str(path)!r}: case {key} is answered twice")
        given[key] = answer
    silent = "it is not in the file"
    return [
        judge(Reply(case, given[key]) if key in given else Reply(case, error=silent))
        for key, case in known.items()
    ]


# ---------------------------------------------------------------- Judging


def judge(reply: Reply) -> Reply:
    """Compare an answer on every check of the levels that it has."""
    reply.error = reply.error or complaint(reply.case, reply.answer)
    if reply.error:
        broken = Finding(reply.case["id"], "answer", False, float("inf"), 0.0)
        reply.findings = [broken.saying(reply.error)]
        return reply
    for check, (level, _) in checks.CHECKS.items():
        if level in reply.answer["levels"]:
            finding = checks.compare(reply.case, reply.answer, check, reply.dtype)
            reply.findings += [finding] if finding else []
    return reply


def complaint(case: Case, answer: Case) -> str:
    """What is wrong with an answer before any number is looked at; "" if nothing."""
    if answer.get("id") != case["id"]:
        return f"it answered for case {checks.shorten(answer.get('id'))}, asked was {case['id']!r}"
    levels = answer.get("levels")
    if not isinstance(levels, list) or not levels:
        return (
            f"levels is {checks.shorten(levels)}: it must list some of {', '.join(checks.LEVELS)}"
        )
    unknown = [level for level in levels if level not in checks.LEVELS]
    if unknown:
        return f"no level {checks.shorten(unknown[0])}: there are {', '.join(checks.LEVELS)}"
    if answer.get("dtype") not in checks.TOLERANCES:
        said = checks.shorten(answer.get("dtype"))
        return f"dtype is {said}: it must be one of {', '.join(checks.TOLERANCES)}"
    return ""


def passed(replies: Sequence[Reply]) -> bool:
    """Whether every case was answered and every finding passed."""
    return bool(replies) and all(r.findings and all(f.passed for f in r.findings) for r in replies)


def diagnose(replies: Sequence[Reply], patience: float = 60.0) -> list[str]:
    """What is wrong with a port, in words; see diagnosis.diagnose."""
    given = [r for r in replies if not r.error]
    answered = [diagnosis.Answered(r.case, r.answer, r.findings, r.dtype) for r in given]
    return diagnosis.diagnose(answered, patience=patience)


def show(replies: Sequence[Reply], console: Console) -> None:
    """A row a case, a column a check; below, the first finding of each and what it means."""
    asked = [c for c in checks.CHECKS if any(f.check == c for r in replies for f in r.findings)]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("case", no_wrap=True, max_width=14)
    for check in asked:
        table.add_column(checks.HEADS.get(check, check), justify="right", no_wrap=True)
    for reply in replies:
        cells = {f.check: mark(f) for f in reply.findings}
        row = [cells.get(check, "[dim]–[/]") for check in asked]
        table.add_row(reply.case["id"], *(["[red]no answer[/]"] if reply.error else row))
    console.print(table)
    for reply in replies:
        failed = [f for f in reply.findings if not f.passed]
        for finding in failed[:1]:
            console.print(f"[red]✗[/] {finding.line()}", highlight=False, soft_wrap=True)
    for line in diagnose(replies):
        console.print(f"[bold]→[/] {line}", highlight=False, soft_wrap=True)
    levels = sorted({level for r in replies for level in r.answer.get("levels", ()) if not r.error})
    if passed(replies):
        have = [level for level in checks.LEVELS if level in levels]
        console.print(f"[green]passed[/] every case on: {', '.join(have)}")


def mark(finding: Finding) -> str:
    if not finding.passed:
        return "[red]✗[/]"
    return "[green]=[/]" if finding.worst == 0 else f"[green]{finding.worst:.0e}[/]"


def record(replies: Sequence[Reply]) -> dict[str, Any]:
    """The whole run for machines."""
    return {
        "format": "microgpt-verify-port/1",
        "passed": passed(replies),
        "cases": [
            {
                "id": r.case["id"],
                "error": r.error,
                "findings": [f.record() for f in r.findings],
            }
            for r in replies
        ],
        "diagnosis": diagnose(replies),
    }
