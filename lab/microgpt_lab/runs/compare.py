"""`microgpt compare`: versions trained with one seed, beside one another."""

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

from microgpt import Config

from rich.console import Console
from rich.table import Table

from microgpt_lab.base import files, json_text, machine
from microgpt_lab.base.lines import code_lines_of as code_lines_of
from microgpt_lab.base.terminal import side_by_side
from microgpt_lab.base.versions import Version, pick
from microgpt_lab.runs import loss_pictures, run_folder
from microgpt_lab.runs.worker import Request, Result


@dataclass
class Row:
    """One version, or one of its variants: what came of it, or why it did not run."""

    version: Version
    variant: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    result: Result | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.version.name} {self.variant}".strip()


def rows(names: Sequence[str], variants: bool, dtype: str | None) -> list[Row]:
    """The versions asked for, each in the precision asked for where it has that."""
    found = []
    for version in pick(names):
        for variant in ("", *(version.variants if variants else ())):
            given = dict(version.variants.get(variant, {}))
            if dtype in version.dtypes:
                given["dtype"] = dtype
            elif dtype:
                found.append(Row(version, variant, reason=f"it has no {dtype}"))
                continue
            found.append(Row(version, variant, given, reason=version.missing or ""))
    return found


def train(row: Row, request: dict[str, Any], console: Console) -> None:
    """Fill in a row by a process of its own."""
    asked = Request(row.version.name, options=row.options, started=time.time(), **request)
    command = [sys.executable, "-m", "microgpt_lab.runs.worker", asked.line()]
    steps = request["config"]["steps"]
    with (
        tempfile.TemporaryFile("w+") as err,
        console.status(f"{row.name}: starting") as status,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as worker,
    ):
        try:
            assert worker.stdout
            for line in worker.stdout:
                news = json.loads(line)
                if "step" in news:
                    status.update(f"{row.name}: step {news['step']:,} of {steps:,}")
                row.reason = news.get("error", row.reason)
                row.result = Result(**news["result"]) if "result" in news else None
        except BaseException:
            worker.kill()
            raise
        if worker.wait() and not row.reason:
            err.seek(0)
            lines = err.read().strip().splitlines() or [f"status {worker.returncode}"]
            row.reason = f"it ended with: {lines[-1]}"


# ---------------------------------------------------------------- Showing


def difference(row: Row, first: Row) -> float:
    """The greatest difference of a loss from the first version's at the same step."""
    assert row.result
    assert first.result
    return max(abs(a - b) for a, b in zip(row.result.losses, first.result.losses))


def tail(losses: Sequence[float]) -> float:
    """Mean of the last 50."""
    last = losses[-50:]
    return sum(last) / len(last)


def code_lines(folder: Path) -> int:
    """Lines of a version's programs that hold code: no blanks, comments or docstrings."""
    return sum(code_lines_of(path.read_text()) for path in folder.glob("*.py"))


def show(found: Sequence[Row], console: Console) -> None:
    """The table, then why something is not in it."""
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
            f"{tail(r.losses):.4f}",
            "–" if r.held_out is None else f"{r.held_out:.4f}",
            "=" if row is ran[0] else f"{difference(row, ran[0]):.0e}",
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
    "loss: mean of the last 50 steps; held-out: nats a character on names never seen; "
    "Δ: greatest difference from the first row's losses; µs/step: median after warm-up; start: "
    "to the end of the first step, imports and compiling included; name: to the first name"
)


def show_names(found: Sequence[Row], console: Console) -> None:
    """The names of all versions: once where they are equal, side by side where not."""
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


def record(found: Sequence[Row], request: dict[str, Any]) -> dict[str, Any]:
    """The whole comparison for machines."""
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


def folder(recipe: str, seed: int) -> Path:
    """Where a comparison goes unless told otherwise; one of the same day is replaced."""
    return run_folder.FOLDER / f"{date.today().isoformat()}-compare-{recipe}-{seed}"


def compare(
    found: Sequence[Row], config: Config, request: dict[str, Any], out: Path, console: Console
) -> int:
    """Train one after the other, show them, keep the picture and the record in `out`.
    -> 0, or 1 if a version did not run."""
    with files.failing_plainly(out, "make"):
        out.mkdir(parents=True, exist_ok=True)
    for row in found:
        if not row.reason:
            train(row, request | {"config": asdict(config)}, console)
    ran = {row.name: row.result for row in found if row.result}
    text = json_text.to_json(record(found, request | {"config": asdict(config)}))
    files.write(out / "compare.json", text)  # first, so that no terminal can lose it
    if ran:
        curves = {name: result.losses for name, result in ran.items()}
        loss_pictures.draw_comparison(curves, next(iter(ran)), out / "losses.svg")
    show(found, console)
    if ran:
        console.print(f"\n{LEGEND}\n", style="dim")
        show_names(found, console)
    said = f"\nin {out}: {'losses.svg, ' if ran else ''}compare.json"
    console.print(said, soft_wrap=True)
    return 0 if len(ran) == len(found) else 1
