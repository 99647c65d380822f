"""The command line: what it prints, logs and refuses, and how it ends."""

import ast
import errno
import io
import itertools
import json
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import microgpt
from microgpt import RECIPES, Config

import pytest

PROGRAM = microgpt.__file__
WORDS = ["anna", "bob", "cyd", "dee", "evelyn"]
SMALL = ["--n-embd", "4", "--n-head", "1"]
FULL = "/dev/full"  # where there is one, it takes nothing
PLAIN = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}


@pytest.fixture
def words(tmp_path):
    """A small file of documents: its path."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    return str(path)


def program(*arguments, python=(), path=PROGRAM, env=None, **how):
    """What a run of the program leaves: returncode, stdout, stderr."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    command = [sys.executable, *python, str(path), *map(str, arguments)]
    env = {**PLAIN, **(env or {})}
    return subprocess.run(command, text=True, timeout=60, env=env, **how)


def names_in(text):
    """The names that a run prints, numbered from 1."""
    found = re.findall(r"^ *(\d+)  (.*?)\r?$", text, re.MULTILINE)
    assert [int(i) for i, _ in found] == [*range(1, len(found) + 1)]
    return [name.removesuffix("  (in the data)") for _, name in found]


def records(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


# ---------------------------------------------------------------- A run


def test_a_run_prints_twenty_names_and_logs_itself_in_full(tmp_path):
    """Names, losses and all: to the last digit what the functions give."""
    log, config = tmp_path / "run.jsonl", replace(Config(), steps=5)
    ended = program("--steps", 5, "--log", log)
    assert (ended.returncode, ended.stderr) == (0, "")

    run = microgpt.prepare(config, say=lambda _: None)
    state, bos = microgpt.create(config, run.snapshot), run.tokenizer.bos
    losses = microgpt.train(state, microgpt.batches(config, run.tokenizer, run.docs))
    losses = list(losses)
    names = microgpt.generate(
        lambda tokens: microgpt.logits(state, tokens), config, bos, run.rng.random
    )
    names = [*map(run.tokenizer.decode, itertools.islice(names, 20))]
    assert names_in(ended.stdout) == names

    first, *rest = records(log)
    assert first["config"] == asdict(config)
    assert first["digest"] == microgpt.SHA256["names"]
    assert (first["seed"], first["data"], first["documents"]) == (42, "names", 32246)
    assert rest == [
        *({"step": i, "loss": loss} for i, loss in enumerate(losses, start=1)),
        *({"name": name, "in_data": name in run.docs} for name in names),
    ]


def test_names_that_stand_in_the_data_are_marked(words):
    """A tiny model on five short words soon repeats them; the mark is on those and on no other."""
    ended = program("--data", words, "--steps", 200, "--block-size", 4, *SMALL)
    printed = re.findall(r"^ *\d+  (.*?)(  \(in the data\))?$", ended.stdout, re.MULTILINE)
    assert len(printed) == 20
    assert all((name in WORDS) == bool(mark) for name, mark in printed)
    assert {bool(mark) for _, mark in printed} == {True, False}


def test_an_older_python_is_told_in_one_sentence():
    """The check stands before everything that an older Python lacks: with a version that is too
    old, nothing below it runs."""
    code = (
        "import sys, runpy; sys.version_info = (3, 9, 18); sys.version = '3.9.18 (old)'; "
        f"runpy.run_path({PROGRAM!r}, run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: Python 3.9.18 is older than 3.11\n"


def test_older_pythons_can_read_the_file_as_far_as_the_check():
    """Nothing in it is newer than Python 3.7, so that the sentence is not a SyntaxError."""
    ast.parse(Path(PROGRAM).read_text("utf-8"), feature_version=(3, 7))


def test_two_runs_are_the_same_and_another_seed_is_another(tmp_path):
    """Also where Python's sets have another order, as they do from run to run."""
    log, logs = tmp_path / "run.jsonl", []
    for salt, seed in (("1", 42), ("2", 42), ("1", 43)):
        program(
            "--steps", 3, *SMALL, "--seed", seed, "--log", log,
            env={"PYTHONHASHSEED": salt},
        )  # fmt: skip
        logs.append(log.read_text().splitlines())
    one, same, other = logs
    assert len(one) == 24
    assert one == same
    assert not {*one} & {line for line in other if "loss" in line}


def test_a_copy_elsewhere_runs_on_the_standard_library_alone(words, tmp_path):
    copy = shutil.copy(PROGRAM, tmp_path / "copy.py")
    alone = ["-I", "-S"]  # neither the environment's modules nor this folder's
    ended = program("--data", words, "--steps", 2, *SMALL, path=copy, python=alone)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(names_in(ended.stdout)) == 20


def test_importing_it_prints_trains_and_reads_nothing(tmp_path):
    shutil.copy(PROGRAM, tmp_path / "elsewhere.py")  # there are no documents here
    ended = program("import elsewhere; print(elsewhere.tape)", path="-c", cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_it_may_lie_in_the_root_of_the_file_system():
    there = {"__name__": "microgpt", "__file__": "/microgpt.py"}
    exec(Path(PROGRAM).read_text("utf-8"), there)
    assert there["RECIPES"]


def test_letters_that_the_output_cannot_show_do_not_end_a_run(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("éé\nàà\n", "utf-8")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    ended = program("--data", path, "--steps", 1, *SMALL, env=ascii_only)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(names_in(ended.stdout)) == 20


# ---------------------------------------------------------------- Options


@pytest.fixture
def call(monkeypatch, capsys):
    """call(*arguments) -> (exit status, stdout, stderr), without a process."""

    def run(*arguments, version=microgpt):
        monkeypatch.setattr(sys, "argv", ["microgpt.py", *map(str, arguments)])
        status = 0
        try:
            microgpt.run(version)
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    return run


def version(**own):
    """A version that differs from the reference in some of its functions."""
    parts = ("create", "train", "logits", "about", "__doc__")
    return SimpleNamespace(**{name: getattr(microgpt, name) for name in parts} | own)


@pytest.mark.parametrize(
    ("arguments", "recipe", "changed"),
    [
        ("", "seed", {}),
        ("--recipe gist", "gist", {}),
        ("--recipe gist --zero-init --beta1 0", "gist", {"zero_init": True, "beta1": 0.0}),
        ("--no-zero-init --batch-size 5", "seed", {"zero_init": False, "batch_size": 5}),
        ("--schedule linear --n-head 2", "seed", {"schedule": "linear", "n_head": 2}),
    ],
)
def test_a_flag_changes_its_number_of_the_recipe_and_no_other(
    arguments, recipe, changed, words, call, tmp_path
):
    log = tmp_path / "run.jsonl"
    how = ("--steps", 1, "--samples", 0, "--data", words, "--log", log)
    call(*arguments.split(), *how)
    want = replace(RECIPES[recipe], steps=1, **changed)
    assert records(log)[0]["config"] == asdict(want)


def test_each_option_of_create_is_a_flag(words, call):
    given = []

    def create(
        config,
        snapshot,
        dtype: Literal["float32", "float64"] = "float32",
        compiled: bool = True,
        threads: int = 1,
    ):
        given.append((dtype, compiled, threads))
        return microgpt.create(config, snapshot)

    common = ("--data", words, "--steps", 1, "--samples", 0)
    other = version(create=create)
    call(*common, version=other)
    own = ("--dtype", "float64", "--no-compiled", "--threads", 2)
    call(*common, *own, version=other)
    assert given == [("float32", True, 1), ("float64", False, 2)]
    assert call(*common, "--dtype", "float16", version=other)[0] == 2


def test_help_names_every_option(call):
    status, out, err = call("--help")
    assert (status, err) == (0, "")
    for f in fields(Config):
        assert "--" + f.name.replace("_", "-") in out
    for flag in ("--recipe", "--data", "--seed", "--samples", "--prompt", "--log"):
        assert flag in out


@pytest.mark.parametrize("prompt", ["", "b", "evelyna"])
def test_every_name_starts_with_the_prompt(prompt, words, call):
    status, out, _ = call("--data", words, "--steps", 2, "--prompt", prompt, *SMALL)
    names = names_in(out)
    assert (status, len(names)) == (0, 20)
    assert all(name.startswith(prompt) and len(name) <= 8 for name in names)


@pytest.mark.parametrize("samples", [0, 1, 30])
def test_as_many_names_are_made_up_as_were_asked_for(samples, words, call):
    status, out, _ = call("--data", words, "--steps", 1, "--samples", samples, *SMALL)
    assert (status, len(names_in(out))) == (0, samples)


@pytest.mark.parametrize(("block", "cut"), [(3, 5), (4, 2), (6, 1), (7, 0)])
def test_documents_longer_than_the_block_are_counted_once(block, cut, words, call):
    _, out, _ = call("--data", words, "--steps", 3, "--block-size", block, *SMALL)
    said = re.findall(r".*\bcut\b.*", out)
    assert said == [f"{cut} of 5 documents do not fit the block and are cut"] * bool(cut)


@pytest.mark.parametrize(
    "arguments",
    [
        "--learning-rate 10",
        "--learning-rate 1e-9",
        "--init-std 10 --relu-power 4 --no-zero-init",
        "--init-std 1e-9",
        "--temperature 0.001 --learning-rate 1",
        "--temperature 1000",
        "--beta1 0 --beta2 0",
        "--beta1 0.99999 --beta2 0.99999",
        "--block-size 1",
        "--n-embd 1 --n-head 1",
        "--n-layer 3",
        "--batch-size 5",
    ],
)
def test_what_the_limits_allow_works(arguments, words, call):
    arguments = f"{' '.join(SMALL)} --steps 40 {arguments}".split()
    status, out, err = call("--data", words, *arguments)
    assert (status, err, len(names_in(out))) == (0, "", 20)


# ---------------------------------------------------------------- What cannot work


@pytest.fixture
def refused(call):
    """refused(*arguments) -> the one line that says why they cannot work."""

    def run(*arguments, **how):
        status, _, err = call(*arguments, **how)
        assert status == 2
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err[:-1].isprintable(), err
        return err[:-1]

    return run


def lacking(values, name):
    """Those of the values that no number of that name can have."""
    zero_is_fine = {"beta1", "beta2", "seed", "samples"}
    return [v for v in values if v != "0" or name not in zero_is_fine]


NUMBERS = [f.name for f in fields(Config) if f.type in (int, float)]
NO_NUMBERS = ["0", "-1", "nan", "inf", "-inf", "1e30", "1" + "0" * 30, "many", ""]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be_is_refused_by_name(name, refused):
    flag = "--" + name.replace("_", "-")
    for value in lacking(NO_NUMBERS, name):
        line = refused(f"{flag}={value}", "--data", "never-read")
        assert flag in line or f"{name} is " in line, line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--steps 1.5", "--steps.*1.5"),
        ("--beta1 1", "beta1 is 1.0.*0.99999"),
        ("--n-embd 10", "n_embd 10 is not a multiple of n_head 4"),
        ("--n-head 3", "n_embd 16 is not a multiple of n_head 3"),
        ("--batch-size 6", "batch_size 6 exceeds the 5 documents"),
        ("--samples -1", "samples is -1.*0 or more"),
        ("--samples many", "--samples.*many"),
        ("--seed 1.5", "--seed.*1.5"),
        ("--seed", "--seed.*expected one argument"),
        ("--schedule flat", "flat.*cosine.*linear"),
        ("--recipe huge", "huge.*seed.*gist.*scaled"),
        ("--dtype float32", "float32.*float64"),
        ("--colour red", "--colour.*--help"),
        ("--step 5", "--step.*--help"),  # no guessing
        ("train", "train.*--help"),
        ("--prompt annaq", r"annaq.*\['q'\]"),
        ("--prompt ANNA", r"ANNA.*\['A', 'N'\]"),
        ("--prompt evelynan", "evelynan.*block of 8"),
        ("--data nowhere.txt", "nowhere.txt.*No such file.*one document a line"),
        ("--data .", "'.'.*directory.*one document a line"),
        ("--data=", "--data: it is empty"),
        ("--log .", "log.*'.'.*directory"),
        ("--log nowhere/run.jsonl", "log.*nowhere/run.jsonl.*No such file"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(arguments, reason, words, refused):
    line = refused("--data", words, "--steps", 2, *arguments.split())
    assert re.search(reason, line), line


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"anna\n", b"a\na\n", b"a\0b\nc\n", b"zo\xe9\nann\n", b"\x89PNG\r\n"]
)
def test_a_file_that_holds_no_documents_is_refused_by_name(raw, refused, tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(raw)
    assert str(path) in refused("--data", path)


@pytest.mark.parametrize("prompt", ["a\nb", "a\0b", "\x1b[31m", "\udcff"])
def test_a_prompt_of_no_letters_is_refused_in_one_line(prompt, words, refused):
    refused("--data", words, "--prompt", prompt)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_names_its_step(bad, words, refused, tmp_path):
    log = tmp_path / "run.jsonl"
    after = microgpt.Snapshot({"wte": [[0.0, bad]]}, {}, {}, 3)
    broken = version(
        train=lambda state, batches: iter([3.0, 2.0, bad, 1.0]), export=lambda state: after
    )
    line = refused("--data", words, "--log", log, "--steps", 4, version=broken)
    assert f"{bad} at step 3" in line
    assert f"after step 3 wte[0][1] is {bad}" in line
    assert [record["loss"] for record in records(log)[1:]] == [3.0, 2.0]


@pytest.mark.parametrize("arguments", ["--data nowhere.txt", "--steps nan", "--what", "--log ."])
def test_a_process_that_refuses_ends_with_status_2_and_one_line(arguments):
    ended = program(*arguments.split())
    assert ended.returncode == 2
    assert re.fullmatch(r"error: [^\n]+\n", ended.stderr)


if os.path.exists(FULL):

    @pytest.mark.parametrize("where", ["output", "log"])
    @pytest.mark.parametrize("steps", [1, 300])  # full at the end, or while it trains
    def test_a_disk_that_fills_up_is_one_line(where, steps, words, tmp_path):
        log = FULL if where == "log" else tmp_path / "log"
        with open(FULL if where == "output" else os.devnull, "w") as output:
            how = ("--data", words, "--steps", steps, "--log", log, *SMALL)
            ended = program(*how, stdout=output)
        assert ended.returncode == 2
        assert re.fullmatch(r"error: [^\n]+\n", ended.stderr), ended.stderr
        assert os.strerror(errno.ENOSPC) in ended.stderr


# ---------------------------------------------------------------- Where it prints to


class Terminal:
    """A run of the program on a pseudo terminal."""

    def __init__(self, *arguments):
        import pty

        self.end, theirs = pty.openpty()
        command = [sys.executable, PROGRAM, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=PLAIN,
            start_new_session=True,
            # who started the tests in the background may have them ignore it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(theirs)
        self.text = ""

    def read(self, until=None):
        """All that it prints, or all until some text has come; in vain after 30 s."""
        give_up = time.monotonic() + 30
        while until is None or until not in self.text:
            assert select.select([self.end], [], [], 30)[0], f"silent: {self.text}"
            assert time.monotonic() < give_up, f"endless: {self.text[:1000]}"
            try:
                more = os.read(self.end, 2**16)
            except OSError:  # Linux's way to say that the other side has closed
                more = b""
            if not more:
                assert until is None, self.text
                return self.text
            self.text += more.decode()
        return self.text

    def press_ctrl_c(self):
        self.process.send_signal(signal.SIGINT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.end)


def test_a_file_gets_a_line_ten_times_and_the_last(words, tmp_path):
    path = tmp_path / "out.txt"
    with open(path, "w") as out:
        program("--data", words, "--steps", 203, *SMALL, stdout=out)
    text = path.read_bytes().decode()
    steps = re.findall(r"^step (\d+) of 203  loss \d+\.\d+", text, re.MULTILINE)
    assert [*map(int, steps)] == [*range(20, 203, 20), 203]
    assert "\r" not in text


def test_a_terminal_gets_one_line_that_is_written_over(words):
    with Terminal("--data", words, "--steps", 203, *SMALL) as terminal:
        out = terminal.read().replace("\r\n", "\n")
        assert terminal.process.wait() == 0
    (line,) = (line for line in out.split("\n") if "step" in line)
    *earlier, last = line.split("\r")
    assert earlier
    assert all(re.match(r"step \d+ of 203  loss \d+\.\d+", part) for part in earlier)
    assert last.startswith("step 203 of 203")
    assert len(names_in(out)) == 20


def read_and_close(lines, *arguments):
    """(status, stderr) of a run whose reader has seen enough after some lines."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=PLAIN,
    )  # fmt: skip
    for _ in range(lines):
        assert process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read()
    return process.wait(60), err


@pytest.mark.parametrize(
    ("lines", "arguments"),
    [
        (0, "--steps 20"),
        (1, "--steps 20"),
        (3, "--steps 2 --samples 300"),  # the names still wait in a buffer
        (3, "--steps 2 --samples 1500"),  # no longer
        (0, "--help"),
    ],
)
def test_a_reader_that_has_seen_enough_ends_the_run_in_silence(lines, arguments, words):
    got = read_and_close(lines, "--data", words, *SMALL, *arguments.split())
    assert got == (0, "")


# ---------------------------------------------------------------- Ctrl-C


def test_ctrl_c_ends_training_early_and_makes_up_names(words, tmp_path):
    log, many = tmp_path / "run.jsonl", 10**6
    how = ("--data", words, "--steps", many, "--samples", 3, "--log", log, *SMALL)
    with Terminal(*how) as terminal:
        terminal.read(until=f" of {many:,}")
        terminal.press_ctrl_c()
        out = terminal.read()
        assert terminal.process.wait() == 0
    assert "stopping after this step" in out
    assert "Traceback" not in out
    assert len(names_in(out)) == 3
    _, *rest = records(log)
    assert ["name" in record for record in rest[-3:]] == [True] * 3
    steps = [record["step"] for record in rest[:-3]]
    assert steps == [*range(1, len(steps) + 1)]
    assert 1 <= len(steps) < many


def test_ctrl_c_may_come_while_a_line_is_written(words, call, monkeypatch):
    """The handler must not print: it would meet the print that it interrupts."""

    class Pressing(io.RawIOBase):
        text, pressed = b"", False

        def writable(self):
            return True

        def write(self, raw):
            if b"step " in bytes(raw) and not self.pressed:
                self.pressed = True
                signal.raise_signal(signal.SIGINT)
            self.text += bytes(raw)
            return len(raw)

    screen = Pressing()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(screen)))
    status, _, _ = call("--data", words, "--steps", 20, *SMALL)
    assert status == 0
    assert b"step 20 of 20" not in screen.text
    assert len(names_in(screen.text.decode())) == 20


def test_a_second_ctrl_c_leaves_at_once(words, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("\n".join("ab" for _ in range(400)))
    how = ("--data", path, "--batch-size", 400, "--samples", 10**9, *SMALL)
    with Terminal(*how) as terminal:
        terminal.read(until="step 1 of")
        terminal.press_ctrl_c()
        terminal.read(until="stopping")
        terminal.press_ctrl_c()
        out = terminal.read()
        assert terminal.process.wait() == 130
    assert "Traceback" not in out


@pytest.mark.parametrize("when", ["create", "logits"])
def test_ctrl_c_before_and_after_training_leaves_at_once(when, words, call):
    def press(config, snapshot):
        raise KeyboardInterrupt

    interrupted = version(**{when: press})
    status, _, err = call("--data", words, "--steps", 1, version=interrupted)
    assert (status, err) == (130, "")


def test_training_gives_ctrl_c_back_as_it_was(words, call):
    usual = signal.getsignal(signal.SIGINT)
    call("--data", words, "--steps", 1, *SMALL)
    assert signal.getsignal(signal.SIGINT) is usual
