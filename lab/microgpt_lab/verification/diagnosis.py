"""Find out which mistake a wrong program has, by computing what known mistakes would answer.

A wrong answer is compared with the answer of every mutant, one mutant at a time and then in
pairs. If a mutant gives the same numbers within the tolerance, its edit is the mistake.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile, tee
from typing import Any

from microgpt import InputError

import numpy as np

from microgpt_lab.base.versions import REFERENCE, Version, find, load_source
from microgpt_lab.verification import answers, checks, mutants
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding
from microgpt_lab.verification.mutants import Mutant

SMALL = 600  # a case with more numbers in its weights is too slow for every mutant
GENERIC = "02_numpy_manual_backprop"  # fast, and each gradient has a line of its own


@dataclass(frozen=True)
class Answered:
    """A case, the answer to it, and the findings of all checks."""

    case: Case
    answer: Case
    findings: Sequence[Finding]
    dtype: str

    @property
    def failed(self) -> bool:
        return any(not f.passed for f in self.findings)


@np.errstate(all="ignore")  # a wrong program may well divide by zero
def diagnose(replies: Sequence[Answered], of: str = "", patience: float = 60.0) -> list[str]:
    """Lines that say what is wrong. `of`: the version that failed, "" for a port. `patience`:
    the seconds to look for two mistakes at once.

    A mutant is named if it explains the failed answers and also gives the answers that passed.
    """
    failed = [r for r in replies if r.failed]
    if not failed:
        return []
    try:
        return compare_with_mutants(replies, failed, of, patience)
    except InputError as e:
        return [f"this could not be compared with the known mistakes: {e}"]


def compare_with_mutants(
    replies: Sequence[Answered], failed: Sequence[Answered], of: str, patience: float
) -> list[str]:
    """As diagnose; raises InputError if a file of mutants cannot be read."""
    reverted = mutants_in_source(of, failed[0].case) if of else []
    if reverted:
        return [sentence([reverted[0]], exactly="the program differs from the right one by")]
    small = [r for r in replies if count_numbers(r.case) <= SMALL and r.answer]
    first = [r for r in failed if r in small and all(f.worst < math.inf for f in r.findings)]
    if first:
        others = [r for r in small if r is not first[0]]
        lists = list(candidates(of, first[0].case))
        for known in lists:
            found = [[m] for m in known.mutants if fits(known, [m], first[0])]
            found = narrow(known, found, others)
            if found:
                return [sentence(group) for group in found[:3]]
        for known in lists[:1]:
            pairs = until_timeout(patience, likely_pairs(known, first[0]))
            found = [pair for pair in pairs if fits(known, pair, first[0])]
            found = narrow(known, found, others)
            if found:
                return [sentence(group) for group in found[:3]]
    return known_facts(failed)


def until_timeout(seconds: float, pairs: Iterator[list[Mutant]]) -> Iterator[list[Mutant]]:
    """The pairs until that time is over."""
    until = time.monotonic() + seconds
    return takewhile(lambda _: time.monotonic() < until, pairs)


def sentence(group: Sequence[Mutant], exactly: str = "your numbers are exactly those of") -> str:
    """One or two mistakes in words."""
    return f"{exactly}: " + "; and ".join(f"{m.id} (rule {m.rule}): {changed(m)}" for m in group)


def changed(mutant: Mutant) -> str:
    """The lines of a mutant that are not in the right program."""
    right = [line.strip() for line in mutant.find.splitlines()]
    lines = [line.strip() for line in mutant.replace.splitlines()]
    new = [line for line in lines if line and line not in right]
    gone = [line for line in right if line and line not in lines]
    return f"`{' / '.join(new)}`" if new else f"without `{' / '.join(gone)}`"


def count_numbers(case: Case) -> int:
    """How many numbers the weights of a case have."""
    return sum(len(row) for rows in case["start"]["weights"].values() for row in rows)


# ---------------------------------------------------------------- Comparing with mutants


@dataclass(frozen=True)
class Candidates:
    """Mutants to try, and the version that runs with their edits."""

    version: Version
    mutants: list[Mutant]


def candidates(of: str, case: Case) -> Iterator[Candidates]:
    """Two lists of mutants to try. First those of a fast version that answers this case
    correctly, with those of 01, whose code all versions import. Then those of 01 alone: there
    an edit of the forward pass also changes the gradients, as in any program with autograd."""
    shared = [m for m in mutants.read_mutants(REFERENCE) if not m.harmless]
    versions = find()
    for name in (GENERIC, *(n for n in versions if n not in (GENERIC, REFERENCE))):
        version = versions.get(name)
        own = [m for m in mutants.read_mutants(name) if not m.harmless and not m.variant]
        if name == of or version is None or version.missing or not own:
            continue
        dtype = "float64" if "float64" in version.dtypes else "float32"
        if all(f.passed for f in answers.run_checks(version.load(), case, dtype)):
            yield Candidates(version, own + shared)
            break
    if of != REFERENCE:
        yield Candidates(versions[REFERENCE], shared)


def fits(known: Candidates, group: Sequence[Mutant], reply: Answered) -> bool:
    """Whether the program with these mistakes gives this answer in every check."""
    seen = list(agreement(known, group, reply))
    return bool(seen) and all(agrees for _, agrees, _ in seen)


@dataclass(frozen=True)
class MutantAnswer:
    """What a program with mistakes answers in one check."""

    check: str
    case: Case  # the case with this answer instead of the right one
    right: bool  # whether it is the right one


def agreement(
    known: Candidates, group: Sequence[Mutant], reply: Answered
) -> Iterator[tuple[str, bool, bool]]:
    """For each check: (its name, whether the program with these mistakes gives this answer,
    whether that program is right). Ends after the first check with another answer."""
    asked = {f.check for f in reply.findings}
    for theirs in answers_of(known.version, group, reply.case):
        if theirs.check == "error":
            yield "error", False, False
        elif theirs.check in asked:
            found = checks.compare(theirs.case, reply.answer, theirs.check, reply.dtype)
            agrees = found is not None and found.passed
            yield theirs.check, agrees, theirs.right
            if not agrees:
                return


# Answers of single mutants, computed as far as somebody has asked. The case is kept beside
# them, so that its id() stays its own.
KNOWN_ANSWERS: dict[tuple[str, Mutant, int], tuple[Case, Iterator[MutantAnswer]]] = {}


def answers_of(version: Version, group: Sequence[Mutant], case: Case) -> Iterator[MutantAnswer]:
    """What the version with these mistakes answers, check by check."""
    if len(group) > 1:
        return compute_answers(version, group, case)
    key = version.name, group[0], id(case)
    _, rest = KNOWN_ANSWERS.get(key) or (case, compute_answers(version, group, case))
    kept, given = tee(rest)
    KNOWN_ANSWERS[key] = case, kept
    return given


def compute_answers(
    version: Version, group: Sequence[Mutant], case: Case
) -> Iterator[MutantAnswer]:
    """As answers_of. Ends with a check called "error" if the program cannot be run."""
    dtype = "float64" if "float64" in version.dtypes else "float32"
    try:
        module = mutants.apply(version, group)
        for check, answer in answers.ask(module, case, dtype, {}):
            right = checks.compare(case, answer, check, dtype)
            passed = right is not None and right.passed
            yield MutantAnswer(check, as_case(case, answer), passed)
    except Exception:  # two edits of the same line, or a mutant that raises
        yield MutantAnswer("error", case, False)


def likely_pairs(known: Candidates, reply: Answered) -> Iterator[list[Mutant]]:
    """Pairs that can explain an answer: either one of the two gives the first wrong check's
    numbers alone, or both change the numbers of that check."""
    wrong = next(f.check for f in reply.findings if not f.passed)
    explain, change = [], []
    for mutant in known.mutants:
        there = [x for x in agreement(known, [mutant], reply) if x[0] == wrong]
        if there and there[0][1]:
            explain.append(mutant)
        elif there and not there[0][2]:
            change.append(mutant)
    for mutant in explain:
        yield from ([mutant, other] for other in known.mutants if other is not mutant)
    yield from (list(pair) for pair in combinations(change, 2))


def as_case(case: Case, answer: Case) -> Case:
    """The case with a mutant's answer instead of the right one."""
    return case | {"answer": plain(answer)}


