"""The golden vectors are what 01 computes."""

import json

import jsonschema
import pytest
from microgpt_lab.verification import cases, checks, vectors

from golden_cases import CASES


@pytest.mark.parametrize("plan", cases.PLANS, ids=lambda plan: plan.id)
def test_vectors_are_what_the_reference_makes(plan):
    made = vectors.make(plan)
    stored = (vectors.FOLDER / f"{plan.id}.json").read_text()
    if json.loads(stored)["made_by"] == made["made_by"]:
        assert vectors.text(made) == stored  # byte for byte
    for check in checks.CHECKS:  # and on another machine to the last digits
        finding = checks.compare(CASES[plan.id], answer_as_port(made), check, "float64")
        assert finding is None or finding.passed, finding.line()


def answer_as_port(case):
    shuffled = {"shuffled": case["documents"], "weights": case["start"]["weights"]}
    return case["answer"] | {"stream": shuffled}


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
