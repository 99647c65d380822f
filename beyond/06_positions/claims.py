"""What 06_positions claims, each as a number. `idea` is main.py as a module."""

import dataclasses
import functools
import math
import random
import statistics

import microgpt

import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots
from microgpt_lab.runs import documents

SEEDS = range(12)
GRID = (0.005, 0.01, 0.02, 0.04)  # learning rates, the same for every kind
TUNING_SEEDS = range(100, 103)  # none of SEEDS
T_95 = 2.201  # Student's t, 11 degrees of freedom: 95 % of pairs lie within
TOKENS = [5, 0, 3, 3, 1, 4, 2]

# ---------------------------------------------------------------- Equalities


def small_model(idea, n_layer=1):
    """(config, weights in float64), with no zero among the weights"""
    config = microgpt.Config(
        n_layer=n_layer, block_size=16, init_std=0.3, zero_init=False
    )
    rows = microgpt.initial(config, 6, random.Random(1)).weights
    return config, rows, idea.from_rows(rows, "float64")


def furthest(a, b):
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))


def same_model(idea):
    """LEARNED against 01, two layers."""
    config, rows, w = small_model(idea, n_layer=2)
    zeros = {
        name: [[0.0] * len(row) for row in matrix] for name, matrix in rows.items()
    }
    state = microgpt.create(config, microgpt.Snapshot(rows, zeros, zeros, 0))
    want = [[x.data for x in row] for row in raw_logits(state)]
    return furthest(idea.forward(config, idea.LEARNED, w, np.array(TOKENS)), want)


def raw_logits(state):
    cache = [([], []) for _ in range(state.config.n_layer)]
    return [
        microgpt.forward(state.config, state.w, token, t, cache)
        for t, token in enumerate(TOKENS)
    ]


def distance_only(idea):
    """A document at place 0 and further on: the largest difference of a score."""
    config, _, w = small_model(idea)
    found = []
    for positions in idea.RELATIVE:
        scores = functools.partial(
            idea.first_scores, config, positions, w, np.array(TOKENS)
        )
        found += [furthest(scores(0), scores(first)) for first in (1, 5, 9)]
    return max(found)


def change_of_order(idea, positions):
    """The last logits, before and after two earlier letters have changed places."""
    config, _, w = small_model(idea)
    other = [TOKENS[0], TOKENS[4], *TOKENS[2:4], TOKENS[1], *TOKENS[5:]]
    one, two = (
        idea.forward(config, positions, w, np.array(t)) for t in (TOKENS, other)
    )
    return furthest(one[-1], two[-1])


def order_is_seen(idea):
    return min(change_of_order(idea, p) for p in (idea.LEARNED, idea.ROPE, idea.ALIBI))


def none_reads_a_set(idea):
    return change_of_order(idea, idea.NONE)


def alibi_slopes(idea):
    """Against the table of the paper for 8 heads: 1/2, 1/4 … 1/256."""
    slopes = idea.distance_cost(8, np.array([0.0, 1.0]))[:, 1, 0]
    return furthest(slopes, [2.0**-h for h in range(1, 9)])


def same_start(idea):
    """The number of documents and weights in which the arms begin differently."""
    docs, tokenizer, _, _ = data(idea)
    starts = [idea.start(idea.CONFIG, tokenizer, docs, 7, p) for p in idea.KINDS]
    first_docs, first = starts[0]
    return float(
        sum(docs != first_docs for docs, _ in starts)
        + sum(
            snapshot.weights[name] != first.weights[name]
            for _, snapshot in starts
            for name in first.weights
        )
    )


# ---------------------------------------------------------------- Losses


@functools.cache
def data(idea):
    """(training documents, tokenizer, held-out documents as tokens, config)"""
    docs = microgpt.load_documents()
    tokenizer, (train, held_out) = microgpt.Tokenizer(docs), documents.split(docs, 0.1)
    tokens = [tokenizer.encode(doc) for doc in held_out]
    return train, tokenizer, idea.pad(tokens, idea.CONFIG.block_size), idea.CONFIG


