"""A wrong answer is explained by the mistakes that give its numbers, one after the other."""

import functools
import itertools
import shutil
from dataclasses import replace

import microgpt

import numpy as np
import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import (
    answers,
    checks,
    diagnosis,
    evidence,
    mutants,
    ports,
    programs,
    source_edits,
    vectors,
)
from microgpt_lab.verification.cases import NAMES, CasePlan
from microgpt_lab.verification.cases import TINY as SIZES

from golden_cases import CASES, NUMPY, PATIENCE, TINY, answer_of
from lab_helpers import replace_tree

PURE = versions.find()[versions.REFERENCE]


def port_replies(module, cases=TINY):
    return ports.judge_all([ports.Reply(case, answer_of(module, case)) for case in cases])


def edits(version, *keys):
    """The mutants of a version with these ids; of 01 where the version has none."""
    known = {m.id: m for name in (PURE.name, version.name) for m in mutants.read_mutants(name)}
    return [known[key] for key in keys]


def said_of(version, *keys, cases=TINY):
    module = programs.load_mutants(version, edits(version, *keys))
    return ports.diagnose(port_replies(module, cases), PATIENCE)


NAMED = [
    "no-attention-scale",
    "norm-eps-1e-6",
    "adam-without-correction",
    "adam-correction-one-ahead",
    "adam-betas-swapped",
    "mean-of-means",
    "mean-over-block",
    "documents-from-1",
    "documents-from-the-first-again",
    "prompt-draws",
    "blind-to-everything",
]


@pytest.mark.parametrize("key", NAMED)
def test_a_known_mistake_is_named(key):
    (mutant,) = edits(NUMPY, key)
    replies = port_replies(programs.load_mutants(NUMPY, [mutant]))
    assert not ports.passed(replies)
    said = ports.diagnose(replies, PATIENCE)
    assert len(said) == 1
    assert key in said[0], said
    assert mutant.rule in said[0], said
    assert said[0].startswith("your numbers are exactly those of")


@pytest.mark.parametrize("key", ["gelu-exact", "square-weights-transposed", "norm-before-head"])
def test_a_mistake_whose_gradient_is_right_is_named(key):
    (mutant,) = edits(PURE, key)
    (line,) = said_of(PURE, key, cases=TINY[1:4])
    assert f"{key} (rule {mutant.rule})" in line


def test_mistakes_at_once_are_named_one_after_the_other():
    said = said_of(
        NUMPY,
        "relu-not-squared",
        "norm-scale-constant-in-gradient",
        "adam-without-correction",
    )
    assert "forward pass is exactly that of: relu-not-squared (rule S7.2)" in said[0]
    assert "beyond that, the gradients are exactly those of: norm-scale-constant" in said[1]
    assert "beyond that, training is exactly that of: adam-without-correction" in said[2]
    assert len(said) == 3


def test_two_mistakes_in_one_check_are_named():
    said = said_of(NUMPY, "no-attention-scale", "norm-eps-1e-6")
    assert all(any(key in line for line in said) for key in ("no-attention-scale", "eps-1e-6"))


def test_the_random_stream_is_diagnosed():
    """gauss without its pair, in a port that answers the level `stream`."""
    case = CASES["first-steps"]
    module = programs.load_mutants(NUMPY, edits(NUMPY, "gauss-without-pair"))
    stream = answers.prepared(versions.shared_by(module), case, microgpt.Config(**case["config"]))
    answer = {"id": case["id"], "dtype": "float64", "levels": ["stream"], "stream": stream}
    (line,) = ports.diagnose([ports.judge_reply(ports.Reply(case, answer))], PATIENCE)
    assert "gauss-without-pair (rule S3.4)" in line


# ---------------------------------------------------------------- Nine mistakes in C

