"""`microgpt bench`: what each version costs, measured so that it can be measured again.

Every row is a process of its own, which lives as long as its recipe is measured. One at a time
computes: they take turns, round after round, so that a slow minute of the machine hits all.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, InputError

from microgpt_lab.base import files, machine, options
from microgpt_lab.benchmark import lower_bound, sweeps
from microgpt_lab.benchmark.rows import TURN, Child, Died, Row, Say, rows, spread
from microgpt_lab.runs import run_folder

FORMAT = "microgpt-bench/1"
SLOW = 1.0  # seconds a step, beyond which a row is measured once
NAMES = 5.0  # seconds that a whole training may take, beyond its first step, to be run
BUDGET = 255.0  # seconds for all of it; the sweeps get what is left

# ---------------------------------------------------------------- The staircase


@dataclass
class Measured:
    """A row's process and what it has told."""

    child: Child
    result: dict[str, Any]
    laps: int  # of a round

    @property
    def over(self) -> bool:
        """It has died, or is so slow that it has been measured for good."""
        rounds = self.result["rounds"]
        return bool(self.result["reason"] or (rounds and rounds[0] > SLOW))


def start(row: Row, config: Config, recipe: str) -> Measured:
    """Run the whole training once, in a fresh process, timed from its very start."""
    child = Child(row)
    try:
        told = child.ask("run", config=asdict(config), given=row.settings, limit=NAMES)
    except BaseException:
        child.__exit__()
        raise
    step, lap = told.pop("step"), told["lap"]
    threads = row.settings["threads"]
    result = {**row.label(), "recipe": recipe, "reason": "", "threads": threads, **told}
    result["rounds"] = [step] if step > SLOW else []
    return Measured(child, result, max(1, round(TURN / (step * lap))))


def staircase(
    found: Sequence[Row],
    recipe: str,
    rounds: int,
    between: Sequence[Callable[[], None]],
    say: Say,
) -> list[dict[str, Any]]:
    """Results of all rows, in order. What is to be done `between` the rounds is spread out
    over them, so that they see more of the machine's moods."""
    config, results = microgpt.RECIPES[recipe], []
    with ExitStack() as stack:
        at_work = []
        for i, row in enumerate(found, 1):
            say(f"{recipe}: {row.name} trains ({i} of {len(found)})")
            try:
                if row.reason:
                    raise Died(row.reason)
                measured = start(row, config, recipe)
                stack.enter_context(measured.child)
                at_work.append(measured)
                results.append(measured.result)
            except Died as e:
                results.append({**row.label(), "recipe": recipe, "reason": str(e)})
        for n in range(rounds):
            say(f"{recipe}: round {n + 1} of {rounds}")
            take_turns(at_work)
            for task in between[n * len(between) // rounds : (n + 1) * len(between) // rounds]:
                task()
    return results


def take_turns(at_work: Sequence[Measured]) -> None:
    """One round: each takes its laps while all others wait."""
    for one in at_work:
        if not one.over:
            try:
                one.result["rounds"].append(one.child.ask("take", laps=one.laps)["step"])
            except Died as e:
                one.result["reason"] = str(e)


def summed_up(result: dict[str, Any], rates: dict[str, Any]) -> dict[str, Any]:
    """With what the rounds say: seconds a step and its spread, tokens a second, the floor;
    and what the first step took beyond a later one."""
    rounds = result.get("rounds")
    if result["reason"] or not rounds:
        return result
    step = statistics.median(rounds)
    todo = lower_bound.Work(result["operations"], result["moved"])
    return result | {
        "step": step,
        "spread": spread(rounds),
        "compile": max(0.0, result["first"] - step),
        "rate": result["tokens"] / step,
        "floor": lower_bound.seconds(todo, rates, result["dtype"]) / result["threads"],
    }


# ---------------------------------------------------------------- The whole of it


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    versions: Sequence[str]
    recipes: Sequence[str]
    sweeps: Sequence[str]
    rounds: int
    dtype: str | None
    device: str
    max_batch: int

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}: it must be 1 or more")
        rows(self.versions, self.dtype, self.device)  # unknown names are refused at once
        if not 1 <= self.max_batch <= 10**6:
            raise InputError(f"max-batch is {self.max_batch}: it must lie in 1 … 1000000")


