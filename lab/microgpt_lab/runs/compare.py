"""`microgpt compare`: train several versions with the same seed and show them side by side."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from microgpt import Config, InputError

from rich.console import Console
from rich.table import Table

from microgpt_lab.base import files, json_text, machine, processes
from microgpt_lab.base.lines import code_lines_of as code_lines_of
from microgpt_lab.base.terminal import side_by_side
from microgpt_lab.base.versions import Version, pick
from microgpt_lab.runs import loss_pictures, run_folder, yardsticks
from microgpt_lab.runs.worker import Request, Result


@dataclass
class ComparisonRow:
    """One version, or a variant of one, with its result or the reason why it has none."""

    version: Version
    variant: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    result: Result | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.version.name} {self.variant}".strip()


def rows_of(names: Sequence[str], variants: bool, dtype: str | None) -> list[ComparisonRow]:
    """A row for each version (and each variant), in that precision if one is given. A version
    that cannot run so gets a reason instead. Raises InputError for an unknown version."""
    found = []
    for version in pick(names):
        for variant in ("", *(version.variants if variants else ())):
            given = dict(version.variants.get(variant, {}))
            if dtype in version.dtypes:
                given["dtype"] = dtype
            elif dtype:
                found.append(ComparisonRow(version, variant, reason=f"it has no {dtype}"))
                continue
            found.append(ComparisonRow(version, variant, given, reason=version.missing or ""))
    return found


def train_in_process(row: ComparisonRow, request: dict[str, Any], console: Console) -> None:
    """Train one row in a process of its own, and fill in its result or its reason."""
    asked = Request(row.version.name, options=row.options, started=time.perf_counter(), **request)
    command = [sys.executable, "-m", "microgpt_lab.runs.worker", asked.to_json()]
    steps = request["config"]["steps"]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        console.status(f"{row.name}: starting") as status,
        processes.started(command, stdout=subprocess.PIPE, stderr=err, text=True) as worker,
    ):
        assert worker.stdout
        for line in worker.stdout:
            message = json.loads(line)
            if "step" in message:
                status.update(f"{row.name}: step {message['step']:,} of {steps:,}")
            row.reason = message.get("error", row.reason)
            row.result = Result(**message["result"]) if "result" in message else None
        if worker.wait() and not row.reason:
            err.seek(0)
            lines = err.read().strip().splitlines() or [f"status {worker.returncode}"]
            row.reason = f"it ended with: {lines[-1]}"


# ---------------------------------------------------------------- Showing


def greatest_difference(row: ComparisonRow, first: ComparisonRow) -> float:
    """The largest absolute difference between the two rows' losses at the same step."""
    assert row.result
    assert first.result
    return max(abs(a - b) for a, b in zip(row.result.losses, first.result.losses))


def mean_of_last(losses: Sequence[float]) -> float:
    """The mean of the last 50 losses."""
    last = losses[-50:]
    return sum(last) / len(last)


def code_lines(folder: Path) -> int:
    """How many lines of code the programs in a folder have."""
    return sum(code_lines_of(path.read_text("utf-8")) for path in folder.glob("*.py"))


