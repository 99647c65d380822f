"""`microgpt sample`: generate names from a checkpoint, each with its probability and whether it is
in the data."""

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
class SamplingOptions:
    """How each token is drawn. Raises InputError for a value out of range."""

    prompt: str = ""
    temperature: float | None = None  # None: the recipe's
    top_k: int | None = None  # draw from the k most likely tokens only
    top_p: float | None = None  # from the most likely tokens whose probabilities sum to this
    seed: int | None = None  # None: the random stream of the run, as training left it

    def __post_init__(self) -> None:
        microgpt.refuse_seed(self.seed or 0)
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top-k is {self.top_k}: it must be 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top-p is {self.top_p}: it must lie in 0 … 1, without 0")


@dataclass(frozen=True)
class SampledName:
    """A generated name."""

    name: str
    probability: float  # that a draw with these options gives exactly this name
    known: str | None  # "training", "held out" or "new"; None: the data are missing or changed


def restricted(
    logits: Callable[[Sequence[int]], Any], temperature: float, how: SamplingOptions
) -> Logits:
    """A function that gives the last position's logits, with -inf (probability 0) for each token
    that top-k or top-p excludes."""

    def restrict(tokens: Sequence[int]) -> list[list[float]]:
        row = np.array(logits(tokens)[-1], np.float64)
        order = np.argsort(-row, kind="stable")  # most likely first; of equal ones the lower token
        if how.top_k is not None:
            row[order[how.top_k :]] = -np.inf
        if how.top_p is not None:
            p = softmax(row / temperature)[order]
            # exclude a token if those before it already sum to top_p
            row[order[np.cumsum(p) - p >= how.top_p]] = -np.inf
        return [row.tolist()]

    return restrict


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities from logits. (V,) -> (V,)"""
    # softmax is shift-invariant: subtracting the maximum only prevents overflow
    e = np.exp(x - x.max())
    p: np.ndarray = e / e.sum()
    return p


def draw_names(
    checkpoint: Checkpoint, how: SamplingOptions, count: int, with_version: str | None
) -> list[SampledName]:
    """Generate names with the version that wrote the checkpoint, or with another one.
    Raises InputError."""
    if count < 0:
        raise InputError(f"samples is {count}: it must be 0 or more")
    plan, tokenizer = checkpoint.plan, checkpoint.plan.tokenizer
    config = plan.config
    if how.temperature is not None:
        config = replace(config, temperature=how.temperature)
    refuse_prompt(how.prompt, tokenizer, config.block_size)
    version, module = options.runnable(with_version or checkpoint.version)
    given = options.carried_over(version, module, checkpoint.options)
    state = module.create(plan.config, checkpoint.snapshot, **given)
    restrict = restricted(functools.partial(module.logits, state), config.temperature, how)

    @functools.cache  # many names begin with the same letters
    def logits(tokens: tuple[int, ...]) -> list[list[float]]:
        return restrict(list(tokens))

    rng = checkpoint.stream() if how.seed is None else random.Random(how.seed)
    prompt = tokenizer.encode(how.prompt)[1:-1]
    drawn = microgpt.generate(
        lambda tokens: logits(tuple(tokens)), config, tokenizer.bos, rng.random, prompt
    )
    where = membership(checkpoint)
    names = []
    for tokens in islice(drawn, count):
        probability = probability_of(logits, config, tokenizer.bos, tokens, len(prompt))
        name = tokenizer.decode(tokens)
        names.append(SampledName(name, probability, where(name)))
    return names


def refuse_prompt(prompt: str, tokenizer: Any, block_size: int) -> None:
    """Raises InputError for a prompt with an unknown letter, or one that fills the block."""
    if unknown := sorted(set(prompt) - set(tokenizer.letters)):
        raise InputError(f"prompt {prompt!r} has {unknown}: no document has these letters")
    if len(prompt) >= block_size:
        raise InputError(f"prompt {prompt!r} fills the block of {block_size} tokens: shorten it")


def probability_of(
    logits: Callable[[tuple[int, ...]], Any], config: Any, bos: int, tokens: list[int], given: int
) -> float:
    """The probability of a name after its prompt of `given` letters: the product over its tokens.
    The end (BOS) is one of them, except where the block is full, which ends the name by itself."""
    whole, log = (bos, *tokens, bos), 0.0
    for i in range(1 + given, min(len(whole), config.block_size + 1)):
        p = softmax(np.array(logits(whole[:i])[-1]) / config.temperature)
        log += math.log(p[whole[i]])
    return math.exp(log)


def membership(checkpoint: Checkpoint) -> Callable[[str], str | None]:
    """A function of a name: "training", "held out" or "new". It gives None for every name if the
    data are missing or have changed."""
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


def show_samples(names: Sequence[SampledName], checkpoint: Checkpoint, console: Console) -> None:
    """Print a line for each name, then the share of them that is new."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head, side in (("name", "left"), ("probability", "right"), ("1 in", "right"), ("", "left")):
        table.add_column(head, justify=side)  # type: ignore[arg-type]
    words = {"training": "in the training data", "held out": "in the data, held out from training"}
    for n in names:
        known = "" if n.known is None else words.get(n.known, n.known)
        table.add_row(n.name or '""', f"{n.probability:.2e}", f"{1 / n.probability:,.0f}", known)
    console.print(table)
    shares = shares_of(names)
    if not names:
        return
    if shares:
        line = f"\n{shares['new']:.0%} of {len(names)} are new (not in the data)"
        if shares["held_out"]:
            line += f", {shares['held_out']:.0%} were held out"
        console.print(line)
    else:
        data = checkpoint.plan.data
        console.print(
            f"\nwhether they are new is unknown: the data {data!r} are missing or have changed"
        )


def shares_of(names: Sequence[SampledName]) -> dict[str, float]:
    """{"new": share, "held_out": share} of the names; {} if the data are missing or changed."""
    if not names or any(n.known is None for n in names):
        return {}
    share = {
        known: sum(n.known == known for n in names) / len(names) for known in ("new", "held out")
    }
    return {"new": share["new"], "held_out": share["held out"]}


def samples_as_json(
    names: Sequence[SampledName], checkpoint: Checkpoint, how: SamplingOptions
) -> str:
    """What `microgpt sample --json` prints."""
    found = {"step": checkpoint.step, "version": checkpoint.version, **asdict(how)}
    if how.temperature is None:
        found["temperature"] = checkpoint.plan.config.temperature
    found |= {"names": [asdict(n) for n in names], "shares": shares_of(names)}
    return json.dumps(found, indent=1)
