"""Tokenizer: byte-pair merges, and a loss that tokenizers can be compared by.

Starts from 01 (its Tokenizer) and trains with 09. New here: a token may stand for
several letters. Byte-pair encoding (BPE) begins with one token a letter, and again and
again joins the pair of neighbours that is most frequent. A name then has fewer tokens,
and each token costs more nats. So losses are given in nats a *letter*: the nats of all
tokens over the number of letters, the end of a name counted as one.

    uv run python main.py          learns merges, trains with and without them, and
                                   shows tokens, losses and made-up names
"""

import argparse
import functools
import random
from collections import Counter, defaultdict
from itertools import islice, pairwise

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# T tokens, V vocabulary. A document is a name; its parts are the tokens that spell it

compiled = pick(["09_numba"])[0].load()
CONFIG = microgpt.Config(n_embd=32, n_layer=2, block_size=16, batch_size=32, steps=500)

# ---------------------------------------------------------------- Merges


def join(parts, pair):
    """The parts with each occurrence of the pair made one token, from left to right."""
    joined = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def learn_merges(docs, n):
    """The n pairs to merge, in their order. Pairs are counted inside each document: no
    pair reaches over an end."""
    # each distinct document once, with the number of times that it occurs
    spelled = [(list(doc), times) for doc, times in Counter(docs).items()]
    counts, where = Counter(), defaultdict(set)

    def count(i, sign):
        parts, times = spelled[i]
        for pair in pairwise(parts):
            counts[pair] += sign * times
            where[pair].add(i)

    for i in range(len(spelled)):
        count(i, 1)
    merges = []
    while len(merges) < n:
        # of pairs that are equally frequent the first in the alphabet
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(pair)
        for i in where.pop(pair):
            # a merge changes the pairs on both sides of it: count this document anew
            count(i, -1)
            spelled[i] = join(spelled[i][0], pair), spelled[i][1]
            count(i, 1)
        del counts[pair]
    return merges


# ---------------------------------------------------------------- Tokens


class Tokenizer(microgpt.Tokenizer):
    """As in 01, with a token for each merge after the letters. BOS is the last (S2)."""

    def __init__(self, docs, merges):
        letters = sorted(set("".join(docs)))
        # two merges may spell the same letters: they share a token
        made = dict.fromkeys(left + right for left, right in merges)
        self.letters = letters + [token for token in made if token not in letters]
        self.ids = {letters: token for token, letters in enumerate(self.letters)}
        self.bos = len(self.letters)
        self.vocab_size = len(self.letters) + 1
        self.ranks = {pair: rank for rank, pair in reversed([*enumerate(merges)])}
        self.longest = max(map(len, self.letters))

    def parts(self, doc):
        """The text of each token. Merges are made in the order in which they were
        learned: a document is spelled as it was in training."""
        parts = list(doc)
        while known := [pair for pair in pairwise(parts) if pair in self.ranks]:
            parts = join(parts, min(known, key=self.ranks.__getitem__))
        return parts

    def encode(self, doc):
        return [self.bos, *(self.ids[part] for part in self.parts(doc)), self.bos]

    def all_encodings(self, doc):
        """Every way to spell a document with tokens."""
        if not doc:
            return [[self.bos]]
        return [
            [token, *rest]
            for n in range(1, min(len(doc), self.longest) + 1)
            if (token := self.ids.get(doc[:n])) is not None
            for rest in self.all_encodings(doc[n:])
        ]


# ---------------------------------------------------------------- Loss and training


def train(config, tokenizer, docs, seed):
    """A trained state of 09. The tokenizer's spelling is all that is new."""
    rng = random.Random(seed)
    docs = rng.sample(docs, len(docs))
    snapshot = microgpt.initial(config, tokenizer.vocab_size, rng)
    state = compiled.create(config, snapshot)
    for _ in compiled.train(state, microgpt.batches(config, tokenizer, docs)):
        pass
    return state


def nats(state, tokens):
    """-log p of a document that is spelled so."""
    z = np.asarray(compiled.logits(state, tokens[:-1]), np.float64)  # (T, V)
    log_sums = np.logaddexp.reduce(z, axis=-1)  # (T,)
    return float((log_sums - z[np.arange(len(z)), tokens[1:]]).sum())


def nats_of_all_spellings(state, tokenizer, doc):
    """-log p of the document itself: the probabilities of all its spellings, added up.
    A model of tokens may make the same name in several ways."""
    spellings = [[tokenizer.bos, *tokens] for tokens in tokenizer.all_encodings(doc)]
    return -float(np.logaddexp.reduce([-nats(state, tokens) for tokens in spellings]))


def nats_a_letter(state, tokenizer, docs):
    """The nats of the tokens over the number of letters and ends."""
    total = sum(nats(state, tokenizer.encode(doc)) for doc in docs)
    return total / sum(len(doc) + 1 for doc in docs)


# ---------------------------------------------------------------- Running it


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    parser.add_argument("--merges", type=int, default=100, help="default: 100")
    options = parser.parse_args()
    if options.merges < 0:
        raise microgpt.InputError(f"merges is {options.merges}: it must be 0 or more")
    docs = microgpt.load_documents()
    train_docs, held_out = split(docs, 0.1)
    merges = learn_merges(train_docs, options.merges)
    print("first merges:", *(left + right for left, right in merges[:12]))
    for used in ([], merges):
        tokenizer = Tokenizer(docs, used)
        print(f"\n{tokenizer.vocab_size} tokens:", *tokenizer.parts("christopher"))
        state = train(CONFIG, tokenizer, train_docs, options.seed)
        spelled = [tokenizer.encode(doc) for doc in held_out]
        tokens = sum(len(one) - 1 for one in spelled)
        total = sum(nats(state, one) for one in spelled)
        letters = sum(len(doc) + 1 for doc in held_out)
        shown = f"{total / tokens:.3f} nats a token, {total / letters:.3f} a letter"
        print("held out:", shown)
        logits = functools.partial(compiled.logits, state)
        uniform = random.Random(options.seed).random
        names = microgpt.generate(logits, CONFIG, tokenizer.bos, uniform)
        print("made up:", *map(tokenizer.decode, islice(names, 8)))


if __name__ == "__main__":
    main()
