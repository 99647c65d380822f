"""One row of a bench, in a process of its own, which computes only while it is asked to.

Started with a version's name and the time at which it was asked for. Reads a JSON line for
each order and answers with one: `run`, a whole training as a person would start it; `point`, a
model of other numbers for a sweep; `take`, so many laps. A lap is a stretch of batches, the
same ones for every version; how long its parts take is all that is compared.
"""

import functools
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice, repeat
from types import SimpleNamespace
from typing import Any

import microgpt
from microgpt import Config, InputError

from microgpt_lab.base import options
from microgpt_lab.base.machine import peak_memory
from microgpt_lab.benchmark import lower_bound

DOCUMENTS = 128  # of a lap: enough that every letter is among them
STEPS = 8  # of a lap, at the least
LONG, SHORT = 1.0, 0.15  # seconds that it may take: in the staircase, in a sweep
NAMES = 20  # made up after a training


class Worker:
    """A version at work. Times are seconds, memory is bytes."""

    def __init__(self, version: str, started: float) -> None:
        self.started = started
        self.version = version
        self.state: Any = None
        self.lap: list[Any] = []

    def run(self, config: dict[str, Any], given: dict[str, Any], limit: float) -> dict[str, Any]:
        """Train as the recipe says, from the start of the process to its names, if training
        takes no longer than the limit; then be ready to take laps."""
        c = Config(**config)
        module = self.module  # the start is over when all is loaded that it imports
        ready = microgpt.prepare(c, say=lambda text: None)
        start = time.time() - self.started
        before = time.perf_counter()
        self.state = module.create(c, ready.snapshot, **self.known(given))
        batches = microgpt.batches(c, ready.tokenizer, ready.docs)
        self.finish(module.train(self.state, islice(batches, 1)))
        first = time.perf_counter() - before
        rest = Bearable(batches, c.steps - 1, limit)
        before = time.perf_counter()
        self.finish(module.train(self.state, rest))
        took = time.perf_counter() - before
        names = None
        if not rest.broken_off:
            draw = functools.partial(module.logits, self.state)
            made = microgpt.generate(draw, c, ready.tokenizer.bos, ready.rng.random)
            for _ in islice(made, NAMES):
                pass
            names = time.time() - self.started
        memory = peak_memory()
        told = self.prepare_lap(c, ready.tokenizer, ready.docs, LONG, took / max(1, rest.taken))
        return told | {"start": start, "first": first, "names": names, "memory": memory}

    def point(self, config: dict[str, Any], given: dict[str, Any], joined: bool) -> dict[str, Any]:
        """Be ready to take laps with a model of these numbers."""
        import numpy as np  # here, so that a version without it starts without it

        c, corpus = Config(**config), self.corpus
        docs = join(corpus.docs, c.block_size) if joined else corpus.docs
        rng, weights, zeros = np.random.default_rng(42), {}, {}
        for name, (rows, columns, std) in microgpt.shapes(c, corpus.tokenizer.vocab_size).items():
            weights[name] = std * rng.standard_normal((rows, columns))
            zeros[name] = np.zeros((rows, columns))
        snapshot = microgpt.Snapshot(weights, zeros, zeros, 0)
        self.state = None  # its memory goes before the next one's comes
        self.state = self.module.create(c, snapshot, **self.known(given))
        self.lap = list(microgpt.batches(replace(c, steps=1), corpus.tokenizer, docs))
        self.take(1)  # it compiles
        step = self.take(1)["step"]
        return self.prepare_lap(c, corpus.tokenizer, docs, SHORT, step)

    def take(self, laps: int) -> dict[str, Any]:
        """Take so many laps. -> seconds a step"""
        todo = chain.from_iterable(repeat(self.lap, laps))
        before = time.perf_counter()
        self.finish(self.module.train(self.state, todo))
        return {"step": (time.perf_counter() - before) / (laps * len(self.lap))}

    @functools.cached_property
    def module(self) -> Any:
        return options.runnable(self.version)[1]

    @functools.cached_property
    def corpus(self) -> SimpleNamespace:
        """The documents in the order of training, and their tokenizer."""
        docs = microgpt.load_documents()
        random.Random(42).shuffle(docs)
        return SimpleNamespace(docs=docs, tokenizer=microgpt.Tokenizer(docs))

    def known(self, given: dict[str, Any]) -> dict[str, Any]:
        """Without what says no more than what a version does anyway, if it has no such
        option: to compute on the CPU, in one thread."""
        has = options.parameters(self.module)
        kept = {name: value for name, value in given.items() if name in has}
        dropped = set(given) - set(kept) - {"threads", "dtype"}
        if dropped and (dropped != {"device"} or given["device"] != "cpu"):
            raise InputError(f"it has no option {', '.join(sorted(dropped))}")
        return kept

    def prepare_lap(
        self, config: Config, tokenizer: Any, docs: list[str], limit: float, step: float
    ) -> dict[str, Any]:
        """Encode a lap, of fewer steps where it would take more seconds than the limit, and
        take it once: what its shapes have compiled is compiled then. -> what is said of it;
        tokens and operations are a step's, on average"""
        rate = microgpt.learning_rate(config, config.steps - 1)  # weights stay about as they are
        steps = max(STEPS, DOCUMENTS // config.batch_size)
        config = replace(config, steps=steps)
        whole = [(batch, rate) for batch, _ in microgpt.batches(config, tokenizer, docs)]
        self.lap = whole[: max(1, min(steps, int(limit / step)))]
        if len(self.lap) > 1:
            self.take(1)
            step = self.take(1)["step"]
        lengths = [[len(tokens) - 1 for tokens in batch] for batch, _ in self.lap]
        works = [lower_bound.work(config, tokenizer.vocab_size, batch) for batch in lengths]
        n = len(self.lap)
        return {
            "about": self.module.about(self.state), "step": step, "lap": n,
            "tokens": sum(map(sum, lengths)) / n, "moved": works[0].moved,
            "operations": sum(todo.operations for todo in works) / n,
        }  # fmt: skip

    def finish(self, losses: Iterable[Any]) -> None:
        """Wait for the last of the losses, which may be on its way."""
        loss = math.nan
        for loss in losses:  # noqa: B007
            pass
        float(loss)


class Bearable:
    """Batches, until it is plain that all of them would take too long."""

    def __init__(self, batches: Iterator[Any], count: int, limit: float) -> None:
        self.batches, self.count, self.limit = batches, count, limit
        self.broken_off, self.taken = False, 0

    def __iter__(self) -> Iterator[Any]:
        start = time.perf_counter()
        for item in self.batches:
            elapsed = time.perf_counter() - start
            if elapsed > 0.2 and elapsed * self.count > self.limit * self.taken:
                self.broken_off = True
                return
            self.taken += 1
            yield item


def join(docs: list[str], block_size: int) -> list[str]:
    """Documents as long as the block: names, one after the other."""
    letters = "".join(docs)[: DOCUMENTS * block_size]
    return [letters[i : i + block_size] for i in range(0, len(letters), block_size)]


def main() -> None:
    """Answer orders until there are no more; what cannot work is an answer too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a framework prints is no answer
    try:
        worker = Worker(sys.argv[1], float(sys.argv[2]))
        for line in sys.stdin:
            order = json.loads(line)
            try:
                reply = getattr(worker, order.pop("do"))(**order)
            except InputError as e:
                reply = {"error": str(e)}
            print(json.dumps(reply), file=answers)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
