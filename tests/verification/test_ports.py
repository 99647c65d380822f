"""A port in any language: what it may answer, and what is said of it."""

import copy
import functools
import json
import math
import random
import sys

import pytest
from microgpt_lab.verification import checks, port_report, ports, vectors
from microgpt_lab.verification.port_verdict import verdict_of

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
from lab_helpers import Lab


def program(tmp_path, body):
    """The command of a port in a line or two of Python, which has its case in `case`."""
    path = tmp_path / "port.py"
    path.write_text(f"import json, os, sys, time\ncase = json.load(sys.stdin)\n{body}\n")
    return f"{sys.executable} {path}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), 11)", "it crashed with SIGSEGV"),
        ("raise SystemExit(3)", "it ended with status 3"),
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
    replies = ports.run_program(program(tmp_path, body), TINY[:1], timeout=600)
    assert not ports.passed(replies)
    (finding,) = replies[0].findings
    assert said in finding.detail
    assert "\n" not in finding.line()


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


@functools.cache
def right_answer():
    return answer_of(NUMPY.load(), CASES["ragged-batch"])


@pytest.mark.parametrize("seed", range(100))
def test_a_corrupted_answer_is_a_clear_failure(seed):
    case = CASES["ragged-batch"]
    right = right_answer()
    assert ports.passed([ports.judge_reply(ports.Reply(case, right))])
    reply = ports.judge_reply(
        ports.read_answer(case, corrupted(right, random.Random(seed)).encode())
    )
    assert not ports.passed([reply])
    for finding in reply.findings:
        assert finding.passed or "\n" not in finding.line()
    said = ports.diagnose([reply], patience=0)  # it says something, and raises nothing
    assert said or reply.error


def test_results_of_a_port_can_be_read_from_a_file(tmp_path):
    path = tmp_path / "answers.json"
    answers = [answer_on(["forward"], case) for case in TINY[:2]]
    path.write_text(json.dumps(answers))
    assert ports.passed(ports.read_results(path, TINY[:2]))
    path.write_text("\n".join(map(json.dumps, answers[:1])))
    assert not ports.passed(ports.read_results(path, TINY[:2]))


def test_the_port_in_c_passes_every_level(c_port):
    replies = ports.run_program(c_port(), list(CASES.values()), 600)
    for reply in replies:
        assert not [f.line() for f in reply.findings if not f.passed]
    readme = (vectors.FOLDER.parent / "examples" / "c" / "README.md").read_text()
    assert verdict_of(replies).line in readme
    asked = {f.check for r in replies for f in r.findings}
    assert asked == set(checks.CHECKS) - {"order"}


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
    replies = ports.run_program(c_port(*C_MISTAKES[key]), TINY, 600)
    assert not ports.passed(replies)
    said = ports.diagnose(replies, PATIENCE)
    assert any(key in line for line in said), said


# ---------------------------------------------------------------- Showing


def test_the_heads_of_a_table_fit_80_columns():
    findings = [
        checks.Finding("hot", check, True, 3e-13, 1e-12)
        for check in checks.CHECKS
        if check != "order"
    ]
    reply = ports.Reply(CASES["repeated-letters"], {"levels": list(checks.LEVELS)}, "", findings)
    text = printed(port_report.show_table, [reply])
    assert max(map(len, text.splitlines())) <= 80
    heads = text.split("repeated")[0].split()
    assert sorted(heads) == sorted(["case", *" ".join(f.check for f in findings).split()])


def test_text_from_outside_is_printed_as_it_is(tmp_path):
    body = f"print({ODD!r}, file=sys.stderr); raise SystemExit(3)"
    replies = ports.run_program(program(tmp_path, body), [TINY[0] | {"id": ODD}], 600)
    text = printed(port_report.show, port_report.make(replies))
    assert f"{ODD_PRINTED}: it ended with status 3\n  | {ODD_PRINTED}\n" in text
    assert "\x1b" not in text


def test_a_wrong_file_of_results_is_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([{"id": ODD}]))
    said = Lab(monkeypatch, capsys).refuses("verify", "--results", path)
    assert f"there is no case '{ODD_PRINTED}'" in said
