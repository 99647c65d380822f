"""`microgpt bench --against`: what changed between two records of a benchmark."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from microgpt_lab.benchmark.crossovers import EQUAL
from microgpt_lab.benchmark.record import Record, identity, measured, run_of
from microgpt_lab.benchmark.report import deviation, digits, name_in_table, step_unit


def find_changes(old: Record, new: Record) -> list[dict[str, Any]]:
    """For each row that both records measured: the ratio of its steps, new over old, and whether
    that is more than noise; None where one of them was measured in a single round.

    The whole machine may be slower or faster in one of the runs: `overall` is the median of the
    ratios in the row's recipe. A row's change is more than noise if its ratio differs from the
    overall one by more than both spreads together, and by more than two processes of one
    program differ (EQUAL).
    """
    before = {identity(row): row for row in measured(old)}
    pairs = [(before[identity(row)], row) for row in measured(new) if identity(row) in before]
    ratios: dict[str, list[float]] = {}
    for was, row in pairs:
        ratios.setdefault(row["recipe"], []).append(row["step"] / was["step"])
    found = []
    for was, row in pairs:
        of_recipe = ratios[row["recipe"]]
        overall = statistics.median(of_recipe) if len(of_recipe) > 2 else 1.0
        ratio = row["step"] / was["step"]
        once = not (row["rounds"][1:] and was["rounds"][1:])
        noise = max(EQUAL, row["spread"] + was["spread"])
        beyond = None if once else abs(ratio / overall - 1) > noise
        found.append(
            {"row": row, "was": was, "ratio": ratio, "overall": overall, "beyond_noise": beyond}
        )
    return found


def restrict(record: Record, versions: Sequence[str] | None, recipes: Sequence[str]) -> Record:
    """The record with the rows of these recipes and versions (folder names; None for all)."""
    rows = [
        row
        for row in record["rows"]
        if row["recipe"] in recipes and (versions is None or row["version"] in versions)
    ]
    return {**record, "rows": rows}


def find_differences(old: Record, new: Record) -> list[str]:
    """What else differs between the records: machines, devices, programs, which rows there are."""
    before = {identity(row): row for row in old["rows"]}
    after = {identity(row): row for row in new["rows"]}
    found: list[str] = []
    for key in after:
        if key in before:
            was, now = run_of(old, before[key]), run_of(new, after[key])
            found += compare_fields(was["machine"], now["machine"])
            found += compare_fields({"device": was["device"]}, {"device": now["device"]})
    for key, row in after.items():
        was_about = before.get(key, {}).get("about")
        if was_about and row.get("about") and was_about != row["about"]:
            name = f"{row['version']} {row['variant']}".strip()
            found.append(f"{name}: {was_about} → {row['about']}")
    for which, keys in (("old", before.keys() - after), ("new", after.keys() - before)):
        found += [f"only in the {which} one: {' '.join(filter(None, k))}" for k in sorted(keys)]
    return list(dict.fromkeys(found))


def compare_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each field that differs."""
    return [
        f"{name}: {old.get(name)} → {value}"
        for name, value in new.items()
        if old.get(name) != value
    ]


def show_changes(old: Record, new: Record, console: Console) -> None:
    """Print what else differs, then the changes of the step times."""
    console.print(f"old: {dates(old)}; new: {dates(new)}\n", soft_wrap=True)
    if lines := find_differences(old, new):
        console.print("different in the two records:")
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)
        console.print()
    found = find_changes(old, new)
    if not found:
        console.print("no row was measured in both records", soft_wrap=True)
        return
    console.print(changes_table(found))
    judged = [change for change in found if change["beyond_noise"] is not None]
    beyond = sum(change["beyond_noise"] for change in judged)
    overall = {change["row"]["recipe"]: change["overall"] for change in found}
    said = ", ".join(f"{ratio:.2f} in {recipe}" for recipe, ratio in overall.items())
    console.print(
        f"\n{beyond} of {len(judged)} rows changed by more than noise: their ratio differs by "
        f"more than both ± from the machine's overall change, {said}",
        soft_wrap=True,
    )


def dates(record: Record) -> str:
    """The days on which a record's rows were measured."""
    return ", ".join(sorted({run_of(record, row)["date"] for row in record["rows"]}))


def changes_table(found: Sequence[Record]) -> Table:
    """A row for each change."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, max_width=22, overflow="ellipsis")
    table.add_column("recipe")
    for head in ("old", "±", "new", "±", "ratio"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("")
    for change in found:
        row, was = change["row"], change["was"]
        unit, scale = step_unit(row["recipe"])
        slower = change["ratio"] > change["overall"]
        table.add_row(
            name_in_table(row),
            row["recipe"],
            f"{digits(was['step'] * scale)} {unit}",
            deviation(was),
            f"{digits(row['step'] * scale)} {unit}",
            deviation(row),
            f"{change['ratio']:.2f}",
            ("slower" if slower else "faster") if change["beyond_noise"] else "",
        )
    return table
