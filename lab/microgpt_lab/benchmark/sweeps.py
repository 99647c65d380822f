"""The sweeps of a bench: one number of a recipe varied, to see where an idea begins to pay."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from microgpt import RECIPES, InputError

from microgpt_lab.base import options
from microgpt_lab.benchmark import lower_bound
from microgpt_lab.benchmark.rows import PATIENCE, Child, Died, Late, Row, Say

ROUNDS = 3
TURN = 0.06  # seconds of a row in each
RESERVE = 10.0  # seconds before the deadline that are not the sweeps'
LEAST = 1.5  # seconds for a point even where there are none left: on a machine with little time
READY = 8.0  # seconds in which a model is made at the least, and what it needs is compiled
IMPORTS = 20.0  # seconds more that processes may take for their first answer
OVER = "over the budget"


@dataclass(frozen=True)
class Sweep:
    """A number of a recipe, and the values that it takes."""

    name: str
    number: str  # as the recipe calls it
    recipe: str
    values: tuple[int, ...]
    joined: bool = False  # documents as long as the block
    threads: tuple[int, ...] = (1,)
    variants: bool = False  # compiled, eager: not only each version as it is


SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep("width", "n_embd", "seed", (16, 32, 64, 128, 256, 512), variants=True),
        Sweep("layers", "n_layer", "seed", (1, 2, 4, 8)),
        Sweep("block", "block_size", "seed", (8, 32, 128, 256), joined=True),
        Sweep("batch", "batch_size", "scaled", ()),
        Sweep("threads", "n_embd", "scaled", (16, 64, 256), threads=(1, 2)),
    )
}


def named(name: str, max_batch: int) -> Sweep:
    """A sweep by name. Raises InputError."""
    if name not in SWEEPS:
        raise InputError(f"no sweep {name!r}{options.hint(name, SWEEPS)}")
    sweep = SWEEPS[name]
    if sweep.number == "batch_size":
        sizes = [4**i for i in range(20) if 4**i < max_batch]
        sweep = replace(sweep, values=(*sizes, max_batch))
    return sweep


@dataclass
class Line:
    """One row in one sweep: a curve."""

    sweep: Sweep
    row: Row
    points: list[dict[str, Any]] = field(default_factory=list)
    about: str = ""
    reason: str = ""  # why there is no point, or none beyond the last

    @property
    def key(self) -> tuple[str, int]:
        return self.row.name, self.row.threads


def lines(sweeps: Sequence[Sweep], found: Sequence[Row], chosen: bool) -> list[list[Line]]:
    """The curves of each sweep: of all rows if these were chosen, else of one version for
    each framework: where a step is a document its first, where it is a batch its last."""
    frameworks: dict[str, list[str]] = {}
    for row in found:
        if row.version.framework and not row.reason:
            frameworks.setdefault(row.version.framework, []).append(row.version.name)
    curves = []
    for sweep in sweeps:
        which = 0 if RECIPES[sweep.recipe].batch_size == 1 else -1
        names = {of_framework[which] for of_framework in frameworks.values()}
        picked = [
            row
            for row in found
            if not row.reason
            and (chosen or (row.version.name in names and (sweep.variants or not row.variant)))
        ]
        rows = [replace(row, threads=n) for row in picked for n in sweep.threads]
        curves.append([Line(sweep, row) for row in rows])
    return curves


# ---------------------------------------------------------------- Running


class Runner:
    """Takes the points of sweeps one by one, in the time that there is."""

    def __init__(self, curves: Sequence[Sequence[Line]], deadline: float, say: Say) -> None:
        self.curves, self.deadline, self.say = curves, deadline, say
        self.children: dict[tuple[str, int], Child] = {}
        self.tasks: list[Callable[[], None]] = [
            partial(self.point, of_sweep, value)
            for of_sweep in curves
            for value in (of_sweep[0].sweep.values if of_sweep else ())
        ]
        self.left = len(self.tasks)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: Any) -> None:
        for child in self.children.values():
            child.__exit__()

    def point(self, curves: Sequence[Line], value: int) -> None:
        """One value: all curves get ready side by side, then take turns."""
        share = max(LEAST, (self.deadline - RESERVE - time.monotonic()) / self.left)
        self.left -= 1
        self.say(f"{curves[0].sweep.recipe}: {curves[0].sweep.name} {value}")
        for line in curves:
            if not line.reason and foreseen(line, value) > share / 2:
                line.reason = OVER
        points = self.ready(
            [line for line in curves if not line.reason], value, max(READY, 2 * share)
        )
        for _ in range(ROUNDS):
            for line, point in points:
                if not line.reason:
                    laps = max(1, round(TURN / (point["step"] * point["lap"])))
                    self.children[line.key].tell("take", laps=laps)
                    if told := self.hear(line, PATIENCE):
                        point["rounds"].append(told["step"])
        for line, point in points:
            if not line.reason:
                line.points.append(point)

    def ready(
        self, curves: Sequence[Line], value: int, patience: float
    ) -> list[tuple[Line, dict[str, Any]]]:
        """Have processes make a model each, and wait for what they tell of it."""
        for line in curves:
            if line.key not in self.children:
                self.children[line.key] = Child(line.row)
                patience += IMPORTS / len(curves)
        end, points = time.monotonic() + patience, []
        for line in curves:
            config = asdict(replace(RECIPES[line.sweep.recipe], **{line.sweep.number: value}))
            order = {"given": line.row.settings, "joined": line.sweep.joined}
            self.children[line.key].tell("point", config=config, **order)
        for line in curves:
            if told := self.hear(line, end - time.monotonic()):
                line.about = told.pop("about")
                points.append((line, {"value": value, **told, "rounds": []}))
        for line, _ in points:
            if line.sweep.threads[1:] and (said := not_so_many(line)):
                for other in curves:
                    if other.row.name == line.row.name:
                        other.reason = said
        return points

    def hear(self, line: Line, patience: float) -> dict[str, Any] | None:
        """The answer; None if there is none, and then the curve ends, and its process."""
        try:
            return self.children[line.key].hear(patience)
        except Died as e:
            line.reason = OVER if isinstance(e, Late) else str(e)
            self.children.pop(line.key).__exit__()
            return None

    def records(self) -> list[dict[str, Any]]:
        """What has been found, for machines."""
        return [
            {
                **asdict(of_sweep[0].sweep),
                "lines": [
                    {
                        **line.row.label(),
                        "threads": line.row.threads,
                        "about": line.about,
                        "reason": line.reason,
                        "points": line.points,
                    }
                    for line in of_sweep
                ],
            }
            for of_sweep in self.curves
            if of_sweep
        ]


def foreseen(line: Line, value: int) -> float:
    """Seconds that a point may take, judged by the last one: its operations are more."""
    if not line.points:
        return 0.0
    last, more = line.points[-1], value / line.points[-1]["value"]
    growth = more**2 if line.sweep.number == "n_embd" else more
    return float(growth * last["step"] * (ROUNDS + 3))


def not_so_many(line: Line) -> str:
    """Why a row is no answer to what threads bring, if it took not as many as it was given."""
    said = re.search(r"(\d+) threads?\b", line.about)
    if not said:
        return "it does not say how many threads it takes"
    return "" if int(said[1]) == line.row.threads else f"it takes {said[0]} whatever it is given"


def summed_up(sweep: dict[str, Any], rates: Mapping[str, Any]) -> dict[str, Any]:
    """With what each point says: the least of its rounds, as neighbours can only slow it down,
    and the floor."""

    def point(found: dict[str, Any], dtype: str) -> dict[str, Any]:
        return found | {
            "step": min(found["rounds"]),
            "floor": lower_bound.seconds(
                lower_bound.Work(found["operations"], found["moved"]), rates, dtype
            ),
        }

    return sweep | {
        "lines": [
            line | {"points": [point(found, line["dtype"]) for found in line["points"]]}
            for line in sweep["lines"]
        ]
    }
