"""What cannot be done is refused before the work: empty values, paths that cannot be written,
numbers out of range, and an empty set of checks."""

import json
import os
from pathlib import Path

import pytest
from microgpt_lab.base import versions
from microgpt_lab.benchmark import bench
from microgpt_lab.beyond import measuring
from microgpt_lab.commands import main
from microgpt_lab.runs import compare, run_folder, show, training
from microgpt_lab.speedrun import race
from microgpt_lab.verification import (
    from_checkpoint,
    lab_mutants,
    mutants,
    ports,
    proof,
    random_cases,
    vectors,
    verify,
)

from lab_helpers import replace_tree

# Every option that names a file to write, or a folder: the command up to the path.
FILES = {
    "verify --json": ["verify", "02", "--json"],
    "verify --program --json": ["verify", "--program", "cat", "--json"],
    "verify --program --report": ["verify", "--program", "cat", "--report"],
    "verify --program --badge": ["verify", "--program", "cat", "--badge"],
    "verify --results --json": ["verify", "--results", "given", "--json"],
    "verify --checkpoint --json": ["verify", "--checkpoint", "{run}", "--json"],
    "verify --case --json": ["verify", "02", "--case", "gist", "--json"],
    "bench --json": ["bench", "02", "--quick", "--json"],
    "beyond --json": ["beyond", "--json"],
    "bench --from --json": ["bench", "--from", "given", "--json"],
    "show --out": ["show", "{run}", "anna", "--out"],
    "show --embeddings --out": ["show", "{run}", "--embeddings", "--out"],
    "export": ["export", "{run}"],
}
FOLDERS = {
    "bench --out": ["bench", "02", "--quick", "--out"],
    "compare --out": ["compare", "02", "--out"],
    "train --out": ["train", "02", "--out"],
    "port --out": ["port", "new", "c", "--out"],
    "vectors --out": ["vectors", "--out"],
}
PATHS = {**FILES, **FOLDERS}
ENDS = {"show --out": ".svg", "show --embeddings --out": ".svg", "export": ".json"}


@pytest.fixture
def no_work(run, tmp_path, monkeypatch):
    """An empty folder, and a lab in which nothing takes long, because it must not begin."""
    monkeypatch.chdir(tmp_path)
    Path("given").write_text("{}")

    def work(*_, **__):
        raise AssertionError("the work begins")

    for module, name in [
        (verify, "run_all"), (verify, "run_case"), (from_checkpoint, "run_all"),
        (ports, "run_program"), (ports, "read_results"), (random_cases, "draw_cases"),
        (bench, "measure"), (compare, "train_in_process"), (training.TrainingSession, "work"),
        (show, "read_name"), (show, "embedding_paths"), (mutants, "run_all"),
        (proof, "run_all"), (lab_mutants, "run_mutants"), (race, "in_turns"),
        (measuring, "measure_all"),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, work)
    return lambda arguments: [str(a).format(run=run) for a in arguments]


@pytest.mark.tried("an empty value for an option that names a file")
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("equals", [False, True])
def test_an_empty_path_is_refused(lab, no_work, name, equals):
    arguments = no_work(PATHS[name])
    option = arguments[-1]
    if equals and option.startswith("-"):
        arguments[-1] += "="
    else:
        arguments.append("")
    said = lab.refuses(*arguments)
    where = option if option.startswith("-") else "an argument"
    assert said == f"error: {where} is empty: give a value or leave it out\n"
    assert os.listdir() == ["given"]


