"""Which random cases a right program passes: those in which rounding alone moves no number by
more than a part of its tolerance."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import microgpt

from microgpt_lab.base.trace import patched
from microgpt_lab.verification import answers
from microgpt_lab.verification.cases import Case

# The relative error of one operation that a case must tolerate: four times that of the dtype.
ROUNDING = {"float64": 2.0**-51, "float32": 2.0**-22}
MOST_LOSS = 50.0  # a run with a larger loss is on its way to infinity
DTYPES = tuple(ROUNDING)
PREFIX = "random"  # an id is "random-<seed>-<number>"


@contextmanager
def rounding(size: float) -> Iterator[None]:
    """Inside, each number that 01 computes has a random relative error of at most `size`."""
    rng, original, exact = random.Random(0), microgpt.Value.__init__, microgpt.cross_entropy

    def error() -> float:
        return size * rng.uniform(-1, 1)

    def rounded(self: Any, data: float, *graph: Any) -> None:
        original(self, data * (1 + error()), *graph)

    def cross_entropy(x: list[Any], target: int) -> Any:
        # both are differences: their error is one of the numbers that are subtracted
        loss = exact(x, target)
        loss.data += error() * max(abs(logit.data) for logit in x)
        loss.local_grads[target] += error()
        return loss

    microgpt.Value.__init__ = rounded
    try:
        with patched(cross_entropy=cross_entropy):
            yield
    finally:
        microgpt.Value.__init__ = original


def is_steady(case: Case, dtype: str) -> bool:
    """Whether 01 with the rounding of this dtype moves by less than a quarter of every
    tolerance. If not, a right program may fail the case."""
    if max(case["answer"].get("losses", [0.0])) > MOST_LOSS:
        return False
    with rounding(ROUNDING[dtype]):
        findings = list(answers.run_checks(microgpt, case, dtype))
    return all(f.passed and f.worst <= f.tolerance / 4 for f in findings)


def tolerates(case: Case, dtype: str) -> bool:
    """Whether a right program passes a case in this dtype; golden cases are known to be so."""
    return not str(case["id"]).startswith(f"{PREFIX}-") or is_steady(case, dtype)
