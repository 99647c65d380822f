"""What the golden cases vary: factors, their levels, and cases that cover all pairs of levels.

A parameter that never varies, or that varies only together with another one, is not verified: a
program may ignore it, or take it from the other. So the cases form a covering array: each level
of each factor meets each level of every other factor in at least one case. The dangerous
triples are named, and stand in a case each.
"""

import functools
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

# Each field of `Config`, then what else a case can vary.
FACTORS: dict[str, tuple[Any, ...]] = {
    "n_embd": (4, 20, 36),  # below and above 16 and 32
    "n_head": (1, 2, 4),  # heads of 1 to 36 numbers
    "n_layer": (1, 2, 3),
    "block_size": (6, 17, 33),  # below and above 16 and 32
    "relu_power": (1, 2, 3, 4),
    "batch_size": (1, 3, 5, 33, 70),  # 70 documents have more than 256 tokens
    "letters": ("two", "alphabet", "many"),  # vocabularies of 3, 27 and 199
    "init_std": (0.002, 0.02, 0.3),
    "zero_init": (True, False),
    "learning_rate": (0.0003, 0.002, 0.03),
    "beta1": (0.0, 0.85, 0.9, 0.97),
    "beta2": (0.5, 0.95, 0.99, 0.999),
    "schedule": ("cosine", "linear"),
    "steps": (2, 20, 600, 1500),
    "temperature": (0.3, 0.7, 1.0, 3.0),
    "documents": ("one letter", "ragged", "at the block", "past the block", "repeated"),
    "progress": ("first step", "half way", "last step"),
    "seed": (0, 42, 2**40 + 7),
    "prompt": (0, 1),  # letters
}
# What a framework compiles anew for: few combinations of these.
SHAPE = ("n_embd", "n_head", "n_layer", "block_size", "relu_power", "batch_size", "letters")
# Mistakes that show only where three levels meet.
TRIPLES: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "a third layer, many documents, a power above 2",
        {"n_layer": 3, "batch_size": 5, "relu_power": 3},
    ),
    ("wide heads over a long block", {"n_embd": 20, "n_head": 1, "block_size": 33}),
    ("several wide heads in several layers", {"n_embd": 36, "n_head": 2, "n_layer": 2}),
    (
        "gist's betas with seed's schedule and power",
        {"beta1": 0.85, "beta2": 0.99, "schedule": "cosine", "relu_power": 2},
    ),
    (
        "seed's betas with gist's schedule and power",
        {"beta1": 0.9, "beta2": 0.95, "schedule": "linear", "relu_power": 1},
    ),
    (
        "a large batch of documents that are cut",
        {"batch_size": 33, "documents": "past the block", "block_size": 6},
    ),
    (
        "more tokens than any chunk, of unlike documents",
        {"batch_size": 70, "documents": "ragged", "block_size": 17},
    ),
    (
        "many letters, many documents, one letter each",
        {"letters": "many", "batch_size": 70, "documents": "one letter"},
    ),
    (
        "a late step of a long linear schedule",
        {"steps": 1500, "progress": "last step", "schedule": "linear"},
    ),
)
SEED = 16  # of the covering array: one with few cases and few shapes
BUDGET = 6e5  # weights times tokens of a step: more would take the reference many seconds

Row = dict[str, Any]
Pair = frozenset[tuple[str, Any]]
Begin = Callable[[Row], Row]


def pairs(row: Mapping[str, Any]) -> Iterator[Pair]:
    """The pairs of levels that a case has."""
    return (frozenset(pair) for pair in combinations(row.items(), 2))


def all_pairs(factors: Collection[str] = tuple(FACTORS)) -> set[Pair]:
    """Every pair of levels of two factors that is allowed."""
    return {
        frozenset([(f, a), (g, b)])
        for f, g in combinations([f for f in FACTORS if f in factors], 2)
        for a in FACTORS[f]
        for b in FACTORS[g]
        if allowed({f: a, g: b})
    }


def tokens(row: Mapping[str, Any]) -> int:
    """About how many tokens a step has; a factor without a level yet counts with its least."""
    block = row.get("block_size", min(FACTORS["block_size"]))
    length = {"one letter": 2, "at the block": block, "past the block": block}
    kind = row.get("documents", "one letter")
    return int(row.get("batch_size", 1) * min(block, length.get(kind, 5)))


def weights(row: Mapping[str, Any]) -> int:
    """About how many weights the model has."""
    C, V = row.get("n_embd", 4), {"alphabet": 27, "many": 199}.get(row.get("letters", ""), 3)
    return int(12 * C * C * row.get("n_layer", 1) + 2 * V * C)


def allowed(row: Mapping[str, Any]) -> bool:
    """Whether the prompt fits into the block (S11.1), and 01 can compute a step in about a
    second."""
    fits = row.get("prompt", 0) < row.get("block_size", 2)
    return fits and tokens(row) * weights(row) <= BUDGET


# ---------------------------------------------------------------- The covering array


def fill(row: Row, factors: Sequence[str], missing: set[Pair], rng: random.Random) -> Row:
    """The row with these factors too: each takes the level that covers the most missing
    pairs. Empty if no level is allowed."""
    row = dict(row)
    for factor in rng.sample(factors, len(factors)):
        if factor in row:
            continue
        gain = {
            x: sum(frozenset([(factor, x), other]) in missing for other in row.items())
            for x in FACTORS[factor]
            if allowed(row | {factor: x})
        }
        if not gain:
            return {}
        row[factor] = rng.choice([x for x in gain if gain[x] == max(gain.values())])
    return {factor: row[factor] for factor in FACTORS if factor in row}


def covering(
    factors: Sequence[str], starts: Sequence[Row], begin: Begin, rng: random.Random
) -> list[Row]:
    """Rows of these factors that cover all pairs, the first ones with the levels in `starts`.

    A greedy covering array (Cohen et al., The AETG system, 1997): each row is the best of
    thirty, and each of the thirty begins with levels that `begin` takes from a missing pair.
    """
    missing, waiting, found = all_pairs(factors), list(starts), list[Row]()
    while waiting or missing:
        start = waiting.pop(0) if waiting else None
        ordered = sorted(missing, key=lambda pair: sorted(map(repr, pair)))
        tries = [
            fill(
                begin(dict(rng.choice(ordered))) if start is None else start, factors, missing, rng
            )
            for _ in range(30)
        ]
        best = max(tries, key=lambda row: sum(pair in missing for pair in pairs(row)))
        missing -= set(pairs(best))
        found += [best] if best else []
    return found


@functools.cache
def rows() -> tuple[tuple[str, Row], ...]:
    """(why, levels) of each case, the same ones each time: first the named triples, then as
    many as cover all pairs. Few combinations of the factors in SHAPE occur."""
    rng, whys = random.Random(SEED), [why for why, _ in TRIPLES]
    first = [{f: x for f, x in row.items() if f in SHAPE} for _, row in TRIPLES]
    shapes = covering(SHAPE, first, lambda pair: pair, rng)

    def begin(pair: Row) -> Row:
        fits = [s for s in shapes if s | pair == pair | s and allowed(s | pair)]
        return (rng.choice(fits) if fits else {}) | pair

    starts = [shape | row for shape, (_, row) in zip(shapes, TRIPLES)] + shapes[len(TRIPLES) :]
    found = covering(list(FACTORS), starts, begin, rng)
    return tuple(zip(whys + [""] * (len(found) - len(whys)), found))