def plan(versions: Sequence[str], recipes: str, swept: str, *rest: Any) -> Plan:
    """From texts with commas. Raises InputError."""
    wanted = [] if swept == "none" else list(sweeps.SWEEPS) if swept == "all" else named(swept)
    for name in wanted:
        sweeps.named(name, 1)
    for name in named(recipes):
        options.recipe(name, {})
    return Plan(versions, named(recipes), wanted, *rest)


def named(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def measure(plan: Plan, say: Say) -> dict[str, Any]:
    """The record of a bench."""
    began = time.monotonic()
    found = rows(plan.versions, plan.dtype, plan.device)
    say("how fast this machine multiplies")
    on_core = plan.device == "cpu"
    rates = lower_bound.rates() if on_core else {}
    results, swept = list[dict[str, Any]](), list[dict[str, Any]]()
    todo = [sweeps.named(name, plan.max_batch) for name in plan.sweeps]
    for i, recipe in enumerate(plan.recipes, 1):
        deadline = began + BUDGET * i / len(plan.recipes)
        last = i == len(plan.recipes)
        now = [sweep for sweep in todo if sweep.recipe == recipe or last]
        todo = [sweep for sweep in todo if sweep not in now]
        curves = sweeps.lines(now, found, bool(plan.versions))
        with sweeps.Runner(curves, deadline, say) as runner:
            mine = [row for row in found if plan.versions or suits(row, recipe)]
            results += staircase(mine, recipe, plan.rounds, runner.tasks, say)
        swept += runner.records()
    rates = lower_bound.better(rates, lower_bound.rates()) if on_core else {}
    return {
        "format": FORMAT,
        "date": date.today().isoformat(),
        "machine": machine.description(),
        "device": plan.device,
        "threads": 1,
        "rounds": plan.rounds,
        "seconds": round(time.monotonic() - began, 1),
        "rates": rates,
        "rows": [summed_up(result, rates) for result in results],
        "sweeps": [sweeps.summed_up(sweep, rates) for sweep in swept],
    }


def suits(row: Row, recipe: str) -> bool:
    """Variants are measured with what their version is made for, batches or documents."""
    batches = microgpt.RECIPES[recipe].batch_size > 1
    return not row.variant or row.version.batched == batches


def read(path: Path) -> dict[str, Any]:
    """A record from a file. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"cannot read {str(path)!r}: {e.strerror or e}") from None
    except ValueError:
        raise InputError(f"{str(path)!r} is not JSON: it must be a bench.json") from None
    kind = found.get("format") if isinstance(found, dict) else None
    if kind != FORMAT:
        said = f"its format is {kind!r}" if kind else "it has no format"
        raise InputError(f"{str(path)!r} is no record of a bench: {said}, not {FORMAT!r}")
    return dict(found)


def failed(record: dict[str, Any]) -> bool:
    """Whether a row was not measured."""
    return any(row["reason"] for row in record["rows"])


def room(folder: Path, *files_to_be: Path) -> None:
    """Make the folder, and be sure that files can be written there and elsewhere before
    anything is measured. Raises InputError."""
    with files.failing_plainly(folder, "make"):
        folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / "bench.json", *files_to_be):
        with files.failing_plainly(path), open(path, "ab") as file:
            empty = not file.tell()
        if empty:
            path.unlink()


def folder() -> Path:
    """Where a bench goes unless told otherwise; one of the same day is replaced."""
    return run_folder.FOLDER / f"{date.today().isoformat()}-bench"
