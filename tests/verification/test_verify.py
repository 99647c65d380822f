"""The suite itself: its vectors are 01's, it fails closed, and it names what is wrong."""

import copy
import json
import math
import random
import shutil
import subprocess
import sys

import microgpt

import jsonschema
import numpy as np
import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import (
    answers,
    cases,
    checks,
    diagnosis,
    mutants,
    page,
    ports,
    vectors,
    verify,
)

CASES = {case["id"]: case for case in vectors.read()}
TINY = [case for case in CASES.values() if diagnosis.count(case) <= diagnosis.SMALL]
NUMPY = versions.find()[diagnosis.GENERIC]


@np.errstate(all="ignore")  # a wrong program may well divide by zero
def answer_of(module, case):
    """A version's answer to a case in the form that a port gives it in."""
    *_, (_, answer) = answers.ask(module, case, "float64", {})
    levels = ["forward", "gradients", "training", "sampling"]
    return {"id": case["id"], "dtype": "float64", "levels": levels} | diagnosis.plain(answer)


# ---------------------------------------------------------------- Vectors


@pytest.mark.parametrize("plan", cases.PLANS, ids=lambda plan: plan.id)
def test_vectors_are_what_the_reference_makes(plan):
    made = vectors.make(plan)
    stored = (vectors.FOLDER / f"{plan.id}.json").read_text()
    if json.loads(stored)["made_by"] == made["made_by"]:
        assert vectors.text(made) == stored  # byte for byte
    for check in checks.CHECKS:  # and elsewhere to the last digits
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


# ---------------------------------------------------------------- Comparing


@pytest.mark.parametrize(
    "got",
    [
        [[1.0, math.nan]],
        [[1.0, math.inf]],
        [[1.0]],
        [[1.0, 2.0], [3.0, 4.0]],
        [1.0, 2.0],
        [["1.0", "2.0"]],
        [[True, 2.0]],
        [[None, 2.0]],
        [[1.0, [2.0]]],
        [[10**400, 2.0]],
        {"0": 1.0},
        "12",
        None,
        [],
        [[1.0, 2.0001]],
    ],
    ids=str,
)
def test_a_comparison_fails_closed(got):
    off, text = checks.difference(got, [[1.0, 2.0]])
    assert not off <= 1e-5
    assert text
    assert "\n" not in text


def test_a_comparison_says_where_and_by_how_much():
    off, text = checks.difference([[1.0, 2.0], [3.0, 8.0]], [[1.0, 2.0], [3.0, 4.0]])
    assert off == pytest.approx(4 / 30**0.5)
    assert text.startswith("at [1][1] got 8, want 4, ratio 2;")


# ---------------------------------------------------------------- Ports


def program(tmp_path, body):
    """A port in a line or two of Python, which finds its case in `case`."""
    path = tmp_path / "port.py"
    path.write_text(f"import json, os, sys, time\ncase = json.load(sys.stdin)\n{body}\n")
    return f"{sys.executable} {path}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), 11)", "it crashed with SIGSEGV"),
        ("raise SystemExit(3)", "it ended with status 3"),
        ("time.sleep(60)", "it gave no answer within 2 s and was stopped"),
        ("", "it wrote nothing"),
        ("print('Hello!')", "its output is not JSON"),
        ("print('[' * 100000)", "its output is not JSON"),
        ("print([1])", "is not a JSON object"),
        ("print('{}')", "it answered for case None"),
        ("print(json.dumps({'id': 'other'}))", "it answered for case 'other'"),
        ("print(json.dumps({'id': case['id'], 'dtype': 'float64'}))", "levels is None"),
        (
            "print(json.dumps({'id': case['id'], 'dtype': 'float64', 'levels': ['magic']}))",
            "no level 'magic'",
        ),
        (
            "print(json.dumps({'id': case['id'], 'dtype': 'half', 'levels': ['forward']}))",
            "dtype is 'half'",
        ),
    ],
    ids=lambda x: x[:40],
)
def test_a_port_that_misbehaves_gets_a_line_and_never_a_pass(tmp_path, body, said):
    replies = ports.run_program(program(tmp_path, body), TINY[:1], timeout=2)
    assert not ports.passed(replies)
    (finding,) = replies[0].findings
    assert said in finding.detail
    assert "\n" not in finding.line()