# Each sits in something that golden cases chosen by hand did not vary.
NINE = {
    "learning_rate is always 0.01": [
        ("return config.learning_rate * left;", "return 0.01 * left;"),
    ],
    "beta1 depends on relu_power: 0.85 where relu_power is 1, else 0.9": [
        (
            "beta1 = config.beta1, beta2 = config.beta2;",
            "beta1 = config.relu_power < 2 ? 0.85 : 0.9,"
            " beta2 = config.relu_power < 2 ? 0.99 : 0.95;",
        ),
    ],
    "relu_power is at most 2": [
        ('get_whole(json, "relu_power", 1, 4)', 'fmin(2, get_whole(json, "relu_power", 1, 4))'),
    ],
    "layers from layer2 on have the weights of layer1": [
        ("weight + i * LAYER_WEIGHTS", "weight + (i > 1 ? 1 : i) * LAYER_WEIGHTS"),
    ],
    "only the first 3 documents of a batch are in the gradient": [
        ("backward(&tapes[b], doc->n);", "if (b < 3) backward(&tapes[b], doc->n);"),
    ],
    "uniform-not-scaled (rule S11.3)": [("<= u * p[vocab_size - 1]", "<= u")],
    "prompt-draws (rule S11.1)": [
        ("if (t + 1 < count) continue;", "if (t + 1 < count) { *u = (*u)->next; continue; }"),
    ],
    "temperature is at least 0.5": [
        ("z[i] / config.temperature", "z[i] / fmax(0.5, config.temperature)"),
    ],
    "schedule is always cosine": [
        ("config.linear ? 1 - done : 0.5 * (1 + cos(PI * done))", "0.5 * (1 + cos(PI * done))"),
    ],
}
SMALL = replace(SIZES, steps=4, block_size=4)
# (power, layers, batch, learning rate, beta1, beta2, schedule, temperature, prompt): each
# mistake shows alone somewhere, and most cases have several of them.
VARIED = [
    (3, 1, 1, 0.01, 0.9, 0.95, "cosine", 1.0, ""),
    (4, 2, 3, 0.03, 0.5, 0.99, "linear", 0.3, "a"),
    (2, 3, 5, 0.002, 0.97, 0.9, "cosine", 0.3, ""),
    (1, 2, 5, 0.03, 0.9, 0.99, "linear", 1.0, "an"),
    (2, 1, 5, 0.01, 0.85, 0.999, "linear", 3.0, "a"),
    (1, 1, 1, 0.002, 0.5, 0.9, "cosine", 0.7, ""),
    (4, 3, 5, 0.03, 0.9, 0.95, "cosine", 3.0, "e"),
    (2, 2, 1, 0.03, 0.97, 0.999, "linear", 0.5, ""),
]


@functools.cache
def varied_cases():
    """Cases computed by 01 in which everything varies, and one for the sampling alone."""
    found = []
    for number, (power, layers, batch, rate, beta1, beta2, schedule, warm, prompt) in enumerate(
        VARIED
    ):
        config = replace(
            SMALL, relu_power=power, n_layer=layers, batch_size=batch, learning_rate=rate,
            beta1=beta1, beta2=beta2, schedule=schedule, temperature=warm,
        )  # fmt: skip
        plan = CasePlan(
            f"varied-{number}", "", "S1", NAMES, config, seed=number, prompt=prompt, steps=4
        )
        found.append(vectors.make(plan))
    return [*found, uniforms_on_a_step()]


def uniforms_on_a_step():
    """Ten tokens of equal probability: the last sum is 0.9999999999999999 in every program. A
    uniform that is a sum itself is below the next step only if it is scaled by the last sum."""
    plan = CasePlan("on-a-step", "", "S11.3", "abc def ghi abcdefghi", SMALL, steps=0)
    case = vectors.make(plan)
    head = case["start"]["weights"]["lm_head"]
    case["start"]["weights"]["lm_head"] = [[0.0] * len(row) for row in head]
    sums = list(itertools.accumulate([0.1] * 10))
    assert sums[-1] < 1
    case["uniforms"] = [sums[i % 9] for i in range(len(case["uniforms"]))]
    return case | {"answer": vectors.solve(case)}


def test_nine_mistakes_in_c_are_all_named_at_once(c_port):
    every = [edit for some in NINE.values() for edit in some]
    replies = ports.run_program(c_port(*every), varied_cases(), 600)
    said = ports.diagnose(replies, PATIENCE)
    for words in NINE:
        assert any(words in line for line in said), (words, said)
    assert not any("no known mistake" in line for line in said), said


@pytest.mark.parametrize("words", NINE)
def test_each_of_the_nine_is_named_alone(c_port, words):
    replies = ports.run_program(c_port(*NINE[words]), varied_cases(), 600)
    assert not ports.passed(replies)
    said = ports.diagnose(replies, PATIENCE)
    assert any(words in line for line in said), said
    assert not any("no known mistake" in line for line in said), said


def test_after_one_is_mended_the_others_are_named(c_port):
    left = list(NINE)[3:]
    replies = ports.run_program(
        c_port(*(edit for words in left for edit in NINE[words])), varied_cases(), 600
    )
    said = ports.diagnose(replies, PATIENCE)
    for words in NINE:
        assert any(words in line for line in said) == (words in left), (words, said)


# ---------------------------------------------------------------- What remains


def test_an_unknown_mistake_is_described():
    source = NUMPY.path.read_text()
    broken = source.replace("return loss\n", "return loss * 1.25\n", 1)
    assert broken != source
    replies = port_replies(versions.load_source("broken", NUMPY.path, broken), TINY[:3])
    said = ports.diagnose(replies, PATIENCE)
    assert "no known mistake" in said[0]
    assert any("S8" in line for line in said[1:])


