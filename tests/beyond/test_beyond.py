"""Ideas with claims: mistakes in a folder are one line, a false claim and a control that is not
rejected are failures by name, and a partial run changes only its own figures."""

import json
import re
import shutil

import pytest
from microgpt_lab.beyond import ideas, measuring, pages, record

from lab_helpers import Lab

MAIN = '''"""An idea."""

FACTOR = 2


def double(x):
    return FACTOR * x
'''
CLAIMS = '''"""Claims."""

import pathlib


def doubled(idea):
    return idea.double(3)


def many(idea):
    return {"low": idea.double(1), "high": idea.double(2)}


def breaks(idea):
    raise ValueError(f"this measurement broke\\n{idea.double(1)}")


def no_number(idea):
    return float("nan")


def picture(idea, figures, path):
    pathlib.Path(path).write_text(f"<svg>{figures['doubled']}</svg>", "utf-8")
'''
TOML = """title = "An idea"

[[claim]]
name = "doubled"
says = "Three is doubled"
measure = "doubled"
within = [6, 6]

[[claim.control]]
says = "three times"
find = "FACTOR = 2"
replace = "FACTOR = 3"
"""
README = "# 01 · An idea\n\n<!-- figures -->\n<!-- /figures -->\n\nThe end.\n"
CLAIM = """
[[claim]]
name = "{name}"
says = "{name}"
measure = "{measure}"
{threshold}

[[claim.control]]
says = "three times"
find = "FACTOR = 2"
replace = "FACTOR = 3"
"""


class House:
    """A folder of ideas that a test may break, and the command that measures them."""

    def __init__(self, root, lab):
        self.root, self.lab = root, lab
        self.add("01_double")

    def add(self, name):
        folder = self.root / name
        folder.mkdir()
        self.write(name, "main.py", MAIN)
        self.write(name, "claims.py", CLAIMS)
        self.write(name, "claims.toml", TOML)
        self.write(name, "README.md", README)

    def write(self, name, file, text):
        (self.root / name / file).write_text(text, "utf-8")

    def read(self, name):
        return (self.root / name).read_text("utf-8")

    def edit(self, file, find, replace, name="01_double"):
        text = self.read(f"{name}/{file}")
        assert find in text
        self.write(name, file, text.replace(find, replace))

    def claim(self, name, measure, threshold="at_least = 1"):
        """One more claim in 01."""
        text = self.read("01_double/claims.toml")
        more = CLAIM.format(name=name, measure=measure, threshold=threshold)
        self.write("01_double", "claims.toml", text + more)

    def __call__(self, *arguments):
        """-> (status, what was printed)"""
        status = self.lab("beyond", *arguments)
        return status, self.lab.out


@pytest.fixture
def house(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ideas, "FOLDER", tmp_path / "beyond")
    (tmp_path / "beyond").mkdir()
    return House(tmp_path / "beyond", Lab(monkeypatch, capsys))


# ---------------------------------------------------------------- Verdicts


def test_a_claim_that_holds_and_whose_control_is_rejected_is_green(house):
    status, said = house()
    assert status == 0
    assert "✓ 01_double.doubled: 6, must be 6 … 6" in said
    assert "1 of 1 claims hold; 1 wrong programs were tried" in said


def test_a_program_edited_so_that_its_claim_is_false_is_red_by_name(house):
    house.edit("main.py", "return FACTOR * x", "return FACTOR * x + 1")
    status, said = house()
    assert status == 1
    assert "✗ 01_double.doubled: 7, must be 6 … 6" in said
    assert "the threshold is not kept" in said


def test_a_control_that_keeps_the_threshold_is_red(house):
    """A claim that could not fail shows nothing."""
    house.edit("claims.toml", "within = [6, 6]", "at_least = 6")
    status, said = house()
    assert status == 1
    assert "✗ 01_double.doubled" in said
    assert "a wrong program was not rejected: three times" in said


@pytest.mark.parametrize(
    ("measure", "says"),
    [("breaks", "ValueError: this measurement broke"), ("no_number", "no number")],
)
def test_a_measurement_without_a_number_is_red(house, measure, says):
    house.claim("second", measure)
    status, said = house()
    assert status == 1
    assert "✓ 01_double.doubled" in said
    assert "✗ 01_double.second" in said
    assert says in said
    assert "Traceback" not in said


def test_a_program_that_does_not_start_is_red_for_each_claim(house):
    house.edit("main.py", "FACTOR = 2", "FACTOR = 2\nimport no_such_module_at_all")
    house.claim("second", "many")
    status, said = house()
    assert status == 1
    assert said.count("No module named 'no_such_module_at_all'") == 2


