"""A run that was stopped continues as if it had never stopped, whatever stopped it and whichever
version continues it."""

import contextlib
import errno
import functools
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import microgpt

import pytest
from microgpt_lab.base import plots, terminal
from microgpt_lab.runs import checkpoints, documents, progress, run_folder
from microgpt_lab.verification import vectors
from resuming import resume_in_silence

import lab_helpers
from lab_helpers import NUMPY, SMALL, losses_of


@pytest.fixture
def numpy_with():
    """A context in which functions of the NumPy version are wrapped by others."""

    @contextlib.contextmanager
    def replaced(**wrappers):
        module = lab_helpers.module_of(NUMPY)
        with pytest.MonkeyPatch.context() as patch:
            for name, wrapper in wrappers.items():
                wrapped = functools.partial(wrapper, getattr(module, name))
                patch.setattr(module, name, wrapped)
            yield

    return replaced


def steps_saved(folder):
    return [run_folder.step_of(path) for path in run_folder.saved_checkpoints(folder)]


def parts_of(folder):
    return list(folder.rglob("*.part"))


def assert_same_state(one, other):
    """The last checkpoints of two runs have the same weights, moments and random stream."""
    a, b = (
        checkpoints.read_checkpoint(run_folder.saved_checkpoints(run)[-1]) for run in (one, other)
    )
    assert a.step == b.step
    assert a.rng == b.rng
    for mine, theirs in zip(a.snapshot[:3], b.snapshot[:3]):
        assert all((mine[name] == theirs[name]).all() for name in mine)


# ---------------------------------------------------------------- A run


def test_with_nothing_held_out_it_trains_as_the_programs_do(lab, tmp_path):
    """500 steps of recipe seed: 01's losses and names, as the golden vectors have them."""
    run = tmp_path / "run"
    assert lab("train", "02", "--dtype", "float64", "--held-out", 0, "--out", run) == 0
    cases = {case["id"]: case for case in vectors.read_vectors()}
    assert losses_of(run) == pytest.approx(cases["seed"]["answer"]["losses"], rel=1e-10)
    made = (run / "names.txt").read_text().split("\n")[:-1]
    assert made == cases["thousand-names"]["answer"]["names"][:20]


