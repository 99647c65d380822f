"""VERIFIED.md and the tables of the READMEs, made from the record `spec/verified.json`.

The record holds the results of every version, with date and machine. A run of some versions
replaces their results in it and leaves the others as they are; the pages are made anew from
the whole record.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files, json_text
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification import reach_page
from microgpt_lab.verification.checks import CHECKS, COLUMNS, TOLERANCES

FORMAT = "microgpt-verified/1"
# How much a cell claims; a number is a pass.
RANK = {"FAIL": 0, "not run": 0, "pass": 1, "exact": 2}
START, END = "<!-- verified -->", "<!-- /verified -->"  # around the table of a README

# {"format", "on": date and machine of the page,
#  "versions": {version: {"on": date and machine, "rows": [
#      {"variant", "dtype", "about", "reason", "checks": {check: difference or status}}]}}}
Record = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where the record and the pages are."""

    root: Path = ROOT
    device: str = ""  # other than the CPU: it has a record of its own

    @property
    def record(self) -> Path:
        return self.root / "spec" / f"verified{self.device and '-'}{self.device}.json"

    @property
    def on_devices(self) -> "list[Places]":
        """The places of the devices that have a record."""
        stems = sorted(path.stem for path in (self.root / "spec").glob("verified-*.json"))
        return [replace(self, device=stem.partition("-")[2]) for stem in stems]

    @property
    def page(self) -> Path:
        return self.root / "VERIFIED.md"

    def readme(self, version: str) -> Path:
        return self.root / version / "README.md"


# ---------------------------------------------------------------- The record


def read_record(places: Places) -> Record:
    """The record; one without versions if there is none. Raises InputError."""
    path = places.record
    if not path.exists():
        return {"format": FORMAT, "on": "", "versions": {}}
    try:
        record: Record = json.loads(path.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r}, not {FORMAT!r}")
        markdown(record)  # so that a key that is missing shows here
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        said = f"no {e}" if isinstance(e, KeyError) else e
        raise InputError(f"spec/{path.name} cannot be read: {said}") from None
    return record


def on_devices(places: Places) -> dict[str, Record]:
    """The records of runs on other devices than the CPU."""
    return {each.device: read_record(each) for each in places.on_devices}


def entries_of(run: dict[str, Any]) -> dict[str, Any]:
    """A run of `verify` (verify.run_record) -> the record's entry of each version in it."""
    on = (
        f"{run['date']}, Python {run['python']}, {run['system']}, {run['processor']}, "
        f"{run['cores']} cores"
    )
    entries: dict[str, Any] = {}
    for row in run["rows"]:
        entry = entries.setdefault(row["version"], {"on": on, "rows": []})
        kept = {key: row[key] for key in ("variant", "dtype", "about", "reason")}
        cells = {check: cell_of(row["checks"][check]) for check in COLUMNS}
        entry["rows"].append(kept | {"checks": cells})
    return entries


def cell_of(check: dict[str, Any]) -> float | str:
    """What is recorded of a check: exact, FAIL, "not run", or the difference to one digit."""
    return float(f"{check['worst']:.0e}") if check["status"] == "pass" else str(check["status"])


def reason_of(entry: dict[str, Any]) -> str:
    """Why a version did not run; "" if it did."""
    return str(next((row["reason"] for row in entry["rows"] if row["reason"]), ""))


def merged(
    record: Record, run: dict[str, Any], in_tree: Collection[str], whole: bool
) -> tuple[Record, list[str]]:
    """The record after a run, and a line for each version that was removed or not replaced.

    `whole`: the run was of all versions. A version that did not run keeps its rows. A version
    that is not in the tree any more loses them.
    """
    entries, notes = entries_of(run), []
    versions = dict(record["versions"])
    for name in [name for name in versions if name not in in_tree]:
        del versions[name]
        notes.append(f"{name} is not in the tree any more: its rows are removed")
    for name, entry in entries.items():
        reason = reason_of(entry)
        if reason and name in versions and not reason_of(versions[name]):
            notes.append(f"{name} did not run ({reason}): its rows stay as they were")
        else:
            versions[name] = entry
    on = record["on"]
    if whole or not on:
        on = next(iter(entries.values()))["on"]
    return {"format": FORMAT, "on": on, "versions": dict(sorted(versions.items()))}, notes