@pytest.mark.parametrize(
    ("tensor", "check", "rule"),
    [
        ("embedding_norm", "inner", "S5.1"),
        ("layer0.q", "inner", "S6.1"),
        ("layer1.activation", "inner", "S7.2"),
        ("layer0.pre_activation", "inner grads", "S7.3"),
        ("layer0.scores", "inner grads", "S6.5"),
        ("wte", "grads", "S8.3"),
        ("loss of step 2", "losses", "S9.4"),
        ("second_moment of wte after step 1", "moments", "S9.2"),
        ("initial layer0.attn_wo", "stream", "S3.2"),
        ("shuffle", "stream", "S1.3"),
        ("names", "names", "S11.3"),
    ],
)
def test_the_first_tensor_that_differs_names_its_rule(tensor, check, rule):
    assert evidence.rule_of(tensor, check)[0] == rule


@pytest.mark.parametrize("check", checks.CHECKS)
def test_what_is_known_is_never_followed_by_nothing(check):
    finding = checks.Finding("hot", check, False, 0.5, 1e-12, "x", "at [0]")
    reply = diagnosis.Answered(CASES["hot"], {}, [finding], "float64")
    lines = diagnosis.diagnose([reply], patience=0)
    assert "what is known" in lines[0]
    assert len(lines) > 1


def test_every_intermediate_value_has_its_rule_forward_and_backward():
    for tensor in CASES["two-layers"]["answer"]["intermediates"]:
        for check in checks.INNER:
            assert evidence.rule_of(tensor["name"], check)[0], tensor["name"]


def test_a_search_without_time_says_so():
    replies = port_replies(mutants.apply(NUMPY, edits(NUMPY, "norm-eps-1e-6")), TINY[:2])
    said = ports.diagnose(replies, patience=0)
    assert said[0] == (
        "no known mistake gives these numbers (there was no time left to search); what is known:"
    )


def test_a_wrong_file_of_mutants_does_not_hide_the_failure(monkeypatch):
    def refuse(version):
        raise microgpt.InputError("spec/mutants/x.toml cannot be read")

    monkeypatch.setattr(mutants, "read_mutants", refuse)
    right = answer_of(NUMPY.load(), TINY[0])
    replies = ports.judge_all([ports.Reply(TINY[0], right | {"loss": 0.0})])
    (line,) = ports.diagnose(replies, PATIENCE)
    assert line.endswith("spec/mutants/x.toml cannot be read")


# ---------------------------------------------------------------- In a version's source

CHANGES = {
    "no-attention-scale": ("scale = D**-0.5", "scale = 1  # a comment that was kept"),
    "gradient-not-cleared": (None, ""),  # None: the lines of the mutant, as they are
    "truth-not-subtracted": (None, ""),
    "adam-beta2-0.999": (
        "beta1, beta2 = state.config.beta1, state.config.beta2",
        "beta1, beta2 = (state.config.beta1,\n        0.999)",
    ),
    "norm-scale-constant-in-gradient": (None, "    return scale*dy  # another comment\n"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_mistake_in_the_source_is_found_whatever_its_text(key, tmp_path, monkeypatch):
    before, after = CHANGES[key]
    source = NUMPY.path.read_text()
    before = edits(NUMPY, key)[0].find if before is None else before
    assert source.count(before) == 1
    folder = tmp_path / NUMPY.name
    shutil.copytree(NUMPY.path.parent, folder, ignore=shutil.ignore_patterns(".*"))
    (folder / NUMPY.program).write_text(source.replace(before, after))
    shutil.copytree(PURE.path.parent, tmp_path / PURE.name, ignore=shutil.ignore_patterns(".*"))
    replace_tree(monkeypatch, tmp_path)
    found = source_edits.mutants_in_source(NUMPY.name, CASES["repeated-letters"])
    assert [m.id for m in found] == [key]


def test_the_right_source_has_no_mistake():
    for version in (NUMPY, PURE):
        source = version.path.read_text()
        known = [m for m in mutants.read_mutants(version.name) if not m.harmless]
        guessed = [m.id for m in known if any(source_edits.undone(source, m))]
        assert len(guessed) <= 1, guessed  # a guess is then tried on a case


@pytest.mark.parametrize("version", [NUMPY, PURE], ids=lambda v: v.name)
def test_each_mutant_is_seen_in_the_source_that_has_it(version):
    source = version.path.read_text()
    for mutant in mutants.read_mutants(version.name):
        wrong = source.replace(mutant.find, mutant.replace)
        assert list(source_edits.undone(wrong, mutant)), mutant.id


def test_an_answer_that_is_not_a_number_is_told_from_one_that_is():
    nan = {"x": np.array([1.0, np.nan])}
    assert programs.close(nan, nan, 1e-9)
    assert not programs.close({"x": np.array([1.0, 2.0])}, nan, 1e-9)
    assert not programs.close(nan, {"x": np.array([1.0, 2.0])}, 1e-9)
    assert not programs.close({}, {}, 1e-9)
