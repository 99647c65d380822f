"""A mistake in a version's folder is one line with folder and key, for those who ask for it."""

import re
import shutil

from microgpt import InputError

import pytest
from microgpt_lab.base import options, versions
from microgpt_lab.benchmark import pictures
from microgpt_lab.verification import verify

from lab_helpers import Lab, replace_tree

TABLE = """[tool.microgpt]
title = "made up"
framework = "numpy"
dtypes = ["float32"]
"""
PROGRAM = """
def create(config, snapshot, dtype: str = "float32", compile: bool = False): ...
def logits(state, tokens): ...
def loss_and_grads(state, batch): ...
def train(state, batches): ...
def export(state): ...
def about(state): ...
"""
# what is wrong: (table, program, what the line says); None: there is no such file
MISTAKES = {
    "no table": ("[project]", PROGRAM, "12_x/pyproject.toml has no table"),
    "no tool": ("tool = 3", PROGRAM, "12_x/pyproject.toml has no table"),
    "no pyproject": (None, PROGRAM, "12_x has no pyproject.toml"),
    "broken TOML": (TABLE + "a = =", PROGRAM, "12_x/pyproject.toml is not valid TOML: .*line 5"),
    "no dtypes": (TABLE.replace("dtypes", "devices"), PROGRAM, "12_x/.*needs the key dtypes"),
    "no title": (TABLE.replace("title", "program"), PROGRAM, "12_x/.*program is 'made up'"),
    "unknown key": (TABLE + "bached = true", PROGRAM, "12_x/.*no key 'bached': did you mean batc"),
    "text for a list": (TABLE + "devices = 'cpu'", PROGRAM, "12_x/.*devices is 'cpu': .* list"),
    "no such dtype": (TABLE.replace("32", "16"), PROGRAM, "12_x/.*dtypes is .*'float16'"),
    "a list for a dtype": (TABLE.replace('"float32"', "[]"), PROGRAM, "12_x/.*dtypes is "),
    "no such recipe": (TABLE + "recipe = 'gits'", PROGRAM, "12_x/.*recipe is 'gits'.*gist"),
    "framework no name": (TABLE.replace("numpy", "a b"), PROGRAM, "12_x/.*framework is 'a b'"),
    "a brace": (TABLE + "variables = { A = '{home}' }", PROGRAM, "12_x/.*variables is "),
    "variant no table": (TABLE + "variants = { fast = true }", PROGRAM, "12_x/.*variants is "),
    "unknown option": (
        TABLE + "variants = { fast = { compil = true } }", PROGRAM,
        "12_x/pyproject.toml: variants.fast: .*'compil': did you mean compile",
    ),
    "no program": (TABLE, None, "12_x/main.py is missing"),
    "not Python": (TABLE, "def f(:\n", "12_x/main.py, line 1: "),
    "no export": (TABLE, PROGRAM.replace("export", "exprot"), r"12_x/main.py has no function exp"),
    "no annotation": (TABLE, PROGRAM.replace(": bool", ""), "12_x/main.py: .* compile .*annotat"),
}  # fmt: skip
ASKING = [["verify", "12"], ["compare", "12"], ["train", "12"], ["mutants", "12"], ["bench", "12"]]
ASKING_ALL = [["verify"], ["compare"], ["mutants"], ["bench"], ["doctor"]]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree with versions 01 and 02, and a function that writes version 12."""
    for name in versions.folders()[:2]:
        shutil.copytree(versions.ROOT / name, tmp_path / name)
    replace_tree(monkeypatch, tmp_path)

    def write(table=TABLE, program=PROGRAM, name="12_x"):
        (tmp_path / name).mkdir()
        for file, text in {"pyproject.toml": table, "main.py": program}.items():
            if text is not None:
                (tmp_path / name / file).write_text(text)

    return write


@pytest.fixture
def lab(monkeypatch, capsys):
    return Lab(monkeypatch, capsys)


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_for_who_asks_for_that_version(tree, lab, mistake, command):
    table, program, said = MISTAKES[mistake]
    tree(table, program)
    assert re.search(said, lab.refuses(*command))


@pytest.mark.parametrize("command", ASKING_ALL, ids=" ".join)
@pytest.mark.parametrize("mistake", ["broken TOML", "no export"])
def test_a_mistake_is_one_line_for_who_asks_for_all(tree, lab, mistake, command):
    table, program, said = MISTAKES[mistake]
    tree(table, program)
    assert re.search(said, lab.refuses(*command))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_stops_no_command_for_another_version(tree, lab, monkeypatch, mistake):
    table, program, _ = MISTAKES[mistake]
    tree(table, program)
    assert [version.name[:2] for version in versions.pick(["02"])] == ["02"]
    assert versions.find()["02_numpy_manual_backprop"].title
    monkeypatch.setattr(verify, "run_version", lambda version, *_: [version.name])
    assert list(verify.run_all(["02"], 1)) == ["02_numpy_manual_backprop"]
    assert "'abacus'" in lab.refuses("bench", "02", "--quick", "--device", "abacus")
    assert pictures.colour({"version": "02_numpy_manual_backprop"})
    assert options.runnable("01")[0].name == versions.REFERENCE


def test_a_folder_without_devices_computes_on_the_cpu(tree):
    tree()
    assert versions.pick(["12"])[0].devices == ("cpu",)


def test_a_folder_of_caches_is_no_version(tree):
    (versions.ROOT / "12_gone" / "__pycache__").mkdir(parents=True)
    assert versions.folders() == list(versions.find())
    assert "12_gone" not in versions.folders()


def test_two_folders_with_one_number_are_told_to_who_asks_for_it(tree):
    tree()
    tree(name="12_y")
    for names in (["12"], []):
        with pytest.raises(InputError, match="12_x and 12_y have the same number"):
            versions.pick(names)
    assert versions.pick(["12_y", "02"])[0].name == "12_y"


def test_a_name_that_fits_several_lists_them(tree):
    with pytest.raises(InputError, match="'0' can be 01_pure_python or 02_numpy"):
        versions.pick(["0"])


def test_a_framework_that_is_not_installed_is_said_with_the_command(tree):
    tree(TABLE.replace("numpy", "nonesuch"))
    with pytest.raises(InputError, match="12_x cannot run: nonesuch is not installed: uv sync"):
        options.runnable("12")
    (row,) = verify.run_all(["12"], 1)
    assert row.reason.startswith("nonesuch is not installed")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (line 9)"),
        ("import nonesuch", "ModuleNotFoundError: No module named 'nonesuch' (line 9)"),
        ("raise SystemExit(3)", "SystemExit: 3 (line 9)"),
    ],
)
def test_a_program_that_raises_on_import_is_one_line(tree, line, said):
    tree(program=f"{PROGRAM}\n{line}\n")
    with pytest.raises(InputError) as e:
        options.runnable("12")
    assert str(e.value) == f"12_x/main.py cannot be imported: {said}"
