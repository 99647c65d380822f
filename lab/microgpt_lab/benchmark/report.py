"""What a benchmark prints: a table for each recipe, and from which size on each idea saves time."""

from collections.abc import Sequence
from pathlib import Path

import microgpt

from rich.console import Console
from rich.table import Table

from microgpt_lab.base import files
from microgpt_lab.benchmark import crossovers, pictures
from microgpt_lab.benchmark.record import (
    Record,
    machine_text,
    main_run,
    measured,
    origin,
    short_name,
    write_record,
)
from microgpt_lab.benchmark.sweeps import OVER_BUDGET

LEGEND = (
    "step: the median of the rounds; ±: the largest deviation of a round from the median; "
    "tokens/s: targets trained on in a second, without padding; start: from the command until "
    "the data are read; compile: how much longer the first step takes than a later one; names: "
    "from the command until 20 names are there, after the whole training; bound: the lower "
    "bound of the step's time, from its operations, as a share of the measured time"
)


# ---------------------------------------------------------------- Numbers as text


def digits(x: float) -> str:
    """Three digits without an exponent, two below 1: 0.012, 2.71, 48.5, 1,240."""
    if x >= 100:
        return f"{float(f'{x:.3g}'):,.0f}"
    return f"{float(f'{x:.2g}'):g}" if x < 1 else f"{x:#.3g}"


def step_unit(recipe: str) -> tuple[str, float]:
    """The unit of a recipe's steps, and how many of it are a second."""
    return ("µs", 1e6) if microgpt.RECIPES[recipe].batch_size == 1 else ("ms", 1e3)


def share_of_bound(row: Record) -> str:
    """The lower bound as a share of the step's time, two digits; – where none is known."""
    if not row["lower_bound"]:
        return "–"
    share = float(f"{row['lower_bound'] / row['step'] * 100:.2g}")
    return f"{share:g} %"


def deviation(row: Record) -> str:
    """The largest deviation of a round from the median."""
    return f"{row['spread'] * 100:.0f} %" if row["rounds"][1:] else "once"


def name_in_table(row: Record) -> str:
    """The row's name, short enough for a column of 22 letters where it has a variant."""
    return f"{row['version'][:2]} … {row['variant']}" if row["variant"] else str(row["version"])


# ---------------------------------------------------------------- Tables


def show_record(record: Record, console: Console) -> None:
    """Print the tables of a record, then from which size on each idea saves time."""
    main = main_run(record, record["rows"])
    console.print(f"{main['date']}: {machine_text(main)}, 1 thread\n", soft_wrap=True)
    for recipe in dict.fromkeys(row["recipe"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["recipe"] == recipe]
        console.print(recipe_table(rows, recipe))
        for row in rows:
            name = f"{row['version']} {row['variant']}".strip()
            if row["reason"]:
                console.print(f"{name}: not measured: {row['reason']}", soft_wrap=True)
            elif elsewhere := origin(record, row, main):
                console.print(f"{name}: measured on {elsewhere}", soft_wrap=True)
        console.print()
    console.print(LEGEND, style="dim")
    if sentences := crossovers.all_sentences(record):
        console.print("\nfrom which size on each idea saves time\n")
        for sentence in sentences:
            console.print(f"  {sentence}", soft_wrap=True)
    if reasons := reasons_of_ends(record):
        console.print()
        for reason in reasons:
            console.print(f"  {reason}", style="dim", soft_wrap=True)


def recipe_table(rows: Sequence[Record], recipe: str) -> Table:
    """The measured rows of one recipe."""
    unit, scale = step_unit(recipe)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"recipe {recipe}", no_wrap=True, max_width=20, overflow="ellipsis")
    for head in (f"{unit}/step", "±", "tokens/s", "start", "compile", "names", "MiB", "bound"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        if "step" in row:
            table.add_row(
                name_in_table(row),
                digits(row["step"] * scale),
                deviation(row),
                digits(row["tokens_per_second"]),
                f"{row['start']:.1f} s",
                f"{row['first_step_extra']:.1f} s",
                f"{row['names_after']:.1f} s" if row["names_after"] else "–",
                f"{row['memory'] / 2**20:,.0f}",
                share_of_bound(row),
            )
    return table


def reasons_of_ends(record: Record) -> list[str]:
    """Why curves end before the others: a line for each sweep and reason."""
    found = []
    for sweep in record["sweeps"]:
        names_of: dict[str, list[str]] = {}
        for curve in sweep["curves"]:
            if curve["reason"]:
                last = curve["points"][-1]["value"] if curve["points"] else None
                beyond = f" beyond {last}" if last and curve["reason"] == OVER_BUDGET else ""
                names = names_of.setdefault(curve["reason"] + beyond, [])
                if (name := short_name(curve)) not in names:
                    names.append(name)
        found += [
            f"sweep {sweep['name']}: {', '.join(names)}: {reason}"
            for reason, names in names_of.items()
        ]
    return found


def save_record(record: Record, folder: Path) -> list[Path]:
    """Write bench.json and its pictures into a folder. -> the files. Raises InputError."""
    with files.failing_plainly(folder, "make"):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [write_record(record, folder / "bench.json")]
    if measured(record):
        paths.append(folder / "step-times.svg")
        pictures.draw_step_times(record, paths[-1])
    if any(curve["points"] for sweep in record["sweeps"] for curve in sweep["curves"]):
        paths.append(folder / "sweeps.svg")
        pictures.draw_sweeps(record, paths[-1])
    return paths
