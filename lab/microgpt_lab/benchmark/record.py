"""The record of a benchmark (bench.json): read, write, and merge a new run into an old record.

A record has `runs` (date, machine, device, number of rounds, seconds in all, calibration rates),
`rows` and `sweeps`. Each row, and each curve of a sweep, names the run that measured it. Times
are in seconds, memory is in bytes.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files, json_text, schema
from microgpt_lab.base.versions import Version
from microgpt_lab.benchmark import record_schema
from microgpt_lab.benchmark.sweeps import OVER_BUDGET
from microgpt_lab.runs import run_folder

FORMAT = "microgpt-bench/2"
Record = Mapping[str, Any]


# ---------------------------------------------------------------- Files


def read_record(path: Path) -> dict[str, Any]:
    """A record from a file. Raises InputError."""
    raw = files.read(path)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise InputError(f"{str(path)!r} is not JSON: it must be a bench.json") from None
    kind = found.get("format") if isinstance(found, dict) else None
    if kind == "microgpt-bench/1":
        raise InputError(
            f"{str(path)!r} has the old format {kind!r}, whose keys have other names: "
            f"measure again for one in {FORMAT!r}"
        )
    if kind != FORMAT:
        said = f"its format is {schema.shorten(kind)}" if kind else "it has no format"
        raise InputError(f"{str(path)!r} is no benchmark record: {said}, not {FORMAT!r}")
    record_schema.check(raw, str(path))
    return dict(found)


def write_record(record: Record, path: Path) -> Path:
    """Write a record as JSON. Raises InputError."""
    files.write(path, json_text.to_json(record))
    return path


def default_folder() -> Path:
    """The folder for today's results; those of an earlier run today are replaced."""
    return run_folder.FOLDER / f"{date.today().isoformat()}-bench"


# ---------------------------------------------------------------- Reading rows


def identity(row: Record) -> tuple[str, ...]:
    """What distinguishes a row from the others of a record."""
    return row["recipe"], row["version"], row["variant"], row["dtype"]


def curve_identity(curve: Record) -> tuple[Any, ...]:
    """What distinguishes a curve from the others of a sweep."""
    return curve["version"], curve["variant"], curve["dtype"], curve["threads"]


def short_name(row: Record) -> str:
    """The number of the version's folder, and the variant: 03 compiled."""
    return f"{row['version'][:2]} {row['variant']}".strip()


def measured(record: Record) -> list[Record]:
    """The rows that have a result."""
    return [row for row in record["rows"] if "step" in row]


def failed(record: Record) -> bool:
    """Whether a row could not be measured."""
    return any(row["reason"] for row in record["rows"])


def run_of(record: Record, row: Record) -> Record:
    """The run that measured a row or a curve."""
    return next(run for run in record["runs"] if run["run"] == row["run"])


def main_run(record: Record, rows: Iterable[Record]) -> Record:
    """The run that measured the most of these rows, at equal numbers the first."""
    numbers = [row["run"] for row in rows]
    return max(record["runs"], key=lambda run: numbers.count(run["run"]))


def origin(record: Record, row: Record, main: Record) -> str:
    """The date of a row, and its machine, where they differ from the main run's; else empty."""
    run = run_of(record, row)
    parts = [] if run["date"] == main["date"] else [run["date"]]
    if run["machine"] != main["machine"]:
        parts.append(machine_text(run))
    return ", ".join(parts)


def machine_text(run: Record) -> str:
    """The machine of a run in a line."""
    m = run["machine"]
    return f"{m['processor']}, {m['cores']} cores, {m['system']}, Python {m['python']}"


# ---------------------------------------------------------------- Merging