@functools.cache
def measured(idea, positions, seed, rate, length=None):
    """(nats at each place, targets at each place) of one training. (T,), (T,)"""
    docs, tokenizer, held_out, config = data(idea)
    config = dataclasses.replace(config, learning_rate=rate)
    w = idea.train(config, positions, tokenizer, docs, seed, length)
    # the compiled program is that of idea.CONFIG, whatever the learning rate is
    sums, counts = idea.by_place(idea.CONFIG, positions, w, held_out)
    return np.asarray(sums, float), np.asarray(counts)


def loss(found, places=slice(None)):
    """Nats a letter at these places."""
    sums, counts = found
    return float(sums[places].sum() / counts[places].sum())


@functools.cache
def best_rate(idea, positions):
    def mean(rate):
        return statistics.mean(
            loss(measured(idea, positions, seed, rate)) for seed in TUNING_SEEDS
        )

    return min(GRID, key=mean)


def interval(differences):
    """Mean and 95 % interval of paired differences."""
    mean = statistics.mean(differences)
    half = T_95 * statistics.stdev(differences) / math.sqrt(len(differences))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def against_learned(idea, positions):
    """Held-out nats a letter, less those of LEARNED with the same seed."""
    arms = positions, idea.LEARNED
    a, b = (
        [loss(measured(idea, arm, seed, best_rate(idea, arm))) for seed in SEEDS]
        for arm in arms
    )
    return interval([x - y for x, y in zip(a, b)])


def rope_against_learned(idea):
    return against_learned(idea, idea.ROPE)


def alibi_against_learned(idea):
    return against_learned(idea, idea.ALIBI)


def none_against_learned(idea):
    return against_learned(idea, idea.NONE)


SHORT = 8  # letters that are trained on, where places past the training are read


def trained_short(idea, positions, seed):
    return measured(idea, positions, seed, best_rate(idea, positions), SHORT)


def past_training(idea, positions):
    """Nats a letter at places 9 to 16 after training on 8, less those of the same kind
    after training on 16."""
    found = []
    for seed in SEEDS:
        long = measured(idea, positions, seed, best_rate(idea, positions))
        short = trained_short(idea, positions, seed)
        places = slice(SHORT, None)
        found.append(loss(short, places) - loss(long, places))
    return interval(found)


def learned_past_training(idea):
    return past_training(idea, idea.LEARNED)


def rope_past_training(idea):
    return past_training(idea, idea.ROPE)


def alibi_past_training(idea):
    return past_training(idea, idea.ALIBI)


def none_past_training(idea):
    return past_training(idea, idea.NONE)


PLACES = range(1, 11)  # further on there are fewer than 100 held-out letters a place


def loss_by_place(idea):
    """Mean over the seeds, trained on 8 letters. {"rope 9": nats}"""
    return {
        f"{positions} {place}": statistics.mean(
            loss(trained_short(idea, positions, seed), slice(place - 1, place))
            for seed in SEEDS
        )
        for positions in idea.KINDS
        for place in PLACES
    }


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """What a letter costs at each place, after training on the first 8."""
    found = figures["loss_by_place"]
    figure = Figure(figsize=(7.2, 4))
    axes = figure.subplots()
    for positions, colour in zip(idea.KINDS, plots.COLOURS):
        losses = [found[f"{positions} {place}"] for place in PLACES]
        axes.plot(PLACES, losses, "o-", ms=4, color=colour, label=positions)
    axes.axvspan(SHORT + 0.5, PLACES[-1] + 0.5, color="#f2f2f2", zorder=0)
    axes.text(SHORT + 0.6, 2.9, "past training", va="top", color="#555555")
    axes.set(
        xlim=(0.5, PLACES[-1] + 0.5),
        xticks=PLACES,
        xlabel="place of the letter in the name",
        ylabel="nats a letter, held out",
        title="Trained on 8 letters, read on 16",
    )
    axes.legend()
    plots.save(figure, path)
