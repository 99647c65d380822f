"""What 01_yardstick claims, each as a number. `idea` is main.py as a module."""

import functools
import math
import statistics

from matplotlib.figure import Figure
from microgpt_lab.base import plots

BLOCK = 8  # of recipe `seed`
SEEDS = range(6)
BLIND = math.log(27)  # nats a letter

# ---------------------------------------------------------------- The tables


@functools.cache
def table(idea, order):
    docs, _, tokenizer = idea.data()
    return idea.Table(docs, order, tokenizer.letters)


def held_out(idea):
    return idea.data()[1]


def sums_to_one(idea):
    """On every context of the longest tables: those that were counted, with every part
    of them, and those of the held-out names, many of which were never seen."""
    worst = 0.0
    for order in (idea.ORDERS[-2], idea.ORDERS[-1]):
        one, before = table(idea, order), order - 1
        texts = [idea.END + doc for doc in held_out(idea)]
        unseen = {
            text[max(0, i - before) : i] for text in texts for i in range(len(text) + 1)
        }
        for context in unseen | set(one.rows):
            worst = max(worst, abs(math.fsum(one.distribution(context)) - 1))
    return worst


def same_as_definition(idea):
    """Against the formula, computed by searching the names again for each number: a
    4-gram of 300 names, on the first 40 held-out ones."""
    docs, others, tokenizer = idea.data()
    docs, tokens = docs[:300], [*tokenizer.letters, "\n"]
    texts, one = [f"\n{doc}\n" for doc in docs], idea.Table(docs, 4, tokenizer.letters)

    @functools.cache
    def seen(gram):
        """How often it is predicted: the newline before a name is not."""
        return sum(
            text.startswith(gram, i)
            for text in texts
            for i in range(gram == "\n", len(text))
        )

    @functools.cache
    def counted(gram):
        if len(gram) == 4 or (gram[0] == "\n" and len(gram) > 1):
            return seen(gram)
        return sum(seen(before + gram) > 0 for before in tokens)

    def probability(context, token):
        if context is None:
            return 1 / len(tokens)
        row = [counted(context + t) for t in tokens]
        shorter = probability(context[1:] if context else None, token)
        if not sum(row):
            return shorter
        kept = max(counted(context + token) - 0.75, 0)
        return (kept + 0.75 * sum(n > 0 for n in row) * shorter) / sum(row)

    return max(
        abs(one.distribution(text[max(0, i - 3) : i])[tokens.index(text[i])]
            - probability(text[max(0, i - 3) : i], text[i]))
        for text in (f"\n{doc}\n" for doc in others[:40])
        for i in range(1, len(text))
    )  # fmt: skip


@functools.cache
def all_letters(idea):
    return {
        f"order {n}": idea.nats_a_letter(table(idea, n), held_out(idea))
        for n in idea.ORDERS
    }


@functools.cache
def within_block(idea):
    return {
        f"order {n}": idea.nats_within(table(idea, n), held_out(idea), BLOCK)
        for n in idea.ORDERS
    }


def best_order(idea):
    found = all_letters(idea)
    return int(min(found, key=found.get)[-1])


# ---------------------------------------------------------------- Recipes


@functools.cache
def trained(idea, recipe, seed, **numbers):
    """{measure: nats a letter} of a trained model."""
    losses = idea.learn(recipe, seed, **numbers)
    docs, nats, inside = held_out(idea), sum(map(sum, losses)), sum(map(len, losses))
    letters = sum(len(doc) + 1 for doc in docs)
    return {
        "all": (nats + BLIND * (letters - inside)) / letters,
        "within": nats / inside,
    }


def spread(idea, recipe, measure="all", seeds=SEEDS):
    found = [trained(idea, recipe, seed)[measure] for seed in seeds]
    return min(found), statistics.mean(found), max(found)


def like_with_like(idea):
    """Margins: of all letters the best `seed` is behind the bigram, of the letters in
    its block the worst is ahead."""
    return {
        "all letters": spread(idea, "seed")[0] - all_letters(idea)["order 2"],
        "inside the block": within_block(idea)["order 2"]
        - spread(idea, "seed", "within")[2],
    }


def between(idea, recipe, passed, ahead):
    """The smaller margin: to the table that it passes, and to the one ahead."""
    low, mean, high = spread(idea, recipe)
    found = all_letters(idea)
    margins = found[f"order {passed}"] - high, low - found[f"order {ahead}"]
    return {"margin": min(margins), "mean": mean, "lowest": low, "highest": high}


def seed(idea):
    return between(idea, "seed", 1, 2)


def gist(idea):
    return between(idea, "gist", 2, 3)


def scaled(idea):
    return between(idea, "scaled", 3, 4)


LONGER = {"learning_rate": 0.003, "batch_size": 64}
STEPS = (1000, 2000, 4000)


def longer(idea):
    """Recipe `scaled` with more steps: how far below the five-gram."""
    five = all_letters(idea)["order 5"]
    found = {
        f"{steps} steps": statistics.mean(
            trained(idea, "scaled", seed, steps=steps, **LONGER)["all"]
            for seed in range(3)
        )
        for steps in STEPS
    }
    return {"five-gram less 4000 steps": five - found["4000 steps"], **found}


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """Tables and trained models on one scale, the worst first."""
    names, tables = idea.NAMES, figures["all_letters"]
    points = [("blind guess", BLIND, 0)]
    points += [
        (names.get(n, f"{n}-gram"), tables[f"order {n}"], 0) for n in idea.ORDERS
    ]
    for name in ("seed", "gist", "scaled"):
        points.append((f"recipe {name}", figures[name]["mean"], 1))
    steps = f"{STEPS[-1]} steps"
    points.append((f"scaled, {STEPS[-1]:,} steps", figures["longer"][steps], 1))
    points.sort(key=lambda point: -point[1])
    figure = Figure(figsize=(7.2, 3.8))
    axes = figure.subplots()
    for i, (_, loss, kind) in enumerate(points):
        axes.plot([BLIND, loss], [-i, -i], color="#d8d8d8", lw=1)
        axes.plot(loss, -i, "so"[kind], color=plots.COLOURS[kind])
        axes.annotate(
            f"{loss:.2f}", (loss, -i), (-8, 0), textcoords="offset points", fontsize=9,
            ha="right", va="center", color=plots.COLOURS[kind],
        )  # fmt: skip
    axes.plot([], [], "s", color=plots.COLOURS[0], label="counts letters")
    axes.plot([], [], "o", color=plots.COLOURS[1], label="is trained")
    axes.set_yticks([-i for i in range(len(points))], [name for name, _, _ in points])
    axes.set(xlabel="held-out loss, nats a letter (lower is better)", xlim=(1.85, 3.35))
    axes.set_title("What is a good loss? Tables that count, beside trained models")
    axes.legend(loc="lower right")
    plots.save(figure, path)
