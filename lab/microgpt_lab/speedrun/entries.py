"""The entries of the race: a file each, in the folder of their time limit, numbered in the order in
which they held the record. Beside each stands its record, made by `microgpt speedrun --write`."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from microgpt import Config, InputError

import msgspec
from msgspec import Meta

from microgpt_lab.base import files, hints, options, schema
from microgpt_lab.base.versions import ROOT, load_source, pick

FOLDER = ROOT / "speedrun"
LIMITS = {"one_second": 1.0, "ten_seconds": 10.0}  # folder: seconds of training
SEEDS = 10  # the fewest with which a record counts
LEVEL = 0.01  # a difference counts below this probability

Loss = Annotated[float, Meta(gt=0, lt=100)]
Seconds = Annotated[float, Meta(gt=0, lt=1e6)]


class Run(schema.Schema, frozen=True):
    """One training: its seed, the held-out loss in nats a letter, and the seconds it took."""

    seed: int
    loss: Loss
    seconds: Seconds


class Rival(schema.Schema, frozen=True):
    """The entry that held the record before, run in turns with the new one."""

    entry: str
    runs: Annotated[list[Run], Meta(min_length=1)]
    p: Annotated[float, Meta(ge=0, le=1)]


class Record(schema.Schema, frozen=True):
    """What an entry reached, on which machine and day."""

    command: str
    date: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    machine: str
    runs: Annotated[list[Run], Meta(min_length=1)]
    rival: Rival | None = None


class Description(schema.Schema, frozen=True):
    """What an entry's TOML file holds."""

    title: Annotated[str, Meta(min_length=1)]
    program: Annotated[str, Meta(min_length=1)]
    recipe: dict[str, Any]
    options: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One entry: `one_second/01_adam` is its name."""

    name: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.toml"

    @property
    def record_path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    @property
    def limit(self) -> float:
        """Seconds that training may take."""
        return LIMITS[self.name.split("/")[0]]

    @cached_property
    def description(self) -> Description:
        """Raises InputError for a file that is not as it must be."""
        try:
            raw = msgspec.json.encode(tomllib.loads(files.read_text(self.path)))
        except tomllib.TOMLDecodeError as e:
            raise InputError(f"{self.name}.toml is not TOML: {e}") from None
        return schema.decode(raw, Description, f"{self.name}.toml")

    @cached_property
    def config(self) -> Config:
        try:
            return Config(**self.description.recipe)
        except (TypeError, InputError) as e:
            raise InputError(f"{self.name}.toml, [recipe]: {e}") from None

    @property
    def record(self) -> Record | None:
        """None if there is none yet. Raises InputError."""
        if not self.record_path.exists():
            return None
        return schema.decode(files.read(self.record_path), Record, f"{self.name}.json")

    def load(self) -> Any:
        """The module of its program: a version, or a file beside the folders. Raises InputError."""
        program = self.description.program
        if not program.endswith(".py"):
            return options.runnable(pick([program])[0].name)[1]
        path = FOLDER / program
        if Path(program).name != program or not path.exists():
            raise InputError(f"{self.name}.toml: there is no program {program!r} in speedrun/")
        return load_source(f"speedrun_{path.stem}", path)


def all_entries() -> list[Entry]:
    """All entries, those of one time limit after those of another, in order. Raises InputError if
    there is none."""
    found = [
        Entry(f"{folder}/{path.stem}")
        for folder in LIMITS
        for path in sorted((FOLDER / folder).glob("*.toml"))
    ]
    if not found:
        raise InputError("there is no entry in speedrun/: it works in a checkout of the repository")
    return found


def find(names: tuple[str, ...]) -> list[Entry]:
    """Entries by name, in order; all for none. Raises InputError for an unknown name."""
    known = {entry.name: entry for entry in all_entries()}
    for name in names:
        if name not in known:
            raise InputError(f"no entry {name!r}{hints.hint(name, known)}")
    return [entry for name, entry in known.items() if not names or name in names]


def holder(entry: Entry) -> Entry | None:
    """The entry before this one that holds the record of its time limit; None for the first."""
    before = [
        other
        for other in all_entries()
        if other.limit == entry.limit and other.name < entry.name and other.record
    ]
    return before[-1] if before else None
