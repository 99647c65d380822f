"""What a run records of itself, and what `resume` makes of a record that is damaged."""

import functools
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import microgpt

import numpy as np
import pytest
from microgpt_lab.runs import checkpoints, documents, run_folder

import lab_helpers
from lab_helpers import NUMPY, losses_of

POSIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")


@pytest.fixture
def stopped(lab, short, tmp_path):
    """The folder of a run that stopped after 20 of 40 steps."""
    assert lab("train", "02", *short, "--until", 20, "--out", tmp_path / "run") == 0
    return tmp_path / "run"


def last(run):
    return checkpoints.read_checkpoint(run_folder.saved_checkpoints(run)[-1])


# ---------------------------------------------------------------- Where the documents are


def test_a_file_called_names_does_not_replace_the_embedded_names(lab, tmp_path, monkeypatch):
    """Training takes the embedded names, so the record says so, and resume takes them again."""
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("anna\nbob\n")
    options = ["--steps", 3, "--evaluate", 1, "--until", 1, "--out", "run"]
    assert lab("train", "02", *options) == 0
    assert last(Path("run")).plan.data == "names"
    assert lab("resume", "run") == 0
    assert len(losses_of(Path("run"))) == 3


@pytest.mark.parametrize("source", ["names", "makemore", "https://x.y", "./names", "/dev/fd/9"])
def test_what_is_recorded_of_a_place(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    for name in ("names", "makemore"):
        Path(name).write_text("anna\nbob\n")
    expected = str(tmp_path / "names") if source == "./names" else source
    assert documents.lasting_name(source) == expected
    assert documents.can_be_read_again(source) == (source != "/dev/fd/9")


def test_a_file_is_recorded_by_its_whole_path(stopped, names):
    assert last(stopped).plan.data == str(names.resolve())


def test_documents_that_have_moved_are_named_with_data(lab, stopped, names, tmp_path):
    moved = names.rename(tmp_path / "elsewhere.txt")
    assert "cannot read data" in lab.refuses("resume", stopped)
    (tmp_path / "other.txt").write_text("anna\nbob\n")
    said = lab.refuses("resume", stopped, "--data", tmp_path / "other.txt")
    assert "the checkpoint was trained on" in said
    assert lab("resume", stopped, "--data", moved, "--until", 30) == 0
    assert last(stopped).plan.data == str(moved.resolve())
    assert lab("resume", stopped) == 0
    assert len(losses_of(stopped)) == 40


@POSIX
def test_after_a_pipe_the_advice_names_data(lab, short, names, tmp_path):
    fifo, run = tmp_path / "fifo", tmp_path / "run"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(names.read_bytes()), daemon=True)
    writer.start()
    short[short.index("--data") + 1] = fifo
    assert lab("train", "02", *short, "--until", 20, "--out", run) == 0
    assert f"microgpt resume {run} --data FILE, with the same documents" in lab.out
    assert lab("resume", run, "--data", names) == 0
    assert "--data FILE" not in lab.out
    assert len(losses_of(run)) == 40


# ---------------------------------------------------------------- The log

DAMAGE = {
    "no JSON": b"\0\0\0\0",
    "half a line": b'{"step": 5, "lo',
    "a list": b"[1, 2]",
    "no step": b'{"loss": 2.5}',
    "a step that is no number": b'{"step": "5", "loss": 2.5}',
    "nested too deep": b"[" * 100_000,
    "not UTF-8": b"\xff\xfe",
    "nothing": b"",
}


@pytest.mark.tried("a log damaged in the middle, then resume")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_costs_its_own_loss_and_no_other(lab, stopped, damage):
    log = stopped / "log.jsonl"
    lines = log.read_bytes().splitlines()
    kept = [json.loads(line) for i, line in enumerate(lines) if i != 5]
    lines[5] = DAMAGE[damage]
    damaged = b"\n".join(lines) + b"\n"
    log.write_bytes(damaged)
    assert lab("resume", stopped) == 0
    assert f"{log}, line 6 is damaged" in lab.out
    assert "it lacks the losses of 1 of 20 steps" in lab.out
    assert (stopped / "log-damaged-1.jsonl").read_bytes() == damaged
    records = run_folder.read_log(stopped)
    assert records[: len(kept)] == kept
    assert [r["step"] for r in records if "loss" in r] == [i for i in range(1, 41) if i != 4]


