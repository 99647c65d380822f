"""The benchmark measures what it says, in real processes."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import microgpt

import pytest
from microgpt_lab.base import versions
from microgpt_lab.benchmark import (
    ablation,
    bench,
    lower_bound,
    pictures,
    process,
    setups,
    sweeps,
    worker,
)
from rich.console import Console

from bench_records import make_row
from lab_helpers import NUMPY, Lab

REFERENCE = versions.REFERENCE
FOUND = versions.find()
TINY = microgpt.Config(n_embd=8, n_head=2, steps=12)
SMALL = microgpt.Config(n_embd=8, n_head=2, steps=6, batch_size=3)
RATES = {"operations": {"float32": 1e10, "float64": 1e10}, "bytes": {"1": 1e13}}


@pytest.fixture
def lab(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Lab(monkeypatch, capsys)


def test_spread_reaches_the_farthest_round_from_the_median():
    assert bench.spread([1, 2, 3, 4, 5]) == pytest.approx(2 / 3)
    assert bench.spread([4, 2, 3, 9, 3]) == pytest.approx(2)
    assert bench.spread([7.0]) == 0


def test_without_rates_a_row_has_no_lower_bound():
    """On a GPU, for two threads too."""
    row = make_row("02_a", 1.0, threads=2) | {"rounds": [1.0, 3.0, 2.0]}
    found = bench.summarize(row, {})
    assert (found["lower_bound"], found["step"], found["spread"]) == (None, 2.0, 0.5)
    assert found["tokens_per_second"] == 3.5


def test_a_row_is_summarized_as_its_legend_says():
    """Two threads, so the lower bound is half of that of one core: 2e5 operations at 1e10."""
    row = make_row("02_a", 1.0, threads=2) | {"rounds": [1.0, 6.0, 2.0], "first_step": 5.0}
    found = bench.summarize(row, RATES)
    assert (found["step"], found["first_step_extra"], found["spread"]) == (2.0, 3.0, 2.0)
    assert found["tokens_per_second"] == 3.5
    assert found["lower_bound"] == pytest.approx(1e-5)
    assert bench.summarize(row | {"first_step": 1.0}, RATES)["first_step_extra"] == 0


def test_a_point_of_a_sweep_is_its_fastest_round():
    point = {"rounds": [2.0, 1.0, 3.0], "operations": 1e10, "numbers_moved": 1}
    sweep = {"curves": [{"dtype": "float32", "points": [point]}]}
    (made,) = sweeps.summarize(sweep, RATES)["curves"][0]["points"]
    assert (made["step"], made["lower_bound"]) == (1.0, 1.0)


@pytest.mark.parametrize(("step", "rounds"), [(0.001, []), (2.0, [2.0])])
def test_the_first_training_is_a_round_only_where_a_step_is_slow(monkeypatch, step, rounds):
    """In it everything is compiled, so its steps take longer than later ones."""

    class Process:
        def __init__(self, setup):
            pass

        def ask(self, request, **arguments):
            return {"step": step, "workload_steps": 8}

    monkeypatch.setattr(bench, "WorkerProcess", Process)
    setup = setups.Setup(FOUND[NUMPY], options={"dtype": "float32"})
    assert bench.start(setup, TINY, "seed").row["rounds"] == rounds


# ---------------------------------------------------------------- Real processes


@pytest.fixture
def tiny(monkeypatch):
    """Small recipes, short turns, no calibration, and time limits that no machine reaches."""
    for module, names in (
        (bench, ("SLOW_STEP", "MAX_TRAINING", "BUDGET")),
        (sweeps, ("MIN_READY", "IMPORT_TIME", "PATIENCE")),
        (process, ("CLOSING",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 3600.0)
    monkeypatch.setattr(lower_bound, "calibrate", lambda: RATES)
    monkeypatch.setattr(microgpt, "RECIPES", {"seed": TINY, "scaled": SMALL})
    monkeypatch.setattr(sweeps, "RECIPES", microgpt.RECIPES)
    monkeypatch.setattr(pictures, "RECIPES", microgpt.RECIPES)
    monkeypatch.setattr(bench, "TURN", 0.01)


def test_a_bench_of_two_versions(lab, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    width = replace(sweeps.SWEEPS["width"], values=(8, 16))
    threads = replace(sweeps.SWEEPS["threads"], values=(8,))
    monkeypatch.setattr(sweeps, "SWEEPS", {"width": width, "threads": threads})
    out = tmp_path / "out"
    assert lab("bench", "01", "02", "--rounds", 2, "--out", out, "--json", tmp_path / "a") == 0
    kept = json.loads((out / "bench.json").read_text())
    assert kept == json.loads((tmp_path / "a").read_text())
    assert {path.name for path in out.iterdir()} == {"bench.json", "step-times.svg", "sweeps.svg"}
    assert [(r["version"], r["recipe"], r["dtype"]) for r in kept["rows"]] == [
        (REFERENCE, "seed", "float64"), (NUMPY, "seed", "float32"),
        (REFERENCE, "scaled", "float64"), (NUMPY, "scaled", "float32"),
    ]  # fmt: skip
    for r in kept["rows"]:
        assert len(r["rounds"]) == 2
        assert r["step"] == pytest.approx(sum(r["rounds"]) / 2)
        assert 0 < r["start"] < r["start"] + r["first_step"] < r["names_after"]
        assert 2**23 < r["memory"] < 2**32
        assert r["tokens_per_second"] == pytest.approx(r["tokens"] / r["step"])
        assert r["lower_bound"] == pytest.approx(r["operations"] / 1e10)
        assert r["about"].startswith(("Python", "NumPy")[r["version"] == NUMPY])
    one, two = kept["sweeps"]
    assert [[p["value"] for p in x["points"]] for x in one["curves"]] == [[8, 16], [8, 16]]
    reasons = {(x["version"], x["threads"]): x["reason"] for x in two["curves"]}
    assert reasons == {
        (REFERENCE, 1): "its about() does not say how many threads it uses",
        (REFERENCE, 2): "its about() does not say how many threads it uses",
        (NUMPY, 1): "", (NUMPY, 2): "",
    }  # fmt: skip
    assert "2 threads" in two["curves"][3]["about"]
    tables = [line for line in lab.out.splitlines() if line.endswith(" %")]
    assert len(tables) == 2 * 2
    assert max(map(len, tables)) <= 80  # sentences below them are wrapped by the terminal

    assert lab("bench", "--from", out / "bench.json", "--against", tmp_path / "a") == 0
    assert "0 of 4 rows changed by more than noise" in lab.out


def new_worker(version=NUMPY):
    return worker.Worker(version, time.perf_counter())


def test_the_workload_is_the_same_documents_for_every_version(monkeypatch):
    monkeypatch.setattr(worker, "SHORT", 60.0)  # so that none is too slow for all of them
    told = [new_worker(name).prepare_point(vars(TINY), {}, False) for name in (REFERENCE, NUMPY)]
    assert told[0]["tokens"] == told[1]["tokens"]
    assert told[0]["operations"] == told[1]["operations"]
    assert told[0]["workload_steps"] == worker.DOCUMENTS
    run = microgpt.prepare(TINY, say=lambda text: None)
    steps = microgpt.batches(replace(TINY, steps=10**6), run.tokenizer, run.docs)
    lengths = [len(batch[0]) - 1 for batch, _ in islice(steps, worker.DOCUMENTS)]
    assert told[0]["tokens"] == pytest.approx(sum(lengths) / len(lengths))


def test_the_workload_has_every_letter(monkeypatch):
    """A letter that never comes has moments that fade until they are too small for the
    processor to be quick with."""
    monkeypatch.setattr(worker, "SHORT", 1e9)  # a slow machine takes a shorter one
    one = new_worker()
    one.prepare_point(vars(TINY), {}, False)
    assert {x for batch, _ in one.workload for tokens in batch for x in tokens} == {*range(27)}


def test_the_time_of_a_step_is_the_time_of_the_steps_that_were_taken(monkeypatch):
    one = new_worker()
    one.prepare_point(vars(TINY), {}, False)
    taken = []

    class Module:
        def train(self, state, batches):
            for batch, _ in batches:
                taken.append(batch)
                yield 1.0

    one.module = Module()
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(clock))
    assert one.take_steps(3) == {"step": 4.0 / (3 * len(one.workload))}
    assert taken == [batch for batch, _ in one.workload] * 3


def test_a_step_is_timed_until_its_loss_is_there():
    """A framework may still be computing a loss that it has yielded."""
    one, awaited = new_worker(), []

    class Loss(float):
        def __float__(self):
            awaited.append(self)
            return 1.0

    class Module:
        def train(self, state, batches):
            yield from (Loss(i) for i, _ in enumerate(batches))

    one.module, one.workload = Module(), [([[0, 1]], 0.01)] * 3
    one.take_steps(2)
    assert awaited == [5.0]


def test_tokens_are_the_targets_without_padding():
    one = new_worker()
    told = one.prepare_point(vars(SMALL), {}, False)
    targets = [sum(len(tokens) - 1 for tokens in batch) for batch, _ in one.workload]
    lengths = {len(tokens) for batch, _ in one.workload for tokens in batch}
    assert len(lengths) > 1  # so there would be padding
    assert told["tokens"] == sum(targets) / len(targets)


def test_times_are_counted_from_the_start_of_the_process():
    before = time.perf_counter()
    told = worker.Worker(NUMPY, before).run(vars(TINY), {}, 3600.0)
    assert 0 < told["start"] < told["start"] + told["first_step"] < told["names_after"]
    assert told["names_after"] <= time.perf_counter() - before


def test_names_are_those_of_the_whole_training_or_none():
    one = new_worker()
    assert one.run(vars(TINY), {}, 60.0)["names_after"] > 0
    assert one.state.step >= TINY.steps
    broken_off = new_worker().run(vars(replace(TINY, steps=10**6)), {}, 0.5)
    assert broken_off["names_after"] is None


def test_full_documents_fill_the_block():
    for size in (8, 256):
        made = worker.full_documents(["anna", "bo"] * 10**5, size)
        assert {len(doc) for doc in made} == {size}
        assert len(made) == worker.DOCUMENTS
    one = new_worker()
    told = one.prepare_point(vars(replace(TINY, block_size=32)), {}, True)
    assert told["tokens"] == 32


def test_a_waiting_process_computes_nothing(monkeypatch):
    monkeypatch.setattr(process, "CLOSING", 3600.0)
    setup = setups.Setup(FOUND[NUMPY], options={"dtype": "float32"})
    with process.WorkerProcess(setup) as running:
        arguments = {"config": vars(TINY), "given": {"dtype": "float32"}, "full_block": False}
        running.ask("prepare_point", **arguments)
        if not os.path.exists("/proc"):
            pytest.skip("only Linux tells what another process has computed")

        def ticks():
            with open(f"/proc/{running.process.pid}/stat") as file:
                return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))

        before = ticks()
        time.sleep(0.5)
        assert ticks() - before <= 1
    assert running.process.poll() == 0


def test_a_row_that_fails_says_why_and_the_others_go_on(lab, tiny, tmp_path, monkeypatch):
    failing = replace(FOUND[NUMPY], name="99_failing")
    real, at = subprocess.Popen, sys.executable

    def popen(command, **kwargs):
        dies = any("99_failing" in part for part in command)
        return real([at, "-c", "raise RuntimeError('no luck')"] if dies else command, **kwargs)

    monkeypatch.setattr(process.subprocess, "Popen", popen)
    picked = [failing, FOUND[NUMPY]]
    monkeypatch.setattr(setups, "pick", lambda names: picked)
    out = tmp_path / "out"
    asked = ["bench", "--rounds", 1, "--recipe", "seed", "--sweeps", "none", "--out", out]
    assert lab(*asked) == 1
    assert "99_failing: not measured: it ended with: RuntimeError: no luck\n" in lab.out
    kept = json.loads((out / "bench.json").read_text())["rows"]
    assert [bool(r["reason"]) for r in kept] == [True, False]


def test_a_row_that_fails_in_a_round_keeps_its_reason_and_is_not_asked_again():
    class Failing:
        def ask(self, request, **arguments):
            raise process.WorkerFailed("it ended with: no luck")

    class Well:
        def ask(self, request, **arguments):
            return {"step": 2.0}

    results = [{"reason": "", "rounds": []} for _ in range(2)]
    both = [bench.Measurement(child, r, 1) for child, r in zip((Failing(), Well()), results)]
    bench.run_round(both)
    bench.run_round(both)
    assert [r["reason"] for r in results] == ["it ended with: no luck", ""]
    assert [r["rounds"] for r in results] == [[], [2.0]]  # for a slow step one round is enough


def test_what_a_framework_prints_is_no_answer():
    code = (
        "import sys; from microgpt_lab.benchmark import worker as w\n"
        f"sys.argv = ['', {NUMPY!r}, '0']\n"
        "w.Worker.take_steps = lambda self, repeats: print('noise') or {'step': 1.0}\n"
        "w.main()"
    )
    request = '{"request": "take_steps", "repeats": 1}\n'
    done = subprocess.run(
        [sys.executable, "-c", code], input=request, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ('{"step": 1.0}\n', "noise\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sweeps", "widht"], "no sweep 'widht': did you mean width?"),
        (["--sweeps", "width,"], "no sweep ''"),
        (["--recipe", "sed"], "no recipe 'sed': did you mean seed?"),
        (["--rounds", 0], "rounds is 0: it must be 1 or more"),
        (["--max-batch", 0], "max-batch is 0: it must lie in 1 … 1000000"),
        (["--device", "cudda"], "no device 'cudda': did you mean cuda?"),
        (["--dtype", "float16"], "no dtype 'float16': did you mean float64?"),
        (["nunpy"], "did you mean 02_numpy_manual_backprop?"),
        (["--out", "/dev/null/x"], "cannot make '/dev/null/x': Not a directory"),
        (["--json", "/dev/null/x"], "cannot write '/dev/null/x': Not a directory"),
        (["--against", "nowhere.json"], "cannot read 'nowhere.json': No such file"),
        (["--from", __file__], "is not JSON: it must be a bench.json"),
        (["--from", FOUND[NUMPY].path.parent], "Is a directory"),
        (["02", "--from", __file__], "--from shows a whole record: name no versions with it"),
        (["--write", "--dtype", "float64"], "with --dtype or --device use --out FOLDER"),
        (["--write", "--device", "cuda"], "with --dtype or --device use --out FOLDER"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_measured(lab, monkeypatch, arguments, said):
    monkeypatch.setattr(bench, "measure", None)
    assert said in lab.refuses("bench", *arguments)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "microgpt-compare/1"}', "3"])
def test_a_file_that_is_no_record_is_refused(lab, tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert "is no benchmark record: " in lab.refuses("bench", "--from", path)
    assert re.search("it has no format|its format is", lab.err)


# ---------------------------------------------------------------- Sweeps and their time limits


def curves_of(values, **numbers):
    made = replace(sweeps.SWEEPS["width"], values=values)
    return [sweeps.Curve(made, setups.Setup(FOUND[NUMPY], options={"dtype": "float32"}))], made


def test_a_point_that_would_take_too_long_is_left_out_and_all_beyond(tiny):
    (one,), _ = curves_of((8, 16, 4096))
    runner = sweeps.SweepRunner(
        [[one]], time.monotonic() + sweeps.RESERVE + 3600, lambda text: None
    )
    with runner:
        for task in runner.tasks[:2]:
            task()
        one.points[-1]["step"] = 1.0  # so that the next would take hours
        runner.tasks[2]()
    assert [p["value"] for p in one.points] == [8, 16]
    assert one.reason == sweeps.OVER_BUDGET


def test_a_model_that_is_not_ready_in_time_ends_its_curve_and_its_process(tiny, monkeypatch):
    for name in ("MIN_SHARE", "MIN_READY", "IMPORT_TIME"):
        monkeypatch.setattr(sweeps, name, 0.0)
    (one,), _ = curves_of((8, 16))
    with sweeps.SweepRunner([[one]], time.monotonic(), lambda text: None) as runner:
        for task in runner.tasks:
            task()
    assert (one.points, one.reason, runner.processes) == ([], sweeps.OVER_BUDGET, {})


def test_sweeps_take_one_version_of_each_framework_unless_told():
    found = setups.setups([], None, "cpu")
    (width,), (batch,) = (
        sweeps.choose_curves([sweeps.find_sweep(name, 64)], found, False)
        for name in ("width", "batch")
    )
    here = {setup.version.framework for setup in found if not setup.reason} - {""}
    for curves in (width, batch):
        assert {x.setup.version.framework for x in curves} == here
    assert len({x.setup.version.name for x in width}) == len(here)
    assert not any(x.setup.variant for x in batch)
    (mine,) = sweeps.choose_curves(
        [sweeps.find_sweep("width", 1)], setups.setups(["01"], None, "cpu"), True
    )
    assert [x.setup.version.name for x in mine] == [REFERENCE]


def test_the_sweep_of_batches_ends_where_it_is_told():
    assert sweeps.find_sweep("batch", 1024).values == (1, 4, 16, 64, 256, 1024)
    assert sweeps.find_sweep("batch", 65536).values[-2:] == (16384, 65536)
    assert sweeps.find_sweep("batch", 100).values == (1, 4, 16, 64, 100)
    assert sweeps.find_sweep("batch", 1).values == (1,)


# ---------------------------------------------------------------- Ablation


def test_01_without_its_optimizations_computes_the_same_losses():
    timed = ablation.measure_programs(rounds=1, steps=2)
    assert len({one.name for one in timed}) == len(timed) > 5
    assert {len(one.seconds) for one in timed} == {2}
    for one in timed:
        assert one.loss == pytest.approx(timed[0].loss, rel=1e-12)


def test_the_ablation_s_first_row_is_one(capsys):
    """Each row is its median over that of the first; after it, the fastest step."""
    rows = [
        ablation.TimedProgram("whole", [0.001, 0.003, 0.005], 2.0),
        ablation.TimedProgram("without", [0.004, 0.006, 0.006], 2.0),
    ]
    ablation.show_programs(rows, Console(width=80, markup=False, highlight=False))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["whole", "3.0", "1.0", "1.00"] in lines
    assert ["without", "6.0", "4.0", "2.00"] in lines
