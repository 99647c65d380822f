"""Explain wrong answers by known mistakes, one mistake after the other.

The first check that fails is explained alone, in the cheapest cases first. Then the mistake that
explains it is taken as known, and the next check that still differs is explained beside it: "the
forward pass is exactly that of one mistake; beyond it, the gradients are that of another".
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

from microgpt_lab.base.versions import REFERENCE, Version
from microgpt_lab.verification import answers, checks, evidence, mutants, readings, recognisers
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.programs import (
    GIVEN,
    Answered,
    Mistake,
    Program,
    close,
    cost,
    count_numbers,
)
from microgpt_lab.verification.recognisers import check_of

# Checks of one branch follow from each other: only the first that differs can be explained.
BRANCHES = (
    ("stream",),
    ("logits", "loss", "grads", "order", "losses", "moments", "long run"),
    ("logits", "names"),
)
MOST = 18  # the wrong answers to look at, in one check
TARGETS = 3  # the wrong answers to explain at a time, the cheapest ones first
# The right answers that an explanation must leave right, as many as cost no more than this.
GUARD_TIME = 200.0  # milliseconds
READ = 40  # the answers to read numbers from, those of the smallest models
SLOW = 400.0  # milliseconds: a more expensive check is compared only where no other fails
# Parts of 01 that all versions use: documents, tokens, first weights, schedule, sampling.
SHARED = ("S1", "S2", "S3", "S10", "S11")


class TimeOver(Exception):
    """The time for the search has passed."""


@dataclass
class Step:
    """Mistakes that explain a check, and others with the same numbers."""

    check: str
    case: str
    mistakes: tuple[Mistake, ...]
    others: list[tuple[Mistake, ...]] = field(default_factory=list)


@dataclass
class Explanation:
    """What was found, and the answers that remain unexplained."""

    steps: list[Step]
    rest: dict[str, list[Answered]]  # check -> replies, in the order of the checks
    stopped: bool = False  # whether the time was over


def as_mistakes(found: Sequence[mutants.Mutant]) -> list[Mistake]:
    return [
        Mistake(m.id, m.rule, changed(m), mutant=m)
        for m in found
        if not m.harmless and not m.variant
    ]


def changed(mutant: mutants.Mutant) -> str:
    """The lines of a mutant that are not in the right program."""
    right = [line.strip() for line in mutant.find.splitlines()]
    lines = [line.strip() for line in mutant.replace.splitlines()]
    new = [line for line in lines if line and line not in right]
    gone = [line for line in right if line and line not in lines]
    return f"`{' / '.join(new)}`" if new else f"without `{' / '.join(gone)}`"


class Search:
    """Looks for the mistakes of some replies with one version as the right program."""

    def __init__(
        self,
        version: Version,
        replies: Sequence[Answered],
        until: float,
        found_before: Sequence[tuple[Mistake, ...]] = (),
    ):
        self.version, self.until = version, until
        self.replies = [r for r in replies if r.checks]
        known = as_mistakes(mutants.read_mutants(REFERENCE))
        if version.name != REFERENCE:
            known = [m for m in known if m.rule.split(".")[0] in SHARED]
            known = as_mistakes(mutants.read_mutants(version.name)) + known
        self.known = known
        self.found_before = list(found_before)
        self.programs: dict[tuple[tuple[str, str, str], ...], Program | None] = {}
        self.seen: dict[tuple[int, str, int], bool] = {}

    def cost(self, reply: Answered, check: str) -> float:
        return cost(reply, check, pure=self.version.name == REFERENCE)

    def program(self, group: Sequence[Mistake]) -> Program | None:
        """The program with these mistakes; None if they do not fit together."""
        key = tuple(m.key for m in group)
        if key not in self.programs:
            try:
                self.programs[key] = Program(self.version, group)
            except Exception:  # two edits of one line, or a program that cannot run
                self.programs[key] = None
        return self.programs[key]

    def gives(self, group: Sequence[Mistake], reply: Answered, check: str) -> bool:
        """Whether these mistakes give a reply's numbers in a check. Raises TimeOver."""
        if not group:
            return not reply.has_failed(check)
        if time.monotonic() > self.until:
            raise TimeOver
        program = self.program(group)
        if program is None:
            return False
        key = (id(program), check, id(reply))
        if key not in self.seen:
            self.seen[key] = program.gives(reply, check)
        return self.seen[key]

    def differs(self, group: Sequence[Mistake], reply: Answered, check: str) -> bool:
        """Whether a check is the first of its branch in which a reply differs from the numbers
        of these mistakes."""
        branches = [branch for branch in BRANCHES if check in branch]
        before = [c for c in branches[0][: branches[0].index(check)] if c in reply.checks]
        costly = self.cost(reply, check) > SLOW
        if costly and (group or not reply.has_failed(check)):
            return False
        return all(self.gives(group, reply, c) for c in before) and not self.gives(
            group, reply, check
        )

    def differing(self, group: Sequence[Mistake], check: str) -> list[Answered]:
        """Replies that differ in a check for the first time: some of the cheapest ones."""
        fair = [r for r in self.replies if r.failed and check in r.checks]
        fair.sort(key=lambda reply: self.cost(reply, check))
        return list(islice((r for r in fair if self.differs(group, r, check)), MOST))

    def right(self, group: Sequence[Mistake], check: str) -> list[Answered]:
        """Cheap replies whose numbers in a check are those of these mistakes; those first
        that the right program does not give."""
        fits, spent = list[Answered](), 0.0
        fair = [r for r in self.replies if check in r.checks and self.cost(r, check) <= SLOW]
        for reply in sorted(fair, key=lambda r: (not r.has_failed(check), self.cost(r, check))):
            if (not fits or spent < GUARD_TIME) and self.gives(group, reply, check):
                fits.append(reply)
                spent += self.cost(reply, check)
        return fits

    # ------------------------------------------------------------ One check

    def explain(
        self, group: Sequence[Mistake], check: str, failed: Sequence[Answered], pairs: bool
    ) -> Step | None:
        """The mistakes that explain a check in the most replies, beside those of the group.
        Mistakes with a number are tried first, then single mutants, then pairs of them."""
        parts = [failed[i : i + TARGETS] for i in range(0, len(failed), TARGETS)]
        ways: list[Callable[..., Iterator[tuple[Mistake, ...]]]] = [self.numbered, self.single]
        for way in (*ways, *([self.pairs] if pairs else [])):
            for targets in parts if way != self.pairs else parts[:1]:
                step = self.best(group, check, targets, way(group, check, targets))
                if step:
                    return step
        return None

    def best(
        self,
        group: Sequence[Mistake],
        check: str,
        targets: Sequence[Answered],
        candidates: Iterator[tuple[Mistake, ...]],
    ) -> Step | None:
        """The candidate that explains the most of some replies, and leaves right what is right."""
        right = self.right(group, check)
        fits: list[tuple[tuple[int, int], tuple[Mistake, ...], Answered]] = []
        for mistakes in candidates:
            both = [*group, *mistakes]
            hits = [r for r in targets if self.gives(both, r, check)]
            if hits and all(self.gives(both, r, check) for r in right):
                later = self.further(both, hits, check)
                fits.append(((len(hits), later), mistakes, hits[0]))
                if len(hits) == len(targets) and (later == len(hits) or mistakes[0].fields):
                    break
        if not fits:
            return None
        fits.sort(key=lambda x: (x[0], -len(x[1])), reverse=True)
        score, mistakes, reply = fits[0]
        mine = {x for m in mistakes for x in (m.id, *m.fields)}
        others = [
            x
            for s, x, _ in fits[1:]
            if s == score and not mine & {y for m in x for y in (m.id, *m.fields)}
        ]
        return Step(check, reply.case["id"], mistakes, others[:2])

    def numbered(
        self, group: Sequence[Mistake], check: str, targets: Sequence[Answered]
    ) -> Iterator[tuple[Mistake, ...]]:
        small = sorted(self.replies, key=lambda r: count_numbers(r.case))[:READ]
        scene = readings.Scene(check, targets, small, lambda more: self.program([*group, *more]))
        yield from self.found_before
        yield from recognisers.numbered(scene, group)

    def single(
        self, group: Sequence[Mistake], check: str, targets: Sequence[Answered]
    ) -> Iterator[tuple[Mistake, ...]]:
        return ((m,) for m in self.likely(check, targets[0]))

    def pairs(
        self, group: Sequence[Mistake], check: str, targets: Sequence[Answered]
    ) -> Iterator[tuple[Mistake, ...]]:
        near = [m for m in self.likely(check, targets[0]) if check_of(m.rule) == check]
        return combinations([m for m in near if self.changes(group, m, targets[0], check)], 2)

    def likely(self, check: str, reply: Answered) -> list[Mistake]:
        """The mutants that can change a check, those of the first wrong tensor's rule first."""
        order = list(checks.CHECKS)
        tensor = next((f.tensor for f in reply.findings if not f.passed), "")
        rules = evidence.rules_of(tensor)

        def place(m: Mistake) -> tuple[bool, bool]:
            return m.rule not in rules, check_of(m.rule) != check

        late = order.index(check)
        can = [m for m in self.known if order.index(check_of(m.rule)) <= late]
        if check in ("names", "stream"):
            can = [m for m in self.known if check_of(m.rule) in (check, "stream")]
        return sorted(can, key=place)

    def changes(
        self, group: Sequence[Mistake], mistake: Mistake, reply: Answered, check: str
    ) -> bool:
        """Whether a mistake changes the numbers of a check, beside those of the group."""
        with_it, before = self.program([*group, mistake]), self.program(group)
        if with_it is None or before is None:
            return False
        if check not in GIVEN:
            return True
        try:
            right = before.numbers(reply.question, check)
            return not close(with_it.numbers(reply.question, check), right, 1e-9)
        except Exception:
            return True

    def further(self, group: Sequence[Mistake], hits: Sequence[Answered], check: str) -> int:
        """In how many of these replies every later check is explained too."""
        branch = next(b for b in BRANCHES if check in b)
        later = branch[branch.index(check) + 1 :]
        return sum(
            all(self.gives(group, r, c) for c in later if c in r.checks and self.cost(r, c) <= SLOW)
            for r in hits
        )

    # ------------------------------------------------------------ All checks

    def run(self, pairs: bool) -> Explanation:
        """Peel one mistake after the other, until nothing differs or nothing more is known.
        `pairs`: whether to try two mutants at a time where no single one fits."""
        group: list[Mistake] = []
        found, failed = Explanation([], {}), list[Answered]()
        try:
            for check in checks.CHECKS:
                while failed := self.differing(group, check):
                    step = self.explain(group, check, failed, pairs)
                    if step is None:
                        found.rest[check] = failed
                        break
                    found.steps.append(step)
                    group += step.mistakes
        except TimeOver:
            found.stopped = True
            found.rest.setdefault(check, failed or self.replies)
        return found


def answers_rightly(version: Version, case: Case) -> bool:
    """Whether a version, as it is here, passes a case."""
    dtype = "float64" if "float64" in version.dtypes else "float32"
    return all(f.passed for f in answers.run_checks(version.load(), case, dtype))
