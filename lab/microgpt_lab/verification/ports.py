"""Verify a port in any language: give it the cases, or read its answers from a file.

The protocol is described in `spec/README.md`. If a port crashes, hangs, prints something else
or answers for another case, that is a failure, and one line says so.
"""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microgpt import InputError

from rich.console import Console

from microgpt_lab.verification import checks, diagnosis, output
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding

WIDTH = 15  # of the table's first column: all columns together have 80


@dataclass
class Reply:
    """A port's answer to one case, and the findings."""

    case: Case
    answer: Case = field(default_factory=dict)
    error: str = ""  # why there is no answer to compare
    findings: list[Finding] = field(default_factory=list)

    @property
    def dtype(self) -> str:
        return str(self.answer.get("dtype"))


def question(case: Case) -> Case:
    """A case without its answer. Without `stream` too, if its documents are not in the file."""
    asked = {key: value for key, value in case.items() if key not in ("answer", "why", "made_by")}
    if asked.get("stream", {}).get("documents") == "names":
        del asked["stream"]
    return asked


def run_program(command: str, cases: Sequence[Case], timeout: float) -> list[Reply]:
    """Start the program once for each case; `timeout` in seconds for each. Raises InputError
    if it cannot be started, or if there is no case."""
    if not cases:
        raise InputError("there is no case to verify with: microgpt vectors makes them")
    return judge_all([ask_program(command, case, timeout) for case in cases])


def ask_program(command: str, case: Case, timeout: float) -> Reply:
    """The reply of one run of the program to one case."""
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
        os.killpg(process.pid, signal.SIGKILL)  # the processes that it started too
        process.communicate()
        return Reply(case, error=f"it gave no answer within {timeout:g} s and was stopped")
    if process.returncode:
        return Reply(case, error=how_it_ended(process.returncode, err))
    return read_answer(case, out)


def how_it_ended(status: int, errors: bytes) -> str:
    """A program's exit status and the last line of its errors, in words."""
    lines = errors.decode(errors="replace").strip().splitlines()
    said = f": {checks.shorten(lines[-1])}" if lines else ""
    if status < 0:
        return f"it crashed with {signal.Signals(-status).name}{said}"
    return f"it ended with status {status}{said}"


def read_answer(case: Case, raw: bytes) -> Reply:
    """A program's output -> reply, with an error if that is not a JSON object."""
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
    """Replies from a file with answers: a JSON list of them, or one answer a line. Raises
    InputError if it is not that, or if there is no case."""
    if not cases:
        raise InputError("there is no case to verify with: microgpt vectors makes them")
    known = {case["id"]: case for case in cases}
    given: dict[str, Any] = {}
    for answer in read_list(path):
        key = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(key, str) or key not in known:
            said = checks.shorten(key if isinstance(answer, dict) else answer)
            raise InputError(f"--results {str(path)!r}: there is no case {said}")
        if key in given:
            raise InputError(f"--results {str(path)!r}: case {key} is answered twice")
        given[key] = answer
    silent = "it is not in the file"
    replies = [
        Reply(case, given[key]) if key in given else Reply(case, error=silent)
        for key, case in known.items()
    ]
    return judge_all(replies)


