"""A recipe read wrongly fails `verify`; so does a step or a default that is not as it says."""

import itertools
import json

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import as_run, compiled, factors, proof, reach, reach_page, vectors

from golden_cases import CASES, NUMPY
from lab_helpers import HERE, module_of

ALL = vectors.read_vectors()
# 01 is slow, and frameworks that compile for each recipe take minutes: `microgpt proof` runs them.
QUICK = [v for v in HERE if v.framework in ("numpy", "numba")]


@pytest.mark.parametrize("version", QUICK, ids=lambda version: version.name)
def test_each_field_read_wrongly_fails(version):
    """The whole proof, in about ten seconds of processor time."""
    found = list(proof.outcomes(version, module_of(version.name), "float64", ALL))
    assert not [outcome.line for outcome in found if not outcome.right]


def test_the_proof_is_about_every_field():
    everywhere = {field for fields in proof.READ.values() for field in fields}
    assert everywhere | set(proof.OPTIONAL) == set(proof.FIELDS)
    assert set(proof.FIELDS) == {fault.field for fault in proof.faults(ALL)}
    assert set(proof.FIELDS) <= set(factors.FACTORS)
    assert set(proof.READ) == set(proof.REASONS) == set(proof.PLACES)


def test_no_case_less_is_enough_to_see_a_field_that_never_varies():
    """The proof can fail: with one case a constant of that case's value is not seen."""
    one = [CASES["hot"]]
    found = proof.outcomes(NUMPY, module_of(NUMPY.name), "float64", one)
    survived = {o.field for o in found if not o.right}
    assert {"learning_rate", "beta1", "beta2", "n_layer", "relu_power"} <= survived


@pytest.mark.parametrize("version", HERE, ids=lambda version: version.name)
def test_the_cases_of_a_variant_vary_every_field_that_create_reads(version):
    """A variant is checked with few cases: for each wrong value, one of them has another."""
    for variant, dtype in itertools.product(version.variants, version.dtypes):
        cases = vectors.vectors_for(variant, dtype)
        assert any(case["config"]["batch_size"] > 1 for case in cases)  # the check `order`
        for fault in proof.faults(ALL):
            if fault.field in proof.READ["create"]:
                seen = any(fault.changes(case) for case in cases)
                assert seen, f"{variant} {dtype}: {fault.field} {fault.how}: no case shows it"


# ---------------------------------------------------------------- Programs as users run them


def test_a_program_without_options_gives_the_numbers_of_the_reference():
    assert [finding.check for finding in as_run.findings(NUMPY)] == ["losses", "names"]
    assert all(finding.passed for finding in as_run.findings(NUMPY))


@pytest.mark.parametrize("change", ["recipe", "losses", "names", "crash"])
def test_a_wrong_default_is_a_finding(monkeypatch, change):
    answer = json.loads(json.dumps(as_run.expected("seed")))
    if change == "recipe":
        answer["config"]["beta2"] = 0.999
    elif change == "losses":
        answer["losses"][1] *= 1.001
    elif change == "names":
        answer["names"][0] += "a"

    def logged(_):
        if change == "crash":
            raise OSError("it ended with status 1")
        return answer

    monkeypatch.setattr(as_run, "logged", logged)
    failed = [finding for finding in as_run.findings(NUMPY) if not finding.passed]
    assert len(failed) == 1


# ---------------------------------------------------------------- Compiled steps


def count(name, case="hot", **options):
    module = module_of(name)
    config, start = vectors.question(CASES[case])
    state = module.create(config, start, **options)
    return compiled.calls(module, state, CASES[case])


def test_python_code_of_a_step_that_is_not_compiled_is_seen():
    assert count(NUMPY.name) > 0


@pytest.mark.parametrize(
    "version", [v for v in HERE if v.framework in ("jax", "numba", "mlx")], ids=lambda v: v.name
)
def test_a_compiled_step_does_not_run_the_model_in_python(version):
    assert count(version.name) == 0
    if "eager" in version.variants:
        assert count(version.name, compile=False) > 0


