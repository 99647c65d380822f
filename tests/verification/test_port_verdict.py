"""What is certified of a port: only what was declared, tried and passed, in every case."""

import copy
import json
from xml.etree import ElementTree

from microgpt import Config

import jsonschema
import pytest
from microgpt_lab.verification import checks, mutants, port_recipe, port_report, ports, vectors
from microgpt_lab.verification.port_verdict import is_recipe, verdict_of

from golden_cases import (
    CASES,
    NUMPY,
    ODD,
    ODD_PRINTED,
    PATIENCE,
    TINY,
    answer_of,
    answer_on,
    printed,
)

ALL = list(CASES.values())
FEW = TINY[:3]


def judged(answers, cases):
    """The replies of a port that gives these answers, one for each case."""
    return ports.judge_all([ports.Reply(c, copy.deepcopy(a)) for c, a in zip(cases, answers)])


def verdict_on(answers, cases=FEW):
    return verdict_of(judged(answers, cases))


def declined(case, reason="another recipe"):
    return {"id": case["id"], "declined": reason}


def right(levels, cases=FEW):
    return [answer_on(levels, case) for case in cases]


# ---------------------------------------------------------------- Levels


@pytest.mark.parametrize("level", ["forward", "gradients", "training", "losses", "sampling"])
def test_a_port_of_one_level_is_certified_on_it_and_on_no_other(level):
    cases = [*TINY, CASES["thousand-names"]]  # the last one has names alone
    verdict = verdict_on(right([level], cases), cases)
    assert (verdict.status, verdict.reason) == (0, "")
    title = "losses to 4 digits" if level == "losses" else level
    assert verdict.certified == [title]
    asked = len(cases) if level == "sampling" else sum(case["steps"] > 0 for case in cases)
    assert verdict.levels[0].line == f"{title}: passed in all {asked} cases that ask for it"
    assert verdict.line == f"certified: all {len(cases)} cases: {title} (float64)"


def test_a_level_answered_in_one_case_of_three_is_not_certified():
    answers = right(["forward"])
    answers[0] = answer_on(["forward", "sampling"], FEW[0])
    verdict = verdict_on(answers)
    assert (verdict.status, verdict.certified) == (1, [])
    assert verdict.reason == (
        "sampling: answered in 1 of the 3 cases that ask for it: answer or decline each of the "
        f"others, such as {FEW[1]['id']}"
    )
    assert verdict.levels[0].line == "forward: passed in all 3 cases that ask for it"


def test_a_level_that_fails_does_not_hide_the_one_that_passes():
    answers = right(["forward", "sampling"])
    answers[1]["names"] = []
    verdict = verdict_on(answers)
    assert (verdict.status, verdict.certified) == (1, [])
    assert [level.line for level in verdict.levels] == [
        "forward: passed in all 3 cases that ask for it",
        "sampling: failed in 1 of 3 cases",
    ]
    assert verdict.line == f"not certified: {FEW[1]['id']} failed"


def test_a_case_without_an_answer_counts_against_every_level():
    replies = judged(right(["forward"]), FEW)
    replies[2] = ports.judge_reply(ports.Reply(FEW[2], error="it crashed"))
    verdict = verdict_of(replies)
    assert verdict.status == 1
    assert verdict.levels[0].passed < verdict.levels[0].asked == 3


def test_nothing_compared_is_no_success():
    hot = CASES["hot"]
    verdict = verdict_on([{"id": "hot", "dtype": "float64", "levels": ["stream"]}], [hot])
    assert (verdict.status, verdict.certified) == (2, [])
    assert verdict.reason == "no case asks for the levels of this port: stream"
    assert not ports.passed([])


def test_a_level_that_no_chosen_case_asks_for_is_said_and_not_certified():
    answer = answer_on(["forward"], CASES["hot"]) | {"levels": ["forward", "stream"]}
    verdict = verdict_on([answer], [CASES["hot"]])
    assert (verdict.status, verdict.certified) == (0, ["forward"])
    assert verdict.levels[1].line == "stream: not tried: no case asks for it"
    assert verdict.line == "certified: case hot: forward (float64)"


# ---------------------------------------------------------------- Declining