def read_list(path: Path) -> list[Any]:
    """The values of a JSON list, or of a file with one JSON value a line. Raises InputError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or "not UTF-8 text"
        raise InputError(f"cannot read --results {str(path)!r}: {why}") from None
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except (ValueError, RecursionError):
        values = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                values += [json.loads(line)] if line.strip() else []
            except (ValueError, RecursionError) as e:
                raise InputError(f"--results {str(path)!r}, line {number}: not JSON: {e}") from None
        return values


# ---------------------------------------------------------------- Judging


def judge_all(replies: list[Reply]) -> list[Reply]:
    """Compare all answers. The levels that a port has are those of any of its answers: an
    answer that has nothing to compare fails if its case asks for one of these levels."""
    for reply in replies:
        judge_reply(reply)
    levels = {level for reply in replies for level in levels_of(reply)}
    for reply in replies:
        if not reply.findings and (left_out := levels & asked_levels(reply.case)):
            said = f"its levels are {', '.join(reply.answer['levels'])}: nothing to compare here, "
            said += f"but other answers have {in_order(left_out)}"
            reply.findings = [checks.failure(reply.case["id"], "answer", "", said)]
    return replies


def judge_reply(reply: Reply) -> Reply:
    """Compare one answer in every check of its levels; no finding where the case asks for
    none of them."""
    reply.error = reply.error or complaint(reply.case, reply.answer)
    if reply.error:
        reply.findings = [checks.failure(reply.case["id"], "answer", "", reply.error)]
        return reply
    for check, (level, _) in checks.CHECKS.items():
        if level in reply.answer["levels"]:
            finding = checks.compare(reply.case, reply.answer, check, reply.dtype)
            reply.findings += [finding] if finding else []
    return reply


def complaint(case: Case, answer: Case) -> str:
    """What is wrong with an answer before its numbers are compared; "" if nothing."""
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


def levels_of(reply: Reply) -> list[str]:
    """The levels that an answer has; none if it cannot be used."""
    return [] if reply.error else list(reply.answer["levels"])


def asked_levels(case: Case) -> set[str]:
    """The levels of the checks that a case asks for."""
    return {level for check, (level, _) in checks.CHECKS.items() if checks.asks_for(case, check)}


def in_order(levels: Iterable[str]) -> str:
    """Levels as a text, in the order of LEVELS."""
    return ", ".join(sorted(levels, key=checks.LEVELS.index))


def passed(replies: Sequence[Reply]) -> bool:
    """Whether there is a finding, and every finding passed."""
    findings = [finding for reply in replies for finding in reply.findings]
    return bool(findings) and all(finding.passed for finding in findings)


def diagnose(replies: Sequence[Reply], patience: float | None = None) -> list[str]:
    """What is wrong with a port, in words; see diagnosis.diagnose."""
    given = [r for r in replies if not r.error]
    answered = [diagnosis.Answered(r.case, r.answer, r.findings, r.dtype) for r in given]
    return diagnosis.diagnose(answered, patience=patience)


# ---------------------------------------------------------------- Showing


def show_replies(replies: Sequence[Reply], console: Console) -> None:
    """A row for each case, a column for each check. Below the table: the first failure of each
    case, the diagnosis, and the levels that passed."""
    asked = [c for c in checks.CHECKS if any(f.check == c for r in replies for f in r.findings)]
    table = output.table_of_checks("case", WIDTH, asked)
    for reply in replies:
        cells = {finding.check: output.cell(finding) for finding in reply.findings}
        row = [cells.get(check, output.cell(None)) for check in asked]
        table.add_row(output.printable(reply.case["id"]), *row)
    console.print(table)
    for reply in replies:
        failed = [f for f in reply.findings if not f.passed]
        for finding in failed[:1]:
            output.print_failure(console, finding.line())
    for line in diagnose(replies):
        output.print_explanation(console, line)
    if passed(replies):
        for line in certified(replies):
            output.print_line(console, "passed", "green", line)
    elif not any(reply.findings for reply in replies):
        output.print_failure(console, "no case asks for the levels of this port")


def certified(replies: Sequence[Reply]) -> list[str]:
    """Which levels passed, and in how many cases if not in all that ask for them."""
    everywhere, lines = [], []
    for level in checks.LEVELS:
        asked = [r for r in replies if level in asked_levels(r.case)]
        answered = [r for r in asked if level in levels_of(r)]
        if answered and len(answered) == len(asked):
            everywhere.append(level)
        elif answered:
            lines.append(f"{len(answered)} of the {len(asked)} cases that ask for it on: {level}")
    return ([f"every case on: {', '.join(everywhere)}"] if everywhere else []) + lines


def replies_record(replies: Sequence[Reply]) -> dict[str, Any]:
    """The whole run as plain data, for --json."""
    return {
        "format": "microgpt-verify-port/1",
        "passed": passed(replies),
        "cases": [
            {
                "id": r.case["id"],
                "error": r.error,
                "findings": [f.fields() for f in r.findings],
            }
            for r in replies
        ],
        "diagnosis": diagnose(replies),
    }
