"""Command lines with odd options and values, of every command and of every version's own program.
Those that are accepted are run. Each ends with its result, or with one line and status 2.
MICROGPT_INPUTS is the number of command lines of each; without it they are the same each time."""

import os
import re
import shutil
import subprocess
import sys
from itertools import chain

import microgpt

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from microgpt_lab.benchmark import ablation, bench
from microgpt_lab.beyond import measuring
from microgpt_lab.commands import doctor, main
from microgpt_lab.runs import compare
from microgpt_lab.speedrun import race
from microgpt_lab.verification import from_checkpoint, lab_mutants, mutants, proof, verify

from lab_helpers import HERE, SMALL, Lab, module_of

QUICK = ["--data", "{data}", *SMALL, "--steps", "2"]
# Each command, as far as it can be run here: {run} is a finished run.
COMMANDS = {
    "train": ["train", "02", *QUICK],
    "resume": ["resume", "{copy}"],
    "sample": ["sample", "{run}"],
    "show": ["show", "{run}", "emma"],
    "export": ["export", "{run}", "x.json"],
    "verify": ["verify", "02", "--case", "first-steps"],
    "verify --program": ["verify", "--program", "true", "--case", "first-steps"],
    "scale": ["scale", "--operations", "1"],
    "port": ["port", "new", "c"],
    "lines": ["lines"],
    # of these only the work itself is left out: it takes long
    "doctor": ["doctor"],
    "compare": ["compare", "02", *QUICK],
    "bench": ["bench", "02", "--quick"],
    "ablation": ["ablation"],
    "mutants": ["mutants", "02"],
    "proof": ["proof", "02"],
    "beyond": ["beyond"],
    "speedrun": ["speedrun"],
}
LONG = [
    (compare, "train_in_process"), (bench, "measure"), (ablation, "measure_programs"),
    (mutants, "run_all"), (proof, "run_all"), (lab_mutants, "run_mutants"), (race, "in_turns"),
    (measuring, "measure_all"), (from_checkpoint, "run_all"), (verify, "run_all"),
    (doctor, "try_all"),
]  # fmt: skip
FINDS = {"verify", "verify --program"}  # status 1: it has found something wrong
NEVER = {"--write", "--watch"}  # they change this repository, or do not end
# How long a command takes depends on these: no large numbers.
TIMED = {
    "--steps", "--samples", "--evaluate", "--n-embd", "--n-layer", "--n-head", "--block-size",
    "--batch-size", "--random", "--until", "--jobs", "--timeout", "-n",
}  # fmt: skip
SMALL_VALUES = [
    "", " ", "0", "1", "2", "3", "-1", "-0", "+1", "1.5", "1e0", "nan", "inf", "-inf", "1_0", "0x1",
    "٣", "none", "None", "true", "x", "[red]", "\x1b[31m", "--", "-", "..", "é", "a,b", "1,2", ",",
]  # fmt: skip
VALUES = [
    *SMALL_VALUES, "99999999999999999999", "1e308", "1e-308", "1e999", "seed", "gist", "scaled",
    "linear", "cosine", "float32", "float64", "bfloat16", "cpu", "cuda", "names", "03", "04", "99",
    "x=1", "=", "new/x", "x.svg", "/", "/dev/null", ".", "x" * 300,
]  # fmt: skip
OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z0-9-]*)")


class Begins(BaseException):
    """The work would begin: the command line is accepted."""


