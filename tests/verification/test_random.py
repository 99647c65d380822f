"""Random cases: right versions pass them, wrong programs do not, and the smallest failing case
names what matters."""

import itertools
import json
import math
from dataclasses import fields, replace

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import (
    answers,
    diagnosis,
    ports,
    random_cases,
    random_runs,
    sensitivity,
    shrinking,
    verify,
)
from microgpt_lab.verification.random_cases import Sketch

from golden_cases import CASES, NUMPY, answer_of, printed
from lab_helpers import Lab, module_of

SEED = 5
COUNT = 20  # random cases that right versions are asked for
# Wrong programs: edits of 02, and what the sentence about the smallest failing case names.
WRONG = {
    "three documents at most": (
        [
            (
                "n, loss = sum(len(tokens) - 1 for tokens in batch), 0.0",
                "batch = batch[:3]; n, loss = sum(len(tokens) - 1 for tokens in batch), 0.0",
            )
        ],
        "batch_size ≥ 4, ",
    ),
    "learning rate capped": (
        [("learning_rate / correct1 * m", "min(learning_rate, 0.01) / correct1 * m")],
        "learning_rate = 0.0",
    ),
    "betas from the power": (
        [
            (
                "beta1, beta2 = state.config.beta1, state.config.beta2",
                "beta1, beta2 = ((0.85, 0.99), (0.9, 0.95))[state.config.relu_power > 1]",
            )
        ],
        "beta1 = ",
    ),
    "powers 3 and 4 as 2": (
        [
            ("        b = r**config.relu_power", "        b = r ** min(2, config.relu_power)"),
            (
                "        dr = db * config.relu_power * r ** (config.relu_power - 1)",
                "        dr = db * 2 * r if config.relu_power > 1 else db",
            ),
        ],
        "relu_power ≥ 3",
    ),
    "two layers' weights": (
        [
            (
                "    for i in range(config.n_layer):\n",
                "    for i in (min(i, 1) for i in range(config.n_layer)):\n",
            ),
            (
                "    for i in reversed(range(config.n_layer)):\n",
                "    for i in reversed([min(i, 1) for i in range(config.n_layer)]):\n",
            ),
        ],
        "n_layer ≥ 3",
    ),
    "sixteen tokens": (
        [
            ("in map(np.array, batch):", "in map(np.array, [t[:17] for t in batch]):"),
            ("sum(len(tokens) - 1 for", "sum(min(16, len(tokens) - 1) for"),
        ],
        "block_size ≥ 17",
    ),
}


def wrong_module(key):
    source = NUMPY.path.read_text("utf-8")
    edits = [{"find": find, "replace": new} for find, new in WRONG[key][0]]
    return versions.load_source("wrong", NUMPY.path, versions.edited(source, edits, key))


def failing(module, case, dtype="float64"):
    return [f for f in answers.run_checks(module, case, dtype) if not f.passed]


def first_failing(module):
    """The number of the first random case that a program fails."""
    for number in range(40):
        drawn = random_cases.draw_case(SEED, number)
        if "float64" in drawn.dtypes and failing(module, drawn.case):
            return number
    raise AssertionError("no random case fails")


@pytest.fixture
def lab(monkeypatch, capsys):
    return Lab(monkeypatch, capsys)


# ---------------------------------------------------------------- Drawing


def test_the_cases_of_a_seed_are_the_same_each_time():
    assert random_cases.draw(SEED, 0) == random_cases.draw(SEED, 0)
    assert random_cases.draw(SEED, 0) != random_cases.draw(SEED, 1)
    assert random_cases.new_seed() != random_cases.new_seed()


