"""The golden cases vary everything: every field of the recipe, and every pair of levels."""

from dataclasses import fields

from microgpt import Config

import pytest
from microgpt_lab.verification import covering, factors, vectors

from golden_cases import CASES

PLANS = {plan.id: row for plan, (_, row) in zip(covering.plans(), factors.rows())}
STORED = {key: case for key, case in CASES.items() if key.startswith("pairs-")}


def levels_of(case):
    """The levels that a stored case has, from its own numbers; the kind of its documents and its
    progress from their lengths and its first step."""
    config, docs = case["config"], case["documents"]
    found = dict(config) | {"seed": case["stream"]["seed"], "prompt": len(case["prompt"])}
    sizes = {len(set(letters)): name for name, letters in covering.LETTERS.items()}
    found["letters"] = sizes[len(case["letters"])]
    start = case["start"]["step"]
    planned = PLANS[case["id"]]["progress"]  # of two steps, the last is half way too
    starts = {"first step": 0, "half way": config["steps"] // 2, "last step": config["steps"] - 1}
    assert starts[planned] == start
    found["progress"] = planned
    return found | {"documents": kind_of(docs, config["block_size"], case["id"])}


def kind_of(docs, block, key):
    """What the documents show of their kind; where two kinds look alike, the plan's."""
    planned = PLANS[key]["documents"]
    lengths = {len(doc) for doc in docs}
    shows = {
        "one letter": lengths == {1},
        "at the block": lengths <= {max(1, block - 1), block} and block in lengths,
        "past the block": min(lengths) > block,
        "repeated": all(len(set(doc)) == 1 for doc in docs) and min(lengths) > 1,
        "ragged": len(lengths) > 1,
    }
    assert shows[planned], f"{key} has documents of lengths {lengths}, planned as {planned}"
    return planned


def missing(cases):
    found = {pair for case in cases for pair in factors.pairs(levels_of(case))}
    return factors.all_pairs() - found


def test_every_field_of_the_recipe_is_a_factor():
    assert {field.name for field in fields(Config)} <= set(factors.FACTORS)


def test_every_factor_varies():
    assert all(len(levels) > 1 for levels in factors.FACTORS.values())


def test_all_pairs_of_levels_are_covered():
    assert len(STORED) == len(PLANS)
    assert not missing(STORED.values())


def test_every_level_meets_both_precisions():
    """A version that has both is put to half of the cases in each."""
    met = {(f, x, covering.dtype_of(key)) for key, row in PLANS.items() for f, x in row.items()}
    both = ("float32", "float64")
    assert met == {(f, x, d) for f, levels in factors.FACTORS.items() for x in levels for d in both}
    assert covering.IN_ONE.keys() < CASES.keys() - STORED.keys()


def test_a_case_that_is_gone_leaves_pairs_uncovered():
    """The test above can fail, for each case that brings a pair of its own."""
    needed = [k for k in STORED if missing([c for key, c in STORED.items() if key != k])]
    assert len(needed) >= len(STORED) // 2


@pytest.mark.parametrize(("why", "levels"), factors.TRIPLES, ids=lambda x: str(x)[:30])
def test_each_dangerous_triple_stands_in_a_case(why, levels):
    assert any(levels.items() <= levels_of(case).items() for case in STORED.values())


def test_the_rows_are_the_same_each_time():
    first = factors.rows()
    factors.rows.cache_clear()
    assert factors.rows() == first


def test_the_page_prints_the_coverage():
    page = (vectors.FOLDER.parent / "README.md").read_text("utf-8")
    assert covering.coverage_table() in page


def test_sampling_meets_the_edges_of_the_uniforms():
    on_steps, underflow = CASES["uniforms-on-steps"], CASES["uniforms-underflow"]
    assert {0.0, 0.25, 0.5, 1 - 2**-53} <= set(on_steps["uniforms"])
    assert len(set(on_steps["answer"]["names"])) == 3
    # the last uniform below 1 draws the last letter: BOS, whose probability is 0, is never drawn
    assert set(underflow["answer"]["names"]) != {""}
    assert all(
        len(name) == underflow["config"]["block_size"] for name in underflow["answer"]["names"]
    )
