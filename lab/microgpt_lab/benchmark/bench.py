"""`microgpt bench`: measure what each version costs.

Every setup runs in a process of its own. The setups compute in turn, one at a time, round after
round: if the machine is slow for a minute, it is slow for all of them.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import microgpt
from microgpt import Config, InputError

from microgpt_lab.base import machine, options
from microgpt_lab.benchmark import lower_bound, sweeps
from microgpt_lab.benchmark.process import WorkerFailed, WorkerProcess
from microgpt_lab.benchmark.record import FORMAT
from microgpt_lab.benchmark.setups import Setup, setups

TURN = 0.12  # seconds that a setup computes in a round, at the least
SLOW_STEP = 1.0  # seconds; a setup with slower steps is measured in one round only
MAX_TRAINING = 5.0  # seconds; a training that would take longer is stopped
BUDGET = 255.0  # seconds for everything; the sweeps use what the tables leave

Progress = Callable[[str], None]  # shows what is being measured

# ---------------------------------------------------------------- Step times


@dataclass
class Measurement:
    """A setup's process, and the row that is being measured."""

    process: WorkerProcess
    row: dict[str, Any]
    repeats: int  # of the workload in a round

    @property
    def done(self) -> bool:
        """The process has failed, or is so slow that one round is enough."""
        rounds = self.row["rounds"]
        return bool(self.row["reason"] or (rounds and rounds[0] > SLOW_STEP))


def start(setup: Setup, config: Config, recipe: str) -> Measurement:
    """Start a process and run the whole training once, timed from the start of the process.
    Raises WorkerFailed."""
    process = WorkerProcess(setup)
    try:
        told = process.ask("run", config=asdict(config), given=setup.settings, limit=MAX_TRAINING)
    except BaseException:
        process.close()
        raise
    step = told.pop("step")
    threads = setup.settings["threads"]
    row = {**setup.label(), "recipe": recipe, "reason": "", "threads": threads, **told}
    row["rounds"] = [step] if step > SLOW_STEP else []
    return Measurement(process, row, max(1, round(TURN / (step * told["workload_steps"]))))


def measure_rows(
    found: Sequence[Setup],
    recipe: str,
    rounds: int,
    between: Sequence[Callable[[], None]],
    progress: Progress,
) -> list[dict[str, Any]]:
    """The rows of all setups, in order. The functions `between` (the points of the sweeps) are
    spread over the time between the rounds, so that the rounds are spread over more time."""
    config, results = microgpt.RECIPES[recipe], []
    with ExitStack() as stack:
        running = []
        for i, setup in enumerate(found, 1):
            progress(f"{recipe}: {setup.name} trains ({i} of {len(found)})")
            try:
                if setup.reason:
                    raise WorkerFailed(setup.reason)
                measurement = start(setup, config, recipe)
                stack.enter_context(measurement.process)
                running.append(measurement)
                results.append(measurement.row)
            except WorkerFailed as e:
                results.append({**setup.label(), "recipe": recipe, "reason": str(e)})
        for n in range(rounds):
            progress(f"{recipe}: round {n + 1} of {rounds}")
            run_round(running)
            for task in between[n * len(between) // rounds : (n + 1) * len(between) // rounds]:
                task()
    return results


def run_round(running: Sequence[Measurement]) -> None:
    """One round: each setup takes its steps while all others wait."""
    for one in running:
        if not one.done:
            try:
                told = one.process.ask("take_steps", repeats=one.repeats)
                one.row["rounds"].append(told["step"])
            except WorkerFailed as e:
                one.row["reason"] = str(e)


def summarize(row: dict[str, Any], rates: dict[str, Any]) -> dict[str, Any]:
    """A measured row with the figures that follow from its rounds.

    step: median, seconds; spread: largest deviation of a round, as a share of the median;
    first_step_extra: seconds that the first step takes longer than a later one;
    lower_bound: seconds, for as many cores as the row has threads.
    """
    rounds = row.get("rounds")
    if row["reason"] or not rounds:
        return row
    step = statistics.median(rounds)
    work = lower_bound.Work(row["operations"], row["numbers_moved"])
    least = lower_bound.seconds(work, rates, row["dtype"])
    return row | {
        "step": step,
        "spread": spread(rounds),
        "first_step_extra": max(0.0, row["first_step"] - step),
        "tokens_per_second": row["tokens"] / step,
        "lower_bound": least / row["threads"] if least else None,
    }


def spread(rounds: Sequence[float]) -> float:
    """The largest deviation of a round from the median, as a share of the median. 0 for a single
    round, which has none."""
    middle = statistics.median(rounds)
    return max(abs(taken - middle) for taken in rounds) / middle


# ---------------------------------------------------------------- The whole benchmark


@dataclass(frozen=True)
class BenchPlan:
    """What to measure. Raises InputError for what cannot be measured."""

    versions: Sequence[str]  # empty: all
    recipes: Sequence[str]
    sweeps: Sequence[str]
    rounds: int
    dtype: str | None
    device: str
    max_batch: int

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}: it must be 1 or more")
        found = setups(self.versions, self.dtype, self.device)
        if all(setup.reason for setup in found):
            raise InputError(f"nothing to measure: {found[0].name}: {found[0].reason}")
        if not 1 <= self.max_batch <= 10**6:
            raise InputError(f"max-batch is {self.max_batch}: it must lie in 1 … 1000000")
        for name in self.sweeps:
            sweeps.find_sweep(name, 1)
        for name in self.recipes:
            options.recipe(name, {})


