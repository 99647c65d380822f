"""Which mistake is it? The suite computes what its mutants would answer and compares.

A failing answer is held against the answers of every known mutant, singly and then in
pairs. Where one reproduces all the numbers within the ladder's tolerance, that is the bug.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile
from typing import Any

import numpy as np

from microgpt_lab.base.versions import REFERENCE, Version, find, load_source
from microgpt_lab.verification import answers, checks, mutants
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding
from microgpt_lab.verification.mutants import Mutant

SMALL = 600  # numbers of weights up to which a case is tried on every mutant
GENERIC = "02_numpy_manual_backprop"  # fast, and every gradient in it is a line to get wrong


@dataclass(frozen=True)
class Answered:
    """A case, what was answered to it, and what the ladder found."""

    case: Case
    answer: Case
    findings: Sequence[Finding]
    dtype: str

    @property
    def failed(self) -> bool:
        return any(not f.passed for f in self.findings)


@np.errstate(all="ignore")  # a wrong program may well divide by zero
def diagnose(replies: Sequence[Answered], of: str = "", patience: float = 60.0) -> list[str]:
    """Lines that say what is wrong; `of` is the version that failed, if it is one of ours;
    `patience` is how many seconds to look for two mistakes at once.

    Every reply that failed must be explained, and those that passed must be reproduced too:
    a mutant that breaks what is right is not the bug.
    """
    failed = [r for r in replies if r.failed]
    if not failed:
        return []
    reverted = revert(of, failed[0].case) if of else []
    if reverted:
        return [sentence([reverted[0]], exactly="the program differs from the right one by")]
    small = [r for r in replies if count(r.case) <= SMALL and r.answer]
    first = [r for r in failed if r in small and all(f.worst < math.inf for f in r.findings)]
    if first:
        others = [r for r in small if r is not first[0]]
        lists = list(candidates(of, first[0].case))
        for known in lists:
            found = [[m] for m in known if fits(known, [m], first[0])]
            found = narrow(known, found, others)
            if found:
                return [sentence(group) for group in found[:3]]
        for known in lists[:1]:
            pairs = in_time(patience, likely_pairs(known, first[0]))
            found = [pair for pair in pairs if fits(known, pair, first[0])]
            found = narrow(known, found, others)
            if found:
                return [sentence(group) for group in found[:3]]
    return known_facts(failed)


def in_time(seconds: float, pairs: Iterator[list[Mutant]]) -> Iterator[list[Mutant]]:
    """As many of them as can be looked at in that time."""
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


def count(case: Case) -> int:
    return sum(len(row) for rows in case["start"]["weights"].values() for row in rows)


# ---------------------------------------------------------------- Numbers


def candidates(of: str, case: Case) -> Iterator[list[Mutant]]:
    """Lists of mutants to try: those of a fast version that itself answers this case rightly,
    with those of the code that all share; then those of 01, in which an edit of the forward
    pass takes the gradients along, as in every program that has autograd."""
    shared = [m for m in mutants.read(REFERENCE) if not m.harmless]
    versions = find()
    for name in (GENERIC, *(n for n in versions if n not in (GENERIC, REFERENCE))):
        version = versions.get(name)
        own = [m for m in mutants.read(name) if not m.harmless and not m.variant]
        if name == of or version is None or version.missing or not own:
            continue
        dtype = "float64" if "float64" in version.dtypes else "float32"
        if all(f.passed for f in answers.run_checks(version.load(), case, dtype)):
            yield own + shared
            break
    if of != REFERENCE:
        yield shared


def base(known: Sequence[Mutant]) -> Version:
    return find()[known[0].version]


def fits(known: Sequence[Mutant], group: Sequence[Mutant], reply: Answered) -> bool:
    """Whether the program with these mistakes gives this answer, check by check."""
    seen = list(agreement(known, group, reply))
    return bool(seen) and all(agrees for _, agrees, _ in seen)


def agreement(
    known: Sequence[Mutant], group: Sequence[Mutant], reply: Answered
) -> Iterator[tuple[str, bool, bool]]:
    """(check, whether the program with these mistakes agrees with the answer there, whether
    it is right there), up to the first check where it does not agree."""
    version = base(known)
    dtype = "float64" if "float64" in version.dtypes else "float32"
    asked = {f.check for f in reply.findings}
    try:
        module = mutants.apply(version, group)
        for check, answer in answers.ask(module, reply.case, dtype, {}):
            if check in asked:
                theirs = as_case(reply.case, answer)
                found = checks.compare(theirs, reply.answer, check, reply.dtype)
                right = checks.compare(reply.case, answer, check, dtype)
                agrees = found is not None and found.passed
                yield check, agrees, right is not None and right.passed
                if not agrees:
                    return
    except Exception:  # edits that meet in one line, or a mutant so wrong that it raises
        yield "error", False, False


def likely_pairs(known: Sequence[Mutant], reply: Answered) -> Iterator[list[Mutant]]:
    """Pairs that can explain an answer: one alone explains its first wrong check, or both
    change what is checked there."""
    wrong = next(f.check for f in reply.findings if not f.passed)
    explain, change = [], []
    for mutant in known:
        there = [x for x in agreement(known, [mutant], reply) if x[0] == wrong]
        if there and there[0][1]:
            explain.append(mutant)
        elif there and not there[0][2]:
            change.append(mutant)
    for mutant in explain:
        yield from ([mutant, other] for other in known if other is not mutant)
    yield from (list(pair) for pair in combinations(change, 2))


def as_case(case: Case, answer: Case) -> Case:
    """The same case with a mutant's answer in the place of the right one."""
    return case | {"answer": plain(answer)}