# ---------------------------------------------------------------- The pages


def markdown(record: Record, others: Mapping[str, Record] | None = None) -> str:
    """VERIFIED.md: what is verified, and how closely; `others` are records of other devices."""
    lines = [
        "# Verified",
        "",
        "How closely each version agrees with 01. `microgpt verify --write` makes this page; "
        "`.ci/run` runs all checks again and fails if the page claims more than they show. The "
        "cases are in [spec/vectors](spec/vectors), the rules in [SPEC.md](SPEC.md).",
        "",
        f"{record['on']}.",
        "",
        "A cell is the greatest relative difference ‖got − want‖ / ‖want‖ of any tensor of any "
        "case. **exact**: every number is the same float64 as 01's, or every name is equal.",
    ]
    for dtype in TOLERANCES:
        lines += table_of(record, dtype)
    lines += ["", "## What ran", "", *what_ran(record)]
    for device, other in (others or {}).items():
        lines += device_part(device, other)
    lines += ["", "## The checks", ""]
    lines += [f"- **{check}**: {CHECKS[check][1]}" for check in COLUMNS]
    reached = reach_page.read_record()
    lines += reach_page.markdown({k: v for k, v in reached.items() if k in record["versions"]})
    return "\n".join(lines) + "\n"


def device_part(device: str, record: Record) -> list[str]:
    """The lines about a device other than the CPU. `.ci/run` has none, so they have a date."""
    lines = ["", f"## On another device: {device}", ""]
    lines.append(
        f"The same cases and tolerances, by `microgpt verify --device {device} --write` on "
        f"{record['on']}. The checks of `.ci/run` cannot repeat it."
    )
    for dtype in TOLERANCES:
        lines += table_of(record, dtype, "###")
    return [*lines, "", *what_ran(record)]


def table_of(record: Record, dtype: str, level: str = "##") -> list[str]:
    """The lines of one dtype's table; none if no version has it."""
    rows = [(name, row) for name, row in rows_of(record) if row["dtype"] == dtype]
    if not rows:
        return []
    lines = ["", f"{level} {dtype}", "", *heading()]
    lines += [line_of(f"{name} {row['variant']}".strip(), row["checks"]) for name, row in rows]
    noise = {check: max(number_in(row["checks"][check]) for _, row in rows) for check in COLUMNS}
    lines.append(line_of("*measured noise*", noise))
    return [*lines, line_of("*tolerance*", TOLERANCES[dtype])]


