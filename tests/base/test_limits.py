"""Numbers that cannot work are refused before the work, and a run that diverges says so."""

import os
import random
import subprocess
import sys
import tracemalloc

import microgpt
from microgpt import Config, InputError

import pytest
from microgpt_lab.base import versions

from lab_helpers import HERE, NUMPY, Lab, each

HUGE = ["--n-embd", "4096", "--n-layer", "64"]
FAST = ["--n-embd", "4", "--n-head", "1", "--steps", "60", "--samples", "1"]


@pytest.fixture
def lab(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Lab(monkeypatch, capsys)


def program(version, tmp_path, *arguments):
    """A version's program -> (status, what it printed, its errors)."""
    done = subprocess.run(
        [sys.executable, str(version.path), *arguments], cwd=tmp_path, capture_output=True,
        text=True, timeout=300, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- Memory


def test_a_model_that_fits_is_not_refused(monkeypatch):
    size = sum(rows * columns for rows, columns, _ in microgpt.shapes(Config(), 27).values())
    monkeypatch.setattr(microgpt, "memory", lambda: 64 * size)
    microgpt.refuse_too_large(Config(), 27)
    monkeypatch.setattr(microgpt, "memory", lambda: 64 * size - 1)
    with pytest.raises(InputError, match=f"{size:,} weights: it needs about 0 GB"):
        microgpt.refuse_too_large(Config(), 27)
    monkeypatch.setattr(microgpt, "memory", lambda: None)  # the system does not say
    microgpt.refuse_too_large(Config(n_embd=4096, n_layer=64), 27)


LISTED = {"id": "x", "find": "softmax_slopes(p, i)) for", "replace": "[*softmax_slopes(p, i)]) for"}


@pytest.mark.parametrize(
    ("edits", "square"), [([], True), ([LISTED], False)], ids=["as is", "listed"]
)
def test_the_memory_of_01_grows_with_the_square_of_the_block(edits, square):
    """At most four times for twice the block. An edit that keeps all slopes of every softmax needs
    the cube, as was once so."""
    first = next(iter(versions.find().values()))
    source = versions.edited(first.path.read_text("utf-8"), edits, "edit")
    module = versions.load_source("memory", first.path, source)
    small, large = (peak_of_a_document(module, block) for block in (40, 80))
    assert (large / small < 4.3) == square


def peak_of_a_document(module, block):
    """The bytes that the gradient of a document as long as the block needs."""
    config = Config(n_embd=2, n_head=2, n_layer=1, block_size=block)
    snapshot = module.initial(config, 27, random.Random(0))
    state = module.create(config, snapshot)
    tokens = [i % 27 for i in range(block + 1)]
    tracemalloc.start()
    try:
        module.loss_and_grads(state, [tokens])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="the system does not say")
def test_the_memory_of_this_machine_is_known():
    assert 2**26 < microgpt.memory() < 2**50


def test_the_lab_says_what_a_model_needs_and_what_there_is(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(microgpt, "memory", lambda: 10**9)
    said = lab.refuses("train", NUMPY, *HUGE)
    assert "12,885,155,840 weights" in said
    assert "about 825 GB" in said
    assert "this machine has 1 GB" in said
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- Seeds, names, rates


@pytest.mark.parametrize("command", [["train", NUMPY], ["compare", NUMPY]])
def test_a_negative_seed_is_refused_in_the_lab(command, lab):
    status = lab(*command, "--seed", "-1")
    assert status
    assert "seed is -1: it must be 0 or more (1 gives the same numbers)" in lab.err + lab.out


@pytest.mark.parametrize("version", each(v for v in HERE if "distributed" not in v.name))
def test_a_negative_seed_is_refused_by_every_program(version, tmp_path):
    status, _, errors = program(version, tmp_path, "--seed", "-1")
    assert status == 2
    assert errors == "error: seed is -1: it must be 0 or more (1 gives the same numbers)\n"


@pytest.mark.parametrize("command", ["compare", "verify", "mutants", "proof", "bench"])
def test_a_version_that_is_named_twice_is_refused(command, lab):
    assert f"{NUMPY} is named twice" in lab.refuses(command, "02", NUMPY)


@pytest.mark.parametrize("name", ["operations", "bandwidth", "latency", "overhead"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e300", "-1"])
def test_rates_that_no_machine_has_are_refused(name, value, lab):
    rates = {"operations": "1"} | {name: value}
    given = [word for key, text in rates.items() for word in (f"--{key}", text)]
    assert f"{name} is " in lab.refuses("scale", *given)


def test_rates_at_the_limits_are_shown(lab):
    for value in ("1e-6", "1e12"):
        assert lab("scale", "--operations", value, "--bandwidth", value, "--latency", value) == 0
    assert "workers is 10001" in lab.refuses("scale", "--operations", "1", "--workers", "1,10001")


# ---------------------------------------------------------------- Divergence


def test_losses_far_above_a_guess_are_said_once_at_their_step(tmp_path, capsys):
    guess = 3.0
    losses = [7.0] * 30 + [2.0] + [6.1] * 120
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        microgpt.report_losses(iter(losses), len(losses), log, guess)
    said = [line for line in capsys.readouterr().out.splitlines() if "blind guess" in line]
    assert said == [
        "step 81: the last 50 losses are over twice 3.00, that of a blind guess: "
        "try a lower --learning-rate"
    ]


def test_a_program_and_the_lab_say_that_a_run_has_diverged(lab, tmp_path):
    version = versions.find()[NUMPY]
    status, printed, _ = program(version, tmp_path, *FAST, "--learning-rate", "10")
    assert status == 0
    assert "that of a blind guess" in printed
    assert lab("train", NUMPY, *FAST, "--learning-rate", "10") == 0
    assert "that of a blind guess" in lab.out
    assert lab("train", NUMPY, *FAST) == 0
    assert "blind guess" not in lab.out


def test_a_weight_that_is_not_finite_is_named():
    rows = [[0.0, 1.0], [2.0, float("nan")]]
    snapshot = microgpt.Snapshot({"wte": [[0.0]], "wpe": rows}, {}, {}, 7)
    assert microgpt.not_finite(snapshot) == "; after step 7 wpe[1][1] is nan"
    assert microgpt.not_finite(snapshot._replace(weights={"wte": [[0.0]]})) == ""
