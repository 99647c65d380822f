"""Speculative decoding: a cheap model proposes, the good one decides. No name changes.

Starts from 01's `generate`, which asks the model once for each letter. New here: a
draft (a bigram, a table of counts) proposes some letters at once, and the target (a
model that 09 has trained) reads all of them in one call. Each is kept or replaced by a
rule that leaves exactly the target's distribution, however bad the draft is.

    uv run python main.py       names, how many letters were kept, and how many calls of
                                the target a name took
"""

import argparse
import random
from bisect import bisect
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# T tokens, V vocabulary. p is the target's distribution, q the draft's, (V,) each.

PROPOSED = 4  # letters that the draft proposes at once

# ---------------------------------------------------------------- The two models


def softmax(logits, temperature):
    """(T, V) -> (T, V)"""
    z = np.asarray(logits, float) / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def train_target(seed, recipe="gist"):
    """-> (logits of a trained model, configuration, tokenizer, training documents)"""
    model, config = pick(["09_numba"])[0].load(), microgpt.RECIPES[recipe]
    docs, rng = microgpt.load_documents(say=lambda _: None), random.Random(seed)
    tokenizer, (learned, _) = microgpt.Tokenizer(docs), split(docs, 0.1)
    shuffled = rng.sample(learned, len(learned))
    state = model.create(config, microgpt.initial(config, tokenizer.vocab_size, rng))
    for _ in model.train(state, microgpt.batches(config, tokenizer, shuffled)):
        pass

    def logits(tokens):
        return model.logits(state, tokens)

    return logits, config, tokenizer, learned


def bigram(docs, tokenizer):
    """How often each token follows each, of 1: the draft. -> (V, V)"""
    counts = np.full((tokenizer.vocab_size, tokenizer.vocab_size), 0.1)
    for doc in docs:
        tokens = tokenizer.encode(doc)
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    return counts / counts.sum(axis=1, keepdims=True)


# ---------------------------------------------------------------- The rule


def draw(p, rng):
    """A token with these probabilities. (V,) -> int"""
    sums = [*accumulate(p.tolist())]
    return bisect(sums, rng.random() * sums[-1], 0, len(sums) - 1)


@dataclass
class Counts:
    """What happened, for the figures."""

    calls: int = 0  # of the target
    letters: int = 0  # in the names, with each end
    judged: int = 0  # proposed letters that were kept or replaced
    kept: int = 0
    expected: float = 0.0  # how many should be kept
    variance: float = 0.0  # of that number


def judge(p, q, token, rng, counts):
    """Keep a proposed token with probability min(1, p/q). -> (whether it is kept, the
    token). One that is not is replaced by a draw from what the draft proposes too
    rarely, max(p - q, 0). Then token x has the probability

        q min(1, p/q) + (1 - Σ min(p, q)) max(p - q, 0) / Σ max(p - q, 0)
        = min(p, q) + max(p - q, 0) = p,    because both sums are equal."""
    agreed = np.minimum(p, q).sum()  # 1 - the total variation of p and q
    counts.judged += 1
    counts.expected += agreed
    counts.variance += agreed * (1 - agreed)
    if rng.random() * q[token] < p[token]:
        counts.kept += 1
        return True, token
    return False, draw(np.maximum(p - q, 0), rng)


def propose(draft, tokens, most, rng):
    """Up to `most` tokens, none after an end. -> [(token, q that it was drawn from)]"""
    bos, last, found = tokens[0], tokens[-1], []
    while len(found) < most:
        q = draft[last]
        last = draw(q, rng)
        found.append((last, q))
        if last == bos:
            break
    return found


def speculate(logits, draft, config, bos, rng, counts, most=PROPOSED):
    """Names without end, each as a list of tokens, distributed as those of S11."""
    while True:
        tokens = [bos]
        while len(tokens) <= config.block_size:
            # the target can judge all that it can read, and nothing beyond the block
            room = config.block_size - len(tokens)
            proposed = propose(draft, tokens, min(most, room), rng)
            read = tokens + [token for token, _ in proposed if token != bos]
            rows = softmax(logits(read)[len(tokens) - 1 :], config.temperature)
            counts.calls += 1
            for p, (token, q) in zip(rows, proposed):
                kept, token = judge(p, q, token, rng, counts)
                tokens.append(token)
                if token == bos or not kept:
                    break
            else:  # all were kept: the target's last row is still unused
                tokens.append(draw(rows[-1], rng))
            if tokens[-1] == bos:
                break
        counts.letters += len(tokens) - 1
        yield tokens[1:-1] if tokens[-1] == bos else tokens[1:]


# ---------------------------------------------------------------- Running it


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    seed = parser.parse_args().seed
    logits, config, tokenizer, learned = train_target(seed)
    draft, bos = bigram(learned, tokenizer), tokenizer.bos
    print("temperature  proposed   kept   letters a call   names")
    for temperature in (1.0, 0.5):
        config = replace(config, temperature=temperature)
        for most in (0, 1, 2, 4, 8):
            rng, counts = random.Random(seed), Counts()
            found = speculate(logits, draft, config, bos, rng, counts, most)
            names = [tokenizer.decode(name) for name in islice(found, 2000)]
            kept = f"{counts.kept / counts.judged:.0%}" if counts.judged else "–"
            rate = counts.letters / counts.calls
            some = ", ".join(names[:4])
            print(f"{temperature:<13}{most:>8}{kept:>7}{rate:>17.2f}   {some}")


if __name__ == "__main__":
    main()