def plain(value: Any) -> Any:
    """Arrays -> nested lists, through dictionaries."""
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def narrow(
    known: Sequence[Mutant], groups: list[list[Mutant]], others: Sequence[Answered]
) -> list[list[Mutant]]:
    """Of several explanations keep those that explain further cases as well."""
    for reply in others:
        left = [group for group in groups if fits(known, group, reply)]
        groups = left or groups
        if len(groups) == 1:
            break
    return groups


def revert(of: str, case: Case) -> list[Mutant]:
    """Mutants whose edit stands in a version's program: undone, the case passes."""
    found = []
    for name in {of, REFERENCE}:
        version = find().get(name)
        if version is None or version.missing:
            continue
        source = version.path.read_text()
        for mutant in mutants.read(name):
            undone = mutant.find in source and mutant.find not in mutant.replace
            if mutant.harmless or undone or source.count(mutant.replace) != 1:
                continue
            right = source.replace(mutant.replace, mutant.find)
            try:
                module = load_source("reverted", version.path, right)
                if all(f.passed for f in answers.run_checks(module, case, version.dtypes[-1])):
                    found.append(mutant)
            except Exception:
                continue
    return found


# ---------------------------------------------------------------- Where nothing fits


def known_facts(failed: Sequence[Answered]) -> list[str]:
    """What can be said without a known mistake."""
    findings = [f for reply in failed for f in reply.findings if not f.passed]
    checks = {f.check for f in findings}
    reply = failed[0]
    lines = ["no known mistake gives these numbers; what is known:"]
    if any(f.worst == math.inf for f in reply.findings):
        return ["the answer is not the numbers that were asked for: see above"]
    if checks & {"intermediates", "logits"}:
        lines.append("the forward pass differs: see the first tensor above (S4 to S7)")
    elif "loss" in checks:
        lines.append("the logits are right and the loss is not (S8)")
    elif "gradients" in checks:
        off = wrong_gradients(reply)
        if off == ["wte"]:
            lines.append("only wte's gradient is off: a letter that comes twice adds up (S8.3)")
        elif off:
            lines.append(f"the loss is right, the gradients of {', '.join(off)} are not (S8.3)")
    elif "moments" in checks or "losses" in checks:
        lines.append("loss and gradients are right, what follows is not: the optimizer (S9, S10)")
    elif "names" in checks:
        lines.append("training is right, sampling is not (S11)")
    ratio = common_ratio(reply)
    if ratio:
        lines.append(f"everything is the right value times {ratio:.6g}")
    return lines


def wrong_gradients(reply: Answered) -> list[str]:
    tolerance = checks.TOLERANCES[reply.dtype]["gradients"]
    try:
        pairs = list(checks.pairs(reply.case, reply.answer, "gradients"))
    except (KeyError, TypeError, AttributeError):
        return []
    return [name for name, g, w in pairs if not checks.difference(g, w)[0] <= tolerance]


def common_ratio(reply: Answered) -> float | None:
    """The factor between all of an answer's gradients and the right ones, if there is one."""
    try:
        pairs = list(checks.pairs(reply.case, reply.answer, "gradients"))
        got = np.concatenate([checks.flat(g) for _, g, _ in pairs])
        want = np.concatenate([checks.flat(w) for _, _, w in pairs])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if got.shape != want.shape or not np.isfinite(got).all() or not want.any():
        return None
    ratio = float(got @ want / (want @ want))
    close = float(np.linalg.norm(got - ratio * want)) <= 1e-6 * float(np.linalg.norm(got))
    return ratio if close and abs(ratio - 1) > 1e-6 else None