def test_a_planted_fallback_to_python_is_caught():
    module, case = module_of(NUMPY.name), CASES["hot"]
    state = module.create(*vectors.question(case))
    (finding,) = compiled.failures(module, state, case, says_compiled=True)
    assert not finding.passed
    assert "calls rmsnorm" in finding.detail
    assert compiled.failures(module, state, case, says_compiled=False) == []


@pytest.mark.parametrize(
    ("framework", "options", "about", "want"),
    [
        ("torch", {"compile": True}, "1 thread", True),  # an option that is silently ignored
        ("torch", {}, "1 thread", False),
        ("mlx", {}, "cpu, float32, compiled", True),
        ("mlx", {"compile": False}, "cpu, float32, not compiled", False),
        ("jax", {}, "1 thread", True),
    ],
)
def test_who_must_be_compiled(framework, options, about, want):
    assert compiled.claimed(framework, options, about) is want


# ---------------------------------------------------------------- Lines that are reached


def test_a_line_without_a_reason_is_a_gap():
    path = NUMPY.path
    lines = path.read_text("utf-8").splitlines()
    computes = next(i for i, line in enumerate(lines, 1) if "return joined" in line)
    starts = next(i for i, line in enumerate(lines, 1) if "microgpt.run(" in line)
    part = {
        "missing_lines": [computes, starts],
        "missing_branches": [],
        "summary": {
            "num_statements": 100, "covered_lines": 98, "num_branches": 0, "covered_branches": 0,
        },
    }  # fmt: skip
    name = str(path.relative_to(versions.ROOT))
    summary = reach.summary(NUMPY, {name: part})
    assert summary["lines"] == 98
    assert [line["line"] for line in reach.gaps(summary)] == [computes]


def test_the_lines_were_measured_in_the_programs_as_they_are():
    """Otherwise: microgpt proof --lines --write"""
    record = reach_page.read_record()
    assert list(record) == list(versions.find())
    for version in versions.find().values():
        found = reach.fingerprint(version.path.read_text("utf-8"))
        assert record[version.name]["program"] == found, f"{version.name} has changed since"


@pytest.mark.parametrize(
    ("find", "replace", "same"),
    [
        ("    return joined", "    # a comment\n    return joined", True),
        ("    microgpt.run(", "    print(1)\n    microgpt.run(", True),
        ("return joined", "return joined + 0", False),
    ],
)
def test_only_what_computes_is_in_the_fingerprint(find, replace, same):
    source = NUMPY.path.read_text("utf-8")
    assert source.count(find) == 1
    assert (reach.fingerprint(source.replace(find, replace)) == reach.fingerprint(source)) == same


def test_every_reason_is_one_that_the_page_can_print():
    for reason in (*reach.REASONS.values(), reach.MESSAGE, reach.START, reach.COMMAND_LINE):
        assert reason
        assert "|" not in reason


# Numba compiles to machine code, where no line is counted. What decides its branches are sizes:
# of a row (16 numbers), of a chunk (256 tokens), and of the batch that threads share.
SIZES = {
    "a head narrower than a row": lambda c: head(c) < 16,
    "a head wider than a row": lambda c: head(c) > 16,
    "a head that is no power of two": lambda c: head(c) & (head(c) - 1),
    "a width of less than a row": lambda c: c["config"]["n_embd"] < 16,
    "a width of several rows": lambda c: c["config"]["n_embd"] > 16,
    "more letters than a row": lambda c: len(c["letters"]) > 16,
    "more letters than two rows": lambda c: len(c["letters"]) > 32,
    "a batch of several chunks": lambda c: tokens(c) > max(256, c["config"]["block_size"]),
    "a batch of one document": lambda c: c["config"]["batch_size"] == 1,
    "a batch of more documents than threads": lambda c: c["config"]["batch_size"] > 2,
    "a block of more tokens than a row": lambda c: c["config"]["block_size"] > 16,
}


def head(case):
    return case["config"]["n_embd"] // case["config"]["n_head"]


def tokens(case):
    return sum(len(t) - 1 for t in case["tokens"][: case["config"]["batch_size"]])


@pytest.mark.parametrize("size", SIZES)
def test_sizes_on_both_sides_of_each_limit_occur(size):
    found = [bool(SIZES[size](case)) for case in ALL if case["steps"]]
    assert any(found)
    assert not all(found)