def heading() -> list[str]:
    """The head of every table."""
    return ["| | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]


def line_of(title: str, cells: dict[str, Any]) -> str:
    """One row of a table."""
    return f"| {title} | " + " | ".join(text_of(cells[check]) for check in COLUMNS) + " |"


def text_of(cell: float | str) -> str:
    """What one cell of a table shows."""
    if isinstance(cell, str):
        return f"**{cell}**" if cell in ("exact", "FAIL") else cell
    return f"{cell:.0e}"


def number_in(cell: float | str) -> float:
    """A cell's difference; 0 for a status."""
    return 0.0 if isinstance(cell, str) else cell


def rows_of(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """(version, row) of every row."""
    for name, entry in record["versions"].items():
        for row in entry["rows"]:
            yield name, row


def what_ran(record: Record) -> list[str]:
    """A line for each version and variant: library and device; date and machine too if they
    are not those of the page."""
    lines: dict[str, str] = {}
    for name, row in rows_of(record):
        title = f"{name} {row['variant']}".strip()
        about = row["about"].replace(f", {row['dtype']}", "")
        text = f"not run: {row['reason']}" if row["reason"] else about or "it ended early"
        on = record["versions"][name]["on"]
        if on != record["on"]:
            text += f" ({on})"
        lines.setdefault(title, f"- {title}: {text}")
    return list(lines.values())


def with_table(readme: str, entry: dict[str, Any]) -> str:
    """A README with this version's rows between its markers; unchanged if it has none."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        return readme
    rows = [
        line_of(f"{row['dtype']} {row['variant']}".strip(), row["checks"]) for row in entry["rows"]
    ]
    return before + start + "\n" + "\n".join([*heading(), *rows]) + "\n" + end + after


def write_pages(record: Record, places: Places) -> None:
    """Write the record and VERIFIED.md; on the CPU each version's README too."""
    files.write(places.record, json_text.to_json(record))
    main = read_record(replace(places, device="")) if places.device else record
    files.write(places.page, markdown(main, on_devices(places)))
    if places.device:
        return
    for name, entry in record["versions"].items():
        path = places.readme(name)
        text = path.read_text("utf-8") if path.exists() else ""
        if with_table(text, entry) != text:
            files.write(path, with_table(text, entry))


def update_pages(
    run: dict[str, Any], in_tree: Collection[str], whole: bool, places: Places
) -> list[str]:
    """Put a run into the record and write all pages -> the lines of `merged`. Of another device
    than the CPU, what did not run is not recorded."""
    if places.device:
        run = run | {"rows": [row for row in run["rows"] if not row["reason"]]}
        if not run["rows"]:
            return []
    record, notes = merged(read_record(places), run, in_tree, whole)
    write_pages(record, places)
    return notes


# ---------------------------------------------------------------- Checking the pages


def shortfalls(run: dict[str, Any], whole: bool, places: Places) -> list[str]:
    """A line for each thing that the pages claim and this run did not show, or that they lack.
    `whole`: the run was of all versions; otherwise only its own versions count."""
    record, shown = read_record(places), entries_of(run)
    asked = {name for name in record["versions"] if whole or name in shown} | set(shown)
    lines = []
    for name in sorted(asked):
        if name not in shown:
            lines.append(f"{name}: VERIFIED.md has its rows, but it is not in the tree")
        elif reason_of(shown[name]):
            lines.append(f"{name}: not run: {reason_of(shown[name])}")
        else:
            lines += overclaims(name, record["versions"].get(name, {"rows": []}), shown[name])
    page = places.page.read_text("utf-8") if places.page.exists() else ""
    if page != markdown(record, on_devices(places)):
        lines.append("VERIFIED.md is not what spec/verified.json makes: microgpt verify --write")
    for name in sorted(asked & set(record["versions"])):
        text = places.readme(name).read_text("utf-8") if places.readme(name).exists() else ""
        if with_table(text, record["versions"][name]) != text:
            lines.append(f"{name}/README.md: its table is not that of spec/verified.json")
    return lines


def overclaims(name: str, claimed: dict[str, Any], shown: dict[str, Any]) -> list[str]:
    """What the record claims of one version but a run did not show, and the rows that it lacks.
    A run may show more than the record claims: exact is more than a number, and a number is more
    than "not run"."""
    rows = {(row["variant"], row["dtype"]): row["checks"] for row in shown["rows"]}
    lines = []
    for row in claimed["rows"]:
        cells = rows.pop((row["variant"], row["dtype"]), dict.fromkeys(COLUMNS, "not run"))
        for check, cell in row["checks"].items():
            claim, seen = status_of(cell), status_of(cells.get(check, "not run"))
            if RANK[seen] < RANK[claim]:
                title = f"{name} {row['variant']}".strip()
                lines.append(
                    f"{title} {row['dtype']}: {check}: claimed {claim}, the run shows {seen}"
                )
    for variant, dtype in rows:
        title = f"{name} {variant}".strip()
        lines.append(f"{title} {dtype}: VERIFIED.md has no row: microgpt verify {name[:2]} --write")
    return lines


def status_of(cell: float | str) -> str:
    """A cell's status: a difference that was recorded has passed."""
    return cell if isinstance(cell, str) else "pass"
