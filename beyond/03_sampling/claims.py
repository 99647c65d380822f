"""What 03_sampling claims, each as a number. `idea` is main.py as a module."""

import functools
import itertools
import math
import random

import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots
from microgpt_lab.base.versions import ROOT, load_source
from microgpt_lab.runs.sample import SamplingOptions, restricted

DRAWS = 100_000
NAMES = 3_000
LEFT = ("temperature", 0.7)
CHECKED = [
    (),
    (LEFT,),
    (("top_k", 7),),
    (("top_p", 0.8),),
    (("min_p", 0.1),),
    (LEFT, ("top_p", 0.8), ("min_p", 0.05)),
    (("top_p", 0.9), ("top_k", 6), ("temperature", 1.6)),
]

# ---------------------------------------------------------------- Distributions


@functools.cache
def yardstick():
    return load_source("yardstick", ROOT / "beyond" / "01_yardstick" / "main.py")


@functools.cache
def contexts():
    """Distributions to draw from: of a bigram, after some letters. {letter: (V,)}"""
    docs, _, tokenizer = yardstick().data()
    table = yardstick().Table(docs, 2, tokenizer.letters)
    return {x: np.array(table.distribution(x)) for x in "aenrz\n"}


def by_definition(p, rule):
    """What a rule leaves, from the words of its definition: no sorting, no sums that
    are kept. A list of exact numbers for (V,)"""
    p = [*map(float, p)]
    for name, value in rule:
        likelier = [  # of each token, the tokens that come before it
            [j for j in range(len(p)) if (-p[j], j) < (-p[i], i)] for i in range(len(p))
        ]
        if name == "temperature":
            p = [math.exp(math.log(x) / value) if x else 0.0 for x in p]
        elif name == "top_k":
            p = [x if len(before) < value else 0 for x, before in zip(p, likelier)]
        elif name == "top_p":
            p = [
                x if math.fsum(p[j] for j in before) < value else 0.0
                for x, before in zip(p, likelier)
            ]
        else:
            p = [x if x >= value * max(p) else 0.0 for x in p]
        total = math.fsum(p)
        p = [x / total for x in p]
    return p


def as_defined(idea):
    """Largest difference of a probability, over contexts and rules."""
    return max(
        np.abs(idea.changed(p, rule) - by_definition(p, rule)).max()
        for p in contexts().values()
        for rule in CHECKED
    )


def as_the_lab(idea):
    """`microgpt sample` with a temperature and top-p: the same distribution."""
    how = SamplingOptions(top_k=9, top_p=0.8)
    worst = 0.0
    for p in contexts().values():
        # the lab divides by the temperature when it draws
        left = restricted(lambda _, p=p: [np.log(p)], 0.7, how)([])[0]
        weights = np.exp((np.array(left) - max(left)) / 0.7)
        rule = (("top_k", 9), ("temperature", 0.7), ("top_p", 0.8))
        got = idea.changed(p, rule)
        worst = max(worst, np.abs(got - weights / weights.sum()).max())
    return worst


def order_matters(idea):
    """Total variation between temperature before top-p and after it, the largest over
    the contexts."""
    cut = ("top_p", 0.8)
    return max(
        np.abs(idea.changed(p, (LEFT, cut)) - idea.changed(p, (cut, LEFT))).sum() / 2
        for p in contexts().values()
    )


EDGES = [
    ("top_k", 9, [0.5, 0.3, 0.2], [0, 1, 2]),  # more than there are
    ("top_k", 1, [0.2, 0.4, 0.4], [1]),  # a tie
    ("top_k", 2, [0.25, 0.25, 0.25, 0.25], [0, 1]),
    ("top_p", 1.0, [0.5, 0.25, 0.25], [0, 1, 2]),
    ("top_p", 0.5, [0.5, 0.25, 0.25], [0]),  # exactly on the line
    ("top_p", 0.6, [0.5, 0.25, 0.25], [0, 1]),  # the second crosses it
    ("top_p", 0.01, [0.25, 0.5, 0.25], [1]),  # never empty
    ("top_p", 0.5, [0.0, 1.0, 0.0], [1]),
    ("min_p", 1.0, [0.25, 0.375, 0.375], [1, 2]),  # all of the largest
    ("min_p", 0.5, [0.5, 0.25, 0.125, 0.125], [0, 1]),  # exactly on the line
    ("min_p", 0.9, [0.0, 1.0, 0.0], [1]),
]


