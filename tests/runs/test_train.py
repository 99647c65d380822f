"""Training is as if it had never stopped: whatever ends it, and whoever goes on."""

import contextlib
import errno
import functools
import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import microgpt
from microgpt import RECIPES

import pytest
from microgpt_lab.base import options
from microgpt_lab.runs import checkpoints, documents, run_folder
from microgpt_lab.verification import vectors

import lab_helpers
from lab_helpers import NUMPY, SMALL, losses_of, program

KILLS = int(os.environ.get("MICROGPT_KILLS", "20"))


@pytest.fixture
def lab(monkeypatch, capsys):
    return lab_helpers.Lab(monkeypatch, capsys)


@pytest.fixture
def names(tmp_path):
    """A small file of documents: its path."""
    path = tmp_path / "names.txt"
    path.write_text("\n".join(microgpt.load_documents()[:400]))
    return path


@pytest.fixture
def short(names):
    """Options that make a run short."""
    return [*SMALL, "--data", names, "--steps", 40, "--save-every", 10, "--evaluate", 20]


@pytest.fixture
def numpy_with():
    """The NumPy version with functions of its contract wrapped, for a while."""

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


# ---------------------------------------------------------------- A run


def test_with_nothing_held_out_it_trains_as_the_programs_do(lab, tmp_path):
    """500 steps of recipe seed: 01's losses and names, as the golden vectors have them."""
    run = tmp_path / "run"
    assert lab("train", "02", "--dtype", "float64", "--held-out", 0, "--out", run) == 0
    cases = {case["id"]: case for case in vectors.read()}
    assert losses_of(run) == pytest.approx(cases["seed"]["answer"]["losses"], rel=1e-10)
    made = (run / "names.txt").read_text().split("\n")[:-1]
    assert made == cases["thousand-names"]["answer"]["names"][:20]


def test_a_run_s_folder_holds_what_it_is_and_what_came_of_it(lab, short, tmp_path):
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


def test_it_never_sees_what_is_held_out(lab, short, tmp_path, numpy_with):
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


def test_without_a_name_runs_get_numbers(lab, short, tmp_path, monkeypatch):
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


