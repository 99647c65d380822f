"""What a line of a run's log.jsonl must hold."""

import json
from typing import Annotated, Any

from microgpt import InputError

import msgspec
from msgspec import UNSET, Meta, UnsetType

from microgpt_lab.base import schema

Steps = Annotated[int, Meta(ge=0, le=10**9)]


class Record(msgspec.Struct, frozen=True):
    """A line: a step, and what happened there. Keys that are not here are left alone."""

    step: Steps
    loss: float | UnsetType = UNSET
    held_out: float | UnsetType = UNSET
    names: Steps | UnsetType = UNSET  # so many documents is held_out the loss of
    checkpoint: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    about: str | UnsetType = UNSET


def parse(line: bytes) -> dict[str, Any]:
    """A line of the log. Raises ValueError that says what is wrong with it."""
    try:
        schema.decode(line, Record, "the line")
    except InputError as e:
        raise ValueError(e) from None
    return dict(json.loads(line))