def test_a_port_of_one_recipe_is_certified_for_it_alone():
    levels = ["forward", "gradients", "training"]
    gist = answer_of(NUMPY.load(), CASES["gist"]) | {"levels": levels}
    replies = judged([*map(declined, FEW), gist], [*FEW, CASES["gist"]])
    report = port_report.make(replies)
    text = printed(port_report.show, report, width=400)
    assert report.verdict.status == 0
    assert "certified: the gist recipe: forward, gradients, training (float64)" in text
    assert "declined 3 of 4 cases: another recipe" in text
    assert "forward: passed in the 1 case that asks for it (3 declined)" in text
    assert "tried with no other recipe than: n_embd 16, n_head 4, n_layer 1" in text
    assert port_report.badge_texts(report.verdict) == (
        "microGPT",
        "gist: forward, gradients, training",
    )


def test_cases_of_several_recipes_are_no_recipe():
    answers = [*right(["forward"])[:2], declined(FEW[2])]
    verdict = verdict_on(answers)
    assert verdict.line == "certified: 2 of 3 cases: forward (float64)"
    assert verdict.recipes["relu_power"] == [2]


def test_who_declines_everything_has_nothing():
    verdict = verdict_on([declined(case, "not written yet") for case in FEW])
    assert (verdict.status, verdict.certified) == (2, [])
    assert verdict.line == "not certified: every case was declined: not written yet"


def test_a_level_whose_cases_were_all_declined_is_not_certified():
    stream, other = CASES["first-steps"], CASES["hot"]
    answer = answer_on(["forward"], other) | {"levels": ["forward", "stream"]}
    verdict = verdict_on([declined(stream), answer], [stream, other])
    assert (verdict.status, verdict.certified) == (1, [])
    assert verdict.reason == "stream: not tried: declined in the 1 case that asks for it"


@pytest.mark.parametrize("reason", ["", "  ", None, True, 3, [], {"a": 1}])
def test_who_declines_gives_a_reason(reason):
    (reply,) = judged([declined(FEW[0], reason)], FEW[:1])
    assert reply.error.startswith("declined is ")
    assert reply.failed


def test_a_case_is_declined_or_answered():
    (reply,) = judged([answer_on(["forward"], FEW[0]) | {"declined": "no"}], FEW[:1])
    assert "declined and levels" in reply.error


# ---------------------------------------------------------------- Losses as printed


@pytest.mark.parametrize("digits", [1, 2, 4, 6, 12, 17])
def test_losses_pass_as_any_right_program_prints_them(digits):
    def answer(case):
        losses = [float(f"{loss:.{digits}f}") for loss in case["answer"].get("losses", ())]
        return answer_on(["losses"], case) | {"losses": losses, "digits": digits}

    verdict = verdict_on([answer(case) for case in ALL], ALL)
    assert verdict.certified == [f"losses to {digits} digits"]


@pytest.mark.parametrize("wrong", [1.01e-4, -1.01e-4, 0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 19, 21, 499])
def test_a_loss_that_is_off_by_a_unit_of_the_last_digit_fails(wrong, step):
    answer = answer_on(["losses"], CASES["gist"])
    answer["losses"][step] += wrong
    (reply,) = judged([answer], [CASES["gist"]])
    (failed,) = [finding for finding in reply.findings if not finding.passed]
    assert failed.tensor == f"loss of step {step + 1}"
    assert failed.detail.endswith("printed to 4 digits")


@pytest.mark.parametrize("losses", [None, [], "x", [None] * 20, [[1.0]] * 20, {}, 3.0])
def test_losses_that_are_none_fail(losses):
    answer = answer_on(["losses"], FEW[0]) | {"losses": losses}
    assert verdict_on([answer], FEW[:1]).status == 1


@pytest.mark.parametrize("digits", [None, 0, -1, 18, 4.0, True, "4", [], {}])
def test_how_many_digits_is_a_whole_number(digits):
    (reply,) = judged([answer_on(["losses"], FEW[0]) | {"digits": digits}], FEW[:1])
    assert reply.error.startswith("digits is ")


def test_whole_losses_are_not_excused_by_digits():
    answer = answer_on(["training"], FEW[0]) | {"digits": 1}
    (reply,) = judged([answer], FEW[:1])
    assert "they belong to the level losses" in reply.error
    answer["levels"] = ["training", "losses"]
    (reply,) = judged([answer], FEW[:1])
    assert "training compares the same losses in full" in reply.error


