"""The documents of a run: those it trains on, those held out, and the held-out loss.

A tenth of the *distinct* documents is held out, together with all their repeats. The SHA-256 of
each document decides which ones, so the choice depends neither on the seed nor on the order: all
runs on the same data are measured on the same held-out documents. The tokenizer
has the letters of all documents, held out or not.
"""

import hashlib
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, InputError

import numpy as np


@dataclass(frozen=True)
class Documents:
    """The documents of a run, and the random stream that draws its weights and names."""

    train: list[str]  # shuffled: the order of training
    held_out: list[str]  # distinct, none of them in train
    digest: str  # SHA-256 of all documents, in the order of the file
    tokenizer: Any
    rng: random.Random  # after the shuffle, before the first weight (S1.2)


def split(docs: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """(documents to train on, in their order; distinct held-out documents, sorted by SHA-256).
    Raises InputError for a fraction outside 0 … 1."""
    if not 0 <= fraction < 1:
        raise InputError(f"held-out is {fraction}: it must be a share, from 0 to less than 1")
    distinct = sorted(set(docs), key=lambda doc: hashlib.sha256(doc.encode()).digest())
    held_out = distinct[: int(fraction * len(distinct))]
    excluded = set(held_out)
    return [doc for doc in docs if doc not in excluded], held_out


def lasting_name(source: str) -> str:
    """What a run records of its data: the path of a file from the root on, because the run may be
    resumed in another folder. The embedded names stay `names`, even beside a file of that name."""
    if source in microgpt.SHA256 or source.startswith("/dev/") or not Path(source).is_file():
        return source
    return str(Path(source).resolve())


def can_be_read_again(source: str) -> bool:
    """Whether the documents are still there after they were read: not if they came by a pipe."""
    return (
        source in microgpt.SHA256
        or source.startswith(("http://", "https://"))
        or (Path(source).is_file() and not source.startswith("/dev/"))
    )


def notice(text: str) -> None:
    """Say where the documents come from, where that is not what was asked for."""
    print(text, file=sys.stderr, flush=True)


def prepare(
    config: Config, source: str, seed: int, fraction: float, digest: str = "", letters: str = ""
) -> Documents:
    """Read the documents, hold a fraction of them out, shuffle the rest.

    `digest`, if given, is that of the data that a checkpoint was trained on; `letters` are those
    that its model has tokens for. Raises InputError if the data cannot be read, have another
    digest, other letters, or fewer documents than a batch.
    """
    microgpt.refuse_seed(seed)
    docs = microgpt.load_documents(source, say=notice)
    found = microgpt.digest(docs)
    if digest and found != digest:
        raise InputError(
            f"data {source!r} has SHA-256 {found[:12]}…, but the checkpoint was trained on "
            f"{digest[:12]}…: restore the file that it was trained on, or name it with --data"
        )
    if letters and (unknown := sorted(set("".join(docs)) - set(letters))):
        raise InputError(
            f"data {source!r} has {len(unknown)} letters that the model has no token for: "
            f"{', '.join(map(repr, unknown[:5]))}"
        )
    train, held_out = split(docs, fraction)
    if config.batch_size > len(train):
        raise InputError(
            f"batch_size {config.batch_size} exceeds the {len(train)} documents to train on"
        )
    tokenizer = microgpt.Tokenizer(letters or docs)
    microgpt.refuse_too_large(config, tokenizer.vocab_size)
    rng = random.Random(seed)
    rng.shuffle(train)
    return Documents(train, held_out, found, tokenizer, rng)


def count_cut(config: Config, docs: Sequence[str]) -> int:
    """How many documents are longer than the block."""
    return sum(len(doc) >= config.block_size for doc in docs)


def nats_a_character(
    module: Any, state: Any, config: Config, tokenizer: Any, docs: Sequence[str]
) -> float:
    """The held-out loss, in nats: the loss of all documents over the number of their characters.

    The characters of a document are its letters and its end. Each costs the loss of S8.1. No
    model sees the characters beyond its block; each of these costs ln V, the loss of a uniform
    guess. So models with different blocks and tokenizers are measured on the same text.
    """
    nats, characters = 0.0, 0
    uniform_guess = math.log(tokenizer.vocab_size)
    for doc in docs:
        tokens = tokenizer.encode(doc)[: config.block_size + 1]
        z = np.asarray(module.logits(state, tokens[:-1]), np.float64)  # (T, V)
        top = z.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(z - top).sum(axis=-1)) + top[:, 0]  # (T,)
        nats += float((log_sum - z[np.arange(len(z)), tokens[1:]]).sum())
        nats += uniform_guess * (len(doc) + 1 - len(z))
        characters += len(doc) + 1
    return nats / characters
