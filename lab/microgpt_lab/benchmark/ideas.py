"""What each idea in 01 buys: the file is timed with that idea undone, beside itself."""

import json
import statistics
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from microgpt_lab.base.versions import REFERENCE, ROOT, edited, pick

FILE = ROOT / "spec" / "ideas.toml"
# Runs in a fresh interpreter, so that the collector meets no other objects than 01's own.
CLOCK = """
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
class Timed:
    """One variant: its seconds a step, pooled over the rounds, and its last loss."""

    name: str
    seconds: list[float]
    loss: float


def measure(rounds: int, steps: int) -> list[Timed]:
    """Time 01 as it is, with each idea undone, and with all of them undone, in turn."""
    source = pick([REFERENCE])[0].path.read_text()
    ideas = tomllib.loads(FILE.read_text())["idea"]
    texts = {"as it is": source}
    for idea in ideas:
        texts[f"without: {idea['id']}"] = edited(source, idea["edit"], idea["id"])
    every = [edit for idea in ideas for edit in idea["edit"]]
    texts["without any of them"] = edited(source, every, "all ideas")
    texts["without any but the collector away"] = edited(
        source, [e for idea in ideas[1:] for e in idea["edit"]], "all ideas but one"
    )
    seconds: dict[str, list[float]] = {name: [] for name in texts}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, text in texts.items():
                (Path(folder) / "microgpt.py").write_text(text)
                code = CLOCK.format(data=str(ROOT / "data" / "names.txt"), steps=steps)
                command = [sys.executable, "-c", code]
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, check=True
                )
                times, losses[name] = json.loads(done.stdout)
                seconds[name] += times[len(times) // 5 :]  # the first fifth warms up
    return [Timed(name, seconds[name], losses[name]) for name in texts]


def show(timed: list[Timed], console: Console) -> None:
    base = statistics.median(timed[0].seconds)
    table = Table(box=None, pad_edge=False)
    table.add_column("01, recipe seed")
    for head in ("ms a step", "quiet", "times as it is"):
        table.add_column(head, justify="right")
    for t in timed:
        middle, quiet = statistics.median(t.seconds), min(t.seconds)
        table.add_row(t.name, f"{middle * 1e3:.1f}", f"{quiet * 1e3:.1f}", f"{middle / base:.2f}")
    console.print(table)
    apart = max(abs(t.loss - timed[0].loss) for t in timed)
    console.print(f"The losses of the last step differ by at most {apart:.0e}.")