def merge(old: Record, new: Record, tree: Mapping[str, Version]) -> dict[str, Any]:
    """The old record with the rows and curves that the new one measured.

    All others stay as they are, except those of versions and variants that have left the tree.
    A row that failed never replaces a measured one. Raises InputError where the new record was
    made on another device or with another dtype: one page cannot show both.
    """
    refuse_mixture(old, new)
    new = renumber(old, new)
    rows = merge_items(old["rows"], new["rows"], identity, better_row)
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    rows.sort(key=lambda row: (recipes.index(row["recipe"]), row["version"]))
    rows = [row for row in rows if in_tree(row, tree)]
    swept = {sweep["name"]: sweep for sweep in old["sweeps"]}
    for sweep in new["sweeps"]:
        name = sweep["name"]
        swept[name] = merge_sweep(swept[name], sweep) if name in swept else sweep
    sweeps = [
        {**sweep, "curves": [curve for curve in sweep["curves"] if in_tree(curve, tree)]}
        for sweep in swept.values()
    ]
    used = {item["run"] for item in [*rows, *(c for sweep in sweeps for c in sweep["curves"])]}
    runs = [run for run in [*old["runs"], *new["runs"]] if run["run"] in used]
    return {"format": FORMAT, "runs": runs, "rows": rows, "sweeps": sweeps}


def merge_sweep(old: Record, new: Record) -> dict[str, Any]:
    """One sweep with the curves that a new run measured."""
    curves = merge_items(old["curves"], new["curves"], curve_identity, better_curve)
    curves.sort(key=lambda curve: curve["version"])
    return {**old, "values": sorted({*old["values"], *new["values"]}), "curves": curves}


def merge_items(
    old: Sequence[Record],
    new: Sequence[Record],
    key: Callable[[Record], Any],
    better: Callable[[Record, Record | None], bool],
) -> list[Record]:
    """The old items, each replaced by the new one of the same key if that is better, and then
    the new ones that have no old one."""
    found = {key(item): item for item in old}
    for item in new:
        if better(item, found.get(key(item))):
            found[key(item)] = item
    return list(found.values())


def refuse_mixture(old: Record, new: Record) -> None:
    """Raises InputError where rows of two records cannot stand in one table."""
    was, now = ({run["device"] for run in record["runs"]} for record in (old, new))
    if was and now - was:
        raise InputError(
            f"this run is on {', '.join(now)} and the record on {', '.join(was)}: "
            "write it to a folder of its own with --out"
        )
    dtypes = {identity(row)[:3]: row["dtype"] for row in old["rows"]}
    for row in new["rows"]:
        if row["dtype"] != (known := dtypes.get(identity(row)[:3], row["dtype"])):
            raise InputError(
                f"{short_name(row)} is measured in {row['dtype']} and the record in {known}: "
                "write it to a folder of its own with --out"
            )


def renumber(old: Record, new: Record) -> dict[str, Any]:
    """The new record with run numbers that the old one does not use. A run that the old record
    has already keeps the number that it has there."""
    numbers: dict[int, int] = {}
    runs: list[dict[str, Any]] = []
    for run in new["runs"]:
        same = [known["run"] for known in old["runs"] if known == {**run, "run": known["run"]}]
        if same:
            numbers[run["run"]] = same[0]
        else:
            used = [known["run"] for known in [*old["runs"], *runs]]
            numbers[run["run"]] = 1 + max(used, default=0)
            runs.append({**run, "run": numbers[run["run"]]})

    def renumbered(items: Sequence[Record]) -> list[dict[str, Any]]:
        return [{**item, "run": numbers[item["run"]]} for item in items]

    sweeps = [{**sweep, "curves": renumbered(sweep["curves"])} for sweep in new["sweeps"]]
    return {"runs": runs, "rows": renumbered(new["rows"]), "sweeps": sweeps}


def better_row(row: Record, old: Record | None) -> bool:
    """Whether a new row may replace the old one."""
    return "step" in row or old is None or "step" not in old


def better_curve(curve: Record, old: Record | None) -> bool:
    """Whether a new curve may replace the old one. One that failed may not; one that ends early
    because it is over the time budget may."""
    if old is None or not old["points"]:
        return True
    return bool(curve["points"]) and curve["reason"] in ("", OVER_BUDGET)


def in_tree(row: Record, tree: Mapping[str, Version]) -> bool:
    """Whether the row's version and variant still exist."""
    return row["version"] in tree and row["variant"] in ("", *tree[row["version"]].variants)
