"""What 04_speculative claims, each as a number. `idea` is main.py as a module."""

import collections
import dataclasses
import functools
import itertools
import math
import random
from pathlib import Path

import microgpt

import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots
from microgpt_lab.base.versions import load_source

NAMES = 6_000
TEMPERATURE = 0.8
DEPTH = 3  # tokens of a beginning

# ---------------------------------------------------------------- What was made


@functools.cache
def models():
    """(logits, configuration, tokenizer, draft) of main.py as it stands: all wrong
    programs have the same target and draft, and are wrong in what they do with them."""
    right = load_source("speculative", Path(__file__).with_name("main.py"))
    logits, config, tokenizer, learned = right.train_target(1)
    config = dataclasses.replace(config, temperature=TEMPERATURE)
    known = functools.cache(lambda tokens: logits(list(tokens)))
    return (
        lambda tokens: known(tuple(tokens)), config, tokenizer,
        right.bigram(learned, tokenizer),
    )  # fmt: skip


@functools.cache
def made(idea, most, names=NAMES, block=0):
    """(names as tokens, counts)"""
    logits, config, tokenizer, draft = models()
    config = dataclasses.replace(config, block_size=block or config.block_size)
    counts, rng = idea.Counts(), random.Random(19)
    found = idea.speculate(logits, draft, config, tokenizer.bos, rng, counts, most)
    return [tuple(name) for name in itertools.islice(found, names)], counts


@functools.cache
def exact():
    """The probability of each beginning of DEPTH tokens, or of a shorter name with its
    end: from the target alone, in 01's way. {tokens: p}"""
    logits, _, tokenizer, _ = models()
    found = {}

    def visit(tokens, p):
        if len(tokens) - 1 == DEPTH or (tokens[1:] and tokens[-1] == tokenizer.bos):
            found[tokens[1:]] = p
            return
        z = np.asarray(logits(list(tokens))[-1], float) / TEMPERATURE
        e = np.exp(z - z.max())
        for token, x in enumerate(e / e.sum()):
            visit((*tokens, token), p * x)

    visit((tokenizer.bos,), 1.0)
    return found


def surprise(counts, expected):
    """How far a chi-square statistic is above what chance gives, in standard
    deviations: its cube root is nearly normal (Wilson and Hilferty). What is expected
    less than five times counts together."""
    got, want, others, rest = [], [], 0.0, 0.0
    for key, number in expected.items():
        if number >= 5:
            got.append(counts.get(key, 0))
            want.append(number)
        else:
            rest += number
    others = sum(counts.values()) - sum(got)
    got, want = [*got, others], [*want, rest]
    k = len(got) - 1
    chi2 = sum((g - w) ** 2 / w for g, w in zip(got, want))
    return ((chi2 / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))


def beginnings(idea):
    """The surprise of the first three tokens of names, the end counted as one."""
    names, _ = made(idea, idea.PROPOSED)
    bos = models()[2].bos
    counts = collections.Counter((*name, bos)[:DEPTH] for name in names)
    return surprise(counts, {key: p * NAMES for key, p in exact().items()})


@functools.cache
def plain_lengths(block):
    """How many names of each length 01 makes, one letter at a time."""
    logits, config, tokenizer, _ = models()
    config, rng = dataclasses.replace(config, block_size=block), random.Random(10)
    names = microgpt.generate(logits, config, tokenizer.bos, rng.random)
    found = [len(name) for name in itertools.islice(names, NAMES)]
    return np.bincount(found, minlength=block + 1).astype(float)


def lengths(idea):
    """Lengths of names, in a block of 6 so that many are cut, beside those that 01
    makes: the surprise of two samples."""
    names, _ = made(idea, idea.PROPOSED, NAMES, 6)
    one = np.bincount([*map(len, names)], minlength=7).astype(float)
    two = plain_lengths(6)
    if len(one) > len(two):
        return math.inf  # longer than the block
    both = one + two > 0
    chi2 = ((one - two)[both] ** 2 / (one + two)[both]).sum()
    k = both.sum() - 1
    return ((chi2 / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))


# ---------------------------------------------------------------- What it took


def acceptance(idea):
    """How far the kept letters are from 1 - total variation, in standard deviations."""
    _, counts = made(idea, idea.PROPOSED)
    return abs(counts.kept - counts.expected) / math.sqrt(counts.variance)


def first_letter(idea):
    """The same for the first letter alone, whose p and q are computed here."""
    logits, _, tokenizer, draft = models()
    z = np.asarray(logits([tokenizer.bos])[-1], float) / TEMPERATURE
    p = np.exp(z - z.max())
    p, q = p / p.sum(), draft[tokenizer.bos]
    agreed = 1 - np.abs(p - q).sum() / 2
    counts, rng = idea.Counts(), random.Random(11)
    for _ in range(NAMES):
        ((token, drawn_from),) = idea.propose(draft, [tokenizer.bos], 1, rng)
        idea.judge(p, drawn_from, token, rng, counts)
    return abs(counts.kept / NAMES - agreed) / math.sqrt(agreed * (1 - agreed) / NAMES)


def calls(idea):
    """Letters, with the end of each name, for each call of the target."""
    found = {}
    for most in (0, 1, 2, 4, 8):
        _, counts = made(idea, most, 2000)
        found[f"{most} proposed"] = counts.letters / counts.calls
    return found


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """Left p and q of the first letter, right the letters for each call."""
    logits, _, tokenizer, draft = models()
    z = np.asarray(logits([tokenizer.bos])[-1], float) / TEMPERATURE
    p = np.exp(z - z.max())
    p, q = p / p.sum(), draft[tokenizer.bos]
    figure = Figure(figsize=(7.2, 3.2))
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    places, letters = np.arange(len(tokenizer.letters)), [*tokenizer.letters]
    colours = plots.COLOURS
    left.bar(places, np.minimum(p, q)[:-1], color="#d8d8d8", label="both: kept")
    left.plot(places, p[:-1], "_", ms=8, mew=2, color=colours[0], label="target, p")
    left.plot(places, q[:-1], "_", ms=8, mew=2, color=colours[1], label="draft, q")
    left.set_xticks(places, letters, fontsize=7)
    left.set(xlabel="first letter", ylabel="probability")
    left.legend()
    found = figures["calls"]
    right.bar([name.split()[0] for name in found], found.values(), color=colours[0])
    right.set(xlabel="letters proposed at once", ylabel="letters a call of the target")
    plots.save(figure, path)
