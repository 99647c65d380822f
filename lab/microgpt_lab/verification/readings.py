"""Fields of the recipe that a program takes as another value: a constant, a limit, the value of
another field. The value is read from the answers, or a few are tried; what is found is then
compared like any other known mistake.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import microgpt

import numpy as np

from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.programs import Answered, Mistake, Program, Rows

# The rule in which each field of a recipe is used.
RULES = {
    "relu_power": "S7.2",
    "learning_rate": "S10",
    "beta1": "S9.1",
    "beta2": "S9.2",
    "temperature": "S11.2",
    "block_size": "S2.3",
    "batch_size": "S1.4",
    "schedule": "S10",
    "n_head": "S6.2",
    "steps": "S10",
}
# Where a field that is taken as this value has a name of its own among the mutants.
NAMED = {
    ("relu_power", 1): "relu-not-squared",
    ("relu_power", 2): "relu-always-squared",
    ("beta2", 0.999): "adam-beta2-0.999",
    ("temperature", 1): "temperature-ignored",
}
# Values to try, where an answer does not say which value was taken.
TRIED: dict[str, tuple[Any, ...]] = {
    "relu_power": (1, 2, 3, 4),
    "temperature": (1.0, 0.5, 0.7, 0.8, 2.0, 0.1),
    "n_head": (1, 2, 4, 8),
    "schedule": ("cosine", "linear"),
    "steps": (500, 1000),
    "beta1": (0.9, 0.85, 0.95, 0.99),
    "beta2": (0.95, 0.99, 0.999, 0.9),
    "learning_rate": (0.01, 0.001, 0.1, 0.003, 0.0003),
}
# The fields to look at for each check, those first that an answer shows by itself.
FIELDS = {
    "logits": ("relu_power", "n_head"),
    "losses": ("learning_rate", "beta1", "beta2", "schedule", "steps"),
    "moments": ("learning_rate", "beta1", "beta2", "schedule", "steps"),
    "names": ("temperature",),
}


# ---------------------------------------------------------------- A field of the recipe


def with_field(
    name: str, field: str, words: str, value: Callable[[dict[str, Any]], Any]
) -> Mistake:
    """The mistake that a field has a value which `value` computes from the recipe."""

    def question(case: Case) -> Case:
        return case | {"config": case["config"] | {field: value(case["config"])}}

    return Mistake(name, RULES[field], words, question=question, fields=(field,))


@dataclass(frozen=True)
class Reading:
    """The value of a field that an answer shows, beside the recipe that was asked for."""

    config: dict[str, Any]
    value: Any


def laws(field: str, readings: Sequence[Reading]) -> Iterator[Mistake]:
    """The ways in which a program may come to these values of a field: it is a constant, has
    a limit, is another field, or is taken from another one. The simplest are first."""
    wrong = [r for r in readings if not same(r.value, r.config[field])]
    if not wrong:
        return
    first = wrong[0].value
    if all(same(r.value, first) for r in readings):
        yield constant(field, first)
    numeric = all(isinstance(r.value, int | float) for r in readings)
    varied = any(not same(r.value, first) for r in readings)
    for other in (f for f in RULES if f != field and varied):
        if all(same(r.value, r.config[other]) for r in readings):
            yield taken_from(field, other)
    for limit, word in ((min, "most"), (max, "least")):
        if numeric and all(same(r.value, limit(r.config[field], first)) for r in readings):
            yield limited(field, first, limit, word)
    yield from functions_of_another(field, readings)
    table = {r.config[field]: r.value for r in wrong}
    said = ", ".join(f"{show(asked)} is taken as {show(x)}" for asked, x in table.items())
    yield with_field(
        f"{field}-other",
        field,
        f"{field}: {said}",
        lambda config: table.get(config[field], config[field]),
    )


def constant(field: str, value: Any) -> Mistake:
    name = NAMED.get((field, value), f"{field}-constant")
    return with_field(name, field, f"{field} is always {show(value)}", lambda _: value)


def taken_from(field: str, other: str) -> Mistake:
    if {field, other} == {"beta1", "beta2"}:
        return betas_swapped()
    words = f"{field} has the value of {other}"
    return with_field(f"{field}-from-{other}", field, words, lambda config: config[other])


def betas_swapped() -> Mistake:
    def question(case: Case) -> Case:
        config = case["config"]
        swapped = {"beta1": config["beta2"], "beta2": config["beta1"]}
        return case | {"config": config | swapped}

    words, fields = "beta1 and beta2 are swapped", ("beta1", "beta2")
    return Mistake("adam-betas-swapped", "S9.1", words, question=question, fields=fields)


def limited(field: str, value: Any, limit: Callable[..., Any], word: str) -> Mistake:
    return with_field(
        f"{field}-limited",
        field,
        f"{field} is at {word} {show(value)}",
        lambda config: limit(config[field], value),
    )


def functions_of_another(field: str, readings: Sequence[Reading]) -> Iterator[Mistake]:
    """The field's value is decided by another field: as many values as that one has."""
    others = []
    for other in readings[0].config:
        table: dict[Any, Any] = {}
        for r in readings:
            table.setdefault(r.config[other], r.value)
        fits = all(same(r.value, table[r.config[other]]) for r in readings)
        if other != field and fits and 1 < len(table) < len(readings):
            others.append((len(table), other, table))
    for _, other, table in sorted(others, key=lambda x: x[0])[:2]:
        yield decided_by(field, other, table)