def plain(value: Any) -> Any:
    """Arrays in nested dictionaries -> nested lists."""
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def narrow(
    known: Candidates, groups: list[list[Mutant]], others: Sequence[Answered]
) -> list[list[Mutant]]:
    """Keep the explanations that also explain the other cases, if there are any."""
    for reply in others:
        left = [group for group in groups if fits(known, group, reply)]
        groups = left or groups
        if len(groups) == 1:
            break
    return groups


def mutants_in_source(of: str, case: Case) -> list[Mutant]:
    """The mutants whose edit stands in a version's program: without it the case passes."""
    found = []
    for name in {of, REFERENCE}:
        version = find().get(name)
        if version is None or version.missing:
            continue
        source = version.path.read_text()
        for mutant in mutants.read_mutants(name):
            undone = mutant.find in source and mutant.find not in mutant.replace
            if mutant.harmless or undone or source.count(mutant.replace) != 1:
                continue
            right = source.replace(mutant.replace, mutant.find)
            try:
                module = load_source("corrected", version.path, right)
                if all(f.passed for f in answers.run_checks(module, case, version.dtypes[-1])):
                    found.append(mutant)
            except Exception:
                continue
    return found


# ---------------------------------------------------------------- If no mutant fits


def known_facts(failed: Sequence[Answered]) -> list[str]:
    """What the findings say by themselves: the stage in which the first difference appears."""
    findings = [f for reply in failed for f in reply.findings if not f.passed]
    checks = {f.check for f in findings}
    reply = failed[0]
    lines = ["no known mistake gives these numbers; what the checks say:"]
    if any(f.worst == math.inf for f in reply.findings):
        return ["the answer does not have all the numbers that were asked for: see above"]
    if checks & {"inner", "logits"}:
        lines.append("the forward pass differs: see the first tensor above (S4 to S7)")
    elif "loss" in checks:
        lines.append("the logits are right, the loss is wrong (S8)")
    elif "grads" in checks:
        off = wrong_gradients(reply)
        if off == ["wte"]:
            lines.append(
                "only the gradient of wte is wrong: a letter that occurs twice has the sum of "
                "both gradients (S8.3)"
            )
        elif off:
            lines.append(f"the loss is right, the gradients of {', '.join(off)} are wrong (S8.3)")
    elif "moments" in checks or "losses" in checks:
        lines.append("loss and gradients are right, the steps are wrong: the optimizer (S9, S10)")
    elif "names" in checks:
        lines.append("training is right, sampling is wrong (S11)")
    ratio = common_ratio(reply)
    if ratio:
        lines.append(f"every gradient is the right one times {ratio:.6g}")
    return lines


def wrong_gradients(reply: Answered) -> list[str]:
    """The names of the weights whose gradient is wrong."""
    tolerance = checks.TOLERANCES[reply.dtype]["grads"]
    try:
        pairs = list(checks.pairs(reply.case, reply.answer, "grads"))
    except (KeyError, TypeError, AttributeError):
        return []
    return [name for name, g, w in pairs if not checks.difference(g, w)[0] <= tolerance]


def common_ratio(reply: Answered) -> float | None:
    """The one factor between all gradients of an answer and the right ones; None without."""
    try:
        pairs = list(checks.pairs(reply.case, reply.answer, "grads"))
        got = np.concatenate([checks.flat(g) for _, g, _ in pairs])
        want = np.concatenate([checks.flat(w) for _, _, w in pairs])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if got.shape != want.shape or not np.isfinite(got).all() or not want.any():
        return None
    ratio = float(got @ want / (want @ want))
    close = float(np.linalg.norm(got - ratio * want)) <= 1e-6 * float(np.linalg.norm(got))
    return ratio if close and abs(ratio - 1) > 1e-6 else None
