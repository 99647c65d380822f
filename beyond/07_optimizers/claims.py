"""What 07_optimizers claims, each as a number. `idea` is main.py as a module."""

import dataclasses
import functools
import math
import random
import statistics

import microgpt

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots
from microgpt_lab.runs import documents

SEEDS = range(12)
TUNING_SEEDS = range(100, 102)  # none of SEEDS
GRID = tuple(0.005 * 2**i for i in range(8))  # learning rates of every optimizer
VARIANT_GRID = GRID[:4]  # of every variant, with Adam
T_95 = 2.201  # Student's t, 11 degrees of freedom: 95 % of pairs lie within
DOCUMENTS = [[6, 5, 0, 3, 3, 1, 6], [6, 4, 2, 6], [6, 1, 1, 0, 2, 5, 4, 4, 6]]

# ---------------------------------------------------------------- Equalities


def small(dtype="float64"):
    """(config, snapshot of 01, the same as arrays, documents)"""
    config = microgpt.Config(
        n_layer=2, init_std=0.3, zero_init=False, n_embd=8, n_head=2
    )
    return config, microgpt.initial(config, 7, random.Random(1))


def furthest(a, b):
    """The largest difference of two {name: matrix}."""
    return max(
        float(np.abs(np.asarray(a[name]) - np.array(b[name])).max()) for name in a
    )


def steps_of(idea, optimizer, n):
    """(this program's weights, those of 01) after n steps on the same batch."""
    config, snapshot = small()
    batch = idea.pad(DOCUMENTS, config.block_size)
    state, reference = (
        idea.to_arrays(snapshot, "float64"),
        microgpt.create(config, snapshot),
    )
    loss = functools.partial(idea.mean_loss, config, idea.Variant())
    for _ in range(n):
        grads = jax.grad(loss)(state.weights, batch)
        rate = jnp.array(0.01)
        state = idea.optimizer_step(config, optimizer, state, grads, rate)
    list(microgpt.train(reference, [(DOCUMENTS, 0.01)] * n))
    return state.weights, microgpt.export(reference).weights


def adam_is_01(idea):
    """Largest difference of a weight after three steps."""
    return furthest(*steps_of(idea, idea.ADAM, 3))


def muon_keeps_adam(idea):
    """wte, wpe and lm_head after one step of Muon against 01's step of Adam."""
    got, want = steps_of(idea, idea.MUON, 1)
    names = "wte", "wpe", "lm_head"
    return furthest({n: got[n] for n in names}, {n: want[n] for n in names})


def tied_gradient(idea):
    """The gradient of a tied wte, less the sum of 01's for wte and lm_head where both
    are the same matrix."""
    config, snapshot = small()
    weights = snapshot.weights | {"lm_head": snapshot.weights["wte"]}
    snapshot = snapshot._replace(weights=weights)
    batch = idea.pad(DOCUMENTS, config.block_size)
    loss = functools.partial(idea.mean_loss, config, idea.Variant(tied=True))
    got = jax.grad(loss)(idea.to_arrays(snapshot, "float64").weights, batch)["wte"]
    _, grads = microgpt.loss_and_grads(microgpt.create(config, snapshot), DOCUMENTS)
    want = np.array(grads["wte"]) + np.array(grads["lm_head"])
    return float(np.abs(np.asarray(got) - want).max())


def qk_scale(idea):
    """With QK-norm the loss does not depend on the size of wq and wk: the difference
    between 10 and 1,000 times the size. Smaller would meet the eps of the norm."""
    config, snapshot = small()
    weights = idea.to_arrays(snapshot, "float64").weights
    batch = idea.pad(DOCUMENTS, config.block_size)

    def loss(scale):
        scaled = {n: scale * w for n, w in weights.items() if n[-2:] in ("wq", "wk")}
        variant = idea.Variant(qk_norm=True)
        return float(idea.mean_loss(config, variant, weights | scaled, batch))

    return abs(loss(10) - loss(1000))


# ---------------------------------------------------------------- Orthogonalised


@functools.cache
def momenta(idea):
    """Momenta of the hidden matrices after 50 steps of Muon."""
    docs, tokenizer, _ = data(idea)
    config = dataclasses.replace(idea.CONFIG, steps=50, learning_rate=0.02)
    snapshot, _ = idea.train(config, idea.MUON, tokenizer, docs, 1)
    return [m for name, m in snapshot.first_moment.items() if idea.is_hidden(name)]