@pytest.mark.parametrize("left", [None, 5])
def test_a_log_that_is_gone_or_cut_short_is_said(lab, stopped, left):
    log = stopped / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.unlink()
    if left:
        log.write_text("".join(lines[:left]))
    assert lab("resume", stopped) == 0
    # before the losses stand two lines: the version that begins, and the first checkpoint
    lost = 20 - (left - 2 if left else 0)
    assert f"lacks the losses of {lost} of 20 steps" in lab.out
    assert len([r for r in run_folder.read_log(stopped) if "loss" in r]) == 40 - lost


def test_a_whole_log_is_not_spoken_of(lab, stopped):
    assert lab("resume", stopped) == 0
    assert "log.jsonl" not in lab.out.split("in ")[0]
    assert "lacks" not in lab.out
    assert not list(stopped.glob("log-damaged*"))


def test_a_second_damage_keeps_the_first_file(lab, stopped):
    for until, name in ((25, "log-damaged-1.jsonl"), (30, "log-damaged-2.jsonl")):
        text = (stopped / "log.jsonl").read_text()
        (stopped / "log.jsonl").write_text(f"damaged {until}\n{text}")
        assert lab("resume", stopped, "--until", until) == 0
        assert (stopped / name).read_text().startswith(f"damaged {until}")


# ---------------------------------------------------------------- Checkpoints


@pytest.mark.parametrize("command", ["resume", "sample", "export", "show"])
def test_a_checkpoint_under_a_wrong_name_is_refused(lab, stopped, tmp_path, command):
    wrong = run_folder.checkpoint_path(stopped, 999_999)
    shutil.copyfile(run_folder.saved_checkpoints(stopped)[-1], wrong)
    more = {"export": [tmp_path / "x.json"], "show": ["anna"]}.get(command, [])
    said = lab.refuses(command, stopped, *more)
    assert f"{wrong} holds step 20: its name should be step-000020.safetensors" in said


@pytest.mark.tried("a run's folder that vanishes while it trains")
@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_a_folder_that_vanishes_is_one_line(lab, short, tmp_path, monkeypatch, how):
    run, module = tmp_path / "run", lab_helpers.module_of(NUMPY)

    def train(inner, state, batches):
        for loss in inner(state, batches):
            yield loss
            if state.step == 25:
                run.rename(tmp_path / "away")
                if how == "removed":
                    shutil.rmtree(tmp_path / "away")

    monkeypatch.setattr(module, "train", functools.partial(train, module.train))
    said = lab.refuses("train", "02", *short, "--out", run)
    assert f"cannot write '{run_folder.checkpoint_path(run, 30)}': there is no folder" in said
    assert f"{run} has no checkpoint any more" in said
    assert not run.exists()


# ---------------------------------------------------------------- Longer runs


def test_a_finished_run_can_be_made_longer(lab, short, names, tmp_path):
    run, names_before = tmp_path / "run", None
    assert lab("train", "02", *short, "--out", run) == 0
    before, names_before = losses_of(run), (run / "names.txt").read_text()
    start = last(run)
    assert lab("resume", run, "--until", 60) == 0
    rate = microgpt.learning_rate(last(run).plan.config, 40)
    assert "lengthened from 40 to 60 steps, with the schedule of a run of 60 steps" in lab.out
    assert f"goes on at {rate:.2g}" in lab.out
    assert (run / "names-000040.txt").read_text() == names_before
    assert (run / "names.txt").exists()
    assert last(run).step == last(run).plan.config.steps == 60
    assert json.loads((run / "run.json").read_text())["config"]["steps"] == 60
    assert {"step": 40, "steps": 60} in run_folder.read_log(run)

    # the losses are those of 20 more steps with the learning rates of a run of 60
    module = lab_helpers.module_of(NUMPY)
    config = last(run).plan.config
    state = module.create(config, start.snapshot, **start.options)
    docs = documents.prepare(config, str(names), 42, 0.1)
    batches = microgpt.batches(config, docs.tokenizer, docs.train, 40)
    assert losses_of(run) == [*before, *map(float, module.train(state, batches))]
    assert lab("resume", run) == 0
    assert "has all its 60 steps" in lab.out


