"""The process that runs one entry. It is started with the entry's name, reads a seed a line, and
answers each with a line of JSON. It computes on one core, and only while it works on a seed."""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import microgpt
from microgpt import InputError

from microgpt_lab.runs import documents
from microgpt_lab.speedrun import entries

HELD_OUT = 0.1  # the lab's split


class Racer:
    """An entry that trains on the lab's training names."""

    def __init__(self, name: str) -> None:
        (self.entry,) = entries.find((name,))
        self.module = self.entry.load()
        docs = microgpt.load_documents(say=lambda text: None)
        self.train, self.held_out = documents.split(docs, HELD_OUT)
        self.tokenizer = microgpt.Tokenizer(docs)

    def run(self, seed: int) -> dict[str, Any]:
        """Train from new weights. -> seed, held-out loss, seconds"""
        rng, docs = random.Random(seed), self.train.copy()
        rng.shuffle(docs)
        config, tokenizer = self.entry.config, self.tokenizer
        snapshot = microgpt.initial(config, tokenizer.vocab_size, rng)
        state = self.module.create(config, snapshot, **self.entry.description.options)
        tokens = [tokenizer.encode(doc)[: config.block_size + 1] for doc in docs]
        race = getattr(self.module, "race", self.race_of_a_version)
        before = time.perf_counter()
        race(state, tokens, rng)
        seconds = time.perf_counter() - before
        loss = documents.nats_a_character(self.module, state, config, tokenizer, self.held_out)
        return {"seed": seed, "loss": loss, "seconds": seconds}

    def race_of_a_version(self, state: Any, tokens: list[list[int]], rng: random.Random) -> None:
        """How a version races: its own training loop, on the documents in the order of the
        shuffle, again and again, with the recipe's schedule."""
        loss = 0.0
        for loss in self.module.train(state, self.batches(tokens)):  # noqa: B007
            pass
        float(loss)  # a framework may still be computing it

    def batches(self, tokens: list[list[int]]) -> Iterator[tuple[list[list[int]], float]]:
        """(batch, learning rate) of each step, as 01's, of documents that are encoded already."""
        config = self.entry.config
        for step in range(config.steps):
            first = step * config.batch_size
            batch = [tokens[(first + i) % len(tokens)] for i in range(config.batch_size)]
            yield batch, microgpt.learning_rate(config, step)


def main() -> None:
    """Answer seeds until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # a framework's own output goes to stderr
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        racer = Racer(sys.argv[1])
        for line in sys.stdin:
            print(json.dumps(racer.run(int(line))), file=answers)
    except InputError as e:
        print(json.dumps({"error": str(e)}), file=answers)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
