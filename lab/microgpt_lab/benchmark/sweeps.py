"""The sweeps of a benchmark: one size of a recipe is varied, to see from which value
on an idea saves time."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from microgpt import RECIPES, InputError

from microgpt_lab.base import options
from microgpt_lab.benchmark import lower_bound
from microgpt_lab.benchmark.process import (
    PATIENCE,
    WorkerFailed,
    WorkerProcess,
    WorkerTimeout,
)
from microgpt_lab.benchmark.setups import Setup

ROUNDS = 3
TURN = 0.06  # seconds that a setup computes in a round
RESERVE = 10.0  # seconds before the deadline that the sweeps leave free
MIN_SHARE = 1.5  # seconds for a point, even when the deadline has passed
MIN_READY = 8.0  # seconds, at the least, to make the models of a point and compile them
IMPORT_TIME = 20.0  # more seconds where processes must start first
OVER_BUDGET = "over the time budget"


@dataclass(frozen=True)
class Sweep:
    """A field of a recipe, and the values that it takes."""

    name: str
    varied: str  # the recipe's field
    recipe: str
    values: tuple[int, ...]
    full_block: bool = False  # documents as long as the block
    threads: tuple[int, ...] = (1,)
    variants: bool = False  # of versions too (compiled, eager), not only each version as it is


SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep("width", "n_embd", "seed", (16, 32, 64, 128, 256, 512), variants=True),
        Sweep("layers", "n_layer", "seed", (1, 2, 4, 8)),
        Sweep("block", "block_size", "seed", (8, 32, 128, 256), full_block=True),
        Sweep("batch", "batch_size", "scaled", ()),
        Sweep("threads", "n_embd", "scaled", (16, 64, 256), threads=(1, 2)),
    )
}


def find_sweep(name: str, max_batch: int) -> Sweep:
    """A sweep by name; the one over batches has values up to max_batch. Raises InputError."""
    if name not in SWEEPS:
        raise InputError(f"no sweep {name!r}{options.hint(name, SWEEPS)}")
    sweep = SWEEPS[name]
    if sweep.varied == "batch_size":
        sizes = [4**i for i in range(20) if 4**i < max_batch]
        sweep = replace(sweep, values=(*sizes, max_batch))
    return sweep


@dataclass
class Curve:
    """What one setup costs in one sweep."""

    sweep: Sweep
    setup: Setup
    points: list[dict[str, Any]] = field(default_factory=list)
    about: str = ""
    reason: str = ""  # why there is no point, or none beyond the last

    @property
    def key(self) -> tuple[str, int]:
        return self.setup.name, self.setup.threads


def choose_curves(
    sweeps: Sequence[Sweep], found: Sequence[Setup], all_of_them: bool
) -> list[list[Curve]]:
    """The curves of each sweep.

    Either of all setups, or of one version for each framework: the first one where a step
    trains on one document, the last one where it trains on a batch.
    """
    frameworks: dict[str, list[str]] = {}
    for setup in found:
        if setup.version.framework and not setup.reason:
            frameworks.setdefault(setup.version.framework, []).append(setup.version.name)
    curves = []
    for sweep in sweeps:
        which = 0 if RECIPES[sweep.recipe].batch_size == 1 else -1
        names = {of_framework[which] for of_framework in frameworks.values()}
        picked = [
            setup
            for setup in found
            if not setup.reason
            and (
                all_of_them
                or (setup.version.name in names and (sweep.variants or not setup.variant))
            )
        ]
        curves.append(
            [Curve(sweep, replace(setup, threads=n)) for setup in picked for n in sweep.threads]
        )
    return curves


# ---------------------------------------------------------------- Running


class SweepRunner:
    """Measures the points of sweeps one by one, within the time budget. `tasks` has a function
    for each point."""

    def __init__(
        self, curves: Sequence[Sequence[Curve]], deadline: float, progress: Callable[[str], None]
    ) -> None:
        self.curves, self.deadline, self.progress = curves, deadline, progress
        self.processes: dict[tuple[str, int], WorkerProcess] = {}
        self.tasks: list[Callable[[], None]] = [
            partial(self.measure_point, of_sweep, value)
            for of_sweep in curves
            for value in (of_sweep[0].sweep.values if of_sweep else ())
        ]
        self.left = len(self.tasks)

    def __enter__(self) -> "SweepRunner":
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self.processes.values():
            process.close()

    def measure_point(self, curves: Sequence[Curve], value: int) -> None:
        """One value of a sweep: prepare all curves' models at the same time, then measure them
        in turn."""
        share = max(MIN_SHARE, (self.deadline - RESERVE - time.monotonic()) / self.left)
        self.left -= 1
        self.progress(f"{curves[0].sweep.recipe}: {curves[0].sweep.name} {value}")
        for curve in curves:
            if not curve.reason and predicted_time(curve, value) > share / 2:
                curve.reason = OVER_BUDGET
        points = self.prepare(
            [curve for curve in curves if not curve.reason], value, max(MIN_READY, 2 * share)
        )
        for _ in range(ROUNDS):
            for curve, point in points:
                if not curve.reason:
                    repeats = max(1, round(TURN / (point["step"] * point["workload_steps"])))
                    self.processes[curve.key].send("take_steps", repeats=repeats)
                    if told := self.receive(curve, PATIENCE):
                        point["rounds"].append(told["step"])
        for curve, point in points:
            if not curve.reason:
                curve.points.append(point)

    def prepare(
        self, curves: Sequence[Curve], value: int, patience: float
    ) -> list[tuple[Curve, dict[str, Any]]]:
        """Have each curve's process make its model. -> (curve, the new point) of each that did
        so within `patience` seconds."""
        for curve in curves:
            if curve.key not in self.processes:
                self.processes[curve.key] = WorkerProcess(curve.setup)
                patience += IMPORT_TIME / len(curves)
        end, points = time.monotonic() + patience, []
        for curve in curves:
            config = replace(RECIPES[curve.sweep.recipe], **{curve.sweep.varied: value})
            self.processes[curve.key].send(
                "prepare_point", config=asdict(config), given=curve.setup.settings,
                full_block=curve.sweep.full_block,
            )  # fmt: skip
        for curve in curves:
            if told := self.receive(curve, end - time.monotonic()):
                curve.about = told.pop("about")
                points.append((curve, {"value": value, **told, "rounds": []}))
        for curve, _ in points:
            if curve.sweep.threads[1:] and (said := wrong_threads(curve)):
                for other in curves:
                    if other.setup.name == curve.setup.name:
                        other.reason = said
        return points

    def receive(self, curve: Curve, patience: float) -> dict[str, Any] | None:
        """The process's answer. Without one the curve ends with a reason, the process is closed
        and the result is None."""
        try:
            return self.processes[curve.key].receive(patience)
        except WorkerFailed as e:
            curve.reason = OVER_BUDGET if isinstance(e, WorkerTimeout) else str(e)
            self.processes.pop(curve.key).close()
            return None

    def results(self) -> list[dict[str, Any]]:
        """Each sweep and its curves as the record has them, before `summarize`."""
        return [
            {
                **asdict(of_sweep[0].sweep),
                "curves": [
                    {
                        **curve.setup.label(),
                        "threads": curve.setup.threads,
                        "about": curve.about,
                        "reason": curve.reason,
                        "points": curve.points,
                    }
                    for curve in of_sweep
                ],
            }
            for of_sweep in self.curves
            if of_sweep
        ]


def predicted_time(curve: Curve, value: int) -> float:
    """Seconds that a point may take: the last point's, multiplied by the growth of the work."""
    if not curve.points:
        return 0.0
    last, factor = curve.points[-1], value / curve.points[-1]["value"]
    growth = factor**2 if curve.sweep.varied == "n_embd" else factor
    return float(growth * last["step"] * (ROUNDS + 3))


def wrong_threads(curve: Curve) -> str:
    """Why a curve cannot show what threads bring: the version's about() must say that it uses
    the number that it was given. Empty if it does."""
    said = re.search(r"(\d+) threads?\b", curve.about)
    if not said:
        return "its about() does not say how many threads it uses"
    same = int(said[1]) == curve.setup.threads
    return "" if same else f"it uses {said[0]}, whatever number is given"


def summarize(sweep: dict[str, Any], rates: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep whose points also have `step`, the fastest round, because other processes can only
    make a round slower, and `lower_bound`, both in seconds."""

    def summary(point: dict[str, Any], dtype: str) -> dict[str, Any]:
        work = lower_bound.Work(point["operations"], point["numbers_moved"])
        return point | {
            "step": min(point["rounds"]),
            "lower_bound": lower_bound.seconds(work, rates, dtype),
        }

    return sweep | {
        "curves": [
            curve | {"points": [summary(point, curve["dtype"]) for point in curve["points"]]}
            for curve in sweep["curves"]
        ]
    }
