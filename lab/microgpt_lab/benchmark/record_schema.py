"""What a bench.json must hold: its keys, their types, and which values fit together. Times are in
seconds, memory is in bytes."""

from dataclasses import fields
from typing import Annotated, Any

from microgpt import RECIPES, Config, InputError

import msgspec
from msgspec import UNSET, Meta, UnsetType

from microgpt_lab.base import schema

Count = Annotated[int, Meta(ge=1, le=2**60)]
Positive = Annotated[float, Meta(gt=0, le=1e18)]
NotNegative = Annotated[float, Meta(ge=0, le=1e18)]
Version = Annotated[str, Meta(pattern="^[0-9][0-9]_")]
Dtype = Annotated[str, Meta(pattern="^(float32|float64)$")]
Recipe = Annotated[str, Meta(pattern=f"^({'|'.join(RECIPES)})$")]
Varied = Annotated[str, Meta(pattern=f"^({'|'.join(f.name for f in fields(Config))})$")]
Day = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Rounds = Annotated[list[Positive], Meta(min_length=1)]


class Machine(schema.Schema, frozen=True):
    processor: str
    cores: int | None
    system: str
    python: str


class Run(schema.Schema, frozen=True):
    run: int
    date: Day
    machine: Machine
    device: str
    rounds: Count
    seconds: NotNegative
    rates: dict[str, dict[str, Positive]]


class Row(schema.Schema, frozen=True):
    """A row of a table. One that could not be measured has a reason and no step."""

    run: int
    version: Version
    variant: str
    dtype: Dtype
    recipe: Recipe
    reason: str
    about: str | UnsetType = UNSET
    threads: Count | UnsetType = UNSET
    start: NotNegative | UnsetType = UNSET
    first_step: NotNegative | UnsetType = UNSET
    names_after: NotNegative | UnsetType | None = UNSET
    memory: Count | UnsetType = UNSET
    workload_steps: Count | UnsetType = UNSET
    tokens: Positive | UnsetType = UNSET
    operations: Positive | UnsetType = UNSET
    numbers_moved: Count | UnsetType = UNSET
    rounds: list[Positive] | UnsetType = UNSET
    step: Positive | UnsetType = UNSET
    spread: NotNegative | UnsetType = UNSET
    first_step_extra: NotNegative | UnsetType = UNSET
    tokens_per_second: Positive | UnsetType = UNSET
    lower_bound: Positive | UnsetType | None = UNSET


class Point(schema.Schema, frozen=True):
    """A value of the varied number, and what a step costs there."""

    value: Count
    step: Positive
    rounds: Rounds
    lower_bound: Positive | None
    workload_steps: Count | UnsetType = UNSET
    tokens: Positive | UnsetType = UNSET
    operations: Positive | UnsetType = UNSET
    numbers_moved: Count | UnsetType = UNSET


class Curve(schema.Schema, frozen=True):
    run: int
    version: Version
    variant: str
    dtype: Dtype
    threads: Count
    about: str
    reason: str
    points: list[Point]


class Sweep(schema.Schema, frozen=True):
    name: str
    varied: Varied
    recipe: Recipe
    values: list[Count]
    threads: Annotated[list[Count], Meta(min_length=1)]
    curves: list[Curve]
    full_block: bool = False
    variants: bool = False


class BenchRecord(schema.Schema, frozen=True):
    format: str
    runs: Annotated[list[Run], Meta(min_length=1)]
    rows: list[Row]
    sweeps: list[Sweep]


def check(raw: bytes, where: str) -> None:
    """Raises InputError, one line with file, key and value, unless this is a whole record."""
    record = schema.decode(raw, BenchRecord, where)
    runs = {run.run for run in record.runs}
    items: list[tuple[str, Any]] = [(f"rows[{i}]", row) for i, row in enumerate(record.rows)]
    for i, sweep in enumerate(record.sweeps):
        items += [(f"sweeps[{i}].curves[{j}]", curve) for j, curve in enumerate(sweep.curves)]
    for place, item in items:
        if item.run not in runs:
            raise InputError(f"{where}: {place}.run is {item.run}: there is no such run")
    for place, row in items[: len(record.rows)]:
        refuse_partial(row, f"{where}: {place}")


def refuse_partial(row: Row, where: str) -> None:
    """Raises InputError for a row that has neither a reason nor everything that is measured."""
    if row.reason and row.step is UNSET:
        return
    for name, value in msgspec.structs.asdict(row).items():
        if value is UNSET:
            raise InputError(f"{where}.{name} is missing")
    if not row.rounds:
        raise InputError(f"{where}.rounds is a list of 0: a row with a step has at least one")
