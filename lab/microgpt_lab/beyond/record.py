"""beyond/figures.json: what was measured, one entry for each claim. A partial run changes only its
own entries; those of claims that are gone are dropped."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from microgpt_lab.base import files, json_text, machine, schema
from microgpt_lab.beyond.ideas import Claim, Idea, Value
from microgpt_lab.beyond.measuring import Measured, Verdict


class Entry(schema.Schema, frozen=True):
    """The figure of one claim."""

    value: Value
    threshold: dict[str, Any]
    controls: list[Value]
    seconds: float
    date: str
    machine: str
    digest: str  # of the program that was measured (Idea.digest)


Record = dict[str, dict[str, Entry]]  # {idea: {claim: entry}}


def read(root: Path) -> Record:
    """The record; an empty one if there is no file. Raises InputError."""
    path = root / "figures.json"
    if not path.exists():
        return {}
    return schema.decode(files.read(path), Record, "beyond/figures.json")


def rounded(value: Value) -> Value:
    """Six digits: more change from machine to machine."""
    if isinstance(value, dict):
        return {key: float(f"{x:.6g}") for key, x in value.items()}
    return None if value is None else float(f"{value:.6g}")


def entry_of(verdict: Verdict) -> Entry:
    claim, measured = verdict.claim, verdict.measured
    return Entry(
        rounded(measured.value), claim.threshold, [*map(rounded, measured.controls)],
        float(f"{measured.seconds:.2g}"), date.today().isoformat(), machine.processor(),
        verdict.idea.digest(claim),
    )  # fmt: skip


def merged(record: Record, verdicts: Iterable[Verdict], in_tree: Sequence[Idea]) -> Record:
    """The record with these verdicts, in the order of the ideas and their claims."""
    new = {(v.idea.name, v.claim.name): entry_of(v) for v in verdicts}
    found: Record = {}
    for idea in in_tree:
        old = record.get(idea.name, {})
        entries = {c.name: new.get((idea.name, c.name)) or old.get(c.name) for c in idea.claims}
        found[idea.name] = {name: entry for name, entry in entries.items() if entry}
    return found


def write(root: Path, record: Record) -> None:
    found = {
        idea: {
            name: {key: getattr(entry, key) for key in entry.__struct_fields__}
            for name, entry in entries.items()
        }
        for idea, entries in record.items()
    }
    files.write(root / "figures.json", json_text.to_json(found))


def as_verdict(idea: Idea, claim: Claim, entry: Entry | None) -> Verdict:
    """The verdict of a recorded claim, which was not measured now."""
    if entry is None:
        nothing = Measured(claim.name, None, [], 0.0, "it was never measured: use --write")
        return Verdict(idea, claim, nothing)
    stale = len(entry.controls) != len(claim.control) or entry.digest != idea.digest(claim)
    said = f"measured on {entry.date} with another program: use --write" if stale else ""
    return Verdict(idea, claim, Measured(claim.name, entry.value, entry.controls, 0.0, said))


def seconds_of(record: Mapping[str, Mapping[str, Entry]]) -> dict[str, float]:
    """How long the claims of each idea took."""
    return {idea: sum(e.seconds for e in entries.values()) for idea, entries in record.items()}
