"""Sampling: a model gives probabilities, and a rule makes letters of them.

Starts from 01's `generate`, which draws from the probabilities as they are. New here:
a list of steps changes them first. Temperature makes likely letters likelier; top-k,
top-p and min-p take the unlikely ones out. Each step gets what the step before it has
left, so the order is part of the rule. The model is one that 09 has trained.

    uv run python main.py                                what rules do to one letter
                                                         and to names
    uv run python main.py temperature=0.8 top_p=0.9      names by your own rule
"""

import argparse
import random
from bisect import bisect
from dataclasses import replace
from itertools import accumulate, islice

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# V tokens. A distribution is (V,), and a step makes another of it.

# ---------------------------------------------------------------- Steps


def temperature(p, t):
    """Divide the logits by t: below 1 likely letters become likelier. As log p is a
    logit, p^(1/t) is the same. (V,) -> (V,)"""
    return normalized((p / p.max()) ** (1 / t))


def top_k(p, k):
    """Keep the k most likely. Of two that are equal the lower token comes first."""
    return keep(p, by_rank(p)[: int(k)])


def top_p(p, share):
    """Keep the fewest of the most likely whose probabilities sum to `share` or more.
    The letter that crosses the line is one of them, or the sum would be less."""
    ranked = by_rank(p)
    before = np.cumsum(p[ranked]) - p[ranked]  # the sum of all that are likelier
    return keep(p, ranked[before < share])


def min_p(p, share):
    """Keep what is at least `share` times as likely as the most likely."""
    return keep(p, np.flatnonzero(p >= share * p.max()))


STEPS = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}


def by_rank(p):
    """All tokens, the most likely first. (V,) -> (V,)"""
    return np.argsort(-p, kind="stable")


def keep(p, tokens):
    """The same probabilities for these tokens, and none for others."""
    kept = np.zeros_like(p)
    kept[tokens] = p[tokens]
    return normalized(kept)


def normalized(p):
    return p / p.sum()


def changed(p, rule):
    """The distribution after all steps of a rule, ((name, value), …)."""
    for name, value in rule:
        p = STEPS[name](p, value)
    return p


def draw(p, u):
    """The first token whose cumulative probability exceeds u (S11). (V,) -> int"""
    sums = [*accumulate(p.tolist())]
    return bisect(sums, u * sums[-1], 0, len(sums) - 1)


# ---------------------------------------------------------------- Names


def train(recipe, seed):
    """-> (logits, config, tokenizer, documents it has learned)"""
    model, config = pick(["09_numba"])[0].load(), microgpt.RECIPES[recipe]
    docs, rng = microgpt.load_documents(say=lambda _: None), random.Random(seed)
    learned, _ = split(docs, 0.1)
    tokenizer, shuffled = microgpt.Tokenizer(docs), rng.sample(learned, len(learned))
    state = model.create(config, microgpt.initial(config, tokenizer.vocab_size, rng))
    for _ in model.train(state, microgpt.batches(config, tokenizer, shuffled)):
        pass

    def logits(tokens):
        return model.logits(state, tokens)

    return logits, config, tokenizer, learned


def names_by(logits, config, tokenizer, rule, rng):
    """Names without end, drawn by a rule."""

    def restricted(tokens):
        z = np.asarray(logits(tokens)[-1], float)  # (V,)
        with np.errstate(divide="ignore"):  # log 0 is -inf, and will be 0 again
            return [np.log(changed(normalized(np.exp(z - z.max())), rule))]

    plain = replace(config, temperature=1.0)  # the rule has its own
    for tokens in microgpt.generate(restricted, plain, tokenizer.bos, rng.random):
        yield tokenizer.decode(tokens)


def share_in(names, documents):
    """How many of the names stand in the documents, as a share."""
    known = set(documents)
    return sum(name in known for name in names) / len(names)


# ---------------------------------------------------------------- Running it

RULES = [
    (),
    (("temperature", 0.5),),
    (("top_k", 5),),
    (("top_p", 0.9),),
    (("min_p", 0.1),),
    (("temperature", 0.5), ("top_p", 0.9)),
    (("top_p", 0.9), ("temperature", 0.5)),
]


def in_words(rule):
    return " then ".join(f"{name}={value}" for name, value in rule) or "as they are"


def parse(text):
    """name=value -> (name, value)"""
    name, _, value = text.partition("=")
    if name not in STEPS or not value.replace(".", "", 1).isdigit() or not float(value):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no step: give one of {', '.join(STEPS)}, = and a number"
        )
    return name, float(value)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rule", nargs="*", type=parse, metavar="STEP", help="name=value"
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    arguments = parser.parse_args()
    logits, config, tokenizer, learned = train("gist", arguments.seed)
    z = np.asarray(logits(tokenizer.encode("mar")[:-1])[-1], float)
    p = normalized(np.exp(z - z.max()))
    letters = [*tokenizer.letters, "end"]
    for rule in [tuple(arguments.rule)] if arguments.rule else RULES:
        after = changed(p, rule)
        best = ", ".join(f"{letters[t]} {after[t]:.2f}" for t in by_rank(after)[:6])
        rng = random.Random(arguments.seed)
        names = [*islice(names_by(logits, config, tokenizer, rule, rng), 300)]
        share = share_in(names, learned)
        print(f"{in_words(rule)}\n   after mar: {best}; {(after > 0).sum()} left")
        print(f"   {share:.0%} of 300 are real names: {', '.join(names[:6])}")


if __name__ == "__main__":
    main()