def test_a_run_s_folder_has_its_settings_and_its_results(lab, short, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--seed", 7, "--beta2", 0.9, "--out", run) == 0
    assert {path.name for path in run.iterdir()} == {
        "run.json", "log.jsonl", "names.txt", "loss.svg", "lock", "checkpoints",
    }  # fmt: skip
    said = json.loads((run / "run.json").read_text())
    assert (said["version"], said["recipe"], said["seed"]) == (NUMPY, "seed", 7)
    assert (said["config"]["beta2"], said["config"]["steps"]) == (0.9, 40)
    assert steps_saved(run) == [0, 10, 20, 30, 40]
    assert len(losses_of(run)) == 40
    final = [record for record in run_folder.read_log(run) if "held_out" in record][-1]
    assert (final["step"], final["names"]) == (40, 20)
    assert 2 < final["held_out"] < math.log(27)
    assert len((run / "names.txt").read_text().splitlines()) == 20
    assert "<svg" in (run / "loss.svg").read_text()


def test_training_never_sees_a_held_out_document(lab, short, tmp_path, numpy_with):
    seen = set()

    def train(inner, state, batches):
        def watched():
            for batch, rate in batches:
                seen.update(map(tuple, batch))
                yield batch, rate

        return inner(state, watched())

    run = tmp_path / "run"
    with numpy_with(train=train):
        assert lab("train", "02", *short, "--block-size", 15, "--held-out", 0.5, "--out", run) == 0
    plan = checkpoints.read_checkpoint(run_folder.saved_checkpoints(run)[-1]).plan
    _, held_out = documents.split(microgpt.load_documents(plan.data), 0.5)
    assert len(held_out) == 200
    assert seen
    assert not seen & {tuple(plan.tokenizer.encode(name)) for name in held_out}


def test_runs_without_a_name_are_numbered(lab, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert lab("train", "02", *short, "--recipe", "gist", "--until", 1) == 0
    found = sorted(path.name for path in Path("runs").iterdir())
    first = found[0]
    assert first.endswith(f"-{NUMPY}-gist-42")
    assert found == [first, f"{first}-2", f"{first}-3"]


def test_checkpoints_are_thinned_evenly_and_the_last_stays(lab, short, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--save-every", 1, "--keep", 6, "--out", run) == 0
    steps = steps_saved(run)
    assert len(steps) == 6
    assert (steps[0], steps[-1]) == (0, 40)
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 16


def test_each_line_fits_a_terminal(lab, short, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert lab("train", "02", *short, "--out", tmp_path / "run") == 0
    told = [line for line in lab.out.splitlines() if str(tmp_path) not in line]
    assert len(told) > 8
    assert max(map(len, told)) <= 80
    assert "\x1b" not in lab.out


# ---------------------------------------------------------------- What is measured and printed


def test_evaluate_0_means_all_held_out_documents(lab, tmp_path):
    """There are more than the default of 1,000."""
    data, run = tmp_path / "x.txt", tmp_path / "run"
    words = itertools.product("abcdefghijkl", repeat=3)
    data.write_text("".join(f"{''.join(word)}\n" for word in words))
    few = ["--data", data, "--held-out", 0.9, "--steps", 2, "--evaluate", 0]
    assert lab("train", "02", *SMALL, *few, "--out", run) == 0
    assert "on 1,555 of 1,555 held-out names" in lab.out
    final = [record for record in run_folder.read_log(run) if "held_out" in record][-1]
    assert final["names"] == 12**3 * 9 // 10


def test_the_held_out_loss_is_that_of_the_last_weights_on_the_first_held_out_documents(
    lab, short, names, tmp_path
):
    run, module = tmp_path / "run", lab_helpers.module_of(NUMPY)
    assert lab("train", "02", *short, "--out", run) == 0
    last = checkpoints.read_checkpoint(run_folder.saved_checkpoints(run)[-1])
    config = last.plan.config
    docs = documents.prepare(config, str(names), 42, 0.1)
    state = module.create(config, last.snapshot)
    right = documents.nats_a_character(module, state, config, docs.tokenizer, docs.held_out[:20])
    measured = [record for record in run_folder.read_log(run) if "held_out" in record]
    assert measured[-1]["step"] == 40
    assert measured[-1]["held_out"] == pytest.approx(right, rel=1e-6)
    assert {record["step"] for record in measured} <= set(steps_saved(run))
    assert f"on 20 of {len(docs.held_out)} held-out names" in lab.out


def test_the_printed_loss_is_the_mean_of_the_last_50_steps():
    so_far = progress.TrainingProgress(steps=100, step=100, first=100)
    so_far.recent.extend(range(100))
    assert so_far.text() == f"loss {sum(range(50, 100)) / 50:.4f}"


def test_the_line_in_the_picture_is_the_mean_of_50_steps():
    means = plots.running_mean(range(100))
    assert means[99] == sum(range(50, 100)) / 50
    assert means[9] == sum(range(10)) / 10


def test_the_time_left_is_from_the_steps_of_this_process():
    """It has taken 10 steps in 20 seconds; another process took the 50 before."""
    resumed = progress.TrainingProgress(steps=100, step=60, first=50, seconds=20.0)
    assert resumed.text() == f"{terminal.duration(2.0)}/step  {terminal.duration(80.0)} left"


def test_a_resumed_run_prints_the_same_losses(lab, short, tmp_path):
    printed = re.compile(r"^step (\d+) of 40  loss (\S+)", re.MULTILINE)
    assert lab("train", "02", *short, "--out", tmp_path / "whole") == 0
    whole = dict(printed.findall(lab.out))
    assert lab("train", "02", *short, "--until", 20, "--out", tmp_path / "run") == 0
    assert lab("resume", tmp_path / "run", "--save-every", 10) == 0
    assert dict(printed.findall(lab.out)) == {step: whole[step] for step in ("30", "40")}


# ---------------------------------------------------------------- Stopping and continuing


@pytest.mark.parametrize("version", [version.name for version in lab_helpers.HERE])
def test_stopped_anywhere_it_goes_on_as_if_it_never_had(lab, short, tmp_path, version):
    """Losses, names and every number of the last checkpoint are equal, bit for bit."""
    whole, halting = tmp_path / "whole", tmp_path / "halting"
    assert lab("train", version, *short, "--out", whole) == 0
    assert lab("train", version, *short, "--until", 10, "--out", halting) == 0
    for until in (23, 40):
        assert steps_saved(halting)[-1] < until
        assert lab("resume", halting, "--until", until, "--evaluate", 20) == 0
    assert losses_of(halting) == losses_of(whole)
    assert (halting / "names.txt").read_text() == (whole / "names.txt").read_text()
    assert_same_state(halting, whole)


SIGNALS = pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)


def signalled(number, times, at):
    """A train() that sends this process a signal after that many steps."""

    def train(inner, state, batches):
        for loss in inner(state, batches):
            yield loss
            if state.step == at:
                for _ in range(times):
                    os.kill(os.getpid(), number)

    return train


@SIGNALS
def test_a_signal_saves_the_step_and_says_how_to_go_on(
    lab, short, tmp_path, numpy_with, number, status
):
    run, whole = tmp_path / "run", tmp_path / "whole"
    with numpy_with(train=signalled(number, 1, at=23)):
        assert lab("train", "02", *short, "--out", run) == status
    assert steps_saved(run)[-1] == 23
    assert "after step 23 of 40" in lab.out
    assert f"microgpt resume {run}" in lab.out
    assert len(losses_of(run)) == 23
    assert lab("resume", run) == 0
    assert lab("train", "02", *short, "--out", whole) == 0
    assert losses_of(run) == losses_of(whole)


def test_a_second_ctrl_c_ends_the_process_and_the_last_checkpoint_stays(
    lab, short, tmp_path, numpy_with
):
    run = tmp_path / "run"
    with numpy_with(train=signalled(signal.SIGINT, 2, at=23)):
        assert lab("train", "02", *short, "--out", run) == 130
    assert steps_saved(run) == [0, 10, 20]
    assert lab("resume", run) == 0
    assert len(losses_of(run)) == 40


def wait_for_losses(run, count):
    """Until that many lines of losses are in the log."""
    deadline, log = time.monotonic() + 600, run / "log.jsonl"
    while log.read_bytes().count(b'"loss"') < count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_no_kill_loses_a_checkpoint_that_was_announced(lab, names, tmp_path, tried):
    """kill -9 at random moments: a third of them while the process starts, the others after it has
    taken some steps. MICROGPT_KILLS is their number. The processes are forks of one that has
    everything imported."""
    chance = random.Random(1)
    long = [*SMALL, "--data", names, "--steps", 1_000_000]
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert lab("train", "02", *long, "--until", 1, "--out", run) == 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["microgpt_lab.runs.training"])
    announced = 1
    for kill in range(tried.number("MICROGPT_KILLS", 20)):
        tried("a training process that is killed, then resume")
        before = len(losses_of(run))
        process = context.Process(target=resume_in_silence, args=[str(run)])
        process.start()
        if kill % 3:
            wait_for_losses(run, before + chance.randrange(1, 12))
        time.sleep(chance.random() * 0.03)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        announced = max(announced, announcements(run))
        last = run_folder.saved_checkpoints(run)[-1]
        assert run_folder.step_of(last) >= announced
        assert checkpoints.read_checkpoint(last).step == run_folder.step_of(last)
    assert announced > 1
    end = announced + 10
    assert lab("resume", run, "--until", end) == 0
    assert lab("train", "02", *long, "--until", end, "--out", whole) == 0
    assert losses_of(run) == losses_of(whole)
    assert_same_state(run, whole)
    assert not parts_of(run)


def announcements(run):
    """The last step whose checkpoint the log announces."""
    return max(r["step"] for r in run_folder.read_log(run) if "checkpoint" in r)


def test_an_incomplete_last_line_of_the_log_is_cut_off(lab, short, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--until", 25, "--out", run) == 0
    before = losses_of(run)
    run_folder.saved_checkpoints(run)[-1].unlink()  # as if killed before it was saved
    with open(run / "log.jsonl", "a") as log:
        log.write('{"step": 26, "lo')
    assert lab("resume", run, "--until", 25) == 0
    assert losses_of(run) == before


# ---------------------------------------------------------------- Handing over


@pytest.mark.nightly  # test_checkpoint.py goes on from any version to any other
def test_each_version_takes_over_from_the_one_before(lab, tmp_path):
    """Recipe seed, a part of the 500 steps in each version: the losses and names are 01's."""
    run, versions = tmp_path / "run", [version.name for version in lab_helpers.HERE[1:]]
    versions.append(lab_helpers.HERE[0].name)  # 01 last
    ends = [500 * (i + 1) // len(versions) for i in range(len(versions))]
    first = ["train", versions[0], "--held-out", 0, "--recipe", "seed", "--out", run]
    assert lab(*first, "--until", ends[0]) == 0
    for version, end in zip(versions[1:], ends[1:]):
        assert lab("resume", run, "--with", version, "--until", end) == 0
    cases = {case["id"]: case for case in vectors.read_vectors()}
    assert losses_of(run) == pytest.approx(cases["seed"]["answer"]["losses"], rel=1e-3)
    made = (run / "names.txt").read_text().split("\n")[:-1]
    assert made == cases["thousand-names"]["answer"]["names"][:20]
    takers = [record["version"] for record in run_folder.read_log(run) if "version" in record]
    assert takers == versions


# ---------------------------------------------------------------- What cannot work


def test_a_folder_that_exists_is_left_alone(lab, short, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine").write_text("x")
    assert "exists: give --out another name" in lab.refuses("train", "02", *short, "--out", run)
    assert [path.name for path in run.iterdir()] == ["mine"]
    assert lab("train", "02", *short, "--until", 1, "--out", tmp_path / "other") == 0
    said = lab.refuses("train", "02", *short, "--out", tmp_path / "other")
    assert f"microgpt resume {tmp_path / 'other'} continues it" in said
    assert not parts_of(tmp_path)


HOLD = """
import pathlib, sys
from microgpt_lab.runs import run_folder
run = run_folder.open_stopped(pathlib.Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_run_that_another_process_trains_in_is_refused(lab, short, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--until", 3, "--out", run) == 0
    command = [sys.executable, "-c", HOLD, str(run)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "locked\n"
        said = lab.refuses("resume", run)
        process.kill()
    assert f"{run} is in use: process {process.pid} trains in it" in said
    assert lab("resume", run) == 0  # the system releases the lock of a killed process


def test_a_loss_that_is_not_finite_ends_the_run_at_the_last_good_checkpoint(
    lab, short, tmp_path, numpy_with
):
    run = tmp_path / "run"

    def train(inner, state, batches):
        for loss in inner(state, batches):
            yield loss if state.step != 25 else math.nan

    with numpy_with(train=train):
        said = lab.refuses("train", "02", *short, "--out", run)
    assert "the loss is nan at step 25: try a lower --learning-rate" in said
    assert "step-000020.safetensors is the last good checkpoint" in said
    assert steps_saved(run) == [0, 10, 20]
    assert lab("resume", run) == 0
    assert len(losses_of(run)) == 40


def test_weights_that_are_not_finite_are_not_saved(lab, short, tmp_path, numpy_with):
    """A step's loss is computed before its update, so the weights may be bad where it is not."""
    run = tmp_path / "run"

    def export(inner, state):
        snapshot = inner(state)
        if snapshot.step == 20:
            snapshot.weights["wpe"][1, 2] = math.inf
        return snapshot

    with numpy_with(export=export):
        said = lab.refuses("train", "02", *short, "--out", run)
    assert "wpe has inf at [1][2] after step 20: try a lower --learning-rate" in said
    assert "step-000010.safetensors is the last good checkpoint" in said
    assert steps_saved(run) == [0, 10]


def test_a_full_disk_ends_the_run_and_the_checkpoint_before_stays(lab, short, tmp_path):
    run, sync, calls = tmp_path / "run", os.fsync, []

    def fsync(file):
        calls.append(file)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        said = lab.refuses("train", "02", *short, "--out", run)
    assert "No space left on device" in said
    last = run_folder.saved_checkpoints(run)[-1]
    assert str(last) in said
    assert checkpoints.read_checkpoint(last).step < 40
    assert not parts_of(run)
    assert lab("resume", run) == 0
    assert len(losses_of(run)) == 40


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write in")
def test_where_nothing_can_be_written_it_says_so(lab, short):
    assert "cannot make '/proc/run'" in lab.refuses("train", "02", *short, "--out", "/proc/run")


def test_the_data_of_a_run_must_not_change(lab, short, names, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--until", 12, "--out", run) == 0
    names.write_text("anna\nbob\n")
    assert "the checkpoint was trained on" in lab.refuses("resume", run)
    names.unlink()
    assert "cannot read data" in lab.refuses("resume", run)
    assert steps_saved(run)[-1] == 12
    assert len(losses_of(run)) == 12


def test_a_last_checkpoint_that_is_damaged_points_at_the_one_before(lab, short, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--until", 25, "--out", run) == 0
    last = run_folder.saved_checkpoints(run)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    said = lab.refuses("resume", run)
    assert "step-000025.safetensors is cut short; step-000020.safetensors is before it" in said
    last.unlink()
    assert lab("resume", run) == 0
    assert len(losses_of(run)) == 40


def test_a_run_s_name_that_is_nearly_right_gets_a_hint(lab, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("COLUMNS")
    assert lab("train", "02", *short, "--until", 1) == 0
    (run,) = Path("runs").iterdir()
    assert f"did you mean {run}?" in lab.refuses("resume", f"{run.name}x")
    assert lab("resume", run.name, "--until", 2) == 0  # by its name in runs/
    assert lab("resume", "--until", 3) == 0  # without a name: the newest
    assert steps_saved(run)[-1] == 3