def test_of_many_numbers_all_count_or_the_one_that_is_named(house):
    house.claim("all", "many", "at_most = 3")
    house.claim("one", "many", 'within = [2, 2]\nkey = "low"')
    status, said = house()
    assert status == 1
    assert "✗ 01_double.all: low 2, high 4, must be ≤ 3" in said
    assert "✓ 01_double.one: low 2, high 4, must be low 2 … 2" in said


def test_one_claim_of_one_idea_can_be_asked_for(house):
    house.claim("second", "many")
    house.add("02_other")
    for name in ("01.second", "double.second", "01_double.second"):
        status, said = house(name)
        assert status == 1  # 2 and 4 are both at least 1, in the wrong program too
        assert "second" in said
        assert "doubled" not in said
    assert "02_other" in house("02")[1]
    assert "01_double" not in house("2_other"[2:])[1]


# ---------------------------------------------------------------- Mistakes in a folder

MISTAKES = {
    "no TOML": ("claims.toml", "[[claim]]", "[[claim]", "claims.toml"),
    "unknown key": ("claims.toml", "measure =", "mesure =", "mesure"),
    "a number for a text": ("claims.toml", '"doubled"\nsays', "3\nsays", "name"),
    "no threshold": ("claims.toml", "within = [6, 6]", "", "exactly one of at_most, at_least"),
    "two thresholds": ("claims.toml", "within", "at_most = 7\nwithin", "exactly one of at_most"),
    "an empty range": ("claims.toml", "[6, 6]", "[7, 6]", "the smaller number comes first"),
    "nan": ("claims.toml", "within = [6, 6]", "at_most = nan", "nan"),
    "no function": ("claims.toml", 'measure = "doubled"', 'measure = "double"', "'double'"),
    "no control": ("claims.toml", "[[claim.control]]", "[[claim.other]]", "claim"),
    "find is not there": ("claims.toml", '"FACTOR = 2"', '"FACTOR = 5"', "stands 0 times"),
    "find is there twice": ("claims.toml", '"FACTOR = 2"', '"FACTOR"', "stands 2 times"),
    "replace is find": ("claims.toml", '"FACTOR = 3"', '"FACTOR = 2"', "replace is equal to find"),
    "claims.py is no Python": ("claims.py", "def many", "def many many", "claims.py, line"),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("options", [(), ("--write",), ("--check",)], ids=str)
def test_a_mistake_in_a_folder_is_one_line_that_names_it(house, name, options):
    file, find, replace, says = MISTAKES[name]
    house.edit(file, find, replace)
    before = sorted(house.root.rglob("*"))
    said = house.lab.refuses("beyond", *options)
    assert "01_double" in said
    assert says in said
    assert sorted(house.root.rglob("*")) == before


@pytest.mark.parametrize("file", ["main.py", "claims.py", "claims.toml", "README.md"])
def test_a_file_that_is_missing_is_named(house, file):
    (house.root / "01_double" / file).unlink()
    assert f"beyond/01_double: {file} is missing" in house.lab.refuses("beyond")


def test_two_claims_of_one_name_are_refused(house):
    house.claim("doubled", "many")
    assert "two claims have this name" in house.lab.refuses("beyond")


def test_a_folder_without_ideas_is_no_success(house):
    shutil.rmtree(house.root / "01_double")
    assert "there is no idea" in house.lab.refuses("beyond")


@pytest.mark.parametrize(
    ("name", "says"),
    [("03", "no idea '03'"), ("doubel", "double"), ("01.dubled", "doubled"), (".", "no idea ''")],
)
def test_an_unknown_name_is_refused_with_the_nearest(house, name, says):
    assert says in house.lab.refuses("beyond", name)


# ---------------------------------------------------------------- Figures and pages


def test_figures_are_written_and_checked(house):
    assert house("--check")[0] == 1
    assert house("--write")[0] == 0
    assert house("--check")[0] == 0
    readme = house.read("01_double/README.md")
    assert "| **Three is doubled** | 6 | 6 … 6 |" in readme
    assert "| control: three times | 9 | rejected |" in readme
    assert readme.endswith("The end.\n")
    assert house.read("01_double/picture.svg") == "<svg>6.0</svg>"
    assert "picture.svg" in house.read("README.md")


@pytest.mark.parametrize("file", ["01_double/README.md", "README.md"])
def test_a_figure_changed_by_hand_is_found(house, file):
    house("--write")
    path = house.root / file
    path.write_text(path.read_text("utf-8").replace("| 6 |", "| 5 |"), "utf-8")
    status, said = house("--check")
    assert status == 1
    assert f"beyond/{file} is not what beyond/figures.json makes" in said


def test_a_partial_run_changes_only_its_own_figures(house):
    house.claim("second", "many", 'within = [2, 2]\nkey = "low"')
    house.add("02_other")
    house("--write")
    before = json.loads(house.read("figures.json"))
    stamped = json.loads(json.dumps(before))
    for entries in stamped.values():
        for entry in entries.values():
            entry["date"] = "2001-01-01"
    (house.root / "figures.json").write_text(json.dumps(stamped), "utf-8")
    house("01.second", "--write")
    after = json.loads(house.read("figures.json"))
    assert after["01_double"]["second"]["date"] == before["01_double"]["second"]["date"]
    assert after["01_double"]["doubled"] == stamped["01_double"]["doubled"]
    assert after["02_other"] == stamped["02_other"]


def test_a_recorded_claim_is_measured_by_long_and_by_write_alone(house):
    house.claim("second", "many", 'within = [2, 2]\nkey = "low"\nrecorded = true')
    status, said = house()
    assert status == 1
    assert "it was never measured: use --write" in said
    assert house("--long")[0] == 0
    assert house("--write")[0] == 0
    status, said = house()
    assert status == 0
    assert re.search(r"second: low 2.* \(recorded\)", said)


@pytest.mark.parametrize(
    ("file", "find", "replace"),
    [
        ("main.py", "return FACTOR * x", "return x * FACTOR"),
        ("claims.py", "double(2)", "double(4)"),
    ],
)
def test_a_recorded_figure_of_another_program_is_red(house, file, find, replace):
    house.claim("second", "many", 'within = [2, 2]\nkey = "low"\nrecorded = true')
    house("--write")
    house.edit(file, find, replace)
    status, said = house()
    assert status == 1
    assert "with another program: use --write" in said


def test_a_comment_makes_no_other_program(house):
    house.claim("second", "many", 'within = [2, 2]\nkey = "low"\nrecorded = true')
    house("--write")
    house.edit("main.py", "FACTOR = 2\n", "FACTOR = 2  # twice\n")
    assert house("--check")[0] == 0


def test_a_run_for_programs_to_read(house, tmp_path):
    house("--json", tmp_path / "run.json")
    (one,) = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert (one["idea"], one["claim"], one["value"], one["holds"]) == (
        "01_double",
        "doubled",
        6,
        True,
    )
    assert one["controls"] == [{"says": "three times", "value": 9, "rejected": True}]


# ---------------------------------------------------------------- The ideas of this project


def ideas_here():
    return [ideas.read(folder) for folder in ideas.folders(ideas.FOLDER).values()]


def test_every_idea_has_figures_pages_and_a_picture():
    assert len(ideas_here()) == 8
    assert pages.outdated(ideas.FOLDER, ideas_here(), record.read(ideas.FOLDER)) == []


@pytest.mark.parametrize("idea", ideas_here(), ids=lambda idea: idea.name)
def test_every_recorded_figure_keeps_its_threshold_and_rejected_its_controls(idea):
    entries = record.read(ideas.FOLDER)[idea.name]
    for claim in idea.claims:
        verdict = record.as_verdict(idea, claim, entries.get(claim.name))
        assert not verdict.failures, claim.name


@pytest.mark.parametrize("idea", ideas_here(), ids=lambda idea: idea.name)
def test_a_readme_has_no_figure_that_was_not_generated(idea):
    """Outside the generated table nothing looks like a measured loss, share or size."""
    before, _, rest = (idea.folder / "README.md").read_text("utf-8").partition(pages.START)
    prose = before + rest.partition(pages.END)[2]
    prose = " ".join(re.sub(r"```.*?```", "", prose, flags=re.DOTALL).split())
    assert not re.findall(r"\d+\.\d\d+ nats|\d+(?:\.\d+)? ?%(?! interval)", prose)


def test_controls_edit_each_file_so_that_python_can_read_it():
    for idea in ideas_here():
        for claim in idea.claims:
            for control in claim.control:
                compile(idea.edited(control), f"{idea.name}: {control.says}", "exec")


def test_what_is_not_finite_is_no_number():
    assert measuring.plain({"a": 1, "b": float("inf")}) is None
    assert measuring.plain(float("nan")) is None
    assert measuring.plain({"a": 1}) == {"a": 1.0}
