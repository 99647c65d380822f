"""What 08_tokenizer claims, each as a number. `idea` is main.py as a module."""

import dataclasses
import functools
import math
import random
import statistics
from collections import Counter
from itertools import pairwise

import microgpt

import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots
from microgpt_lab.runs import documents

SEEDS = range(12)
GRID = (0.005, 0.01, 0.02, 0.04)  # learning rates, the same for every tokenizer
TUNING_SEEDS = range(100, 102)  # none of SEEDS
T_95 = 2.201  # Student's t, 11 degrees of freedom: 95 % of pairs lie within

# ---------------------------------------------------------------- Merges and tokens


@functools.cache
def data():
    """(all documents, those to train on, those held out)"""
    docs = microgpt.load_documents()
    return docs, *documents.split(docs, 0.1)


@functools.cache
def tokenizer_of(idea, merges):
    docs, train, _ = data()
    return idea.Tokenizer(docs, idea.learn_merges(train, merges))


def round_trip(idea):
    """Documents that are not what they were after encode and decode. The merges are
    learned from the training documents, and all documents are tried."""
    tokenizer = tokenizer_of(idea, 200)
    return sum(tokenizer.decode(tokenizer.encode(doc)) != doc for doc in data()[0])


def over_an_end(idea):
    """Merges whose token is no part of any name, of 20."""
    text = "|".join(data()[1])
    return sum(
        left + right not in text for left, right in idea.learn_merges(data()[1], 20)
    )


def not_most_frequent(idea):
    """Merges of 20 that are not a most frequent pair: each document is counted anew."""
    spelled, wrong = [list(doc) for doc in data()[1]], 0
    for left, right in idea.learn_merges(data()[1], 20):
        counts = Counter(pair for parts in spelled for pair in pairwise(parts))
        wrong += counts[left, right] < max(counts.values())
        spelled = [merged(parts, left, right) for parts in spelled]
    return wrong


def merged(parts, left, right):
    """A second way to join a pair, which shares no code with the program's."""
    text = "|" + "||".join(parts) + "|"
    return text.replace(f"|{left}||{right}|", f"|{left}{right}|")[1:-1].split("||")


def not_as_in_training(idea):
    """Documents that encode spells differently from all merges, made in their order."""
    merges = idea.learn_merges(data()[1], 200)
    tokenizer = idea.Tokenizer(data()[0], merges)
    return sum(tokenizer.parts(doc) != one_by_one(doc, merges) for doc in data()[2])


def one_by_one(doc, merges):
    parts = list(doc)
    for left, right in merges:
        if left + right in doc:
            parts = merged(parts, left, right)
    return parts


def spellings_missed(idea):
    """All spellings of 300 names, counted in another way, less those that are found."""
    tokenizer, missed = tokenizer_of(idea, 100), 0
    for doc in data()[2][:300]:
        ways = [1]  # ways[n]: spellings of the first n letters
        for n in range(1, len(doc) + 1):
            ways.append(sum(ways[i] for i in range(n) if doc[i:n] in tokenizer.ids))
        missed += abs(ways[-1] - len(tokenizer.all_encodings(doc)))
    return missed


# ---------------------------------------------------------------- Nats a letter


def state_of(idea, tokenizer, init_std):
    config = microgpt.Config(init_std=init_std, zero_init=False, block_size=16)
    snapshot = microgpt.initial(config, tokenizer.vocab_size, random.Random(1))
    return config, idea.compiled.create(config, snapshot)


def uniform_guess(idea):
    """A model that knows nothing costs ln V a token: the difference from that."""
    tokenizer, docs = tokenizer_of(idea, 100), data()[2][:300]
    _, state = state_of(idea, tokenizer, 1e-9)
    tokens = sum(len(tokenizer.encode(doc)) - 1 for doc in docs)
    letters = sum(len(doc) + 1 for doc in docs)
    want = math.log(tokenizer.vocab_size) * tokens / letters
    return abs(idea.nats_a_letter(state, tokenizer, docs) - want)