def test_a_forward_only_port_passes_its_level(tmp_path):
    case = TINY[0]
    answer = answer_of(NUMPY.load(), case) | {"levels": ["forward"]}
    answer = {key: answer[key] for key in ("id", "dtype", "levels", "logits", "loss")}
    replies = ports.run_program(program(tmp_path, f"print({json.dumps(answer)!r})"), [case], 30)
    assert ports.passed(replies)
    assert [f.check for f in replies[0].findings] == ["logits", "loss"]


def corrupted(answer, rng):
    """An answer with one thing wrong that matters, as text."""
    answer = copy.deepcopy(answer)
    fields = ["logits", "loss", "gradients", "losses", "after", "names"]
    key = rng.choice(fields)
    how = rng.choice(["drop", "type", "number", "nan", "shape", "text", "id", "level"])
    if how == "drop":
        del answer[key]
    elif how == "type":
        answer[key] = rng.choice([None, "x", 3, True, {}, [], [[]], {"1": {}}, [None], 1e999])
    elif how == "text":
        text = json.dumps(answer)
        return text[: rng.randrange(1, len(text) - 1)]
    elif how == "id":
        answer["id"] = rng.choice([None, 7, "", "elsewhere", [], {}])
    elif how == "level":
        answer["levels"] = rng.choice([[], None, "forward", [1], [[]], ["forward", "beyond"], {}])
    else:
        rows = rng.choice([answer["logits"][0], answer["gradients"]["wte"]])
        row = rng.randrange(len(rows))
        if how == "shape":
            rows[row].pop()
        else:
            column = rng.randrange(len(rows[row]))
            wrong = {"nan": math.nan, "number": rows[row][column] + 0.01}
            rows[row][column] = wrong[how]
    return json.dumps(answer)


@pytest.mark.parametrize("seed", range(100))
def test_a_corrupted_answer_is_a_clear_failure(seed):
    case = CASES["ragged-batch"]
    right = answer_of(NUMPY.load(), case)
    assert ports.passed([ports.judge(ports.Reply(case, right))])
    reply = ports.judge(ports.read_answer(case, corrupted(right, random.Random(seed)).encode()))
    assert not ports.passed([reply])
    for finding in reply.findings:
        assert finding.passed or "\n" not in finding.line()
    said = ports.diagnose([reply], patience=0)  # it says something, and raises nothing
    assert said or reply.error


def test_results_of_a_port_can_be_read_from_a_file(tmp_path):
    path = tmp_path / "answers.json"
    answers = [answer_of(NUMPY.load(), case) for case in TINY[:2]]
    path.write_text(json.dumps(answers))
    assert ports.passed(ports.read_results(path, TINY[:2]))
    path.write_text("\n".join(map(json.dumps, answers[:1])))
    assert not ports.passed(ports.read_results(path, TINY[:2]))