def make_plan(versions: Sequence[str], recipes: str, swept: str, *rest: Any) -> BenchPlan:
    """A plan from the command line's texts, names separated by commas. Raises InputError."""
    groups = {"none": [], "all": list(sweeps.SWEEPS)}
    chosen = groups[swept] if swept in groups else split(swept)
    return BenchPlan(versions, split(recipes), chosen, *rest)


def split(text: str) -> list[str]:
    """Names separated by commas, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def measure(plan: BenchPlan, progress: Progress) -> dict[str, Any]:
    """Measure, and return the record of one run."""
    began = time.monotonic()
    found = setups(plan.versions, plan.dtype, plan.device)
    progress("how fast one core of this machine computes")
    on_cpu = plan.device == "cpu"
    rates = lower_bound.calibrate() if on_cpu else {}
    rows, swept = list[dict[str, Any]](), list[dict[str, Any]]()
    todo = [sweeps.find_sweep(name, plan.max_batch) for name in plan.sweeps]
    for i, recipe in enumerate(plan.recipes, 1):
        deadline = began + BUDGET * i / len(plan.recipes)
        last = i == len(plan.recipes)
        now = [sweep for sweep in todo if sweep.recipe == recipe or last]
        todo = [sweep for sweep in todo if sweep not in now]
        curves = sweeps.choose_curves(now, found, bool(plan.versions))
        with sweeps.SweepRunner(curves, deadline, progress) as runner:
            mine = [setup for setup in found if plan.versions or suits(setup, recipe)]
            rows += measure_rows(mine, recipe, plan.rounds, runner.tasks, progress)
        swept += runner.results()
    if on_cpu:  # once more: a rate is the best of both measurements
        rates = lower_bound.higher(rates, lower_bound.calibrate())
    return {
        "format": FORMAT,
        "runs": [
            {
                "run": 1,
                "date": date.today().isoformat(),
                "machine": machine.description(),
                "device": plan.device,
                "rounds": plan.rounds,
                "seconds": round(time.monotonic() - began, 1),
                "rates": rates,
            }
        ],
        "rows": [{"run": 1} | summarize(row, rates) for row in rows],
        "sweeps": [in_run(sweeps.summarize(sweep, rates), 1) for sweep in swept],
    }


def in_run(sweep: dict[str, Any], run: int) -> dict[str, Any]:
    """A sweep whose curves name their run."""
    return sweep | {"curves": [{"run": run} | curve for curve in sweep["curves"]]}


def suits(setup: Setup, recipe: str) -> bool:
    """Variants are measured only with the kind of recipe that their version is made for:
    batches or single documents."""
    batches = microgpt.RECIPES[recipe].batch_size > 1
    return not setup.variant or setup.version.batched == batches
