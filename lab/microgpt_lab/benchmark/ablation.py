"""What each optimization in 01 saves: 01 is timed as it is, and with that optimization removed."""

import json
import statistics
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from microgpt import InputError

from rich.console import Console
from rich.table import Table

from microgpt_lab.base import processes
from microgpt_lab.base.versions import REFERENCE, ROOT, edited, pick

FILE = ROOT / "spec" / "ablation.toml"
# Runs in a new interpreter: there the garbage collector finds no objects but 01's own.
TIMING_PROGRAM = """
import json, sys, time, microgpt
config = microgpt.RECIPES["seed"]
run = microgpt.prepare(config, {data!r}, say=lambda text: None)
state = microgpt.create(config, run.snapshot)
times, before = [], time.perf_counter()
for loss in microgpt.train(state, microgpt.batches(config, run.tokenizer, run.docs)):
    now = time.perf_counter()
    times.append(now - before)
    before = now
    if len(times) == {steps}:
        break
print(json.dumps([times, loss]))
"""


@dataclass(frozen=True)
class TimedProgram:
    """01, or 01 without some optimizations: seconds of each step, of all rounds, and the loss of
    the last step."""

    name: str
    seconds: list[float]
    loss: float


def make_programs() -> dict[str, str]:
    """The texts to time, by name: 01, 01 without each optimization, and without all of them.
    Raises InputError if an edit does not fit 01's text."""
    source = pick([REFERENCE])[0].path.read_text("utf-8")
    found = tomllib.loads(FILE.read_text("utf-8"))["optimization"]
    programs = {"as it is": source}
    for one in found:
        programs[f"without: {one['id']}"] = edited(source, one["edit"], one["id"])
    edits = [edit for one in found for edit in one["edit"]]
    programs["without any of them"] = edited(source, edits, "all optimizations")
    first, *others = found
    edits = [edit for one in others for edit in one["edit"]]
    programs[f"without any but: {first['id']}"] = edited(source, edits, "all but one")
    return programs


def measure_programs(rounds: int, steps: int) -> list[TimedProgram]:
    """Time each program, all of them in turn in each round. Raises InputError."""
    programs = make_programs()
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, text in programs.items():
                (Path(folder) / "microgpt.py").write_text(text, "utf-8")
                code = TIMING_PROGRAM.format(data=str(ROOT / "data" / "names.txt"), steps=steps)
                command = [sys.executable, "-c", code]
                done = processes.run(command, cwd=folder)
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                    raise InputError(f"01 {name} ended with: {last}")
                times, losses[name] = json.loads(done.stdout)
                seconds[name] += times[len(times) // 5 :]  # the first fifth is a warm-up
    return [TimedProgram(name, seconds[name], losses[name]) for name in programs]


def show_programs(timed: list[TimedProgram], console: Console) -> None:
    """Print the times, and how far the losses differ."""
    base = statistics.median(timed[0].seconds)
    table = Table(box=None, pad_edge=False)
    table.add_column("01, recipe seed")
    for head in ("ms a step, median", "fastest", "median / as it is"):
        table.add_column(head, justify="right")
    for t in timed:
        middle, least = statistics.median(t.seconds), min(t.seconds)
        table.add_row(t.name, f"{middle * 1e3:.1f}", f"{least * 1e3:.1f}", f"{middle / base:.2f}")
    console.print(table)
    apart = max(abs(t.loss - timed[0].loss) for t in timed)
    console.print(f"The losses of the last step differ by at most {apart:.0e}.")
