"""The structural proof: a version that reads a field of the recipe wrongly fails the checks.

For each field of `Config` and each place that reads it, the field is replaced by a constant,
by itself with a limit, and by a value that depends on another field. Each of these wrong
programs must fail in some case. The text of a program is not edited: the place is given a
recipe with the wrong value, so every line that reads the field reads it wrongly.
"""

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

from microgpt import Config

import numpy as np
from rich.console import Console

from microgpt_lab.base.versions import Version, pick, shared_by
from microgpt_lab.verification import answers, child, output, vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding
from microgpt_lab.verification.factors import FACTORS

FIELDS = tuple(field.name for field in fields(Config))
# The functions that receive the recipe: `create` is the version's own, the others are 01's,
# and every version uses them.
PLACES = ("create", "prepare", "batches", "generate")
# What each place must read: a wrong value there must fail.
READ = {
    "create": ("n_head", "n_layer", "relu_power", "beta1", "beta2"),
    "prepare": ("n_embd", "n_layer", "block_size", "init_std", "zero_init"),
    "batches": ("block_size", "learning_rate", "schedule", "steps", "batch_size"),
    "generate": ("block_size", "temperature"),
}
# What `create` may read or not, with the reason: a wrong value either fails or has no effect.
OPTIONAL = {
    "n_embd": "the number of columns of the given wte is the same number",
    "block_size": "the number of rows of the given wpe is the same number",
    "batch_size": "a step is given its documents; it may only decide how large buffers are",
}
# All other fields a place must not use: a wrong value must change nothing.
REASONS = {
    "create": "weights are given, and train is given each step's batch and learning rate",
    "prepare": "initial weights do not depend on how the model is computed or trained",
    "batches": "which documents a step has does not depend on the model",
    "generate": "the version's own logits are all that it needs of the model",
}
ENOUGH = 2  # cases to try with a field that `create` may leave unread


@dataclass(frozen=True)
class Fault:
    """A wrong value for one field, computed from the right recipe."""

    field: str
    how: str
    value: Callable[[Config], Any]

    def changes(self, case: Case) -> bool:
        config = Config(**case["config"])
        return bool(self.value(config) != getattr(config, self.field))

    def apply(self, config: Config) -> Config:
        """The recipe with the wrong value; also one that `Config` itself would refuse."""
        wrong = copy.copy(config)
        object.__setattr__(wrong, self.field, self.value(config))
        return wrong


def constant(field: str, x: Any) -> Fault:
    return Fault(field, f"is always {x}", lambda _: x)


def at_most(field: str, x: float) -> Fault:
    return Fault(field, f"is at most {x}", lambda config: min(getattr(config, field), x))


def at_least(field: str, x: float) -> Fault:
    return Fault(field, f"is at least {x}", lambda config: max(getattr(config, field), x))


def by_power(field: str, relu: Any, squared: Any) -> Fault:
    """As if one of the two published recipes were all that there is."""
    how = f"is {relu} for relu_power 1, else {squared}"
    return Fault(field, how, lambda config: relu if config.relu_power == 1 else squared)


def by_schedule(field: str, linear: Any, cosine: Any) -> Fault:
    how = f"is {linear} for the linear schedule, else {cosine}"
    return Fault(field, how, lambda config: linear if config.schedule == "linear" else cosine)