def singular_values(idea):
    """Of all updates together."""
    updates = [np.asarray(idea.orthogonalized(m), float) for m in momenta(idea)]
    if not all(np.isfinite(update).all() for update in updates):
        return math.inf
    values = [np.linalg.svd(update, compute_uv=False) for update in updates]
    return {"smallest": min(map(np.min, values)), "largest": max(map(np.max, values))}


def smallest_cosine(idea):
    """Between an update and U V^T of the singular value decomposition."""

    def cosine(m):
        u, _, vt = np.linalg.svd(np.asarray(m, float), full_matrices=False)
        got, want = np.asarray(idea.orthogonalized(m), float), u @ vt
        return (got * want).sum() / np.linalg.norm(got) / np.linalg.norm(want)

    return min(map(cosine, momenta(idea)))


# ---------------------------------------------------------------- Losses


@functools.cache
def data(idea):
    """(training documents, tokenizer, held-out documents as tokens)"""
    docs = microgpt.load_documents()
    tokenizer, (train, held_out) = microgpt.Tokenizer(docs), documents.split(docs, 0.1)
    tokens = [tokenizer.encode(doc) for doc in held_out]
    return train, tokenizer, idea.pad(tokens, idea.CONFIG.block_size)


@functools.cache
def measured(idea, optimizer, variant, seed, rate):
    """Held-out nats a letter of one training; infinite if it diverged."""
    docs, tokenizer, held_out = data(idea)
    config = dataclasses.replace(idea.CONFIG, learning_rate=rate)
    snapshot, _ = idea.train(config, optimizer, tokenizer, docs, seed, variant)
    loss = float(idea.held_out_loss(idea.CONFIG, variant, snapshot.weights, held_out))
    return loss if math.isfinite(loss) else math.inf


@functools.cache
def losses(idea, optimizer, variant, grid):
    """Of each seed, with the learning rate of the grid that is best on other seeds."""

    def tuning_loss(rate):
        runs = (measured(idea, optimizer, variant, s, rate) for s in TUNING_SEEDS)
        return statistics.mean(runs)

    rate = min(grid, key=tuning_loss)
    return [measured(idea, optimizer, variant, seed, rate) for seed in SEEDS]


def interval(differences):
    """Mean and 95 % interval of paired differences."""
    mean = statistics.mean(differences)
    half = T_95 * statistics.stdev(differences) / math.sqrt(len(differences))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def against_adam(idea, optimizer):
    base = idea.Variant()
    arms = (losses(idea, name, base, GRID) for name in (optimizer, idea.ADAM))
    return interval([a - b for a, b in zip(*arms)])


def muon_against_adam(idea):
    return against_adam(idea, idea.MUON)


def sgd_against_adam(idea):
    return against_adam(idea, idea.SGD)


def changed(idea, name):
    """A variant, less the model of SPEC.md, both with Adam."""
    variants = idea.VARIANTS[name], idea.Variant()
    arms = (losses(idea, idea.ADAM, variant, VARIANT_GRID) for variant in variants)
    return interval([a - b for a, b in zip(*arms)])


def tied_weights(idea):
    return changed(idea, "tied weights")


def qk_norm(idea):
    return changed(idea, "QK-norm")


def plain_relu(idea):
    return changed(idea, "plain ReLU")


def one_head(idea):
    return changed(idea, "one head")


def one_layer(idea):
    return changed(idea, "one layer")


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """Each paired difference with its interval."""
    rows = {
        "Muon, not Adam": "muon_against_adam",
        "SGD, not Adam": "sgd_against_adam",
        "tied weights": "tied_weights",
        "QK-norm": "qk_norm",
        "plain, not squared ReLU": "plain_relu",
        "one head, not four": "one_head",
        "one layer, not two": "one_layer",
    }
    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots()
    axes.axvline(0, color="black", lw=1)
    for place, name in enumerate(rows.values()):
        found, colour = figures[name], plots.COLOURS[1 if place < 2 else 0]
        axes.plot([found["low"], found["high"]], [place, place], color=colour, lw=2)
        axes.plot([found["mean"]], [place], "o", color=colour)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(
        "nats a letter, held out; 95 % interval of 12 pairs; left is better"
    )
    plots.save(figure, path)
