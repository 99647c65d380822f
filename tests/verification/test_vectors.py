"""The golden vectors are what 01 computes."""

import json

import jsonschema
import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import cases, checks, covering, vectors
from microgpt_lab.verification.verified_page import Places

from golden_cases import CASES

ALL = [*cases.PLANS, *covering.plans()]
# 01's answers to the others are made again by `microgpt verify 01`, which must find them exact.
WHOLE = [plan for plan in cases.PLANS if not plan.compact and plan.steps <= 20 and plan.names <= 20]


@pytest.mark.parametrize("plan", ALL, ids=lambda plan: plan.id)
def test_questions_are_what_the_reference_makes(plan):
    case, made = CASES[plan.id], vectors.without_answer(plan)
    if case["made_by"] == made["made_by"]:
        assert {key: case[key] for key in made} == json.loads(json.dumps(made))
    finding = checks.compare(case, {"stream": shuffled(made)}, "stream", "float64")
    assert finding is None or finding.passed, finding.line()


@pytest.mark.parametrize("plan", WHOLE, ids=lambda plan: plan.id)
def test_vectors_are_what_the_reference_makes(plan):
    made = vectors.make(plan)
    stored = (vectors.FOLDER / f"{plan.id}.json").read_text()
    if json.loads(stored)["made_by"] == made["made_by"]:
        assert vectors.text(made) == stored  # byte for byte
    for check in checks.CHECKS:  # and on another machine to the last digits
        answer = made["answer"] | {"stream": shuffled(made)}
        finding = checks.compare(CASES[plan.id], answer, check, "float64")
        assert finding is None or finding.passed, finding.line()


def test_the_reference_is_exact_where_its_answers_are_not_made_again_here():
    """VERIFIED.md, which `verify --check` holds to a run, claims it for all cases."""
    (row,) = json.loads(Places().record.read_text())["versions"][versions.REFERENCE]["rows"]
    assert {row["checks"][c] for c in ("logits", "loss", "grads", "losses", "moments")} == {"exact"}


def shuffled(case):
    return {"shuffled": case["documents"], "weights": case["start"]["weights"]}


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case["id"])
def test_vectors_fit_their_schema(case):
    schema = json.loads((vectors.FOLDER.parent / "schema.json").read_text())
    jsonschema.validate(case, schema)


def test_every_rule_that_computes_has_a_case():
    covered = {rule for case in CASES.values() for rule in case["rules"]}
    chapters = {rule.split(".")[0] for rule in covered}
    assert chapters == {f"S{i}" for i in range(1, 14)}


def test_a_gradient_that_is_zero_must_be_listed():
    case = CASES["first-steps"]
    with pytest.raises(ValueError, match="zero gradients"):
        vectors.solve(case | {"zero_gradients": []})


def test_the_counts_in_the_guide_for_ports_are_those_of_the_cases():
    page = (vectors.FOLDER.parent.parent / "docs" / "porting.md").read_text("utf-8")
    trained = [case for case in CASES.values() if case["steps"]]
    deep = [case for case in trained if case["config"]["n_layer"] > 1]
    assert f"certified: all {len(CASES)} cases" in page
    assert f"declined {len(CASES)} of {len(CASES)} cases" in page
    streams = [case for case in CASES.values() if checks.asks_for(case, "stream")]
    assert f"stream: passed in all {len(streams)} cases that ask for it" in page
    assert f"passed in all {len(trained)} cases that ask for it" in page
    assert f"passed in all {len(trained) - len(deep)} cases that ask for it" in page
    assert f"declined {len(deep)} of {len(CASES)} cases: it has one layer only" in page
