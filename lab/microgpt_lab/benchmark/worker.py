"""The process that measures one setup. It computes only while it works on a request.

It is started with a version's name and the time of the start. It reads requests, one line of
JSON each, and answers each with one line: `run` trains as a person would start it,
`prepare_point` makes a model of other sizes for a sweep, `take_steps` measures training steps.

What is measured is the workload: a fixed list of batches, the same for every version, which is
trained on again and again.
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

DOCUMENTS = 128  # in a workload: enough that every letter is among them
STEPS = 8  # in a workload, at the least
LONG, SHORT = 1.0, 0.15  # seconds that a workload may take: in the tables, in a sweep
NAMES = 20  # generated after a training


class Worker:
    """A version that trains. Times are in seconds, memory in bytes."""

    def __init__(self, version: str, started: float) -> None:
        self.started = started  # perf_counter() at the start of the process
        self.version = version
        self.state: Any = None
        self.workload: list[Any] = []  # (batch, learning rate) of each step

    def run(self, config: dict[str, Any], given: dict[str, Any], limit: float) -> dict[str, Any]:
        """Train as the recipe says and generate names, then prepare the workload.

        Stops training when all of it would take longer than `limit` seconds. The answer has the
        times since the start of the process: `start` until the data are read, `first_step` for
        the first step alone, `names_after` until the names are there (null if training stopped).
        """
        c = Config(**config)
        module = self.module  # before the clock is read, so that its imports belong to the start
        ready = microgpt.prepare(c, say=lambda text: None)
        start = time.perf_counter() - self.started
        before = time.perf_counter()
        self.state = module.create(c, ready.snapshot, **self.known(given))
        batches = microgpt.batches(c, ready.tokenizer, ready.docs)
        self.wait_for_last(module.train(self.state, islice(batches, 1)))
        first_step = time.perf_counter() - before
        rest = StopIfTooSlow(batches, c.steps - 1, limit)
        before = time.perf_counter()
        self.wait_for_last(module.train(self.state, rest))
        took = time.perf_counter() - before
        names_after = None
        if not rest.stopped:
            logits = functools.partial(module.logits, self.state)
            names = microgpt.generate(logits, c, ready.tokenizer.bos, ready.rng.random)
            for _ in islice(names, NAMES):
                pass
            names_after = time.perf_counter() - self.started
        memory = peak_memory()  # before the workload, whose batches are held in memory
        step = took / max(1, rest.taken)
        told = self.prepare_workload(c, ready.tokenizer, ready.docs, LONG, step)
        times = {"start": start, "first_step": first_step, "names_after": names_after}
        return told | times | {"memory": memory}

    def prepare_point(
        self, config: dict[str, Any], given: dict[str, Any], full_block: bool
    ) -> dict[str, Any]:
        """Make a model of these sizes, with random weights, and its workload. `full_block`: of
        documents as long as the block."""
        import numpy as np  # here, so that a version without NumPy starts without it

        c, corpus = Config(**config), self.corpus
        docs = full_documents(corpus.docs, c.block_size) if full_block else corpus.docs
        rng, weights, zeros = np.random.default_rng(42), {}, {}
        for name, (rows, columns, std) in microgpt.shapes(c, corpus.tokenizer.vocab_size).items():
            weights[name] = std * rng.standard_normal((rows, columns))
            zeros[name] = np.zeros((rows, columns))
        snapshot = microgpt.Snapshot(weights, zeros, zeros, 0)
        self.state = None  # frees the last model before the next one is made
        self.state = self.module.create(c, snapshot, **self.known(given))
        self.workload = list(microgpt.batches(replace(c, steps=1), corpus.tokenizer, docs))
        self.take_steps(1)  # the first step compiles
        step = self.take_steps(1)["step"]
        return self.prepare_workload(c, corpus.tokenizer, docs, SHORT, step)

    def take_steps(self, repeats: int) -> dict[str, Any]:
        """Train on the workload so many times. -> seconds a step"""
        steps = chain.from_iterable(repeat(self.workload, repeats))
        before = time.perf_counter()
        self.wait_for_last(self.module.train(self.state, steps))
        return {"step": (time.perf_counter() - before) / (repeats * len(self.workload))}

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
        """The options that the version's create() has. Threads, dtype and device "cpu" are left
        out where it has none; any other missing option raises InputError."""
        has = options.parameters(self.module)
        kept = {name: value for name, value in given.items() if name in has}
        missing = set(given) - set(kept) - {"threads", "dtype"}
        if given.get("device") == "cpu":
            missing -= {"device"}
        if missing:
            raise InputError(f"it has no option {', '.join(sorted(missing))}")
        return kept

    def prepare_workload(
        self, config: Config, tokenizer: Any, docs: list[str], limit: float, step: float
    ) -> dict[str, Any]:
        """Encode the workload and train on it once, so that everything is compiled. It has fewer
        steps where, at `step` seconds a step, it would take longer than `limit` seconds.

        -> its description: tokens and operations are those of one step, on average.
        """
        # the last learning rate, near zero, so that the weights hardly change
        rate = microgpt.learning_rate(config, config.steps - 1)
        steps = max(STEPS, DOCUMENTS // config.batch_size)
        config = replace(config, steps=steps)
        whole = [(batch, rate) for batch, _ in microgpt.batches(config, tokenizer, docs)]
        self.workload = whole[: max(1, min(steps, int(limit / step)))]
        if len(self.workload) > 1:
            self.take_steps(1)
            step = self.take_steps(1)["step"]
        lengths = [[len(tokens) - 1 for tokens in batch] for batch, _ in self.workload]
        works = [lower_bound.count(config, tokenizer.vocab_size, batch) for batch in lengths]
        n = len(self.workload)
        return {
            "about": self.module.about(self.state), "step": step, "workload_steps": n,
            "tokens": sum(map(sum, lengths)) / n, "numbers_moved": works[0].numbers_moved,
            "operations": sum(work.operations for work in works) / n,
        }  # fmt: skip

    def wait_for_last(self, losses: Iterable[Any]) -> None:
        """Train, and wait for the last loss: a framework may still be computing it."""
        loss = math.nan
        for loss in losses:  # noqa: B007
            pass
        float(loss)


class StopIfTooSlow:
    """An iterator over batches that stops when all of them would take longer than the limit."""

    def __init__(self, batches: Iterator[Any], count: int, limit: float) -> None:
        self.batches, self.count, self.limit = batches, count, limit
        self.stopped, self.taken = False, 0

    def __iter__(self) -> Iterator[Any]:
        start = time.perf_counter()
        for item in self.batches:
            elapsed = time.perf_counter() - start
            # elapsed / taken * count is the projected time of all batches
            if elapsed > 0.2 and elapsed * self.count > self.limit * self.taken:
                self.stopped = True
                return
            self.taken += 1
            yield item


def full_documents(docs: list[str], block_size: int) -> list[str]:
    """Documents exactly as long as the block, cut from the names written one after the other."""
    letters = "".join(docs)[: DOCUMENTS * block_size]
    return [letters[i : i + block_size] for i in range(0, len(letters), block_size)]


def main() -> None:
    """Answer requests until the input ends. A request that cannot be done is answered too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # a framework's own output goes to stderr, so it cannot mix with the answers
    try:
        worker = Worker(sys.argv[1], float(sys.argv[2]))
        for line in sys.stdin:
            arguments = json.loads(line)
            try:
                answer = getattr(worker, arguments.pop("request"))(**arguments)
            except InputError as e:
                answer = {"error": str(e)}
            print(json.dumps(answer), file=answers)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
