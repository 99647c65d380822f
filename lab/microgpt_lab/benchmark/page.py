"""docs/benchmark.md: the tables between its markers, and the record and pictures beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files
from microgpt_lab.base.versions import ROOT, find
from microgpt_lab.benchmark import crossovers, report
from microgpt_lab.benchmark.pictures import names_in_step
from microgpt_lab.benchmark.record import (
    FORMAT,
    Record,
    identity,
    machine_text,
    main_run,
    measured,
    merge,
    origin,
    read_record,
    short_name,
)

DOCS = ROOT / "docs"
NAME = "benchmark.md"
START, END = "<!-- bench -->", "<!-- /bench -->"
HEADS = (
    "step", "lower bound / step", "tokens a second", "first step after", "twenty names after",
    "memory",
)  # fmt: skip


def stored_record() -> dict[str, Any]:
    """The record in docs/, empty if there is none. Raises InputError."""
    path = DOCS / "bench.json"
    if path.exists():
        return read_record(path)
    return {"format": FORMAT, "runs": [], "rows": [], "sweeps": []}


def split_page() -> tuple[str, str]:
    """The page's text before and after the generated part. Raises InputError."""
    path = DOCS / NAME
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text.count(START) != 1 or text.count(END) != 1:
        raise InputError(f"{path} must have the lines {START} and {END} once each")
    before, rest = text.split(START)
    return before, rest.split(END)[1]


def check_page() -> None:
    """Raises InputError if `write_page` could not work, before anything is measured."""
    split_page()
    stored_record()


def write_page(new: Record) -> tuple[list[Path], list[str]]:
    """Merge a record into the one in docs/, and write that, its pictures and the page.

    -> the files, and a sentence for each row that failed and so did not replace the stored one.
    Raises InputError.
    """
    before, after = split_page()
    old = stored_record()
    merged = merge(old, new, find())
    if not merged["rows"]:
        raise InputError("the record has no row of a version in this tree: nothing to write")
    written = report.save_record(merged, DOCS)
    files.write(DOCS / NAME, f"{before}{START}\n{page_text(merged)}\n{END}{after}")
    return [DOCS / NAME, *written], kept_rows(merged, new)


def kept_rows(merged: Record, new: Record) -> list[str]:
    """A sentence for each row whose new measurement failed, so that the old one stays."""
    stays = {identity(row) for row in measured(merged)}
    return [
        f"{short_name(row)}, recipe {row['recipe']}: not measured now, the stored row stays"
        for row in new["rows"]
        if row["reason"] and identity(row) in stays
    ]


# ---------------------------------------------------------------- Markdown


def page_text(record: Record) -> str:
    """The generated part: a table for each recipe, the programs that were measured, and from
    where on each idea pays."""
    main = main_run(record, record["rows"])
    parts = [f"{main['date']}, {machine_text(main)}, {main['rounds']} rounds:"]
    for recipe in dict.fromkeys(row["recipe"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["recipe"] == recipe]
        parts.append(f"### Recipe `{recipe}`: {names_in_step(recipe)} in a step")
        parts.append(table_text(record, rows, main))
        parts += [
            f"{short_name(row)} was not measured: {row['reason']}." for row in rows if row["reason"]
        ]
    parts += ["### The programs that were measured", programs_text(record["rows"])]
    if sentences := crossovers.all_sentences(record):
        parts += ["### From which size on each idea saves time", bullets(sentences)]
    if reasons := report.reasons_of_ends(record):
        parts += ["Curves that end before the others, or are missing:", bullets(reasons)]
    return "\n\n".join(parts)


def table_text(record: Record, rows: Sequence[Record], main: Record) -> str:
    """The table of one recipe. A row of another day or machine than the main run says so."""
    unit, scale = report.step_unit(rows[0]["recipe"])
    lines = [f"| | {' | '.join(HEADS)} |", "|---|" + "---:|" * len(HEADS)]
    for row in sorted(rows, key=lambda row: (row["version"], row["variant"])):
        if "step" in row:
            elsewhere = origin(record, row, main)
            names_after = row["names_after"]
            cells = (
                short_name(row) + (f" ({elsewhere})" if elsewhere else ""),
                f"{report.digits(row['step'] * scale)} {unit}",
                report.share_of_bound(row),
                report.digits(row["tokens_per_second"]),
                f"{row['start'] + row['first_step']:.1f} s",
                f"{names_after:.1f} s" if names_after else "–",
                f"{row['memory'] / 2**20:,.0f} MiB",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def programs_text(rows: Sequence[Record]) -> str:
    """What each row's about() said: library, version, device, precision, threads."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if "step" in row:
            of_program = names.setdefault(row["about"], [])
            if (name := short_name(row)) not in of_program:
                of_program.append(name)
    found = sorted((sorted(of_program), about) for about, of_program in names.items())
    return bullets([f"{', '.join(of_program)}: {about}" for of_program, about in found])


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
