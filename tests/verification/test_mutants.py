"""The files of mutants fit their programs, and what does not fit is one line."""

import re

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import checks, mutants, mutants_page
from microgpt_lab.verification.mutants import Mutant, Verdict

from golden_cases import CASES, NUMPY, ODD, ODD_PRINTED, printed
from lab_helpers import Lab

FOUND = versions.find()
KILLED = checks.Finding("hot", "logits", False, 0.5, 1e-12, "logits", "at [0]")


@pytest.fixture
def lab(monkeypatch, capsys):
    return Lab(monkeypatch, capsys)


# "mutant_fits" in the name: this test is run alone after an edit of a program.
@pytest.mark.parametrize("name", FOUND)
def test_each_mutant_fits_its_program_and_compiles(name):
    source = FOUND[name].path.read_text()
    found = mutants.read_mutants(name)
    assert found, f"{name} has no mutants"
    mutants.check_mutants(FOUND[name])
    for mutant in found:
        compile(source.replace(mutant.find, mutant.replace), mutant.id, "exec")


def test_there_are_at_least_forty_wrong_programs():
    everywhere = [m for name in FOUND for m in mutants.read_mutants(name)]
    assert sum(not m.harmless for m in everywhere) >= 40


def test_harmless_rewrites_are_run_on_every_check():
    cases = [CASES[key] for key in mutants.HARMLESS]
    for check in checks.COLUMNS:
        asked = any(checks.asks_for(case, check) for case in cases)
        assert asked or any(case["config"]["batch_size"] > 1 for case in cases), check


# ---------------------------------------------------------------- Files that are wrong

