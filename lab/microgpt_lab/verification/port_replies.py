"""A port's reply to one case, and its comparison with the right answer.

A port answers a case on some levels, or declines it with a reason. What it answers without
being able to be read (no JSON, an unknown level) is an error, and one line says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from microgpt_lab.verification import checks
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding

# Level -> the checks that belong to it.
CHECKS_OF = {
    level: [check for check, (of, _) in checks.CHECKS.items() if of == level]
    for level in checks.LEVELS
} | {"losses": list(checks.PRINTED)}
MOST_DIGITS = 17  # a float64 has no more


@dataclass
class Reply:
    """A port's answer to one case, and the findings."""

    case: Case
    answer: Case = field(default_factory=dict)
    error: str = ""  # why there is no answer to compare
    findings: list[Finding] = field(default_factory=list)
    errors: tuple[str, ...] = ()  # the last lines of the program's standard error

    @property
    def dtype(self) -> str:
        return str(self.answer.get("dtype"))

    @property
    def declined(self) -> str:
        """Why the port declined the case; "" if it did not."""
        return "" if self.error else str(self.answer.get("declined", ""))

    @property
    def failed(self) -> bool:
        return any(not finding.passed for finding in self.findings)


def judge_reply(reply: Reply) -> Reply:
    """Compare one answer in every check of its levels; no finding where the case asks for
    none of them, or was declined."""
    reply.error = reply.error or complaint(reply.case, reply.answer)
    if reply.error:
        reply.findings = [checks.failure(reply.case["id"], "answer", "", reply.error)]
        return reply
    wanted = {check for level in levels_of(reply) for check in CHECKS_OF[level]}
    for check in checks.CHECKS:
        if check in wanted:
            finding = checks.compare(reply.case, reply.answer, check, reply.dtype)
            reply.findings += [finding] if finding else []
    return reply


# ---------------------------------------------------------------- Can an answer be compared?


def complaint(case: Case, answer: Case) -> str:
    """What is wrong with an answer before its numbers are compared; "" if nothing."""
    if answer.get("id") != case["id"]:
        return f"it answered for case {checks.shorten(answer.get('id'))}, asked was {case['id']!r}"
    if "declined" in answer:
        return complaint_of_declined(answer)
    levels = answer.get("levels")
    if not isinstance(levels, list) or not levels:
        return (
            f"levels is {checks.shorten(levels)}: it must list some of {', '.join(checks.LEVELS)}"
        )
    unknown = [level for level in levels if level not in checks.LEVELS]
    if unknown:
        return f"no level {checks.shorten(unknown[0])}: there are {', '.join(checks.LEVELS)}"
    dtype = answer.get("dtype")
    if not isinstance(dtype, str) or dtype not in checks.TOLERANCES:
        said = checks.shorten(dtype)
        return f"dtype is {said}: it must be one of {', '.join(checks.TOLERANCES)}"
    return complaint_of_digits(answer, levels)


def complaint_of_declined(answer: Case) -> str:
    """What is wrong with an answer that declines its case."""
    reason = answer["declined"]
    if not isinstance(reason, str) or not reason.strip():
        return f"declined is {checks.shorten(reason)}: it must be the reason, as a text"
    if answer.get("levels"):
        return "it has declined and levels: decline the case, or answer it"
    return ""


def complaint_of_digits(answer: Case, levels: list[Any]) -> str:
    """What is wrong with the number of digits to which losses are printed."""
    digits = answer.get("digits")
    if "losses" not in levels:
        return "" if digits is None else "it has digits: they belong to the level losses"
    if "training" in levels:
        return "its levels have training and losses: training compares the same losses in full"
    if isinstance(digits, bool) or not isinstance(digits, int) or not 1 <= digits <= MOST_DIGITS:
        said = checks.shorten(digits)
        return f"digits is {said}: how many digits after the point are printed, 1 to {MOST_DIGITS}"
    return ""


# ---------------------------------------------------------------- Levels


def levels_of(reply: Reply) -> list[str]:
    """The levels that an answer has; none if it cannot be used or declines its case."""
    return [] if reply.error or reply.declined else list(reply.answer["levels"])


def asked_levels(case: Case) -> set[str]:
    """The levels of the checks that a case asks for."""
    return {
        level
        for level, names in CHECKS_OF.items()
        if any(checks.asks_for(case, check) for check in names)
    }


def in_order(levels: Iterable[str]) -> list[str]:
    """Levels in the order of LEVELS, each once."""
    return sorted(set(levels), key=checks.LEVELS.index)