def test_the_mistake_behind_printed_losses_is_named():
    mutant = next(m for m in mutants.read_mutants(NUMPY.name) if m.id == "no-attention-scale")
    module = mutants.apply(NUMPY, [mutant])
    answers, cases = [], [case for case in TINY if case["steps"]]
    for case in cases:
        losses = answer_of(module, case)["losses"]
        printed_losses = [round(float(loss), 4) for loss in losses]
        answers.append(answer_on(["losses"], case) | {"losses": printed_losses})
    replies = judged(answers, cases)
    assert any("no-attention-scale" in line for line in ports.diagnose(replies, PATIENCE))


# ---------------------------------------------------------------- The schema

ANSWER = json.loads((vectors.FOLDER.parent / "schema.json").read_text())
ANSWER = {key: ANSWER[key] for key in ("$schema", "$defs")} | {"$ref": "#/$defs/port_answer"}


def fits_schema(answer):
    return jsonschema.Draft202012Validator(ANSWER).is_valid(answer)


@pytest.mark.parametrize("level", ["forward", "gradients", "training", "losses", "sampling"])
def test_the_schema_takes_what_verify_takes(level):
    for case in (FEW[0], CASES["thousand-names"]):
        assert fits_schema(answer_on([level], case))
    assert fits_schema(declined(FEW[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"declined": "no"},
        {"digits": None},
        {"digits": 0},
        {"levels": ["training"]},
        {"levels": ["losses", "training"]},
        {"levels": []},
        {"dtype": "half"},
    ],
)
def test_the_schema_refuses_what_verify_refuses(change):
    answer = answer_on(["losses"], FEW[0]) | change
    assert not fits_schema(answer)
    (reply,) = judged([answer], FEW[:1])
    assert reply.failed
    assert not fits_schema(declined(FEW[0], " "))


# ---------------------------------------------------------------- One recipe


def test_the_cases_of_a_recipe_are_golden_and_fresh():
    cases = port_recipe.recipe_cases("seed", ALL, seed=7)
    ids = [case["id"] for case in cases]
    assert {"seed", "thousand-names"} <= set(ids)
    assert "gist" not in ids
    assert ids[-2:] == ["seed-7", "seed-8"]
    for case in cases:
        assert is_recipe("seed", Config(**case["config"]))
    for case in cases[-2:]:
        assert (case["steps"], case["count"], len(case["letters"])) == (20, 20, 26)
        assert ports.question(case)["stream"]["seed"] in (7, 8)
    reply = ports.Reply(cases[-1], answer_of(NUMPY.load(), cases[-1]))
    assert ports.passed(ports.judge_all([reply]))


def test_each_run_draws_other_fresh_cases(monkeypatch):
    monkeypatch.setattr(vectors, "make", lambda plan: {"id": plan.id})
    runs = [tuple(c["id"] for c in port_recipe.recipe_cases("gist", [])) for _ in range(20)]
    assert len(set(runs)) > 1


def test_a_large_recipe_gets_small_fresh_cases():
    plan = port_recipe.fresh_plan("scaled", 3)
    assert is_recipe("scaled", plan.config)
    assert (plan.steps, plan.config.batch_size) == (2, 2)


# ---------------------------------------------------------------- The badge


def read_badge(verdict):
    root = ElementTree.fromstring(port_report.badge(verdict))
    return [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_badge_of_a_failure_never_says_what_was_verified():
    answers = right(["forward", "sampling"])
    answers[1]["names"] = []
    verdict = verdict_on(answers)
    assert read_badge(verdict) == ["microGPT", "not verified"]
    text = port_report.badge(verdict)
    assert "forward" not in text
    assert port_report.RED in text
    assert port_report.GREEN not in text


def test_a_badge_takes_any_text_as_text():
    odd = FEW[0] | {"id": f"<&>{ODD}"}
    verdict = verdict_on([answer_on(["forward"], odd)], [odd])
    assert read_badge(verdict) == ["microGPT", f"case <&>{ODD_PRINTED}: forward"]


def test_the_record_has_the_verdict():
    answers = [*right(["forward"])[:2], declined(FEW[2])]
    record = port_report.record(port_report.make(judged(answers, FEW)))
    json.dumps(record)
    assert record["passed"]
    assert record["verdict"]["certified"] == ["forward"]
    assert record["verdict"]["declined"] == {"another recipe": [FEW[2]["id"]]}
    assert record["cases"][2]["declined"] == "another recipe"


def test_the_checks_of_a_level_are_those_of_the_table():
    for level in checks.LEVELS:
        assert level == "losses" or level in {of for of, _ in checks.CHECKS.values()}
