"""`microgpt sample`: names from a checkpoint, how likely each was, and whether it is new."""

import functools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np
from rich.console import Console
from rich.table import Table

from microgpt_lab.base import options
from microgpt_lab.runs import documents
from microgpt_lab.runs.checkpoints import Checkpoint

Logits = Callable[[Sequence[int]], list[list[float]]]


@dataclass(frozen=True)
class How:
    """How tokens are drawn."""

    prompt: str = ""
    temperature: float | None = None  # None: the recipe's
    top_k: int | None = None  # only the k most likely tokens
    top_p: float | None = None  # only the most likely tokens that hold this much together
    seed: int | None = None  # None: the stream of the run, where training left it

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top-k is {self.top_k}: it must be 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top-p is {self.top_p}: it must lie in 0 … 1, without 0")


@dataclass(frozen=True)
class Name:
    """A name that was drawn."""

    name: str
    probability: float  # that one draw with these settings gives exactly this name
    known: str | None  # "training", "held out", "new"; None: the data are not at hand


def narrowed(logits: Callable[[Sequence[int]], Any], temperature: float, how: How) -> Logits:
    """Logits that leave nothing to tokens which top-k and top-p shut out."""

    def narrow(tokens: Sequence[int]) -> list[list[float]]:
        row = np.array(logits(tokens)[-1], np.float64)
        order = np.argsort(-row, kind="stable")  # ties: the lower token first
        if how.top_k is not None:
            row[order[how.top_k :]] = -np.inf
        if how.top_p is not None:
            p = softmax(row / temperature)[order]
            row[order[np.cumsum(p) - p >= how.top_p]] = -np.inf  # what is likelier suffices
        return [row.tolist()]

    return narrow


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    p: np.ndarray = e / e.sum()
    return p


def draw(checkpoint: Checkpoint, how: How, count: int, with_version: str | None) -> list[Name]:
    """Names from a checkpoint, by the version that wrote it or another. Raises InputError."""
    if count < 0:
        raise InputError(f"count is {count}: it must be 0 or more")
    plan = checkpoint.plan
    config = plan.config
    if how.temperature is not None:
        config = replace(config, temperature=how.temperature)
    tokenizer = plan.tokenizer
    if unknown := sorted(set(how.prompt) - set(tokenizer.letters)):
        raise InputError(f"prompt {how.prompt!r} has {unknown}: no document has these letters")
    if len(how.prompt) >= config.block_size:
        raise InputError(
            f"prompt {how.prompt!r} fills the block of {config.block_size} tokens: shorten it"
        )
    version, module = options.runnable(with_version or checkpoint.version)
    given = options.carried_over(version, module, checkpoint.options)
    state = module.create(plan.config, checkpoint.snapshot, **given)
    narrow = narrowed(functools.partial(module.logits, state), config.temperature, how)

    @functools.cache  # many names begin alike
    def logits(tokens: tuple[int, ...]) -> list[list[float]]:
        return narrow(list(tokens))

    rng = checkpoint.stream() if how.seed is None else random.Random(how.seed)
    prompt = tokenizer.encode(how.prompt)[1:-1]
    drawn = microgpt.generate(
        lambda tokens: logits(tuple(tokens)), config, tokenizer.bos, rng.random, prompt
    )
    where = whereabouts(checkpoint)
    names = []
    for tokens in islice(drawn, count):
        probability = likelihood(logits, config, tokenizer.bos, tokens, len(prompt))
        name = tokenizer.decode(tokens)
        names.append(Name(name, probability, where(name)))
    return names


def likelihood(
    logits: Callable[[tuple[int, ...]], Any], config: Any, bos: int, tokens: list[int], given: int
) -> float:
    """The product of the probabilities of a name's tokens after the prompt, and of its end
    unless the block ends it."""
    whole, log = (bos, *tokens, bos), 0.0
    for i in range(1 + given, min(len(whole), config.block_size + 1)):
        p = softmax(np.array(logits(whole[:i])[-1]) / config.temperature)
        log += math.log(p[whole[i]])
    return math.exp(log)


def whereabouts(checkpoint: Checkpoint) -> Callable[[str], str | None]:
    """Says of a name where the data have it; None where the data are gone or not the same."""
    plan = checkpoint.plan
    try:
        docs = microgpt.load_documents(plan.data, say=lambda text: None)
    except InputError:
        return lambda name: None
    if microgpt.digest(docs) != plan.digest:
        return lambda name: None
    train, held_out = map(set, documents.split(docs, plan.held_out))

    def where(name: str) -> str:
        return "training" if name in train else "held out" if name in held_out else "new"

    return where


def show(names: Sequence[Name], checkpoint: Checkpoint, console: Console) -> None:
    """A line a name, then the share that is new."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head, side in (("name", "left"), ("probability", "right"), ("1 in", "right"), ("", "left")):
        table.add_column(head, justify=side)  # type: ignore[arg-type]
    words = {"training": "in the training data", "held out": "held out: real, never seen"}
    for n in names:
        known = "" if n.known is None else words.get(n.known, n.known)
        table.add_row(n.name or '""', f"{n.probability:.2e}", f"{1 / n.probability:,.0f}", known)
    console.print(table)
    said = summary(names)
    if not names:
        return
    if "new" in said:
        line = f"\n{said['new']:.0%} of {len(names)} are in no line of the data"
        if said["held_out"]:
            line += f", {said['held_out']:.0%} are names that were held out"
        console.print(line)
    else:
        data = checkpoint.plan.data
        console.print(f"\nwhether they are new: unknown, the data {data!r} are not at hand")


def summary(names: Sequence[Name]) -> dict[str, float]:
    """Shares of the names that are new, and that were held out; empty if nobody knows."""
    if not names or any(n.known is None for n in names):
        return {}
    share = {
        known: sum(n.known == known for n in names) / len(names) for known in ("new", "held out")
    }
    return {"new": share["new"], "held_out": share["held out"]}


def to_json(names: Sequence[Name], checkpoint: Checkpoint, how: How) -> str:
    found = {"step": checkpoint.step, "version": checkpoint.version, **asdict(how)}
    if how.temperature is None:
        found["temperature"] = checkpoint.plan.config.temperature
    found |= {"names": [asdict(n) for n in names], "shares": summary(names)}
    return json.dumps(found, indent=1)