DEPENDENT = [
    at_most("n_embd", 16), at_most("n_head", 2), at_most("n_layer", 2),
    at_most("block_size", 16), at_most("block_size", 32), at_least("block_size", 8),
    at_most("relu_power", 2), at_most("relu_power", 3), by_schedule("relu_power", 1, 2),
    at_most("learning_rate", 0.01), at_least("learning_rate", 0.01),
    by_power("beta1", 0.85, 0.9), by_schedule("beta1", 0.85, 0.9), at_most("beta1", 0.9),
    by_power("beta2", 0.99, 0.95), by_schedule("beta2", 0.99, 0.95), at_most("beta2", 0.99),
    by_power("schedule", "linear", "cosine"), by_schedule("steps", 1000, 500),
    at_most("steps", 500), at_most("steps", 1000), by_power("init_std", 0.08, 0.02),
    at_least("init_std", 0.02), by_power("zero_init", False, True),
    at_most("batch_size", 3), at_most("batch_size", 16), at_most("batch_size", 32),
    at_most("temperature", 1.0), at_least("temperature", 0.5),
    Fault("n_head", "is n_embd / 4", lambda config: config.n_embd // 4),
    Fault("n_layer", "is 2 for n_embd 64, else 1", lambda config: 1 + (config.n_embd == 64)),
    Fault("block_size", "is n_embd", lambda config: config.n_embd),
]  # fmt: skip


def faults(cases: Sequence[Case]) -> list[Fault]:
    """Of each field: always one of its two commonest values, and what DEPENDENT says."""
    found = []
    for field in FIELDS:
        common = Counter(case["config"][field] for case in cases).most_common(2)
        found += [constant(field, x) for x, _ in common]
        found += [fault for fault in DEPENDENT if fault.field == field]
    return found


# ---------------------------------------------------------------- One wrong program


def given(function: Callable[..., Any], wrong: Callable[[Config], Config]) -> Callable[..., Any]:
    """The function, given another recipe than its caller gives it."""

    def call(*arguments: Any, **options: Any) -> Any:
        return function(*[wrong(x) if isinstance(x, Config) else x for x in arguments], **options)

    return call


def misled(module: Any, place: str, wrong: Callable[[Config], Config]) -> Any:
    """A version of which one place receives a wrong recipe."""
    shared = vars(shared_by(module)).copy()
    own = {name: value for name, value in vars(module).items() if name != "microgpt"}
    where = own if place == "create" else shared
    where[place] = given(where[place], wrong)
    return SimpleNamespace(**own | {"microgpt": SimpleNamespace(**shared)})


def cost(case: Case) -> float:
    """About how long a case takes: weights times tokens times steps."""
    weights = sum(len(rows) * len(rows[0]) for rows in case["start"]["weights"].values())
    tokens = sum(len(t) for t in case["tokens"][: case["config"]["batch_size"]])
    return float(weights * (tokens * case["steps"] + 10 * case["count"]))


def first_failure(
    module: Any, place: str, fault: Fault, dtype: str, cases: Sequence[Case]
) -> Finding | None:
    """The first finding that fails, of the cases in which the value is wrong."""
    wrong = misled(module, place, fault.apply)
    for case in cases:
        if fault.changes(case):
            for finding in checked(wrong, place, case, dtype):
                if not finding.passed:
                    return finding
    return None


def checked(module: Any, place: str, case: Case, dtype: str) -> Iterator[Finding]:
    """The findings of a case. Names are sampled from the weights of its start, so a wrong
    recipe that only sampling receives needs no training to show."""
    return answers.run_checks(module, case | {"steps": 0} if place == "generate" else case, dtype)


def unused(place: str) -> tuple[str, ...]:
    """The fields that a place must not use."""
    optional = tuple(OPTIONAL) if place == "create" else ()
    return tuple(field for field in FIELDS if field not in READ[place] + optional)


def other_recipe(place: str) -> Callable[[Config], Config]:
    """Changes every field that the place must not use to another level."""

    def wrong(config: Config) -> Config:
        config = copy.copy(config)
        for field in unused(place):
            now, levels = getattr(config, field), FACTORS[field]
            object.__setattr__(config, field, next(x for x in levels if x != now))
        return config

    return wrong


# ---------------------------------------------------------------- All of one version


@dataclass(frozen=True)
class Outcome:
    """What became of one fault, or of the fields that a place must not use."""

    version: str
    place: str
    field: str
    how: str
    killed_by: str  # "" if every check passed
    expected: str  # "killed", "nothing" or "either"

    @property
    def right(self) -> bool:
        return self.expected == "either" or bool(self.killed_by) == (self.expected == "killed")

    @property
    def line(self) -> str:
        fate = f"fails {self.killed_by}" if self.killed_by else "no check fails"
        return f"{self.version}: {self.place}: {self.field} {self.how}: {fate}"


def name_of(finding: Finding | None) -> str:
    return f"{finding.check}, {finding.case}" if finding else ""


@np.errstate(all="ignore")  # a wrong program may divide by zero
def outcomes(version: Version, module: Any, dtype: str, cases: Sequence[Case]) -> Iterator[Outcome]:
    """Every fault in every place of one version; small cases first."""
    cases = sorted((case for case in cases if case["steps"]), key=cost)
    for place in PLACES:
        for fault in faults(cases):
            optional = place == "create" and fault.field in OPTIONAL
            if fault.field in READ[place] or optional:
                tried = [case for case in cases if fault.changes(case)]
                tried = tried[:ENOUGH] if optional else tried
                found = name_of(first_failure(module, place, fault, dtype, tried))
                kind = "either" if optional else "killed"
                yield Outcome(version.name, place, fault.field, fault.how, found, kind)
        wrong = misled(module, place, other_recipe(place))
        for case in [case for case in cases if "stream" in case][:ENOUGH]:
            failed = [f for f in checked(wrong, place, case, dtype) if not f.passed]
            found = name_of(failed[0] if failed else None)
            how = f"have another value in {case['id']}"
            yield Outcome(version.name, place, "the other fields", how, found, "nothing")


def serve_version(name: str) -> Iterator[Any]:
    """In the process of one version: the fields of each outcome; at last the seconds of
    processor time."""
    (version,) = pick([name])
    dtype = "float64" if "float64" in version.dtypes else "float32"
    for outcome in outcomes(version, version.load(), dtype, vectors.read_vectors()):
        yield vars(outcome)
    yield time.process_time()


def run_version(version: Version) -> tuple[list[Outcome], float, str]:
    """(outcomes, seconds of processor time, why it did not run to its end)."""
    if version.missing:
        return [], 0.0, version.missing
    values, last_words = child.run_module(version, "microgpt_lab.verification.proof")
    found = [Outcome(**value) for value in values if isinstance(value, dict)]
    if not values or isinstance(values[-1], dict):
        return found, math.nan, last_words
    return found, values[-1], ""


def run_all(names: Sequence[str], jobs: int) -> Iterator[tuple[Version, list[Outcome], float, str]]:
    """The outcomes of the named versions (none: all), in order, `jobs` at a time."""
    picked = pick(names)
    with ThreadPoolExecutor(jobs) as pool:
        for version, result in zip(picked, pool.map(run_version, picked)):
            yield version, *result


# ---------------------------------------------------------------- Showing


def show(
    version: Version, found: Sequence[Outcome], seconds: float, reason: str, console: Console
) -> bool:
    """What was proved of one version, and each line that is not as it must be. Returns
    whether all is."""
    if not found or reason:
        output.print_line(console, "–", "yellow", f"{version.name}: did not run: {reason}")
        return bool(version.missing)
    wrong = [outcome for outcome in found if not outcome.right]
    for outcome in wrong:
        output.print_failure(console, outcome.line)
    killed = [o for o in found if o.expected == "killed"]
    died = sum(bool(outcome.killed_by) for outcome in killed)
    ignored = [
        field
        for field in OPTIONAL
        if not any(o.killed_by for o in found if (o.place, o.field) == ("create", field))
    ]
    text = f"{version.name}: {died} of {len(killed)} wrong recipes fail"
    if ignored:
        text += f"; create does not need {', '.join(ignored)}"
    mark, style = ("✗", "red") if wrong else ("✓", "green")
    output.print_line(console, mark, style, f"{text}; {seconds:.0f} s of processor time")
    return not wrong


if __name__ == "__main__":
    child.serve(serve_version)