def test_every_choice_varies_and_none_is_a_function_of_another(monkeypatch):
    monkeypatch.setattr(random_cases, "case_of", lambda *_: {})  # no answers are needed
    drawn = [random_cases.draw(SEED, number)[0] for number in range(400)]
    names = [f.name for f in fields(Sketch)]
    values = {name: [getattr(sketch, name) for sketch in drawn] for name in names}
    values["n_embd"] = [sketch.config.n_embd for sketch in drawn]
    for name in values:
        assert len(set(values[name])) > 1, name
    for a, b in itertools.permutations([n for n in values if len(set(values[n])) <= 50], 2):
        seen = {}
        for x, y in zip(values[a], values[b]):
            seen.setdefault(x, set()).add(y)
        assert any(len(found) > 1 for found in seen.values()), f"{b} is a function of {a}"


def test_a_case_in_which_rounding_decides_is_known():
    """In a norm over one number the gradient is almost zero: only rounding is left of it."""
    good = random_cases.case_of(Sketch(), "random-1-1")
    bad = random_cases.case_of(Sketch(head_dim=1, init_std=0.5), "random-1-1")
    assert all(sensitivity.is_steady(good, dtype) for dtype in sensitivity.DTYPES)
    assert not sensitivity.is_steady(bad, "float32")
    assert not sensitivity.tolerates(bad, "float32")
    assert sensitivity.tolerates(bad | {"id": "golden"}, "float32")


# ---------------------------------------------------------------- Right and wrong programs


@pytest.fixture(scope="module")
def some():
    return random_cases.draw_cases(1, COUNT)


@pytest.mark.parametrize("name", [v for v in versions.find() if v[:2] in ("02", "09")])
def test_right_versions_pass(some, name):
    version = versions.find()[name]
    if version.missing:
        pytest.skip(version.missing)
    for dtype in version.dtypes:
        cases = some.of(dtype)
        assert len(cases) == COUNT
        found = [f for one in cases for f in failing(module_of(name), one.case, dtype)]
        assert not found, found[0].line()


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_program_fails_and_the_sentence_names_what_matters(key):
    module = wrong_module(key)
    number = first_failing(module)
    small = shrinking.shrink(
        number, SEED, "float64", lambda case: bool(failing(module, case)), math.inf
    )
    assert WRONG[key][1] in small.says
    assert small.says.endswith("everything else may be default")
    assert small.complete
    assert failing(module, small.case)
    assert not failing(module_of(NUMPY.name), small.case)


def test_a_search_that_ran_out_of_time_says_so():
    small = shrinking.shrink(0, SEED, "float64", lambda case: True, 0)
    assert not small.complete
    assert "ended after 0 s" in small.sentence(0)


def test_a_program_that_fails_everything_needs_no_choice():
    search = shrinking.Shrinker(Sketch(n_layer=2), "x", "float64", lambda case: True, math.inf)
    search.run()
    assert search.current == Sketch()
    assert search.sentence() == "fails with every choice at its default"


def test_numbers_below_the_default_are_named_too():
    sketch = Sketch(block_size=1, documents=((0,), (1,)), names=3)

    def fails(case):
        return case["config"]["block_size"] < 3

    search = shrinking.Shrinker(sketch, "x", "float64", fails, math.inf)
    search.run()
    assert search.sentence() == "fails at block_size ≤ 2; everything else may be default"
    assert search.current == replace(Sketch(), block_size=2)


# ---------------------------------------------------------------- In a run


@pytest.fixture(scope="module")
def drawn():
    """A random case that the first wrong program fails."""
    number = first_failing(wrong_module("three documents at most"))
    return random_cases.RandomCases(SEED, 1, [random_cases.draw_case(SEED, number)])


