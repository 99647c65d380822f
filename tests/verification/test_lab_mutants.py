"""The file of the lab's own mutants fits the lab; some of them run."""

import re
from dataclasses import replace

from microgpt import InputError

import pytest
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification import lab_mutants

from lab_helpers import Lab

MUTANTS = lab_mutants.read_lab_mutants()


# "mutant_fits" in the name: this test is run alone after an edit of the lab.
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_each_mutant_fits_the_lab_and_its_tests_exist(mutant):
    compile(mutant.source, mutant.id, "exec")
    assert mutant.source != (ROOT / lab_mutants.LAB / mutant.file).read_text()
    for test in mutant.tests:
        file, name = test.split("[")[0].split("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), test


def test_every_package_has_mutants():
    packages = {mutant.file.split("/")[0] for mutant in MUTANTS}
    assert packages == {"base", "runs", "benchmark", "verification", "commands"}
    assert len(MUTANTS) >= 100


def test_mutants_run_on_a_copy_of_the_lab():
    """A wrong edit is killed, a harmless one survives, a broken one is neither."""
    wrong = next(mutant for mutant in MUTANTS if mutant.id == "slowest-run-of-a-kernel")
    harmless = replace(wrong, id="harmless", replace=f"{wrong.find}  # the fastest so far")
    broken = replace(wrong, id="broken", replace="        least = (")
    before = (ROOT / lab_mutants.LAB / wrong.file).read_text()
    found = {v.mutant.id: v for v, _ in lab_mutants.run_mutants([wrong, harmless, broken], 2)}
    assert [found[m.id].killed for m in (wrong, harmless, broken)] == [True, False, False]
    assert found[wrong.id].fate == "killed by test_a_rate_is_that_of_the_fastest_run"
    assert found["harmless"].fate == "survived"
    assert found["broken"].fate.startswith("its tests could not run: ")
    assert (ROOT / lab_mutants.LAB / wrong.file).read_text() == before


def test_a_test_that_fails_without_any_edit_kills_nothing():
    lost = replace(MUTANTS[0], tests=("runs/test_documents.py::test_that_nobody_wrote",))
    with pytest.raises(InputError, match="a test fails on the lab as it is: ERROR"):
        list(lab_mutants.run_mutants([lost], 2))


RIGHT = """
[[mutant]]
id = "x"
file = "runs/sample.py"
find = "a"
replace = "b"
why = "From memory."
tests = ["runs/test_sample.py::test_x"]
"""
WRONG = {
    "broken TOML": ("[[mutant]", "lab.toml cannot be read: .*line 1"),
    "empty": ("", r"lab.toml has no \[\[mutant\]\]: there is nothing to run"),
    "unknown key": (RIGHT + 'rule = "S1"', "x: unknown key 'rule'"),
    "no why": (re.sub("why.*", "", RIGHT), "x: why is missing or empty"),
    "no tests": (re.sub("tests.*", "tests = []", RIGHT), "x: tests is missing or empty"),
    "twice": (RIGHT + RIGHT, "x: this id stands 2 times"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_file_is_one_line(tmp_path, key):
    text, said = WRONG[key]
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        lab_mutants.read_lab_mutants(tmp_path / "lab.toml")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lab", "no-such"], "no mutant 'no-such' in spec/mutants/lab.toml"),
        (["lab", "--write"], "leave --write and --check out"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch, capsys, arguments, said):
    assert said in Lab(monkeypatch, capsys).refuses("mutants", *arguments)


def test_an_edit_that_does_not_fit_is_named():
    with pytest.raises(InputError, match=r"spec/mutants/lab.toml: .*: its line stands 0 times"):
        _ = replace(MUTANTS[0], find="nowhere").source
    with pytest.raises(InputError, match=r"there is no file 'runs/none.py' in lab/microgpt_lab"):
        _ = replace(MUTANTS[0], file="runs/none.py").source
