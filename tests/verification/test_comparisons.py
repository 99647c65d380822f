"""What the checks say of small mistakes, and that a failure is in the exit status."""

import copy
import math

import microgpt

import pytest
from microgpt_lab.verification import checks, mutants, verify

from lab_helpers import NUMPY, Lab

STATE = {kind: {"wte": [[1.0, 2.0]]} for kind in ("first_moment", "second_moment", "weights")}
RIGHT = {
    "logits": [[[1.0, 2.0]]],
    "loss": 1.5,
    "gradients": {"wte": [[3.0]], "lm_head": [[4.0]]},
    "losses": [1.0] * 30,
    "after": {"1": STATE},
    "names": ["anna"] * 1000,
}
CASE = {"id": "made up", "config": vars(microgpt.Config()), "answer": RIGHT}


@pytest.fixture
def lab(monkeypatch, capsys):
    return Lab(monkeypatch, capsys)


def scaled(x, factor):
    """All numbers of an answer, times a factor."""
    if isinstance(x, dict):
        return {key: scaled(value, factor) for key, value in x.items()}
    if isinstance(x, list):
        return [scaled(value, factor) for value in x]
    return x if isinstance(x, str) else x * factor


@pytest.mark.parametrize(
    "got", [[[1.0, math.nan]], [[math.inf, 2.0]], [1.0, 2.0], [[1.0], [2.0]], [[1.0]], [[2.0, 2.0]]]
)
def test_other_numbers_and_other_shapes_fail(got):
    off, _ = checks.difference(got, [[1.0, 2.0]])
    assert off > 0.1


def test_a_difference_is_relative_to_the_right_numbers():
    off, _ = checks.difference([[1e-6, 2e-6]], [[1e-6, 1e-6]])
    assert off == pytest.approx(0.5**0.5)


def test_nan_fails_also_where_the_right_number_is_zero():
    off, _ = checks.difference([[math.nan, 1.0]], [[0.0, 1.0]])
    assert off == math.inf


@pytest.mark.parametrize("name", ["wte", "lm_head"])
def test_a_finding_fails_where_any_of_its_tensors_does(name):
    answer = copy.deepcopy(RIGHT)
    answer["gradients"][name][0][0] += 0.1
    finding = checks.compare(CASE, answer, "grads", "float64")
    assert (finding.passed, finding.tensor) == (False, name)
    assert checks.compare(CASE, RIGHT, "grads", "float64").passed


# Three times as large as what rounding may do; with larger tolerances these would pass.
TOO_LARGE = [
    ("float64", 3e-12, ("logits", "loss", "grads", "losses")),
    ("float64", 3e-10, ("moments", "long run")),
    ("float32", 3e-5, ("logits", "loss", "grads", "losses")),
    ("float32", 3e-4, ("moments",)),
    ("float32", 3e-3, ("long run",)),
]


@pytest.mark.parametrize(("dtype", "error", "which"), TOO_LARGE)
def test_an_error_larger_than_rounding_fails(dtype, error, which):
    for check in which:
        assert not checks.compare(CASE, scaled(RIGHT, 1 + error), check, dtype).passed, check
        assert checks.compare(CASE, scaled(RIGHT, 1 + error / 100), check, dtype).passed, check


@pytest.mark.parametrize("dtype", checks.TOLERANCES)
def test_one_wrong_name_in_a_thousand_fails(dtype):
    wrong = RIGHT | {"names": ["anna"] * 999 + ["annb"]}
    assert not checks.compare(CASE, wrong, "names", dtype).passed


# ---------------------------------------------------------------- The exit status


@pytest.mark.parametrize(("worst", "status"), [(1e-14, 0), (0.5, 1)])
def test_a_failed_check_is_in_the_exit_status(lab, monkeypatch, worst, status):
    found = [checks.Finding("hot", "names", worst < 0.1, worst, 0.1)]
    results = [verify.VersionResult(NUMPY, "float64", about="NumPy", findings=found)]
    monkeypatch.setattr(verify, "run_all", lambda *_, **__: results)
    assert lab("verify", "02") == status


def test_a_failed_port_is_in_the_exit_status(lab):
    assert lab("verify", "--program", "false") == 1


@pytest.mark.parametrize("harmless", [False, True])
@pytest.mark.parametrize("killed", [False, True])
def test_a_survivor_is_in_the_exit_status(lab, monkeypatch, killed, harmless):
    finding = checks.Finding("hot", "logits", False, 0.5, 1e-12) if killed else None
    mutant = mutants.Mutant(NUMPY, "x", "a", "b", "why", "S1", harmless)
    verdicts = [mutants.Verdict(mutant, finding, "float64")]
    monkeypatch.setattr(mutants, "run_all", lambda *_, **__: verdicts)
    assert lab("mutants", "02") == (0 if killed != harmless else 1)