def show_table(found: Sequence[ComparisonRow], console: Console) -> None:
    """Print a table of the rows that ran, then a reason for each that did not."""
    ran = [row for row in found if row.result]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, max_width=24, overflow="ellipsis")
    heads = ["loss", "held-out", f"Δ {ran[0].name[:2]}" if ran else "Δ"]
    for head in (*heads, "µs/step", "start", "name", "MiB", "lines"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in ran:
        r = row.result
        assert r
        table.add_row(
            row.name,
            f"{mean_of_last(r.losses):.4f}",
            "–" if r.held_out is None else f"{r.held_out:.4f}",
            "=" if row is ran[0] else f"{greatest_difference(row, ran[0]):.0e}",
            f"{r.step * 1e6:,.0f}",
            f"{r.start:.1f} s",
            f"{r.first_name:.1f} s",
            f"{r.memory / 2**20:,.0f}",
            f"{code_lines(row.version.path.parent):,}",
        )
    console.print(table)
    for row in found:
        if row.reason:
            console.print(f"{row.name}: not run: {row.reason}", soft_wrap=True)


LEGEND = (
    "loss: mean of the last 50 steps. held-out: loss on held-out names, nats a character. "
    "Δ: largest difference from the first row's losses. µs/step: median after a warm-up. "
    "start: seconds from the start of the process, with imports and compilation, to the end of the "
    "first step. name: the same to the first name. MiB: peak memory. lines: lines of code."
)
HELD_OUT = (
    "The versions' own programs print other names, because they train on all documents: here "
    "{share:.0%} are held out. With --held-out 0 the names are the same.\n"
)


def show_generated_names(found: Sequence[ComparisonRow], console: Console) -> None:
    """Print the generated names: one list if all versions agree, else a column for each group of
    versions that agree."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in found:
        if row.result and row.result.names:
            groups.setdefault(tuple(row.result.names), []).append(row.name)
    if len(groups) == 1:
        ((names, versions),) = groups.items()
        who = f"the same in all {len(versions)} versions" if versions[1:] else f"of {versions[0]}"
        console.print(f"{len(names)} names, {who}:\n")
        console.print(side_by_side(names))
    elif groups:
        table = Table(box=None, pad_edge=False)
        table.add_column("names", justify="right")
        for versions in groups.values():
            table.add_column(" = ".join(name[:2] for name in versions))
        for i, names in enumerate(zip(*groups), 1):
            mark = "" if len(set(names)) == 1 else " ≠"
            table.add_row(f"{i}{mark}", *(name or '""' for name in names))
        console.print(table)


def comparison_record(found: Sequence[ComparisonRow], request: dict[str, Any]) -> dict[str, Any]:
    """The content of compare.json."""
    return {
        "format": "microgpt-compare/1",
        "date": date.today().isoformat(),
        "python": sys.version.split()[0],
        "processor": machine.processor(),
        "request": request,
        "rows": [
            {
                "version": row.version.name,
                "variant": row.variant,
                "options": row.options,
                "reason": row.reason,
                "lines": code_lines(row.version.path.parent),
                "result": asdict(row.result) if row.result else None,
            }
            for row in found
        ],
    }


# ---------------------------------------------------------------- The command


def default_folder(recipe: str, seed: int) -> Path:
    """The folder without --out; a second comparison on the same day replaces the first."""
    return run_folder.FOLDER / f"{date.today().isoformat()}-compare-{recipe}-{seed}"


def compare(
    found: Sequence[ComparisonRow],
    config: Config,
    request: dict[str, Any],
    out: Path,
    console: Console,
) -> int:
    """Train the rows one after the other, print them, write the picture and compare.json into
    `out`. Returns the exit status: 0, or 1 if a version did not run."""
    if all(row.reason for row in found):
        raise InputError(f"nothing to compare: {found[0].name}: {found[0].reason}")
    files.ensure_folder(out, "compare.json", "losses.svg")
    for row in found:
        if not row.reason:
            train_in_process(row, request | {"config": asdict(config)}, console)
    ran = {row.name: row.result for row in found if row.result}
    record = comparison_record(found, request | {"config": asdict(config)})
    # before anything is printed, so that a closed terminal does not lose it
    files.write(out / "compare.json", json_text.to_json(record))
    if ran:
        curves = {name: result.losses for name, result in ran.items()}
        lines = yardsticks.of_request(request, config.block_size)
        loss_pictures.draw_comparison(curves, next(iter(ran)), out / "losses.svg", lines)
    show_table(found, console)
    if ran:
        console.print(f"\n{LEGEND}\n", style="dim")
        if request["held_out"] and request["samples"]:
            console.print(HELD_OUT.format(share=request["held_out"]))
        show_generated_names(found, console)
    said = f"\nin {out}: {'losses.svg, ' if ran else ''}compare.json"
    console.print(said, soft_wrap=True)
    return 0 if len(ran) == len(found) else 1