def against_the_lab(idea):
    """Without merges: the difference from the lab's held-out loss."""
    tokenizer, docs = tokenizer_of(idea, 0), data()[2][:300]
    config, state = state_of(idea, tokenizer, 0.3)
    want = documents.nats_a_character(idea.compiled, state, config, tokenizer, docs)
    return abs(idea.nats_a_letter(state, tokenizer, docs) - want)


@functools.cache
def spelling_costs(idea):
    """For 300 held-out names: the nats of all spellings, of the cheapest, of the usual
    one; and the number of letters."""
    tokenizer, docs = tokenizer_of(idea, 100), data()[2][:300]
    state = idea.train(idea.CONFIG, tokenizer, data()[1], 42)

    def cheapest(doc):
        spellings = tokenizer.all_encodings(doc)
        return min(idea.nats(state, [tokenizer.bos, *tokens]) for tokens in spellings)

    return (
        np.array([idea.nats_of_all_spellings(state, tokenizer, doc) for doc in docs]),
        np.array([cheapest(doc) for doc in docs]),
        np.array([idea.nats(state, tokenizer.encode(doc)) for doc in docs]),
        sum(len(doc) + 1 for doc in docs),
    )


def all_above_cheapest(idea):
    """The largest excess of all spellings over the cheapest: never above 0."""
    every, cheapest, _, _ = spelling_costs(idea)
    return max(every - cheapest)


def gain_of_all_spellings(idea):
    """Nats a letter of the usual spelling, less those of all spellings."""
    every, _, usual, letters = spelling_costs(idea)
    return (usual - every).sum() / letters


# ---------------------------------------------------------------- Vocabulary and steps

MERGES = (0, 30, 100, 400)
STEPS = (100, 300, 1000)


@functools.cache
def measured(idea, merges, steps, seed, rate):
    """Held-out nats a letter."""
    tokenizer = tokenizer_of(idea, merges)
    config = dataclasses.replace(idea.CONFIG, steps=steps, learning_rate=rate)
    state = idea.train(config, tokenizer, data()[1], seed)
    return idea.nats_a_letter(state, tokenizer, data()[2])


@functools.cache
def best_rate(idea, merges, steps):
    def mean(rate):
        return statistics.mean(
            measured(idea, merges, steps, s, rate) for s in TUNING_SEEDS
        )

    return min(GRID, key=mean)


@functools.cache
def losses(idea, merges, steps):
    rate = best_rate(idea, merges, steps)
    return [measured(idea, merges, steps, seed, rate) for seed in SEEDS]


def against_letters(idea, merges, steps):
    """Paired difference from the tokenizer without merges: mean and 95 % interval."""
    pairs = zip(losses(idea, merges, steps), losses(idea, 0, steps))
    differences = [x - y for x, y in pairs]
    mean = statistics.mean(differences)
    half = T_95 * statistics.stdev(differences) / math.sqrt(len(differences))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def loss_table(idea):
    """Mean of the seeds. {"30 merges, 100 steps": nats a letter}"""
    return {
        f"{merges} merges, {steps} steps": statistics.mean(losses(idea, merges, steps))
        for steps in STEPS
        for merges in MERGES
    }


def few_steps(idea):
    return against_letters(idea, 100, STEPS[0])


def many_steps(idea):
    return against_letters(idea, 100, STEPS[-1])


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """Held-out loss against merges, one curve for each number of steps."""
    found = figures["loss_table"]
    figure = Figure(figsize=(7.2, 4))
    axes = figure.subplots()
    for steps, colour in zip(STEPS, plots.COLOURS):
        losses = [found[f"{merges} merges, {steps} steps"] for merges in MERGES]
        places = range(len(MERGES))
        axes.plot(places, losses, "o-", color=colour, label=f"{steps:,} steps")
    axes.set_xticks(range(len(MERGES)), map(str, MERGES))
    axes.set(xlabel="merges", ylabel="nats a letter, held out")
    axes.set_title("The same loss for tokenizers of different size")
    axes.legend()
    plots.save(figure, path)
