"""The pages that figures.json makes: a table between the markers of each idea's README, and
beyond/README.md with everything on one page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files
from microgpt_lab.beyond import measuring
from microgpt_lab.beyond.ideas import Claim, Idea, Value
from microgpt_lab.beyond.record import Entry, Record

START, END = "<!-- figures -->", "<!-- /figures -->"
SHOWN = 12  # numbers of a table that are written out

INTRODUCTION = """\
# Beyond

Each folder here has one idea that goes beyond the model of [SPEC.md](../SPEC.md), in one program.
It makes claims that can fail. `uv run microgpt beyond` measures them, and measures each again on
wrong programs, called controls: a control must break the claim's threshold. A claim whose control
keeps the threshold is reported as a failure too, because such a claim could not fail.

| command | what it does |
|---|---|
| `uv run microgpt beyond` | measure every claim that takes seconds, with its controls |
| `uv run microgpt beyond 02 08` | only these ideas; `02.bytes` is one claim |
| `uv run microgpt beyond --long` | also those that take minutes (marked "recorded") |
| `uv run microgpt beyond --write` | measure all, and write the figures into these pages |
| `uv run microgpt beyond --check` | fail also if a page is not what the figures make |

A folder has `main.py` (the program), `claims.py` (a function for each measurement, and one that
draws the picture) and `claims.toml` (thresholds and controls). A figure of many numbers keeps its
threshold if all of them do, or the one that the threshold names. This page is generated.
"""


# ---------------------------------------------------------------- Numbers as text


def number(x: float | None) -> str:
    if x is None:
        return "no number"
    if x == int(x) and abs(x) < 1e6:
        return f"{int(x):,}"
    return f"{x:.1e}" if abs(x) < 1e-3 or abs(x) >= 1e6 else f"{x:#.4g}".rstrip(".")


def text_of(value: Value, key: str = "") -> str:
    """A measured value: a number, or some numbers with their names."""
    if not isinstance(value, dict):
        return number(value)
    if key in value:
        value = {key: value[key]} | value
    if len(value) > SHOWN:
        return (
            f"{len(value)} numbers, {number(min(value.values()))} … {number(max(value.values()))}"
        )
    return ", ".join(f"{name} {number(x)}" for name, x in value.items())


def threshold_of(claim: Claim) -> str:
    """A threshold in signs: ≤ 1e-12, or low ≥ 0.5 for one number of many."""
    low, high = claim.limits
    if claim.within:
        text = f"{number(low)} … {number(high)}"
    else:
        text = f"≤ {number(high)}" if claim.at_least is None else f"≥ {number(low)}"
    return f"{claim.key} {text}".strip()


def cell(text: str) -> str:
    return text.replace("|", "\\|")


# ---------------------------------------------------------------- The table of an idea


def rows(claim: Claim, entry: Entry | None) -> Iterator[str]:
    """The claim's row, and under it one for each control."""
    value = text_of(entry.value, claim.key) if entry else "not measured"
    unit = f" {claim.unit}" if claim.unit and entry else ""
    date = f" (recorded, {entry.date})" if claim.recorded and entry else ""
    yield f"| **{cell(claim.says)}**{date} | {cell(value + unit)} | {cell(threshold_of(claim))} |"
    values = entry.controls if entry and len(entry.controls) == len(claim.control) else []
    for i, control in enumerate(claim.control):
        found = text_of(values[i], claim.key) if values else "not measured"
        yield f"| control: {cell(control.says)} | {cell(found)} | rejected |"


def table(idea: Idea, record: Record) -> str:
    """The idea's claims, with their figures, thresholds and controls."""
    entries = record.get(idea.name, {})
    lines = ["| claim, and its wrong programs | measured | must be |", "|---|---|---|"]
    for claim in idea.claims:
        lines += rows(claim, entries.get(claim.name))
    machines = sorted({entry.machine for entry in entries.values()})
    dates = sorted({entry.date for entry in entries.values()})
    if dates:
        days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        lines += ["", f"Measured by `microgpt beyond {idea.name[:2]} --write` on {days}; "
                  f"{', '.join(machines)}."]  # fmt: skip
    return "\n".join(lines)


def with_table(idea: Idea, record: Record) -> str:
    """The idea's README with its table between the markers. Raises InputError without them."""
    readme = files.read_text(idea.folder / "README.md")
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"beyond/{idea.name}/README.md: write {START} and {END} where figures go")
    return f"{before}{start}\n{table(idea, record)}\n{end}{after}"


def summary(in_tree: Sequence[Idea], record: Record) -> str:
    """beyond/README.md."""
    parts = [INTRODUCTION]
    for idea in in_tree:
        picture = f"![{idea.title}]({idea.name}/picture.svg)\n\n"
        drawn = picture if (idea.folder / "picture.svg").exists() else ""
        heading = f"## {idea.name[:2]} [{idea.title}]({idea.name})"
        parts.append(f"{heading}\n\n{drawn}{table(idea, record)}\n")
    return "\n".join(parts)


# ---------------------------------------------------------------- Writing and checking


def pages(root: Path, in_tree: Sequence[Idea], record: Record) -> dict[Path, str]:
    """Every page as the record makes it."""
    found = {idea.folder / "README.md": with_table(idea, record) for idea in in_tree}
    return found | {root / "README.md": summary(in_tree, record)}


def draw_pictures(root: Path, some: Sequence[Idea], record: Record) -> list[Path]:
    """Have ideas draw their pictures from the record -> the files. An idea without all its figures
    draws none."""
    drawn = []
    for idea in some:
        entries = record.get(idea.name, {})
        if len(entries) == len(idea.claims):
            figures: dict[str, Any] = {name: entry.value for name, entry in entries.items()}
            path = idea.folder / "picture.svg"
            measuring.draw(idea, figures, path)
            drawn.append(path)
            if idea.picture:
                drawn.append(root.parent / idea.picture)
                files.write(drawn[-1], files.read(path))
    return drawn


def write(root: Path, in_tree: Sequence[Idea], record: Record) -> None:
    for path, text in pages(root, in_tree, record).items():
        if not path.exists() or files.read_text(path) != text:
            files.write(path, text)


def outdated(root: Path, in_tree: Sequence[Idea], record: Record) -> list[str]:
    """A line for each page that is not what the record makes, and each figure that it lacks."""
    found = []
    for idea in in_tree:
        entries = record.get(idea.name, {})
        for claim in idea.claims:
            entry = entries.get(claim.name)
            if entry is None or entry.threshold != claim.threshold:
                found.append(f"beyond/figures.json: {idea.name}.{claim.name} is not measured so")
        if not (idea.folder / "picture.svg").exists():
            found.append(f"beyond/{idea.name}/picture.svg is missing")
    for path, text in pages(root, in_tree, record).items():
        if not path.exists() or files.read_text(path) != text:
            found.append(f"beyond/{path.relative_to(root)} is not what beyond/figures.json makes")
    return [f"{line}: use microgpt beyond --write" for line in found]