@pytest.fixture(scope="session")
def c_port(tmp_path_factory):
    """Builds a text of the C port; returns the function that does."""
    source = (vectors.FOLDER.parent / "examples" / "c" / "port.c").read_text()
    cc = shutil.which("cc")
    assert cc, "the C port is built with cc, which is not there"

    def build(*edits):
        text = source
        for find, replace in edits:
            assert text.count(find) == 1, find
            text = text.replace(find, replace)
        folder = tmp_path_factory.mktemp("port")
        (folder / "port.c").write_text(text)
        command = [cc, "-O2", "-std=c11", "-Wall", "-o", "port", "port.c", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        return str(folder / "port")

    return build


def test_the_port_in_c_passes_every_level(c_port):
    replies = ports.run_program(c_port(), list(CASES.values()), 60)
    for reply in replies:
        assert not [f.line() for f in reply.findings if not f.passed]
    asked = {f.check for r in replies for f in r.findings}
    assert asked == set(checks.CHECKS) - {"permuted batch"}


C_MISTAKES = {
    "no-attention-scale": [
        ("product / sqrt((double)D)", "product"),
        ("grad(z, t)[h * T + u] / sqrt((double)D)", "grad(z, t)[h * T + u]"),
    ],
    "norm-eps-1e-6": [("(double)n + 1e-5)", "(double)n + 1e-6)")],
    "adam-step-from-zero": [
        ("1 - pow(beta1, (double)step)", "1 - pow(beta1, fmax(1, (double)step - 1))"),
        ("1 - pow(beta2, (double)step)", "1 - pow(beta2, fmax(1, (double)step - 1))"),
    ],
    "adam-eps-inside-root": [("(sqrt(*v / correct2) + 1e-8)", "sqrt(*v / correct2 + 1e-8)")],
}


@pytest.mark.parametrize("key", C_MISTAKES)
def test_a_mistake_in_the_port_in_c_is_named(c_port, key):
    replies = ports.run_program(c_port(*C_MISTAKES[key]), TINY, 60)
    assert not ports.passed(replies)
    said = ports.diagnose(replies)
    assert any(key in line for line in said), said


# ---------------------------------------------------------------- Diagnosis

NAMED = [
    "no-attention-scale",
    "norm-eps-1e-6",
    "adam-without-correction",
    "mean-of-means",
]


def port_replies(module):
    return [ports.judge(ports.Reply(case, answer_of(module, case))) for case in TINY]


@pytest.mark.parametrize("key", NAMED)
def test_a_known_mistake_is_named(key):
    mutant = next(m for m in mutants.read(NUMPY.name) if m.id == key)
    replies = port_replies(mutants.apply(NUMPY, [mutant]))
    assert not ports.passed(replies)
    said = ports.diagnose(replies)
    assert any(key in line and mutant.rule in line for line in said), said


def test_two_mistakes_at_once_are_both_named():
    both = ["no-attention-scale", "adam-without-correction"]
    group = [m for m in mutants.read(NUMPY.name) if m.id in both]
    said = ports.diagnose(port_replies(mutants.apply(NUMPY, group)))
    assert all(key in said[0] for key in both), said


def test_an_unknown_mistake_is_described():
    source = NUMPY.path.read_text()
    broken = source.replace("return loss\n", "return loss * 1.25\n", 1)
    assert broken != source
    said = ports.diagnose(port_replies(versions.load_source("broken", NUMPY.path, broken)))
    assert "no known mistake" in said[0]
    assert any("S8" in line for line in said)


# ---------------------------------------------------------------- Mutants


@pytest.mark.parametrize("name", versions.find())
def test_each_mutant_fits_its_program_and_is_told_apart(name):
    source = versions.find()[name].path.read_text()
    found = mutants.read(name)
    assert found, f"{name} has no mutants"
    assert len({m.id for m in found}) == len(found)
    for mutant in found:
        assert source.count(mutant.find) == 1, mutant.id
        compile(source.replace(mutant.find, mutant.replace), mutant.id, "exec")


def test_there_are_at_least_forty_wrong_programs():
    everywhere = [m for name in versions.find() for m in mutants.read(name)]
    assert sum(not m.harmless for m in everywhere) >= 40


# ---------------------------------------------------------------- VERIFIED.md


def fake_run(status, worst):
    check = {"status": status, "worst": worst}
    row = {
        "version": "09_made_up",
        "variant": "",
        "dtype": "float64",
        "about": "nothing",
        "reason": "",
        "checks": dict.fromkeys(verify.COLUMNS, check),
    }
    head = dict.fromkeys(("date", "python", "system", "processor", "cores"), "")
    return head | {"tolerances": checks.TOLERANCES, "rows": [row]}


def test_a_page_may_claim_what_a_run_shows_and_no_more():
    text = page.markdown(fake_run("pass", 1e-14))
    assert page.overclaims(text, fake_run("pass", 3e-13)) == []
    assert page.overclaims(text, fake_run("exact", 0.0)) == []
    lines = page.overclaims(text, fake_run("FAIL", math.inf))
    assert len(lines) == len(verify.COLUMNS)
    assert "claimed pass, the run shows FAIL" in lines[0]
    assert page.overclaims(text, fake_run("pass", 0.0) | {"rows": []})
    assert page.overclaims("", fake_run("exact", 0.0))


def test_bad_input_of_verify_is_refused():
    with pytest.raises(microgpt.InputError, match="did you mean"):
        versions.pick(["02_nunpy_manual_backprop"])
    with pytest.raises(microgpt.InputError, match="cannot start"):
        ports.run_program("./no/such/program", TINY[:1], 1)