def test_a_line_fits_a_terminal(lab, short, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert lab("train", "02", *short, "--out", tmp_path / "run") == 0
    told = [line for line in lab.out.splitlines() if str(tmp_path) not in line]
    assert len(told) > 8
    assert max(map(len, told)) <= 80
    assert "\x1b" not in lab.out


# ---------------------------------------------------------------- Stopping and going on


@pytest.mark.parametrize("version", [version.name for version in lab_helpers.HERE])
def test_stopped_anywhere_it_goes_on_as_if_it_never_had(lab, short, tmp_path, version):
    """Losses, names and every number of the last checkpoint, to the last bit."""
    whole, halting = tmp_path / "whole", tmp_path / "halting"
    assert lab("train", version, *short, "--out", whole) == 0
    assert lab("train", version, *short, "--until", 3, "--out", halting) == 0
    for until in (10, 23, 40):
        assert steps_saved(halting)[-1] < until
        assert lab("resume", halting, "--until", until, "--evaluate", 20) == 0
    assert losses_of(halting) == losses_of(whole)
    assert (halting / "names.txt").read_text() == (whole / "names.txt").read_text()
    one, other = (
        checkpoints.read_checkpoint(run_folder.saved_checkpoints(run)[-1])
        for run in (whole, halting)
    )
    for a, b in zip(one.snapshot[:3], other.snapshot[:3]):
        assert all((a[name] == b[name]).all() for name in a)
    assert other.rng == one.rng


@pytest.mark.parametrize(
    ("signal_sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str
)
def test_a_signal_saves_the_step_and_says_how_to_go_on(lab, names, tmp_path, signal_sent, status):
    long = [*SMALL, "--data", names, "--steps", 100_000, "--save-every", 100_000]
    run = tmp_path / "run"
    command = program("train", "02", *long, "--out", run)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for_losses(run, 1)
        process.send_signal(signal_sent)
        out = process.communicate(timeout=60)[0]
    assert process.returncode == status
    step = steps_saved(run)[-1]
    assert 0 < step < 100_000
    assert f"after step {step:,} of 100,000" in out
    assert f"microgpt resume {run}" in out
    assert len(losses_of(run)) == step

    whole = tmp_path / "whole"
    assert lab("resume", run, "--until", step + 7) == 0
    assert lab("train", "02", *long, "--until", step + 7, "--out", whole) == 0
    assert losses_of(run) == losses_of(whole)


def wait_for_losses(run, count):
    """Until that many more lines of losses are in the log than there were."""
    deadline, log = time.monotonic() + 60, run / "log.jsonl"

    def lines():
        return log.read_bytes().count(b'"loss"') if log.exists() else 0

    before = lines()
    while lines() < before + count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_no_kill_loses_a_checkpoint_that_was_announced(lab, names, tmp_path):
    """kill -9 at random moments, from the first on; MICROGPT_KILLS says how many. Processes
    are forked from one that has everything imported, so that most of a life is training."""
    steps, chance = 300 * KILLS, random.Random(1)
    long = [*SMALL, "--data", names, "--steps", steps, "--evaluate", 20, "--keep", 20]
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert lab("train", "02", *long, "--out", whole) == 0
    assert lab("train", "02", *long, "--until", 1, "--out", run) == 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lab_helpers", "microgpt_lab.runs.training"])
    again = ["resume", str(run), "--save-every", "5", "--keep", "20"]
    announced = 0
    for _ in range(KILLS):
        process = context.Process(target=lab_helpers.in_silence, args=again)
        process.start()
        time.sleep(chance.random() * 0.2)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        announced = max(announced, announcements(run))
        last = run_folder.saved_checkpoints(run)[-1]
        assert run_folder.step_of(last) >= announced
        assert checkpoints.read_checkpoint(last).step == run_folder.step_of(last)
    assert 0 < announced < steps
    assert lab("resume", run, "--evaluate", 20, "--save-every", 1000) == 0
    assert losses_of(run) == losses_of(whole)
    assert (run / "names.txt").read_text() == (whole / "names.txt").read_text()
    assert not parts_of(run)


def announcements(run):
    """The last step whose checkpoint the log announces."""
    return max(r["step"] for r in run_folder.read_log(run) if "checkpoint" in r)


def test_a_log_that_was_cut_in_a_line_is_mended(lab, short, tmp_path):
    run = tmp_path / "run"
    assert lab("train", "02", *short, "--until", 25, "--out", run) == 0
    before = losses_of(run)
    run_folder.saved_checkpoints(run)[-1].unlink()  # as if killed before it was saved
    with open(run / "log.jsonl", "a") as log:
        log.write('{"step": 26, "lo')
    assert lab("resume", run, "--until", 25) == 0
    assert losses_of(run) == before


# ---------------------------------------------------------------- Handing over


def test_each_version_takes_over_from_the_one_before(lab, tmp_path):
    """Recipe seed, a stretch in every version there is: the 500 losses and the names of 01."""
    run, versions = tmp_path / "run", [version.name for version in lab_helpers.HERE[1:]]
    versions.append(lab_helpers.HERE[0].name)  # pure Python the last
    ends = [500 * (i + 1) // len(versions) for i in range(len(versions))]
    first = ["train", versions[0], "--held-out", 0, "--recipe", "seed", "--out", run]
    assert lab(*first, "--until", ends[0]) == 0
    for version, end in zip(versions[1:], ends[1:]):
        assert lab("resume", run, "--with", version, "--until", end) == 0
    cases = {case["id"]: case for case in vectors.read()}
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
    assert f"microgpt resume {tmp_path / 'other'} goes on" in said
    assert not parts_of(tmp_path)


def test_two_at_once_in_one_folder_is_one_too_many(lab, names, short, tmp_path):
    run = tmp_path / "run"
    long = [*SMALL, "--data", names, "--steps", 1_000_000]
    command = program("train", "02", *long, "--out", run)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_for_losses(run, 1)
        said = lab.refuses("resume", run)
        process.kill()
    assert f"{run} is in use: process {process.pid} trains in it" in said
    assert lab("resume", run, "--until", steps_saved(run)[-1] + 1) == 0  # the lock died with it


def test_a_loss_that_is_no_number_stops_it_at_the_last_good_checkpoint(
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


def test_weights_that_are_no_numbers_are_not_saved(lab, short, tmp_path, numpy_with):
    """The loss of a step is that of the weights before it: the last step may spoil them."""
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


def test_a_full_disk_ends_it_with_the_checkpoint_before(lab, short, tmp_path):
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


def test_a_checkpoint_s_own_data_must_be_there(lab, short, names, tmp_path):
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "pure_pythn"], "did you mean 01_pure_python?"),
        (["train", "02", "--recipe", "sed"], "no recipe 'sed': did you mean seed?"),
        (["train", "02", "--dtype", "float16"], "dtype 'float16': 02_numpy_manual_backprop has"),
        (["train", "02", "--device", "cuda"], "has no option 'device': it has dtype"),
        (["train", "02", "--option", "x"], "option 'x' has no value"),
        (["train", "02", "--option", "x=1"], "has no option 'x': it has dtype"),
        (["train", "02", "--n-head", "3"], "not a multiple of n_head 3"),
        (["train", "02", "--steps", "0"], "steps is 0: it must lie in 1"),
        (["train", "02", "--steps", "many"], "--steps: invalid literal for int()"),
        (["train", "02", "--save-every", "0"], "save_every is 0: it must be 1 or more"),
        (["train", "02", "--keep", "1"], "keep is 1: it must be 2 or more"),
        (["train", "02", "--held-out", "1"], "held-out is 1.0"),
        (["train", "02", "--data", "nowhere.txt"], "cannot read data 'nowhere.txt'"),
        (["train", "02", "--batch-size", "100000"], "exceeds the 29048 documents to train on"),
        (["train"], "Missing from microgpt train: VERSION"),
        (["train", "02", "--wurst"], "Unrecognized options: --wurst"),
        (["resume"], "there is no run in runs/"),
        (["resume", "nowhere"], "there is no 'nowhere'"),
        (["resume", "."], "is no run's folder"),
    ],
)
def test_what_cannot_work_is_one_line(lab, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in lab.refuses(*arguments)
    assert not list(tmp_path.iterdir())


def test_a_run_s_name_that_is_nearly_right_gets_a_hint(lab, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("COLUMNS")
    assert lab("train", "02", *short, "--until", 1) == 0
    (run,) = Path("runs").iterdir()
    assert f"did you mean {run}?" in lab.refuses("resume", f"{run.name}x")
    assert lab("resume", run.name, "--until", 2) == 0  # its name is enough
    assert lab("resume", "--until", 3) == 0  # so is none: the newest
    assert steps_saved(run)[-1] == 3


def test_recipes_are_what_they_are_in_01():
    assert options.recipe("gist", {"steps": None}) == RECIPES["gist"]
    assert options.recipe("seed", {"zero_init": False}).zero_init is False
