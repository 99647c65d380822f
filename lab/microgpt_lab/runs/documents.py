"""What a run learns from, what it never sees, and how well it knows what it never saw.

A tenth of the *distinct* documents is held out, with all their repeats: which ones is decided
by SHA-256 of each, whatever the seed and the order, so that all runs on the same data are
measured on the same documents. The letters are those of all documents.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import microgpt
from microgpt import Config, InputError

import numpy as np


@dataclass(frozen=True)
class Documents:
    """The documents of a run, and the stream that its weights and names are drawn from."""

    train: list[str]  # shuffled: the order of training
    held_out: list[str]  # distinct, none of them in train
    digest: str  # of all of them, as they were read
    tokenizer: Any
    rng: random.Random  # stands after the shuffle (S1.2)


def split(docs: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """(documents to train on, in their order; distinct ones held out, sorted by hash)."""
    if not 0 <= fraction < 1:
        raise InputError(f"held-out is {fraction}: it must be a share, from 0 to less than 1")
    distinct = sorted(set(docs), key=lambda doc: hashlib.sha256(doc.encode()).digest())
    held_out = distinct[: int(fraction * len(distinct))]
    away = set(held_out)
    return [doc for doc in docs if doc not in away], held_out


def prepare(config: Config, source: str, seed: int, fraction: float, digest: str = "") -> Documents:
    """Read, split and shuffle; refused at once if the parts do not fit.

    `digest` is that of the data which a checkpoint was trained on, if there is one.
    """
    docs = microgpt.load_documents(source, say=lambda text: None)
    found = microgpt.digest(docs)
    if digest and found != digest:
        raise InputError(
            f"data {source!r} has SHA-256 {found[:12]}…, the checkpoint was trained on "
            f"{digest[:12]}…: give it back its own data"
        )
    train, held_out = split(docs, fraction)
    if config.batch_size > len(train):
        raise InputError(
            f"batch_size {config.batch_size} exceeds the {len(train)} documents to train on"
        )
    rng = random.Random(seed)
    rng.shuffle(train)
    return Documents(train, held_out, found, microgpt.Tokenizer(docs), rng)


def cut(config: Config, docs: Sequence[str]) -> int:
    """How many documents do not fit the block."""
    return sum(len(doc) >= config.block_size for doc in docs)


def nats_a_character(
    module: Any, state: Any, config: Config, tokenizer: Any, docs: Sequence[str]
) -> float:
    """The held-out loss: what the documents cost, over the number of their characters.

    The characters of a document are its letters and the end of its line. Each costs what the
    model says (S8.1); what lies beyond the block no model sees, and it costs a blind guess,
    ln V. So models with other blocks and other tokenizers are measured on the same text.
    """
    nats, characters = 0.0, 0
    blind = math.log(tokenizer.vocab_size)
    for doc in docs:
        tokens = tokenizer.encode(doc)[: config.block_size + 1]
        z = np.asarray(module.logits(state, tokens[:-1]), np.float64)
        top = z.max(axis=-1, keepdims=True)
        total = np.log(np.exp(z - top).sum(axis=-1)) + top[:, 0]
        nats += float((total - z[np.arange(len(z)), tokens[1:]]).sum())
        nats += blind * (len(doc) + 1 - len(z))
        characters += len(doc) + 1
    return nats / characters
