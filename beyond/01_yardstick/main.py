"""Yardstick: counting against learning. What is a good loss on these names?

No neural network. New here: a table counts which letter follows which letters, and
Kneser-Ney smoothing makes probabilities of the counts. A table of order n looks at
n - 1 letters. The same held-out names, in the same measure, then say what a trained
model (from 09) is worth: which table it passes.

    uv run python main.py       the losses of six tables, and names that a table makes
"""

import argparse
import functools
import math
import random
from bisect import bisect
from collections import Counter
from dataclasses import replace
from itertools import accumulate, pairwise

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# V tokens: the letters and END. A context is a text of n - 1 letters; a gram is a
# context and the letter that follows it.

END = "\n"  # stands before and after each name; no name has it
DISCOUNT = 0.75  # taken from each count, and given to the next shorter context
ORDERS = (1, 2, 3, 4, 5, 6)
NAMES = {1: "letter counts", 2: "bigram", 3: "3-gram", 4: "4-gram", 5: "5-gram"}

# ---------------------------------------------------------------- Counting


def count_grams(docs, length):
    """How often each gram of a length stands in the documents. -> {gram: count}"""
    texts = [END + doc + END for doc in docs]
    first = max(0, 2 - length)  # the END before a name is never predicted
    return Counter(
        text[i : i + length]
        for text in texts
        for i in range(first, len(text) - length + 1)
    )


def continuations(grams, longer):
    """Counts for a shorter context: in how many *different* places a gram was seen, not
    how often. "Francisco" is frequent, but follows "San" alone: after another word it
    is unlikely. A gram that begins a name has nothing before it: its count stays."""
    found = Counter(gram[1:] for gram in longer)
    at_start = {
        gram: n for gram, n in grams.items() if gram[0] == END and len(gram) > 1
    }
    return found | at_start


class Table:
    """An n-gram table: the distribution of the next letter after each context."""

    def __init__(self, docs, order, letters):
        self.order, self.tokens = order, [*letters, END]  # (V,)
        real = [count_grams(docs, length) for length in range(1, order + 1)]
        counts = [continuations(*pair) for pair in pairwise(real)] + real[-1:]
        self.rows = {}  # {context: {next letter: count}}
        for level in counts:
            for gram, n in level.items():
                self.rows.setdefault(gram[:-1], {})[gram[-1]] = n
        self.known = {None: [1 / len(self.tokens)] * len(self.tokens)}  # a blind guess

    def distribution(self, context):
        """The probability of each token after a context. Interpolated Kneser-Ney: each
        count gives a discount away, and what was given away is divided as the context
        without its first letter divides it. text -> (V,)"""
        if context not in self.known:
            shorter = self.distribution(context[1:] if context else None)
            row = self.rows.get(context)
            if row is None:  # never seen: all is up to the shorter context
                return shorter
            total = sum(row.values())
            given = DISCOUNT * len(row)  # by each of the different letters seen here
            self.known[context] = [
                (max(row.get(token, 0) - DISCOUNT, 0) + given * p) / total
                for token, p in zip(self.tokens, shorter)
            ]
        return self.known[context]

    def losses(self, doc):
        """-log p of each letter of a document and of its end. -> (T,)"""
        text, before = END + doc + END, self.order - 1
        return [
            -math.log(
                self.distribution(text[max(0, i - before) : i])[
                    self.tokens.index(text[i])
                ]
            )
            for i in range(1, len(text))
        ]

    def make_name(self, rng):
        """Draw letters until the end. -> text"""
        text = END
        while True:
            p = self.distribution(text[max(0, len(text) - self.order + 1) :])
            token = self.tokens[bisect([*accumulate(p)], rng.random(), 0, len(p) - 1)]
            if token == END:
                return text[1:]
            text += token


# ---------------------------------------------------------------- Measuring


def nats_a_letter(table, docs, block=None):
    """The held-out loss in the lab's measure: letters beyond a model's block cost a
    blind guess, for a table as for a model. Without a block all letters count as they
    are. Letters and ends: what is counted is the same for every table and model."""
    nats, letters = 0.0, 0
    for doc in docs:
        losses = table.losses(doc)
        inside = losses if block is None else losses[:block]
        nats += sum(inside) + math.log(len(table.tokens)) * (len(losses) - len(inside))
        letters += len(losses)
    return nats / letters


def nats_within(table, docs, block):
    """The mean over the letters inside a block alone."""
    losses = [loss for doc in docs for loss in table.losses(doc)[:block]]
    return sum(losses) / len(losses)


def yardsticks(docs, held_out, letters, block):
    """{name: nats a letter} of a blind guess and of tables, in the measure of a model
    with this block: the lines of the lab's pictures of losses."""
    found = {"blind guess": math.log(len(letters) + 1)}
    for order in (1, 2, 3, 5):
        table = Table(docs, order, letters)
        found[NAMES[order]] = nats_a_letter(table, held_out, block)
    return found


@functools.cache
def data():
    """(names to learn from, held-out names, tokenizer): the lab's own split."""
    docs = microgpt.load_documents(say=lambda _: None)
    learned, held_out = split(docs, 0.1)
    return learned, held_out, microgpt.Tokenizer(docs)


@functools.cache
def numba_version():
    return pick(["09_numba"])[0].load()


def learn(recipe, seed, **numbers):
    """Train a recipe in 09 -> the losses of each held-out name's letters in its
    block."""
    model, config = numba_version(), replace(microgpt.RECIPES[recipe], **numbers)
    docs, held_out, tokenizer = data()
    rng = random.Random(seed)
    docs = [*docs]  # data() is kept
    rng.shuffle(docs)
    snapshot = microgpt.initial(config, tokenizer.vocab_size, rng)
    state = model.create(config, snapshot)
    for _ in model.train(state, microgpt.batches(config, tokenizer, docs)):
        pass
    losses = []
    for doc in held_out:
        tokens = tokenizer.encode(doc)[: config.block_size + 1]
        rows = model.logits(state, tokens[:-1])
        log_sums = [
            math.log(total) + top
            for _, total, top in map(microgpt.exponentials, rows.astype(float).tolist())
        ]
        losses.append(
            [s - float(row[t]) for s, row, t in zip(log_sums, rows, tokens[1:])]
        )
    return losses


# ---------------------------------------------------------------- Running it


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    rng = random.Random(parser.parse_args().seed)
    docs, held_out, tokenizer = data()
    print(f"{len(docs):,} names to count, {len(held_out):,} held out; nats a letter")
    print("                all letters   of the first 8   it makes up")
    print(f"blind guess           {math.log(tokenizer.vocab_size):.3f}")
    for order in ORDERS:
        table = Table(docs, order, tokenizer.letters)
        made = ", ".join(table.make_name(rng) for _ in range(4))
        whole, within = nats_a_letter(table, held_out), nats_within(table, held_out, 8)
        name = NAMES.get(order, f"{order}-gram")
        print(f"{name:14}{whole:13.3f}{within:17.3f}   {made}", flush=True)


if __name__ == "__main__":
    main()
