"""The cases of one recipe alone: for ports that can do no other."""

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace

from microgpt import RECIPES, Config, InputError, load_documents

from microgpt_lab.verification import vectors
from microgpt_lab.verification.cases import Case, CasePlan
from microgpt_lab.verification.port_verdict import is_recipe

FRESH = 2  # cases that 01 computes for every run
ZEROS = "attn_wq attn_wk attn_wv mlp_fc1"  # their gradients are zero if a layer starts so
WORK = 4000  # numbers in the weights, above which a fresh case is made smaller


def recipe_cases(name: str, golden: Sequence[Case], seed: int | None = None) -> list[Case]:
    """The golden cases of a recipe, and fresh ones. `seed` chooses the documents, weights and
    uniforms of the fresh ones; None: new ones in every run. Raises InputError."""
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}: there are {', '.join(RECIPES)}")
    mine = [case for case in golden if is_recipe(name, Config(**case["config"]))]
    return [*mine, *fresh_cases(name, seed)]


def fresh_cases(name: str, seed: int | None) -> Iterator[Case]:
    """Cases of a recipe on other documents and seeds, answered by 01 now."""
    first = secrets.randbelow(1_000_000) if seed is None else seed
    for number in range(first, first + FRESH):
        yield vectors.make(fresh_plan(name, number))


def fresh_plan(name: str, seed: int) -> CasePlan:
    """The first 20 steps of a recipe from another seed, and 20 names. A large recipe takes 2
    steps of 2 documents and 2 names, so that 01 has it soon."""
    config = RECIPES[name]
    large = 12 * config.n_layer * config.n_embd**2 > WORK
    if large:
        config = replace(config, batch_size=2)
    return CasePlan(
        f"{name}-{seed}",
        "A recipe from another seed.",
        "S12",
        " ".join(some_documents(random.Random(seed))),
        config,
        seed=seed,
        steps=2 if large else 20,
        names=2 if large else 20,
        stream=True,
        zeros=ZEROS if config.zero_init else "",
    )


def some_documents(rng: random.Random) -> list[str]:
    """A few of the recipe's documents that together have all its letters."""
    docs: list[str] = load_documents()
    every = set("".join(docs))
    picked = rng.sample(docs, 40)
    rng.shuffle(docs)
    for doc in docs:
        if set(doc) - set("".join(picked)):
            picked.append(doc)
        if set("".join(picked)) == every:
            break
    return picked
