"""Verify a port in any language: give it the cases, or read its answers from a file.

The protocol is described in `spec/README.md`. If a port crashes, hangs, prints something else
or answers for another case, that is a failure, and one line says so.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files
from microgpt_lab.verification import checks, diagnosis, port_process
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.port_replies import Reply as Reply
from microgpt_lab.verification.port_replies import judge_reply as judge_reply
from microgpt_lab.verification.port_verdict import verdict_of


def question(case: Case) -> Case:
    """A case without its answer. Without `stream` too, if its documents are not in the file."""
    asked = {key: value for key, value in case.items() if key not in ("answer", "why", "made_by")}
    if asked.get("stream", {}).get("documents") == "names":
        del asked["stream"]
    return asked


def run_program(
    command: str, cases: Sequence[Case], timeout: float, first: bool = False
) -> list[Reply]:
    """Start the program once for each case and compare its answer; `timeout` in seconds for
    each. `first`: stop after the first case that fails. Raises InputError if the program
    cannot be started, or if there is no case."""
    if not cases:
        raise InputError("there is no case to verify with: microgpt vectors makes them")
    replies = []
    for case in cases:
        replies.append(judge_reply(ask_program(command, case, timeout)))
        if first and replies[-1].failed:
            break
    return replies


def ask_program(command: str, case: Case, timeout: float) -> Reply:
    """The reply of one run of the program to one case, not yet compared."""
    done = port_process.run(command, json.dumps(question(case)).encode(), timeout)
    if done.error:
        return Reply(case, error=done.error, errors=done.errors)
    reply = read_answer(case, done.output)
    reply.errors = done.errors
    return reply


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
        text = files.read_text(path)
    except InputError as e:
        raise InputError(f"--results: {e}") from None
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
    """Compare all answers."""
    return [judge_reply(reply) for reply in replies]


def passed(replies: Sequence[Reply]) -> bool:
    """Whether the port is certified; see port_verdict."""
    return verdict_of(replies).status == 0


def diagnose(replies: Sequence[Reply], patience: float | None = None) -> list[str]:
    """What is wrong with a port, in words; see diagnosis.diagnose. `patience` in seconds."""
    given = [r for r in replies if not (r.error or r.declined)]
    answered = [diagnosis.Answered(r.case, r.answer, r.findings, r.dtype) for r in given]
    return diagnosis.diagnose(answered, patience=patience)