def edges(idea):
    """How many of the edge cases keep other letters than they should."""
    wrong = 0
    for name, value, p, kept in EDGES:
        left = idea.changed(np.array(p), ((name, value),))
        wrong += np.flatnonzero(left).tolist() != kept
    return wrong


# ---------------------------------------------------------------- Frequencies


def surprise(counts, p):
    """How far a chi-square statistic is above what chance gives, in standard
    deviations: its cube root is nearly normal (Wilson and Hilferty). Letters that are
    expected less than five times count together; one that cannot be drawn makes it
    infinite."""
    expected = p * counts.sum()
    if counts[p == 0].any():
        return math.inf
    common = expected >= 5
    got, want = counts[common].tolist(), expected[common].tolist()
    if (rest := expected[~common].sum()) > 0:
        got, want = [*got, counts[~common].sum()], [*want, rest]
    k = len(got) - 1
    if not k:
        return 0.0
    chi2 = sum((g - w) ** 2 / w for g, w in zip(got, want))
    return ((chi2 / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))


def frequencies(idea):
    """The largest surprise over contexts and rules, of so many draws each."""
    rng, worst = random.Random(3), -math.inf
    some = [contexts()[x] for x in "an\n"]
    for p, rule in itertools.product(some, CHECKED):
        changed = idea.changed(p, rule)
        tokens = [idea.draw(changed, rng.random()) for _ in range(DRAWS // 20)]
        counts = np.bincount(tokens, minlength=len(p))
        worst = max(worst, surprise(counts, np.array(by_definition(p, rule))))
    return worst


def many_draws(idea):
    """The same for one rule of three steps, with 100,000 draws."""
    rng, p, rule = random.Random(4), contexts()["a"], CHECKED[5]
    changed = idea.changed(p, rule)
    tokens = [idea.draw(changed, rng.random()) for _ in range(DRAWS)]
    counts = np.bincount(tokens, minlength=len(p))
    return surprise(counts, np.array(by_definition(p, rule)))


# ---------------------------------------------------------------- Real names


@functools.cache
def trained(idea):
    return idea.train("gist", 1)


@functools.cache
def made(idea, rule):
    logits, config, tokenizer, _ = trained(idea)
    names = idea.names_by(logits, config, tokenizer, rule, random.Random(7))
    return [*itertools.islice(names, NAMES)]


@functools.cache
def made_by_table(order):
    docs, _, tokenizer = yardstick().data()
    table, rng = yardstick().Table(docs, order, tokenizer.letters), random.Random(7)
    return [table.make_name(rng) for _ in range(NAMES)]


def half_width(share):
    """Of a 95 % interval of a share of NAMES."""
    return 1.96 * math.sqrt(share * (1 - share) / NAMES)


def real_names(idea):
    """Shares of made-up names that stand in the training data."""
    learned = trained(idea)[3]
    return {
        "five-gram": idea.share_in(made_by_table(5), learned),
        "bigram": idea.share_in(made_by_table(2), learned),
        "model": idea.share_in(made(idea, ()), learned),
        "model, top_p 0.9": idea.share_in(made(idea, (("top_p", 0.9),)), learned),
        "model, temperature 0.5": idea.share_in(
            made(idea, (("temperature", 0.5),)), learned
        ),
    }


def table_copies_more(idea):
    """The five-gram's share less the model's, with its 95 % interval."""
    found = real_names(idea)
    one, two = found["five-gram"], found["model"]
    half = math.hypot(half_width(one), half_width(two))
    return {"difference": one - two, "low": one - two - half, "high": one - two + half}


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """Left what rules leave of one distribution, right how many names are real."""
    figure = Figure(figsize=(7.2, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    p = contexts()["n"]
    ranked = idea.by_rank(p)[:12]
    labels = [*yardstick().data()[2].letters, "end"]
    rules = {
        "as it is": (),
        "temperature 0.5": (("temperature", 0.5),),
        "top-p 0.9": (("top_p", 0.9),),
        "min-p 0.1": (("min_p", 0.1),),
    }
    for i, (name, rule) in enumerate(rules.items()):
        places = np.arange(len(ranked)) + 0.2 * i - 0.3
        after = idea.changed(p, rule)[ranked]
        left.bar(places, after, 0.2, color=plots.COLOURS[i], label=name)
    left.set_xticks(range(len(ranked)), [labels[t] for t in ranked])
    left.set(xlabel="after n, in a bigram", ylabel="probability")
    left.legend()
    found = figures["real_names"]
    right.barh([*found], [100 * x for x in found.values()], color=plots.COLOURS[0])
    right.invert_yaxis()
    right.set_xlabel("names that are real, %")
    plots.save(figure, path)