def test_a_version_that_fails_random_cases_alone_has_failed(monkeypatch, tmp_path, drawn):
    wrong = wrong_module("three documents at most")
    monkeypatch.setattr(versions.Version, "load", lambda self: wrong)
    monkeypatch.setattr(verify, "cases_for", lambda *_: [CASES["hot"]])
    monkeypatch.setattr(verify, "SHRINKING", math.inf)
    monkeypatch.setattr(diagnosis, "diagnose", lambda *_: ["diagnosis"])
    path = tmp_path / "random.json"
    drawn.write(str(path))
    lines = json.loads(json.dumps(list(verify.serve_version(NUMPY.name, "", str(path)))))
    monkeypatch.setattr(verify.child, "run_module", lambda *_: (lines, ""))
    results = verify.run_version(NUMPY)
    assert results[-1].failures
    assert all(f.passed for result in results for f in result.findings)
    (small,) = [result.shrunk for result in results if result.shrunk]  # once is enough
    assert "batch_size ≥ 4" in printed(verify.show_results, results, width=200)

    monkeypatch.chdir(tmp_path)
    said = printed(lambda console: random_runs.write_cases({NUMPY.name: small}, console))
    assert f"--case {small.file}" in said.replace("\n", " ")
    assert random_cases.find_case(small.file) == json.loads(json.dumps(small.case))


def test_01_is_not_asked_for_its_own_answers(monkeypatch, tmp_path, drawn):
    monkeypatch.setattr(verify, "cases_for", lambda *_: [CASES["hot"]])
    path = tmp_path / "random.json"
    drawn.write(str(path))
    kinds = [kind for _, kind, _ in verify.serve_version("01_pure_python", "", str(path))]
    assert "random" not in kinds


@pytest.mark.parametrize("key", [None, "three documents at most"])
def test_a_port_is_asked_for_random_cases(monkeypatch, tmp_path, drawn, key):
    module = wrong_module(key) if key else module_of(NUMPY.name)

    def run_program(command, cases, timeout):
        return ports.judge_all([ports.Reply(case, answer_of(module, case)) for case in cases])

    monkeypatch.setattr(ports, "run_program", run_program)
    monkeypatch.setattr(random_runs, "SHRINKING", math.inf)
    monkeypatch.chdir(tmp_path)
    golden = run_program("./port", [CASES["hot"]], 1.0)
    replies = golden + random_runs.ask_port("./port", golden, drawn, 1.0)
    assert ports.passed(replies) is (key is None)
    said = printed(
        lambda console: random_runs.show_port("./port", replies, drawn, 1.0, console), width=200
    )
    if key:
        assert "batch_size ≥ 4" in said
        assert [path.name for path in tmp_path.iterdir()] == [
            f"failing-case-{SEED}-{drawn.drawn[0].number}.json"
        ]
    else:
        assert "random cases: 1 in each precision" in said


def test_the_drawn_cases_are_said_with_their_seed():
    left_out = random_cases.RandomCase(2, {}, ["float64"])
    whole = random_cases.RandomCase(3, {}, ["float32", "float64"])
    some = random_cases.RandomCases(17, 1, [left_out, whole])
    text = printed(random_runs.show_drawn, some, width=200)
    assert "--random 1 --seed 17" in text
    assert "1 of 2 drawn cases left out in float32" in text
    none = random_cases.RandomCases(17, 0, [])
    assert printed(random_runs.show_drawn, none) == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["02", "--case", "hott"], "did you mean hot?"),
        (["02", "--case", "hot", "--random", "2"], "leave --case"),
        (["02", "--case", "hot", "--check"], "leave --case out"),
        (["02", "--random", "-1"], "random is -1"),
        (["--program", "true", "--case", "hott"], "did you mean hot?"),
    ],
    ids=lambda x: x[-1] if isinstance(x, list) else "",
)
def test_what_does_not_fit_is_refused(lab, arguments, said):
    assert said in lab.refuses("verify", *arguments)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"id": "x"}'])
def test_a_file_that_is_no_case_is_refused(lab, tmp_path, text):
    path = tmp_path / "case.json"
    path.write_text(text)
    assert "case" in lab.refuses("verify", "02", "--case", path)


def test_one_case_by_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr(verify, "run_all", lambda *args: asked.append(args) or [])
    assert verify.run_case(CASES["hot"], ["02"], 1) == []
    assert asked[0][0] == ["02"]
