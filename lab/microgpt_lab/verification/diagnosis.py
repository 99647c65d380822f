"""Find out which mistakes a wrong program has, by computing what known mistakes would answer.

An answer is explained if a program with known mistakes gives the same numbers within the
tolerance: a mutant (an edit of a version), or the right program with another value, other
documents or other weights. Several mistakes are named one after the other.
"""

import time
from collections.abc import Sequence

from microgpt import InputError

import numpy as np

from microgpt_lab.base.versions import REFERENCE, Version, find
from microgpt_lab.verification import evidence, source_edits
from microgpt_lab.verification.checks import CHECKS
from microgpt_lab.verification.peeling import (
    Explanation,
    Search,
    Step,
    answers_rightly,
    as_mistakes,
)
from microgpt_lab.verification.programs import Answered, Mistake, cost, count_numbers, plain

__all__ = ["GENERIC", "SMALL", "Answered", "count_numbers", "diagnose", "plain"]

SMALL = 600  # a case with more numbers in its weights is not small
GENERIC = "02_numpy_manual_backprop"  # fast, and each gradient has a line of its own
PATIENCE = 10.0  # seconds to look for mistakes, in all results of one process
spent = [0.0]  # of these seconds
found_before: list[tuple[Mistake, ...]] = []  # in other results of this process
said_before: dict[tuple[int, ...], tuple[Sequence[Answered], list[str]]] = {}
# What is wrong if that is the first check which differs.
WORDS = {
    "stream": "the random stream is exactly that of",
    "logits": "the forward pass is exactly that of",
    "loss": "the loss is exactly that of",
    "grads": "the gradients are exactly those of",
    "order": "the gradients in another order are exactly those of",
    "losses": "training is exactly that of",
    "moments": "the moments are exactly those of",
    "long run": "training is exactly that of",
    "names": "sampling is exactly that of",
}


@np.errstate(all="ignore")  # a wrong program may well divide by zero
def diagnose(replies: Sequence[Answered], of: str = "", patience: float | None = None) -> list[str]:
    """Lines that say what is wrong. `of`: the version that failed, "" for a port. `patience`:
    the seconds to look for known mistakes; without it, what is left of PATIENCE."""
    failed = [r for r in replies if r.failed]
    if not failed:
        return []
    # A port's result is shown and also written: the answers are kept, so an id stays theirs.
    key = tuple(id(reply.answer) for reply in replies)
    if patience is None and key in said_before:
        return said_before[key][1]
    began = time.monotonic()
    left = max(0.0, PATIENCE - spent[0]) if patience is None else patience
    try:
        lines = compare_with_mistakes(replies, failed, of, began + left, left)
        said_before[key] = replies, lines
        return lines
    except InputError as e:
        return [f"this could not be compared with the known mistakes: {e}"]
    finally:
        spent[0] += time.monotonic() - began if patience is None else 0.0


def compare_with_mistakes(
    replies: Sequence[Answered], failed: Sequence[Answered], of: str, until: float, left: float
) -> list[str]:
    """As diagnose; raises InputError if a file of mutants cannot be read."""
    reverted = source_edits.mutants_in_source(of, cheapest(failed).case, until) if of else []
    if reverted:
        return [sentence(as_mistakes(reverted[:1]), "the program differs from the right one by")]
    searches = [
        Search(version, replies, until, found_before) for version in right_versions(of, failed)
    ]
    best: Explanation | None = None
    for pairs in (False, True):
        for search in searches:
            found = search.run(pairs)
            best = found if best is None else min(best, found, key=count)
            if not best.rest:
                return lines_of(best, failed, left)
    best = best or Explanation([], {})
    best.stopped = time.monotonic() > until
    return lines_of(best, failed, left)


def cheapest(failed: Sequence[Answered]) -> Answered:
    return min(failed, key=lambda r: cost(r, "losses"))


def count(found: Explanation) -> tuple[int, int, int]:
    """How much is unexplained, how early, and how many mistakes were needed."""
    early = min((list(CHECKS).index(check) for check in found.rest), default=len(CHECKS))
    return sum(map(len, found.rest.values())), -early, len(found.steps)


def right_versions(of: str, failed: Sequence[Answered]) -> list[Version]:
    """The versions to make mistakes in: a fast one; and 01, where an edit of the forward pass
    also changes the gradients, as in any program with autograd."""
    versions, reply = find(), cheapest(failed)
    names = [name for name in (GENERIC, REFERENCE) if name != of and name in versions]
    usable = [versions[name] for name in names if not versions[name].missing]
    return [version for version in usable if answers_rightly(version, reply.case)]


# ---------------------------------------------------------------- In words


def lines_of(found: Explanation, failed: Sequence[Answered], left: float) -> list[str]:
    """An explanation in words, and what is known of what it does not explain."""
    lines = []
    found_before.extend(step.mistakes for step in found.steps)
    if len(found.steps) == 1 and not found.rest and len(found.steps[0].mistakes) == 1:
        lines.append(step_line(found.steps[0], "your numbers are exactly those of"))
    else:
        for number, step in enumerate(found.steps):
            words = WORDS[step.check]
            lines.append(step_line(step, f"beyond that, {words}" if number else words))
    bounded = f" (the search was ended after {left:.0f} s)" if found.stopped else ""
    if found.stopped and left < 1:
        bounded = " (there was no time left to search)"
    if found.steps and found.rest:
        check, those = next(iter(found.rest.items()))
        level = CHECKS[check][0] or check
        names = ", ".join(r.case["id"] for r in those[:3])
        lines.append(f"beyond that, no known mistake gives the {level} of {names}{bounded}")
    elif not found.steps:
        lines.append(f"no known mistake gives these numbers{bounded}; what is known:")
        lines += evidence.known_facts(failed)
    return lines


def step_line(step: Step, words: str) -> str:
    """One step in words, with other mistakes that have the same numbers."""
    text = sentence(step.mistakes, words)
    for other in step.others:
        text += "; or, with the same numbers, " + named(other)
    return text


def sentence(group: Sequence[Mistake], exactly: str) -> str:
    return f"{exactly}: {named(group)}"


def named(group: Sequence[Mistake]) -> str:
    return "; and ".join(f"{m.id} (rule {m.rule}): {m.words}" for m in group)
