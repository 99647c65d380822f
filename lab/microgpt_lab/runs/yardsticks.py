"""What a loss is worth: the losses of tables that only count letters, as lines in pictures. They
are those of beyond/01_yardstick, in the measure of the held-out loss."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import microgpt
from microgpt import InputError

from microgpt_lab.base import versions
from microgpt_lab.runs import documents

PROGRAM = versions.ROOT / "beyond" / "01_yardstick" / "main.py"
MOST = 2_000_000  # characters of all documents: a larger table takes too long for a picture
SHARE = 0.1  # held out for the tables, where the run holds out nothing


@functools.cache
def program() -> Any:
    return versions.load_source("yardstick", PROGRAM)


def losses(
    docs: Sequence[str], held_out: Sequence[str], letters: Sequence[str], block: int
) -> dict[str, float]:
    """{name: nats a character} of a blind guess and of tables, the highest first. The tables
    count `docs` and are measured on `held_out`. Without these, or for a large set of documents,
    it is the blind guess alone."""
    guess = {"blind guess": math.log(len(letters) + 1)}
    if not held_out:
        docs, held_out = documents.split(docs, SHARE)
    size = sum(map(len, docs)) + sum(map(len, held_out))
    if not (docs and held_out) or size > MOST or not PROGRAM.is_file():
        return guess
    return dict(program().yardsticks(docs, held_out, letters, block))


def of_request(request: Mapping[str, Any], block: int) -> dict[str, float]:
    """The same for the documents of a comparison, which are read anew; empty if they are gone."""
    try:
        docs = microgpt.load_documents(request["data"], say=lambda _: None)
    except InputError:
        return {}
    counted, held_out = documents.split(docs, request["held_out"])
    letters = microgpt.Tokenizer(docs).letters
    return losses(counted, held_out[: request["evaluate"] or None], letters, block)
