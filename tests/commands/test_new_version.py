"""`microgpt new` writes a version that fails with helpful lines until it is filled in."""

import os
import re
import shutil
import subprocess
import sys

from microgpt import InputError

import pytest
from microgpt_lab.base import versions
from microgpt_lab.base.versions import GUIDE, ROOT
from microgpt_lab.commands import new_version

from lab_helpers import replace_tree

NUMPY = "02_numpy_manual_backprop"
NAME = "12_made_up"
# Wrong programs, each an edit of one line of 02.
MISTAKES = """
[[mutant]]
id = "no-attention-scale"
find = "    scale = D**-0.5\\n"
replace = "    scale = 1\\n"
rule = "S6.3"
why = "Scores that grow with the width of a head still train."

[[mutant]]
id = "target-not-subtracted"
find = "    dlogits[at_target] -= 1\\n"
replace = ""
rule = "S8.1"
why = "The gradient pushes every token down."

[[mutant]]
id = "step-counted-twice"
find = "    state.step += 1\\n"
replace = "    state.step += 2\\n"
rule = "S9.3"
why = "The bias correction is that of another step."
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of what the lab needs, with version 12 as `microgpt new` writes it; and a function
    that runs a Python module in it -> (status, output, errors)."""
    for name in ("lab", "01_pure_python", NUMPY, "tests/versions", "pyproject.toml"):
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".cache"))
        else:
            shutil.copy(source, target)
    (tmp_path / "spec" / "mutants").mkdir(parents=True)
    for name in ("spec/vectors", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    for number in range(3, 12):  # other versions, of which nothing is asked
        (tmp_path / f"{number:02}_other").mkdir()
    path = [str(tmp_path / "lab"), str(tmp_path / "01_pure_python")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTEST_ADDOPTS": ""}

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    status, output, errors = run(*MICROGPT, "new", "made_up", "--title", "NumPy, made up")
    assert (status, errors) == (0, "")
    for file in ("main.py", "pyproject.toml", "README.md"):
        assert f"wrote {NAME}/{file}\n" in output
        assert (tmp_path / NAME / file).exists()
    assert f"wrote spec/mutants/{NAME}.toml\n" in output
    return tmp_path, run


MICROGPT = ("-m", "microgpt_lab.commands.main")
# The rules of a version's folder. Not again what verify checks, nor the names, for which 01 trains.
CHOSEN = f"{NAME} and not matches_the and not prints_the"
RULES = ("-m", "pytest", "tests/versions/test_versions.py", "-k", CHOSEN)


def fill(folder):
    """What a person does: the program, the README, the mutants. Here the program is 02's."""
    shutil.copy(folder / NUMPY / "main.py", folder / NAME / "main.py")
    readme = (folder / NAME / "README.md").read_text()
    before = readme.split("- TODO: `id-of-a-mutant`")[0]
    ids = re.findall('^id = "(.*)"$', MISTAKES, re.MULTILINE)
    text = before.replace("TODO:", "Here stands") + "".join(f"- `{key}`\n" for key in ids)
    (folder / NAME / "README.md").write_text(text)
    (folder / "spec" / "mutants" / f"{NAME}.toml").write_text(MISTAKES)


def test_an_empty_version_says_what_is_to_be_written(tree):
    folder, run = tree
    said = f"{NAME}: create() is still to be written: see {GUIDE}"
    status, output, _ = run(*MICROGPT, "verify", "12")
    assert status == 1
    assert said in " ".join(output.split())
    status, _, errors = run(folder / NAME / "main.py")
    assert (status, errors) == (2, f"error: {said}\n")
    status, output, _ = run(*RULES)
    assert status == 1
    failed = re.findall(r"^E +\w*Error: .*", output, re.MULTILINE)  # not the code around it
    assert failed
    assert all(GUIDE in line for line in failed), failed


def test_a_version_that_is_filled_in_is_green(tree):
    folder, run = tree
    fill(folder)
    for command in ("verify", "mutants"):
        status, output, errors = run(*MICROGPT, command, "12")
        assert (status, errors) == (0, ""), output
    status, output, _ = run(*RULES)
    assert status == 0, output


def test_a_broken_version_stops_no_other(tree):
    folder, run = tree
    (folder / NAME / "pyproject.toml").write_text("[tool.microgpt\n")
    few = ("--steps", 1, "--samples", 1, "--evaluate", 1, "--out", "run")
    status, output, errors = run(*MICROGPT, "compare", "02", *few)
    assert (status, errors) == (0, ""), output
    status, _, errors = run(*MICROGPT, "verify")
    assert status == 2
    assert re.fullmatch(rf"error: {NAME}/pyproject.toml is not valid TOML: .*\n", errors)


# ---------------------------------------------------------------- What is refused


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A tree with one version, as ROOT."""
    (tmp_path / "07_made_up").mkdir()
    (tmp_path / "spec" / "mutants").mkdir(parents=True)
    replace_tree(monkeypatch, tmp_path)
    return tmp_path


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "framework", "title", "said"),
    [
        ("Made", "numpy", "", "name is 'Made': it must be lower-case words"),
        ("08_made", "numpy", "", "name is '08_made': it must be"),
        ("made-up", "numpy", "", "name is 'made-up': it must be"),
        ("../up", "numpy", "", "name is '../up': it must be"),
        ("m" * 51, "numpy", "", "at most 50 characters"),
        ("made_up", "numpy", "", "07_made_up has this name already"),
        ("new", "nonesuch", "", "framework is 'nonesuch': no module"),
        ("new", "numpy.nonesuch", "", "framework is 'numpy.nonesuch': no module"),
        ("new", "", "", "framework is '': no module"),
        ("new", "numpy", 'a "b"', "without quotes"),
        ("new", "numpy", "a\nb", "it must be a line"),
    ],
)
def test_what_cannot_be_a_version_is_refused_and_nothing_written(
    empty, name, framework, title, said
):
    before = contents(empty)
    with pytest.raises(InputError) as e:
        new_version.write_version(name, framework, title)
    assert said in str(e.value)
    assert "\n" not in str(e.value)
    assert contents(empty) == before


def test_what_fails_halfway_leaves_nothing(empty, monkeypatch):
    before, filled = contents(empty), new_version.filled

    def failing(template, words):
        if template == "mutants.toml":
            raise OSError(28, "No space left on device")
        return filled(template, words)

    monkeypatch.setattr(new_version, "filled", failing)
    with pytest.raises(InputError, match=r"cannot make .*08_new': No space left on device"):
        new_version.write_version("new", "numpy", "")
    assert contents(empty) == before


def test_the_number_is_the_highest_and_one_more(empty):
    folder, mutants = new_version.write_version("new", "numpy", "")
    assert (folder.name, mutants.name) == ("08_new", "08_new.toml")
    (empty / "99_last").mkdir()
    with pytest.raises(InputError, match="the highest number is 99"):
        new_version.write_version("newer", "numpy", "")


def test_what_is_written_describes_itself(empty):
    new_version.write_version("new", "rich", "Rich, a title")
    version = versions.read_version("08_new")
    assert (version.title, version.framework) == ("Rich, a title", "rich")
    text = (empty / "08_new" / "pyproject.toml").read_text()
    assert 'dependencies = ["microgpt-beyond-reference", "numpy", "rich"]' in text
    for path in (empty / "08_new").iterdir():
        assert "{{" not in path.read_text()


@pytest.mark.parametrize("name", ["a", "two_words", "m" * 50])
def test_what_is_written_is_formatted(empty, name):
    folder, _ = new_version.write_version(name, "numpy", "T" * 50)
    shutil.copy(ROOT / "pyproject.toml", empty)
    for command in ("check", "format --check"):
        ruff = [sys.executable, "-m", "ruff", *command.split(), str(folder)]
        done = subprocess.run(ruff, cwd=empty, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
