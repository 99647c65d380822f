"""A comparison fails for everything but the right numbers, and a run of nothing fails."""

import io
import json
import math
import subprocess
import sys

import microgpt

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import checks, output, vectors, verify
from microgpt_lab.verification.verify import VersionResult
from rich.console import Console

from golden_cases import CASES, NUMPY, ODD, ODD_PRINTED, printed
from lab_helpers import Lab


@pytest.fixture
def lab(monkeypatch, capsys):
    return Lab(monkeypatch, capsys)


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
def test_what_is_not_the_right_numbers_fails(got):
    off, text = checks.difference(got, [[1.0, 2.0]])
    assert not off <= 1e-5
    assert text
    assert "\n" not in text


def test_a_comparison_says_where_and_by_how_much():
    off, text = checks.difference([[1.0, 2.0], [3.0, 8.0]], [[1.0, 2.0], [3.0, 4.0]])
    assert off == pytest.approx(4 / 30**0.5)
    assert text.startswith("at [1][1] got 8, want 4, ratio 2;")


def test_every_check_has_a_tolerance_and_a_case_that_asks_for_it():
    for tolerances in checks.TOLERANCES.values():
        assert list(tolerances) == list(checks.CHECKS)
    for check in checks.COLUMNS:
        if check != "order":  # it needs a batch of several documents
            assert any(checks.asks_for(case, check) for case in CASES.values()), check
    assert any(case["config"]["batch_size"] > 1 for case in CASES.values())


# ---------------------------------------------------------------- Showing


def result(**fields):
    """A result of 02 in which every check has passed."""
    findings = [checks.Finding("hot", check, True, 3e-13, 1e-12) for check in checks.COLUMNS]
    return VersionResult(NUMPY.name, "float64", about="NumPy", findings=findings, **fields)


def test_the_heads_of_a_table_fit_80_columns():
    text = printed(verify.show_results, [result(variant="accumulated")])
    assert max(map(len, text.splitlines())) <= 80
    heads = " ".join(line for line in text.split("float64")[0].splitlines())
    for word in " ".join(checks.COLUMNS).split():
        assert word in heads.split()


def test_text_from_outside_is_printed_as_it_is():
    failed = [checks.failure("case " + ODD, "error", "tensor " + ODD, "detail " + ODD)]
    broken = result(variant=ODD, diagnosis=["diagnosis " + ODD])
    broken.findings += failed
    text = printed(verify.show_results, [broken, result(reason="reason " + ODD)])
    for part in ("case", "tensor", "detail", "diagnosis", "reason"):
        assert f"{part} {ODD_PRINTED}" in text
    assert "\x1b" not in text


def test_colours_are_those_of_the_lab_alone():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, markup=False, width=80)
    output.print_failure(console, ODD)
    assert ODD_PRINTED in text.getvalue()
    assert text.getvalue().startswith("\x1b[31m✗\x1b[0m")


# ---------------------------------------------------------------- Nothing to verify


def test_no_case_is_no_success(lab, monkeypatch):
    monkeypatch.setattr(vectors, "read_vectors", lambda: [])
    assert "there is no case" in lab.refuses("verify", "02")
    assert "there is no case" in lab.refuses("verify", "--program", "true")


def test_a_missing_framework_alone_is_no_success(lab, monkeypatch):
    results = [result(reason="it is not installed: uv sync")]
    monkeypatch.setattr(verify, "run_all", lambda *_: results)
    assert lab("verify", "02") == 2
    assert lab.err == f"error: nothing was verified: {NUMPY.name}: it is not installed: uv sync\n"


def test_a_version_whose_process_breaks_has_failed(monkeypatch):
    values = [(0, "golden", checks.Finding("hot", "logits", True, 0.0, 1e-12).fields())]
    monkeypatch.setattr(verify.child, "run_module", lambda *_: (values, "out of memory"))
    for found in verify.run_version(NUMPY):
        assert [f.line() for f in found.failures] == ["-: its process: out of memory"]
        assert found.status("names") == "FAIL"


def test_what_a_version_prints_does_not_disturb_its_results():
    body = """
import sys
from microgpt_lab.verification import child

def values(name):
    print("[0, ")
    yield name, 1.5

child.serve(values)
"""
    done = subprocess.run([sys.executable, "-c", body, "x"], capture_output=True, text=True)
    assert json.loads(done.stdout) == ["x", 1.5]
    assert done.stderr == "[0, \n"


def test_a_mistyped_version_is_refused():
    with pytest.raises(microgpt.InputError, match="did you mean"):
        versions.pick(["02_nunpy_manual_backprop"])