def inputs_of(tried, default):
    return settings(
        max_examples=tried.number("MICROGPT_INPUTS", default), deadline=None, database=None,
        derandomize="MICROGPT_INPUTS" not in os.environ, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def odd_lines(options):
    """Up to three options of these, each with a value or without one, and stray words."""

    def with_value(option):
        values = SMALL_VALUES if option in TIMED else VALUES
        value = st.one_of(st.sampled_from(["1", "2", "3"]), st.sampled_from(values))
        return st.one_of(
            value.map(lambda text: [option, text]), value.map(lambda text: [f"{option}={text}"]),
            st.just([option]),
        )  # fmt: skip

    one = st.one_of(
        st.sampled_from(sorted(options)).flatmap(with_value),
        st.sampled_from(SMALL_VALUES).map(lambda text: [text]),
    )
    return st.lists(one, min_size=1, max_size=3).map(lambda parts: [*chain(*parts)])


def assert_ends_well(status, error, accepted=(0,)):
    assert "Traceback" not in error, error
    assert status in (*accepted, 2), (status, error)
    if status == 2:
        assert re.fullmatch(r"error: [^\n]+\n", error), error
        assert "\x1b" not in error, error


# ---------------------------------------------------------------- The lab


@pytest.fixture
def lab(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def begins(*_, **__):
        raise Begins

    for module, name in LONG:
        monkeypatch.setattr(module, name, begins)
    return Lab(monkeypatch, capsys)


def options_of(arguments):
    """The options that a command's help names."""
    told = subprocess.run(
        [sys.executable, "-m", "microgpt_lab.commands.main", arguments[0], "--help"],
        capture_output=True, text=True, encoding="utf-8", env=os.environ | {"COLUMNS": "120"},
    ).stdout  # fmt: skip
    left = [line.split("  ")[0] for line in re.findall(r"^│ (-.*)", told, re.MULTILINE)]
    return {option for line in left for option in OPTION.findall(line)} - NEVER


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
def test_any_command_line_of_the_lab_is_done_or_refused(name, lab, run, tmp_path, tried):
    options, statuses = options_of(COMMANDS[name]), set()
    assert "--help" in options
    places = {"run": run, "data": run.parent / "names.txt", "copy": tmp_path / "copy"}

    @inputs_of(tried, 12)
    @example([])
    @given(odd_lines(options))
    def ends_well(line):
        tried(f"odd command lines: {name.split()[0]}")
        for path in tmp_path.iterdir():
            if path.name != ".hypothesis":  # hypothesis keeps files in the current folder
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if name == "resume":
            shutil.copytree(run, places["copy"])
        given_line = [text.format(**places) for text in COMMANDS[name]] + line
        try:
            status = lab(*given_line)
        except Begins:
            status, lab.err = 0, ""
        statuses.add(status)
        assert_ends_well(status, lab.err, (0, 1) if name in FINDS else (0,))

    ends_well()
    assert 2 in statuses
    assert len(statuses) > 1, "a command line without an odd option is accepted"


def test_every_command_is_tried():
    left_out = {"site", "new", "vectors"}  # `site` serves; the others write beside the versions
    assert {name.split()[0] for name in COMMANDS} == set(main.COMMANDS) - left_out


# ---------------------------------------------------------------- The versions' own programs

ALONE = [version for version in HERE if "distributed" not in version.name]
COMPILED = ("jax", "mlx", "pytorch")  # a new shape, or --compile, takes seconds


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", ALONE, ids=lambda version: version.name)
def test_any_command_line_of_a_program_is_done_or_refused(
    version, monkeypatch, capsys, run, tmp_path, tried
):
    monkeypatch.chdir(tmp_path)
    module = module_of(version.name)
    start = ["--data", str(run.parent / "names.txt"), *SMALL, "--steps", "2", "--samples", "2"]

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        status = 0
        try:
            microgpt.run(module)
        except SystemExit as leaving:
            status = leaving.code or 0
        return status, *capsys.readouterr()

    _, told, _ = call("--help")
    options, statuses = set(re.findall(r"^ +(--[a-z0-9-]+)", told, re.MULTILINE)), set()
    assert len(options) > 15

    @inputs_of(tried, 5 if any(name in version.name for name in COMPILED) else 30)
    @example([])
    @given(odd_lines(options - {"--help"}))
    def ends_well(line):
        tried("odd command lines: a version's own program")
        status, _, error = call(*start, *line)
        statuses.add(status)
        assert_ends_well(status, error)

    ends_well()
    assert 2 in statuses
    assert 0 in statuses, "a command line without an odd option is accepted"