@pytest.mark.tried("a path that cannot be written, for every option that names one")
@pytest.mark.parametrize("path", [".", "/", "..", "none/there/x", "given/x", "folder"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(lab, no_work, name, path):
    end = ENDS.get(name, "")
    Path(f"folder{end}").mkdir()
    before = sorted(Path().rglob("*"))
    if path not in (".", "/", ".."):
        path += end
    said = lab.refuses(*no_work(FILES[name]), path)
    assert repr(path) in said
    assert sorted(Path().rglob("*")) == before


@pytest.mark.tried("a path that cannot be written, for every option that names one")
@pytest.mark.parametrize("path", [".", "/", "..", "given", "given/x"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(lab, no_work, name, path):
    said = lab.refuses(*no_work(FOLDERS[name]), path)
    assert repr(path) in said
    assert os.listdir() == ["given"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--results", "given", "--json", "given"], "--json and --results are both 'given'"),
        (["--results", "given", "--json", "./link"], "--json and --results are both 'link'"),
        (["--program", "cat", "--json", "x", "--badge", "x"], "--badge and --json are both 'x'"),
        (["02", "--case", "given", "--json", "given"], "--json and --case are both 'given'"),
    ],
)
def test_one_file_for_two_things_is_refused(lab, no_work, arguments, says):
    Path("link").symlink_to("given")
    assert says in lab.refuses("verify", *arguments)
    assert Path("given").read_text() == "{}"


# ---------------------------------------------------------------- Empty values

EMPTY = [
    ["verify", "--program", ""],
    ["verify", "--results", ""],
    ["verify", "--case", ""],
    ["verify", "--recipe", "", "--program", "cat"],
    ["verify", "--checkpoint", ""],
    ["verify", ""],
    ["mutants", ""],
    ["mutants", "lab", ""],
    ["proof", ""],
    ["speedrun", ""],
    ["beyond", ""],
    ["compare", "--data", ""],
    ["compare", "--recipe="],
    ["train", ""],
    ["train", "02", "--data="],
    ["train", "02", "--dtype", ""],
    ["train", "02", "--option", ""],
    ["train", "02", "--from", ""],
    ["resume", ""],
    ["resume", "--with", ""],
    ["resume", "--data", ""],
    ["sample", ""],
    ["sample", "--with="],
    ["show", ""],
    ["show", "{run}", ""],
    ["export", "", "x.json"],
    ["bench", "--from", ""],
    ["bench", "--against="],
    ["bench", "--recipe", ""],
    ["bench", "--sweeps", ""],
    ["bench", "--device", ""],
    ["scale", "--recipe", ""],
    ["scale", "--widths", ""],
    ["new", ""],
    ["new", "x", "--title", ""],
    ["port", "new", ""],
    [""],
]


@pytest.mark.tried("an empty value")
@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_an_empty_value_is_refused(lab, no_work, arguments):
    said = lab.refuses(*no_work(arguments))
    assert "is empty: give a value" in said or "no command ''" in said


def test_an_empty_prompt_is_no_letters(lab, run):
    assert lab("sample", run, "--prompt", "", "-n", 1) == 0
    assert lab("sample", run, "--prompt=", "-n", 1) == 0


# ---------------------------------------------------------------- Files that never end

READ = [
    ["verify", "02", "--case", "{endless}"],
    ["verify", "--results", "{endless}"],
    ["verify", "02", "--checkpoint", "{endless}"],
    ["bench", "--from", "{endless}"],
    ["bench", "02", "--quick", "--against", "{endless}"],
    ["train", "02", "--data", "{endless}"],
    ["train", "02", "--from", "{endless}"],
    ["compare", "02", "--data", "{endless}"],
    ["resume", "{run}", "--until", "61", "--data", "{endless}"],
    ["sample", "{endless}"],
    ["show", "{endless}", "anna"],
    ["export", "{endless}", "x.json"],
]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
@pytest.mark.tried("a path that never ends, for every option that names one")
@pytest.mark.parametrize("arguments", READ, ids=" ".join)
def test_a_path_that_never_ends_is_refused(lab, run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    said = lab.refuses(*(text.format(run=run, endless="/dev/zero") for text in arguments))
    assert "/dev/zero" in said
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- Numbers

NUMBERS = [
    ["train", "02", "--until", "0"],
    ["train", "02", "--until", "-1"],
    ["train", "02", "--until", "501"],
    ["train", "02", "--evaluate", "-1"],
    ["train", "02", "--samples", "-1"],
    ["train", "02", "--held-out", "nan"],
    ["train", "02", "--held-out", "-0.1"],
    ["compare", "02", "--evaluate", "-1"],
    ["compare", "02", "--samples", "-1"],
    ["compare", "02", "--held-out", "1"],
    ["compare", "02", "--batch-size", "99999"],
    ["verify", "02", "--jobs", "0"],
    ["speedrun", "--seeds", "0"],
    ["beyond", "--jobs", "0"],
    ["speedrun", "--seeds", "1000"],
    ["verify", "02", "--random", "-1"],
    ["verify", "02", "--seed", "-1"],
    ["verify", "--program", "cat", "--timeout", "0"],
    ["verify", "--program", "cat", "--timeout", "inf"],
    ["verify", "--program", "cat", "--timeout", "nan"],
    ["mutants", "02", "--jobs", "0"],
    ["proof", "02", "--jobs", "0"],
    ["bench", "02", "--rounds", "0"],
    ["bench", "02", "--max-batch", "0"],
    ["ablation", "--steps", "0"],
    ["sample", "{run}", "-n", "-1"],
    ["sample", "{run}", "--top-k", "0"],
    ["sample", "{run}", "--top-p", "0"],
    ["sample", "{run}", "--top-p", "nan"],
    ["sample", "{run}", "--temperature", "0"],
    ["sample", "{run}", "--temperature", "inf"],
    ["resume", "{run}", "--keep", "1"],
    ["resume", "{run}", "--until", "-5"],
]


@pytest.mark.tried("a number out of range")
@pytest.mark.parametrize("arguments", NUMBERS, ids=" ".join)
def test_a_number_out_of_range_is_refused_before_the_work(lab, no_work, arguments):
    said = lab.refuses(*no_work(arguments))
    option = arguments[-2]
    word = {"-n": "samples"}.get(option, option.strip("-"))
    assert word.replace("-", "_") in said.replace("-", "_"), said


# ---------------------------------------------------------------- An empty set

NEED_VERSIONS = [
    ["verify"], ["verify", "02"], ["mutants"], ["mutants", "02"], ["proof"], ["compare"],
    ["compare", "02"], ["train", "02"], ["bench"], ["bench", "--quick", "02"], ["vectors"],
    ["lines"], ["ablation"], ["new", "x_y"], ["port", "new", "c"], ["verify", "--case", "gist"],
    ["sample", "{run}"], ["resume", "{run}", "--until", "70"],
]  # fmt: skip


@pytest.fixture
def no_version(tmp_path, monkeypatch):
    """An empty folder in place of the tree."""
    (tmp_path / "tree").mkdir()
    replace_tree(monkeypatch, tmp_path / "tree")


@pytest.mark.tried("a command where there is no version")
@pytest.mark.parametrize("arguments", NEED_VERSIONS, ids=" ".join)
def test_where_there_is_no_version_nothing_is_checked_or_written(
    lab, run, tmp_path, monkeypatch, no_version, arguments
):
    monkeypatch.chdir(tmp_path)
    before = sorted(run.rglob("*"))
    said = lab.refuses(*(text.format(run=run) for text in arguments))
    assert "there is no version in" in said
    assert "works in a checkout of its repository" in said
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "tree"]
    assert sorted(run.rglob("*")) == before


def test_doctor_says_where_there_is_no_version(lab, no_version):
    assert lab("doctor") == 1
    assert "0 in " in lab.out


def test_a_version_that_was_asked_nothing_has_not_passed(monkeypatch):
    """Its process says what it is, and no check at all."""

    def silent(*_):
        return iter([(0, "end", ("NumPy", "", []))]), ""

    monkeypatch.setattr(verify.child, "run_module", silent)
    monkeypatch.setattr(verify.as_run, "findings", lambda version: [])
    first, *_ = verify.run_version(versions.find()["02_numpy_manual_backprop"], "some.json")
    assert [f.passed for f in first.findings] == [False]
    assert "no check was run" in first.failures[0].line()


def test_a_file_without_mutants_of_the_lab_is_refused(lab, monkeypatch):
    monkeypatch.setattr(lab_mutants, "read_lab_mutants", list)
    assert "has no mutant" in lab.refuses("mutants", "lab")


def test_where_no_setup_can_be_measured_bench_says_why(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = lab.refuses("bench", "01", "--quick", "--dtype", "float32")
    assert "nothing to measure: 01_pure_python: it has no float32" in said
    assert not list(tmp_path.iterdir())


def test_the_golden_vectors_are_written_together_or_not_at_all(tmp_path, monkeypatch):
    """An end before the last one is computed leaves those that were there."""
    for plan in vectors.PLANS[:3]:
        (tmp_path / f"{plan.id}.json").write_text("old")
    computed = []

    def make(plan):
        computed.append(plan.id)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return {"id": plan.id}

    monkeypatch.setattr(vectors, "make", make)
    with pytest.raises(KeyboardInterrupt):
        vectors.write_vectors(tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}
    computed.append("one more, so that no third call raises")
    paths = vectors.write_vectors(tmp_path)
    assert [json.loads(path.read_text())["id"] for path in paths] == [path.stem for path in paths]


def test_every_command_stands_in_these_lists():
    """A new command is tried too."""
    tried = {arguments[0] for arguments in (*PATHS.values(), *EMPTY, *NUMBERS, *NEED_VERSIONS)}
    assert main.COMMANDS.keys() - tried == {"doctor", "site"}
    assert Path("runs") == run_folder.FOLDER
