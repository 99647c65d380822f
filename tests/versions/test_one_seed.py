"""What README.md says under *One seed, one result*: how far the same seed gives the same names."""

import functools
from itertools import islice

import microgpt

import pytest
from microgpt_lab.base import versions

from lab_helpers import HERE, NUMPY, module_of

SEEDS = range(3)
RECIPES = {"seed": 500, "gist": 200}  # steps: gist is long, and agrees from its first step on
RUNS = [(recipe, seed) for recipe in RECIPES for seed in SEEDS]
# In float32 rounding may change a draw, and then every name after it: 26 to 29 of 30 runs were
# free of that, in each version measured. So few as this would be another model.
ALIKE = 4  # of 6 runs
CASES = [
    pytest.param(version.name, dtype, id=f"{version.name}-{dtype}")
    for version in HERE
    for dtype in version.dtypes
    if version.name != versions.REFERENCE
]


@functools.cache
def names(version, dtype, recipe, seed):
    """The twenty names that a version's program prints, made without a process of its own."""
    config = microgpt.replace(microgpt.RECIPES[recipe], steps=RECIPES[recipe])
    run = microgpt.prepare(config, seed=seed, say=lambda _: None)
    module = module_of(version)
    state = module.create(config, run.snapshot, dtype=dtype)
    for _ in module.train(state, microgpt.batches(config, run.tokenizer, run.docs)):
        pass
    draw = functools.partial(module.logits, state)
    drawn = microgpt.generate(draw, config, run.tokenizer.bos, run.rng.random)
    return [run.tokenizer.decode(tokens) for tokens in islice(drawn, 20)]


def alike(version, dtype):
    """How many runs give NumPy's twenty names in float64."""
    return sum(names(version, dtype, *run) == names(NUMPY, "float64", *run) for run in RUNS)


def test_numpy_in_float64_prints_the_names_of_the_reference():
    """So that the other tests may compare with it, which takes a fiftieth of the time."""
    want = names(versions.REFERENCE, "float64", "seed", 42)
    assert names(NUMPY, "float64", "seed", 42) == want


@pytest.mark.parametrize(("version", "dtype"), CASES)
def test_the_same_seed_gives_the_same_names(version, dtype):
    found = alike(version, dtype)
    assert found == len(RUNS) if dtype == "float64" else found >= ALIKE


def test_another_seed_gives_other_names():
    """The comparison can fail."""
    assert len({tuple(names(NUMPY, "float64", "seed", seed)) for seed in SEEDS}) == len(SEEDS)
