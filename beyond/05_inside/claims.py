"""What 05_inside claims, each as a number. `idea` is main.py as a module."""

import dataclasses
import functools
import random

import microgpt

import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots
from microgpt_lab.runs import documents

SEEDS = range(3)
SHUFFLES = 200
TOKENS = [5, 0, 3, 3, 1, 4, 2]

# ---------------------------------------------------------------- The model


def same_model(idea):
    """Against 01, two layers, no zero among the weights."""
    config = microgpt.Config(n_layer=2, init_std=0.3, zero_init=False)
    snapshot = microgpt.initial(config, 6, random.Random(1))
    want = microgpt.logits(microgpt.create(config, snapshot), TOKENS)
    w = {name: np.array(rows) for name, rows in snapshot.weights.items()}
    got, _, _ = idea.forward(config, w, np.array([TOKENS]))
    return np.abs(got[0] - np.array(want, float)).max()


@functools.cache
def trained(idea, seed):
    """(config, weights, tokenizer, training documents, held-out documents as tokens)"""
    config, docs = microgpt.RECIPES["scaled"], microgpt.load_documents()
    tokenizer, (train, held_out) = microgpt.Tokenizer(docs), documents.split(docs, 0.1)
    w = idea.train_on_names(config, tokenizer, train, seed)
    spelled = (idea.pad(list(map(tokenizer.encode, d)), 16) for d in (train, held_out))
    return config, w, tokenizer, *spelled


# ---------------------------------------------------------------- Heads


NAMES = 600  # held-out ones


@functools.cache
def ablated(idea, seed, factor):
    """What names cost more with each head replaced by its average times a factor.
    -> {(layer, head): nats of each name}, letters of each name"""
    config, w, _, train, held_out = trained(idea, seed)
    means = idea.head_means(config, w, train[:NAMES])
    replacements = [{head: factor * means[head]} for head in means]
    more = idea.ablation(config, w, held_out[:NAMES], replacements)
    letters = (held_out[:NAMES, 1:] != idea.PAD).sum(axis=-1)
    return dict(zip(means, more)), letters


def interval(more, letters):
    """Nats a letter: mean, and the 95 % interval from drawing the names again 1,000
    times."""
    n = len(more)
    # how often each name is drawn: (1000, B)
    times = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=1000)
    low, high = np.quantile(times @ more / (times @ letters), (0.025, 0.975))
    return {"mean": more.sum() / letters.sum(), "low": low, "high": high}


def head_ablation(idea):
    """Of each head of one model: mean, interval; and the low end of the strongest."""
    found, letters = ablated(idea, 0, 1)
    intervals = {head: interval(more, letters) for head, more in found.items()}
    table = {
        f"layer {i} head {head}, {what}": value
        for (i, head), values in intervals.items()
        for what, value in values.items()
    }
    return table | {"strongest, low": max(one["low"] for one in intervals.values())}


def zero_against_mean(idea):
    """What the heads are worth, added up, if the output becomes zero, over the same if
    it becomes the average. Two models."""
    zero, mean = (
        sum(
            more.sum()
            for seed in (0, 1)
            for more in ablated(idea, seed, factor)[0].values()
        )
        for factor in (0, 1)
    )
    return zero / mean


# ---------------------------------------------------------------- Embeddings


@functools.cache
def probed(idea):
    """(the probe's score, its scores on shuffled labels)"""
    _, w, tokenizer, _, _ = trained(idea, 0)
    x, labels = idea.letter_embeddings(tokenizer, w)
    rng = np.random.default_rng(0)
    shuffled = [idea.probe(x, rng.permutation(labels)) for _ in range(SHUFFLES)]
    return idea.probe(x, labels), np.array(shuffled)


def vowels(idea):
    return probed(idea)[0]


def shuffled_labels(idea):
    """The share of shuffled labels that score as high as the true ones; and how many of
    them score within each tenth."""
    score, shuffled = probed(idea)
    counts, _ = np.histogram(shuffled, bins=np.arange(11) / 10)
    table = {f"shuffled, from {i / 10}": int(n) for i, n in enumerate(counts)}
    return {"as high": (shuffled >= score).mean(), "true": score} | table


# ---------------------------------------------------------------- Induction


@functools.cache
def repeats(idea, n_layer, seed):
    config = dataclasses.replace(idea.REPEATS, n_layer=n_layer)
    return idea.repeats(config, idea.train_on_repeats(config, seed), 200)


def two_layers_learn(idea):
    return {f"seed {seed}": repeats(idea, 2, seed)[0] for seed in SEEDS}


def one_layer_does_not(idea):
    return {f"seed {seed}": repeats(idea, 1, seed)[0] for seed in SEEDS}


def induction_head(idea):
    """The best head of layer 1 in each model."""
    return {
        f"seed {seed}": max(
            share for (i, _), share in repeats(idea, 2, seed)[1].items() if i == 1
        )
        for seed in SEEDS
    }


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """What each head is worth; the probe and shuffled labels; who learns to repeat."""
    figure = Figure(figsize=(9, 3.2))
    draw_heads, draw_probe, draw_repeats = figure.subplots(1, 3)
    heads = figures["head_ablation"]
    names = [key.removesuffix(", mean") for key in heads if key.endswith(", mean")]
    for place, name in enumerate(names):
        low, mean, high = (heads[f"{name}, {what}"] for what in ("low", "mean", "high"))
        draw_heads.plot([low, high], [place, place], color=plots.COLOURS[0])
        draw_heads.plot([mean], [place], "o", color=plots.COLOURS[0])
    draw_heads.set_yticks(range(len(names)), names)
    draw_heads.invert_yaxis()
    draw_heads.set(title="a head gives its average", xlabel="nats a letter more")
    shuffled = figures["shuffled_labels"]
    counts = [shuffled[f"shuffled, from {i / 10}"] for i in range(10)]
    draw_probe.bar(
        [i / 10 for i in range(10)], counts, 0.1, align="edge", color="#b0b0b0"
    )
    draw_probe.axvline(shuffled["true"], color=plots.COLOURS[1], lw=2)
    draw_probe.set(
        title="vowels: true (line), shuffled",
        xlabel="share that is right",
        xlim=(0, 1.02),
    )
    for place, name in enumerate(("one_layer_does_not", "two_layers_learn")):
        losses = list(figures[name].values())
        draw_repeats.plot([place] * len(losses), losses, "o", color=plots.COLOURS[2])
    draw_repeats.axhline(np.log(idea.SYMBOLS), color="black", ls=":")
    draw_repeats.set_xticks([0, 1], ["one layer", "two layers"])
    draw_repeats.set(xlim=(-0.5, 1.5), ylim=(0, 3), title="a repeated symbol costs")
    draw_repeats.set_ylabel("nats; dotted: a blind guess")
    plots.save(figure, path)
