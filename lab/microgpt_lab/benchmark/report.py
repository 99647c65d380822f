"""What a record of a bench says: tables, what changed since another one, the README's part."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import microgpt
from microgpt import InputError

from rich.console import Console
from rich.table import Table

from microgpt_lab.base import files, json_text
from microgpt_lab.base.versions import ROOT
from microgpt_lab.benchmark import crossovers, pictures, sweeps

README, DOCS = ROOT / "README.md", ROOT / "docs"
START, END = "<!-- bench -->", "<!-- /bench -->"
Record = Mapping[str, Any]


def digits(x: float) -> str:
    """Three of them, without an exponent: 0.0125, 2.71, 48.5, 1,240."""
    if x >= 100:
        return f"{float(f'{x:.3g}'):,.0f}"
    return f"{float(f'{x:.2g}'):g}" if x < 1 else f"{x:#.3g}"


def unit(recipe: str) -> tuple[str, float]:
    """That of a step, and how many of it are a second."""
    return ("µs", 1e6) if microgpt.RECIPES[recipe].batch_size == 1 else ("ms", 1e3)


def percent(row: Record) -> str:
    """The floor over the step: two digits."""
    if not row["floor"]:
        return "–"
    share = float(f"{row['floor'] / row['step'] * 100:.2g}")
    return f"{share:g} %"


# ---------------------------------------------------------------- Tables


def where(record: Record) -> str:
    """The machine, in a line."""
    m = record["machine"]
    return (
        f"{m['processor']}, {m['cores']} cores, {m['system']}, Python {m['python']}, "
        f"{record['threads']} thread"
    )


def show(record: Record, console: Console) -> None:
    """The tables of a record, then where what begins to pay."""
    console.print(f"{record['date']}: {where(record)}\n", soft_wrap=True)
    for recipe in dict.fromkeys(row["recipe"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["recipe"] == recipe]
        console.print(table_of(rows, recipe))
        for row in rows:
            if row["reason"]:
                name = f"{row['version']} {row['variant']}".strip()
                console.print(f"{name}: not measured: {row['reason']}", soft_wrap=True)
        console.print()
    console.print(LEGEND, style="dim")
    if sentences := crossovers.all_of(record):
        console.print("\nwhat pays, from where on\n")
        for sentence in sentences:
            console.print(f"  {sentence}", soft_wrap=True)
    if reasons := ends(record):
        console.print()
        for reason in reasons:
            console.print(f"  {reason}", style="dim", soft_wrap=True)


LEGEND = (
    "a step: median of the rounds; ±: all of them lie that near; tokens/s: real ones; start: "
    "from the command to the data being read; compile: what the first step takes beyond a "
    "later one; names: from the command to 20 names after the whole training; floor: the "
    "share of the time that its operations need at this machine's best speed"
)


def table_of(rows: Sequence[Record], recipe: str) -> Table:
    """One recipe: a row a version."""
    name, scale = unit(recipe)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"recipe {recipe}", no_wrap=True, max_width=22, overflow="ellipsis")
    for head in (f"{name}/step", "±", "tokens/s", "start", "compile", "names", "MiB", "floor"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        if "step" in row:
            table.add_row(
                f"{row['version']} {row['variant']}".strip() if not row["variant"] else
                f"{row['version'][:2]} … {row['variant']}",
                digits(row["step"] * scale),
                noise(row),
                digits(row["rate"]),
                f"{row['start']:.1f} s",
                f"{row['compile']:.1f} s",
                f"{row['names']:.1f} s" if row["names"] else "–",
                f"{row['memory'] / 2**20:,.0f}",
                percent(row),
            )  # fmt: skip
    return table


def name_of(row: Record) -> str:
    """At most 22 letters that tell a row from others."""
    return f"{row['version'][:2]} … {row['variant']}" if row["variant"] else str(row["version"])


def noise(row: Record) -> str:
    return f"{row['spread'] * 100:.0f} %" if row["rounds"][1:] else "once"


def ends(record: Record) -> list[str]:
    """Why a curve ends before the others, a line each sweep and reason."""
    found = []
    for sweep in record["sweeps"]:
        short: dict[str, list[str]] = {}
        for line in sweep["lines"]:
            if line["reason"]:
                last = line["points"][-1]["value"] if line["points"] else None
                since = f" beyond {last}" if last and line["reason"] == sweeps.OVER else ""
                names = short.setdefault(line["reason"] + since, [])
                if (name := crossovers.short(line)) not in names:
                    names.append(name)
        found += [
            f"sweep {sweep['name']}: {', '.join(names)}: {reason}"
            for reason, names in short.items()
        ]
    return found


# ---------------------------------------------------------------- Two records


def changes(old: Record, new: Record) -> list[dict[str, Any]]:
    """Of each row in both: the ratio of its steps, and whether that is beyond the noise; None
    where one was measured once.

    A whole run may meet a slow or a fast hour of the machine: `mood` is the ratio of the median
    row of the recipe. Beyond the noise is a row whose ratio differs from that by more than
    both spreads together, and by more than two processes of one program differ.
    """
    found = []
    before = {identity(row): row for row in old["rows"] if "step" in row}
    for row in new["rows"]:
        was = before.get(identity(row))
        if was and "step" in row:
            found.append({"row": row, "was": was, "ratio": row["step"] / was["step"]})
    for change in found:
        row, was = change["row"], change["was"]
        alike = [c["ratio"] for c in found if c["row"]["recipe"] == row["recipe"]]
        mood = statistics.median(alike) if len(alike) > 2 else 1.0
        off = abs(change["ratio"] / mood - 1)
        once = not (row["rounds"][1:] and was["rounds"][1:])
        noise = max(crossovers.LEVEL, row["spread"] + was["spread"])
        change |= {"mood": mood, "beyond": None if once else off > noise}
    return found


def identity(row: Record) -> tuple[str, ...]:
    return row["recipe"], row["version"], row["variant"], row["dtype"]


def differences(old: Record, new: Record) -> list[str]:
    """What is not the same around the numbers: machine, programs, settings, rows."""
    found = [
        f"{name}: {old['machine'][name]} → {value}"
        for name, value in new["machine"].items()
        if old["machine"].get(name) != value
    ]
    found += [
        f"{name}: {old[name]} → {new[name]}"
        for name in ("device", "threads")
        if old[name] != new[name]
    ]
    before = {identity(row): row for row in old["rows"]}
    after = {identity(row): row for row in new["rows"]}
    told = []
    for key, row in after.items():
        was = before.get(key, {}).get("about")
        if was and row.get("about") and was != row["about"]:
            told.append(f"{row['version']} {row['variant']}".strip() + f": {was} → {row['about']}")
    found += dict.fromkeys(told)
    for only, rows in (("the old", before.keys() - after), ("the new", after.keys() - before)):
        found += [f"only in {only}: {' '.join(filter(None, key))}" for key in sorted(rows)]
    return found


def show_changes(old: Record, new: Record, console: Console) -> None:
    """What is different around the numbers, then what has changed in them."""
    if around := differences(old, new):
        console.print("not the same in both:")
        for line in around:
            console.print(f"  {line}", soft_wrap=True)
        console.print()
    found = changes(old, new)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, max_width=22, overflow="ellipsis")
    table.add_column("recipe")
    for head in (old["date"], "±", new["date"], "±", "ratio"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("")
    for change in found:
        row, was, beyond = change["row"], change["was"], change["beyond"]
        name, scale = unit(row["recipe"])
        verdict = ("slower" if change["ratio"] > change["mood"] else "faster") if beyond else ""
        table.add_row(
            name_of(row),
            row["recipe"],
            f"{digits(was['step'] * scale)} {name}",
            noise(was),
            f"{digits(row['step'] * scale)} {name}",
            noise(row),
            f"{change['ratio']:.2f}",
            verdict,
        )
    console.print(table)
    told = [change for change in found if change["beyond"] is not None]
    beyond = sum(change["beyond"] for change in told)
    moods = {change["row"]["recipe"]: change["mood"] for change in found}
    said = ", ".join(f"{mood:.2f} in {recipe}" for recipe, mood in moods.items())
    console.print(
        f"\n{beyond} of {len(told)} rows changed beyond the noise: their ratio differs by more "
        f"than both ± from that of the machine as a whole, {said}",
        soft_wrap=True,
    )


# ---------------------------------------------------------------- The README


def markdown(record: Record) -> str:
    """The README's table: what a record says, in few columns."""
    rows: dict[str, dict[str, Record]] = {}
    for row in record["rows"]:
        if "step" in row:
            rows.setdefault(crossovers.short(row), {})[row["recipe"]] = row
    heads = [
        "", "µs a step, `seed`", "of the floor", "ms a step, `scaled`", "of the floor",
        "tokens a second", "first step after", "twenty names after", "memory",
    ]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, of_recipe in sorted(rows.items()):
        seed, scaled = of_recipe.get("seed"), of_recipe.get("scaled")
        both = [row for row in (seed, scaled) if row]
        if not both:
            continue
        cells = [name]
        for row, scale in ((seed, 1e6), (scaled, 1e3)):
            cells += [digits(row["step"] * scale), percent(row)] if row else ["", ""]
        cells.append(digits(max(row["rate"] for row in both)))
        cells.append(f"{both[0]['start'] + both[0]['first']:.1f} s")
        cells.append(f"{both[0]['names']:.1f} s" if both[0]["names"] else "–")
        cells.append(f"{max(row['memory'] for row in both) / 2**20:,.0f} MiB")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"{record['date']}, {where(record)}:", "", *lines])


def write(record: Record) -> list[Path]:
    """Put the table into the README, and record and pictures into docs/."""
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    if text.count(START) != 1 or text.count(END) != 1:
        raise InputError(f"{README} must have the lines {START} and {END} once each")
    written = keep(record, DOCS)
    before, rest = text.split(START)
    files.write(README, f"{before}{START}\n{markdown(record)}\n{END}{rest.split(END)[1]}")
    return [README, *written]


def keep(record: Record, out: Path) -> list[Path]:
    """Write a record and its pictures into a folder."""
    with files.failing_plainly(out, "make"):
        out.mkdir(parents=True, exist_ok=True)
    paths = [write_record(record, out / "bench.json")]
    if any("step" in row for row in record["rows"]):
        paths.append(out / "staircase.svg")
        pictures.staircase(record, paths[-1])
    if any(line["points"] for sweep in record["sweeps"] for line in sweep["lines"]):
        paths.append(out / "sweeps.svg")
        pictures.sweeps(record, paths[-1])
    return paths


def write_record(record: Record, path: Path) -> Path:
    files.write(path, json_text.to_json(record))
    return path