def decided_by(field: str, other: str, table: dict[Any, Any]) -> Mistake:
    values = [show(v) for v in table.values()]
    usual = max(values, key=values.count)
    special = [(k, show(v)) for k, v in table.items() if show(v) != usual]
    said = ", ".join(f"{v} where {other} is {show(k)}" for k, v in special)
    said += f", else {usual}"
    return with_field(
        f"{field}-by-{other}",
        field,
        f"{field} depends on {other}: {said}",
        lambda config: table.get(config[other], config[field]),
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return bool(abs(a - b) <= 1e-3 * abs(b) + 1e-9)


def show(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


# ---------------------------------------------------------------- Reading from an answer


def vector(rows: Rows) -> np.ndarray:
    return np.concatenate([rows[name].reshape(-1) for name in sorted(rows)])


def factor(x: np.ndarray, y: np.ndarray, dtype: str) -> float | None:
    """The number by which y must be multiplied to give x; None if there is none."""
    scale = float(y @ y)
    if not scale or x.shape != y.shape:
        return None
    ratio = float(x @ y) / scale
    off = float(np.linalg.norm(x - ratio * y))
    tolerance = 1e-6 if dtype == "float64" else 1e-3
    return ratio if off <= tolerance * float(np.linalg.norm(x)) else None


KINDS = ("weights", "first_moment", "second_moment")


def state_after(reply: Answered, step: int) -> tuple[np.ndarray, ...]:
    """Weights and both moments after that many steps, each as one row; () if the answer does
    not have all of them as finite numbers."""
    start = reply.question["start"]
    if not step:
        return tuple(vector(start[kind]) for kind in KINDS)
    after = reply.given.get(f"after {step}", {})
    try:
        rows = [vector({n: after[f"{kind} {n}"] for n in start[kind]}) for kind in KINDS]
    except KeyError:
        return ()
    same_shape = all(x.shape == vector(start["weights"]).shape for x in rows)
    return tuple(rows) if same_shape and all(np.isfinite(x).all() for x in rows) else ()


def rounded(x: float, dtype: str) -> float:
    return float(f"{x:.{6 if dtype == 'float64' else 4}g}")


@functools.lru_cache(maxsize=1000)
@np.errstate(all="ignore")
def read_optimizer(reply: Answered) -> dict[str, float]:
    """The betas and the learning rate that an answer's first step was made with, whatever its
    gradients are: they are taken from the answer itself."""
    before, after = state_after(reply, 0), state_after(reply, 1)
    if not after or not reply.given["grads"]:
        return {}
    g, (_, m0, v0), (_, m, v) = vector(reply.given["grads"]), before, after
    if g.shape != m.shape:
        return {}
    found = {
        "beta1": factor(m - g, m0 - g, reply.dtype),
        "beta2": factor(v - g * g, v0 - g * g, reply.dtype),
    }
    read = {k: rounded(x, reply.dtype) for k, x in found.items() if x is not None}
    for _, asked, rate in read_rates(reply, read)[:1]:
        read["learning_rate"] = rate * float(reply.case["config"]["learning_rate"]) / asked
        read["learning_rate"] = rounded(read["learning_rate"], reply.dtype)
    return read


def read_rates(reply: Answered, betas: dict[str, float]) -> list[tuple[int, float, float]]:
    """(step, the learning rate that was asked for, the one that was taken) of the first steps."""
    config, first = microgpt.Config(**reply.case["config"]), reply.case["start"]["step"]
    found = []
    for step in (1, 2, 3):
        before, after = state_after(reply, step - 1), state_after(reply, step)
        if len(betas) < 2 or not before or not after:
            break
        k, (w, m, v) = first + step, after
        upward = m / (1 - betas["beta1"] ** k) / (np.sqrt(v / (1 - betas["beta2"] ** k)) + 1e-8)
        rate = factor(before[0] - w, upward, reply.dtype)
        if rate is not None:
            asked = microgpt.learning_rate(config, k - 1)
            found.append((step, asked, rounded(rate, reply.dtype)))
    return found


def rates(replies: Sequence[Answered]) -> Iterator[Mistake]:
    """The learning rate of each step has a limit, or is a constant."""
    read = []
    for reply in replies:
        betas = {k: x for k, x in read_optimizer(reply).items() if k != "learning_rate"}
        read += [(asked, taken) for _, asked, taken in read_rates(reply, betas)]
    wrong = [(asked, taken) for asked, taken in read if not same(taken, asked)]
    if not wrong:
        return
    taken = wrong[0][1]
    ways: list[tuple[str, str, Callable[[float], float]]] = [
        ("limited", f"is at most {show(taken)}", lambda rate: min(rate, taken)),
        ("limited", f"is at least {show(taken)}", lambda rate: max(rate, taken)),
        ("constant", f"is always {show(taken)}", lambda _: taken),
    ]
    for key, words, change in ways:
        if all(same(y, change(x)) for x, y in read):
            words = f"the learning rate of a step {words}"
            yield Mistake(f"learning-rate-{key}", "S10.3", words, rate=change)


# ---------------------------------------------------------------- Of several answers


@dataclass(frozen=True)
class Scene:
    """What there is to read from: the replies that fail in a check, all replies, and a function
    that makes a program with some mistakes beside those already known."""

    check: str
    failed: Sequence[Answered]
    all: Sequence[Answered]
    make: Callable[[Sequence[Mistake]], Program | None]

    def readings(self, field: str) -> list[Reading]:
        """The values of a field that the answers show."""
        # At the first step both schedules have the whole rate.
        fresh = [reply for reply in self.all if not reply.case["start"]["step"]]
        shown = [(r.case["config"], read_optimizer(r).get(field)) for r in fresh or self.all]
        found = [Reading(config, value) for config, value in shown if value is not None]
        return found or [r for reply in self.failed for r in self.tried(field, reply)]

    def tried(self, field: str, reply: Answered) -> Iterator[Reading]:
        """The first value of a field, of a few, that gives the numbers of a reply."""
        for value in TRIED[field]:
            if not same(value, reply.case["config"][field]):
                program = self.make([constant(field, value)])
                if program and program.gives(reply, self.check):
                    yield Reading(reply.case["config"], value)
                    return