RIGHT = """
[[mutant]]
id = "no-scale"
find = "return x.dot(w.data.T)"
replace = "return x"
rule = "S6.3"
why = "From memory."
"""
WRONG = {
    "broken TOML": ("[[mutant]", "02_numpy_manual_backprop.toml cannot be read: .*line 1"),
    "unknown table": (RIGHT.replace("[[mutant]]", "[[mutnat]]"), "'mutnat' is unknown"),
    "not a table": ("mutant = 3", r"mutant must be tables: write \[\[mutant\]\]"),
    "unknown key": (RIGHT + 'wyh = "x"', "no-scale: unknown key 'wyh'"),
    "key of the lab": (RIGHT + "harmless = true", "no-scale: unknown key 'harmless'"),
    "missing why": (re.sub("why.*", "", RIGHT), "no-scale: the key 'why' is missing"),
    "missing rule": (re.sub("rule.*", "", RIGHT), "no-scale: the key 'rule' is missing"),
    "missing id": (re.sub("id = .*", "", RIGHT), "without id: the key 'id' is missing"),
    "no text": (re.sub("why.*", "why = 3", RIGHT), "no-scale: why is 3: it must be a text"),
    "empty find": (re.sub("find.*", 'find = ""', RIGHT), "no-scale: find is empty"),
    "twice": (RIGHT + RIGHT, "no-scale: this id stands 2 times"),
    "fits nowhere": (RIGHT.replace("w.data.T", "w.T"), "no-scale: find stands 0 times in 02_.*py"),
    "fits twice": (RIGHT.replace("x.dot(w.data.T)", ""), "no-scale: find stands .* times in 02_"),
    "variant": (RIGHT + 'variant = "fast"', "no-scale: no variant 'fast': 02_.* has none"),
    "empty": ("", "nothing to run: 02_numpy_manual_backprop has no mutant"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_file_is_one_line(lab, monkeypatch, tmp_path, key):
    text, said = WRONG[key]
    (tmp_path / f"{NUMPY.name}.toml").write_text(text)
    monkeypatch.setattr(mutants, "FOLDER", tmp_path)
    error = lab.refuses("mutants", "02")
    assert re.search(said, error), error
    assert NUMPY.name in error


def test_a_right_file_of_the_kind_above_is_read(monkeypatch, tmp_path):
    (tmp_path / f"{NUMPY.name}.toml").write_text(RIGHT)
    monkeypatch.setattr(mutants, "FOLDER", tmp_path)
    mutants.check_mutants(NUMPY)
    assert [m.id for m in mutants.read_mutants(NUMPY.name)] == ["no-scale"]


# ---------------------------------------------------------------- Showing


def verdict(version, key="no-scale", killed=KILLED, reason="", harmless=False):
    mutant = Mutant(version, key, "a", "b", "From memory.", "S6.3", harmless)
    return Verdict(mutant, killed, "float64", reason)


def test_text_from_outside_is_printed_as_it_is():
    raised = checks.failure("hot", "error", "it raised", ODD)
    verdicts = [verdict("02_x", killed=raised), verdict("03_x", killed=None, reason=ODD)]
    text = printed(mutants.show_verdicts, verdicts)
    assert f"hot: it raised: {ODD_PRINTED}" in text
    assert f"03_x: no-scale: not run: {ODD_PRINTED}" in text
    assert "\x1b" not in text


def test_a_program_that_raises_or_did_not_run_is_not_killed():
    raised = checks.failure("hot", "error", "it raised", "")
    assert verdict("02_x").right
    assert not verdict("02_x", killed=raised).right
    assert not verdict("02_x", killed=None).right
    assert not verdict("02_x", killed=None, reason="not installed").right
    assert verdict("02_x", killed=None, harmless=True).right
    assert not verdict("02_x", harmless=True).right


# ---------------------------------------------------------------- MUTANTS.md

PAGE = mutants_page.PAGE.read_text()


def new_verdicts(name):
    return [verdict(name, "brand-new"), verdict(name, "rewrite", None, harmless=True)]


@pytest.mark.parametrize("name", FOUND)
def test_a_run_of_one_version_leaves_the_other_sections_as_they_were(tmp_path, name):
    path = tmp_path / "MUTANTS.md"
    path.write_text(PAGE)
    assert mutants_page.write_page(new_verdicts(name), FOUND, path) == []
    page = path.read_text()
    before, after = mutants_page.sections_of(PAGE), mutants_page.sections_of(page)
    assert list(before) == list(after) == list(FOUND)
    assert "| `brand-new` | S6.3 | From memory. | logits, hot |" in after.pop(name)
    del before[name]
    assert before == after
    for text in before.values():
        assert text in page
    wrong, harmless = page.count("\n| `"), page.count("\n- `")
    assert f"\n{wrong} wrong programs, {harmless} harmless rewrites.\n" in page


def test_the_page_is_what_its_sections_make():
    assert mutants_page.markdown(mutants_page.sections_of(PAGE)) == PAGE


def test_a_version_that_did_not_run_keeps_its_section(tmp_path):
    path = tmp_path / "MUTANTS.md"
    path.write_text(PAGE)
    missing = [verdict("06_mlx", killed=None, reason="mlx is not installed")]
    (note,) = mutants_page.write_page(missing, FOUND, path)
    assert note == "06_mlx did not run (mlx is not installed): its section stays as it was"
    assert path.read_text() == PAGE
    new = {**FOUND, "12_new": None}
    mutants_page.write_page([verdict("12_new", killed=None, reason="not there")], new, path)
    assert "| **not run: not there** |" in path.read_text()


def test_a_version_that_left_the_tree_loses_its_section(tmp_path):
    path = tmp_path / "MUTANTS.md"
    path.write_text(PAGE)
    left = {name: version for name, version in FOUND.items() if name != "06_mlx"}
    (note,) = mutants_page.write_page(new_verdicts(NUMPY.name), left, path)
    assert note == "06_mlx is not in the tree any more: its section is removed"
    assert list(mutants_page.sections_of(path.read_text())) == list(left)


def test_a_check_of_some_versions_is_about_their_sections_alone(tmp_path):
    path = tmp_path / "MUTANTS.md"
    verdicts = new_verdicts(NUMPY.name)
    mutants_page.write_page(verdicts, FOUND, path)
    assert mutants_page.outdated(verdicts, FOUND, False, path) == []
    assert mutants_page.outdated(verdicts, FOUND, True, path) == []
    other = [verdict(NUMPY.name, killed=None)]
    (line,) = mutants_page.outdated(other, FOUND, False, path)
    assert line.endswith("is not what this run makes: microgpt mutants 02 --write")
    path.write_text(path.read_text() + "\n## 13_gone\n")
    assert mutants_page.outdated(verdicts, FOUND, False, path) == []
    assert mutants_page.outdated(verdicts, FOUND, True, path)