def test_a_run_that_was_killed_while_it_was_made_longer_goes_on(lab, short, tmp_path, monkeypatch):
    """Wherever it stops, the next resume ends with the same numbers."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    for one in (whole, run):
        assert lab("train", "02", *short, "--out", one) == 0
    assert lab("resume", whole, "--until", 60) == 0
    write, calls = checkpoints.write_checkpoint, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 1:  # names.txt is renamed, and nothing else is done
            raise KeyboardInterrupt
        write(*arguments)
        if len(calls) == 2:  # the checkpoint is written, and nothing else is done
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_checkpoint", killed)
    for _ in range(2):
        assert lab("resume", run, "--until", 60) == 130
    assert lab("resume", run) == 0
    assert losses_of(run) == losses_of(whole)
    assert (run / "names.txt").read_text() == (whole / "names.txt").read_text()


@pytest.mark.parametrize("command", ["train", "resume"])
def test_a_run_that_is_not_finished_is_not_made_longer(lab, short, stopped, tmp_path, command):
    arguments = ["02", *short, "--out", tmp_path / "new"] if command == "train" else [stopped]
    said = lab.refuses(command, *arguments, "--until", 50)
    assert "until is 50: the run has 40 steps" in said
    assert last(stopped).step == 20


# ---------------------------------------------------------------- Other data


@pytest.mark.parametrize("source", ["folder", "checkpoint", "weights alone"])
def test_a_run_can_begin_with_the_weights_of_another(lab, run, names, tmp_path, source):
    new, given = tmp_path / "new", run
    if source == "checkpoint":
        given = run_folder.saved_checkpoints(run)[-1]
    if source == "weights alone":
        given = tmp_path / "weights.safetensors"
        assert lab("export", run, given) == 0
    words = ["nana", "lia", "mara", "ole"] * 10
    (tmp_path / "words.txt").write_text("\n".join(words))
    options = ["--data", tmp_path / "words.txt", "--steps", 5, "--held-out", 0, "--from", given]
    assert lab("train", "02", *options, "--learning-rate", 0.001, "--out", new) == 0
    assert f"begins with the weights of {given} after step 60" in lab.out

    first, origin = checkpoints.read_checkpoint(run_folder.checkpoint_path(new, 0)), last(run)
    assert first.plan.letters == origin.plan.letters  # though the words have fewer
    for name, rows in origin.snapshot.weights.items():
        assert np.array_equal(first.snapshot.weights[name], rows)
        assert not np.any(first.snapshot.first_moment[name])
    assert first.plan.config.learning_rate == 0.001
    assert first.plan.config.n_embd == origin.plan.config.n_embd
    assert json.loads((new / "run.json").read_text())["from"] == {"path": str(given), "step": 60}
    assert len(losses_of(new)) == 5
    assert lab("sample", new) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--n-embd", 16], "n_embd is 16: --from has it as 8, leave --n-embd out"),
        (["--recipe", "gist"], "leave --recipe out"),
        (["--from", "nowhere"], "there is no 'nowhere'"),
    ],
)
def test_what_does_not_fit_the_weights_is_refused(lab, run, tmp_path, arguments, says):
    out = tmp_path / "new"
    assert says in lab.refuses("train", "02", "--from", run, "--out", out, *arguments)
    assert not out.exists()


def test_a_letter_that_the_weights_have_no_token_for_is_named(lab, run, tmp_path):
    (tmp_path / "words.txt").write_text("zoë\nanna\n")
    said = lab.refuses("train", "02", "--from", run, "--data", tmp_path / "words.txt")
    assert "has 1 letters that the model has no token for: 'ë'" in said


# ---------------------------------------------------------------- Signals


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_under_nohup_a_closed_terminal_does_not_stop_a_run(lab, short, tmp_path, monkeypatch):
    module, inner = lab_helpers.module_of(NUMPY), lab_helpers.module_of(NUMPY).train

    def train(state, batches):
        for loss in inner(state, batches):
            yield loss
            if state.step == 15:
                os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(module, "train", train)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert lab("train", "02", *short, "--out", tmp_path / "run") == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(losses_of(tmp_path / "run")) == 40
