"""`microgpt compare`: each version in a process of its own, and what is measured there."""

import functools
import io
import itertools
import json
import sys
from dataclasses import replace

import microgpt

import pytest
from microgpt_lab.base import machine, versions
from microgpt_lab.runs import compare, worker

from lab_helpers import NUMPY, SMALL

REFERENCE = versions.REFERENCE


def test_two_versions_side_by_side(lab, names, tmp_path, monkeypatch):
    """Losses, names, times, memory and lines of two, and the reason why a third did not run."""
    monkeypatch.setenv("COLUMNS", "80")
    found = versions.find()
    missing = replace(found[NUMPY], name="99_missing", framework="no_such_module")
    picked = [found[REFERENCE], found[NUMPY], missing]
    monkeypatch.setattr(compare, "pick", lambda asked: picked)
    out = tmp_path / "out"
    data = ["--data", names, "--steps", 60, "--evaluate", 20]
    assert lab("compare", *SMALL, *data, "--out", out) == 1
    told = lab.out.replace(str(tmp_path), "").splitlines()
    assert max(map(len, told)) <= 80 or "99_missing" in max(told, key=len)
    assert "99_missing: not run: no_such_module is not installed: uv sync" in lab.out
    assert "20 names, the same in all 2 versions" in lab.out
    assert "documents: here 10% are held out. With --held-out 0 the names are" in lab.out

    record = json.loads((out / "compare.json").read_text())
    one, two, three = record["rows"]
    assert (one["version"], two["version"], three["result"]) == (REFERENCE, NUMPY, None)
    right = list(run_here(names, 60))
    assert one["result"]["losses"] == right
    assert two["result"]["losses"] == pytest.approx(right, rel=1e-5)
    assert two["result"]["losses"] != right  # computed in float32
    assert one["result"]["names"] == two["result"]["names"]
    assert one["result"]["held_out"] == pytest.approx(two["result"]["held_out"], rel=1e-5)
    for row in (one, two):
        took = row["result"]
        assert 0 < took["step"] < took["start"] < took["total"] < took["first_name"]
        assert 2**23 < took["memory"] < 2**32
        assert row["lines"] > 100
    assert "<svg" in (out / "losses.svg").read_text()


def run_here(names, steps):
    """01's losses on what is not held out."""
    config = microgpt.Config(n_embd=8, n_head=2, steps=steps)
    docs = compare_documents(config, names)
    snapshot = microgpt.initial(config, docs.tokenizer.vocab_size, docs.rng)
    state = microgpt.create(config, snapshot)
    return microgpt.train(state, microgpt.batches(config, docs.tokenizer, docs.train))


def compare_documents(config, names):
    return worker.documents.prepare(config, str(names), 42, 0.1)


def test_with_nothing_held_out_the_names_are_those_of_the_program(lab, names, tmp_path):
    """As the printed line says; 01's command line runs what microgpt.prepare prepares."""
    data = ["--data", names, "--steps", 60, "--samples", 5, "--held-out", 0]
    assert lab("compare", "01", *SMALL, *data, "--out", tmp_path / "out") == 0
    assert "held out" not in lab.out
    row = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"][0]
    config = microgpt.Config(n_embd=8, n_head=2, steps=60)
    run = microgpt.prepare(config, str(names), say=lambda text: None)
    state = microgpt.create(config, run.snapshot)
    losses = list(microgpt.train(state, microgpt.batches(config, run.tokenizer, run.docs)))
    logits = functools.partial(microgpt.logits, state)
    made = microgpt.generate(logits, config, run.tokenizer.bos, run.rng.random)
    assert row["result"]["losses"] == losses
    assert row["result"]["names"] == [run.tokenizer.decode(next(made)) for _ in range(5)]


def test_an_error_of_a_version_is_the_reason_in_its_row(names):
    row = compare.ComparisonRow(versions.find()[NUMPY])
    request = {"config": {"steps": 1, "batch_size": 5000}, "seed": 1, "data": str(names)}
    request |= {"held_out": 0.1, "evaluate": 1, "samples": 1}
    compare.train_in_process(row, request, compare.Console())
    assert row.reason.startswith("batch_size 5000 exceeds the")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--batch-size", 5000], "batch_size 5000 exceeds the"),
        (["--held-out", 1], "held-out is 1.0"),
        (["--evaluate", -5], "evaluate is -5: it must be 0 or more"),
        (["--samples", -1], "samples is -1: it must be 0 or more"),
        (["--dtype", "float16"], "nothing to compare: 01_pure_python: it has no float16"),
        (["--data", "/dev/stdin"], "data '/dev/stdin' can be read once"),
    ],
)
def test_what_no_version_can_do_is_refused_before_any_trains(
    lab, names, tmp_path, monkeypatch, arguments, says
):
    def train(*_):
        raise AssertionError("it trains")

    monkeypatch.setattr(compare, "train_in_process", train)
    out = tmp_path / "out"
    assert says in lab.refuses("compare", "01", "02", "--data", names, "--out", out, *arguments)
    assert not out.exists()


def test_a_process_that_ends_without_a_result_has_its_status_as_the_reason(names, monkeypatch):
    row = compare.ComparisonRow(versions.find()[NUMPY])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    request = {"config": {"steps": 1}, "seed": 1, "data": str(names)}
    request |= {"held_out": 0.1, "evaluate": 1, "samples": 1}
    compare.train_in_process(row, request, compare.Console())
    assert row.reason == "it ended with: status 1"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_precision_that_a_version_lacks_is_a_reason(dtype):
    rows = {row.version.name: row for row in compare.rows_of(["01", "02"], False, dtype)}
    assert rows[NUMPY].options == {"dtype": dtype}
    assert rows[REFERENCE].reason == ("" if dtype == "float64" else "it has no float32")


def test_names_that_differ_are_shown_side_by_side(capsys):
    def row(name, names):
        result = worker.Result("", [1.0], names, None, 1, 1, 1, 1, 1)
        return compare.ComparisonRow(replace(versions.find()[NUMPY], name=name), result=result)

    rows = [row("01_a", ["ann", "bo"]), row("02_b", ["ann", ""]), row("03_c", ["ann", "bo"])]
    compare.show_generated_names(rows, compare.Console(width=80, markup=False, highlight=False))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["names", "01", "=", "03", "02"], ["1", "ann", "ann"], ["2", "≠", "bo", '""']]


# ---------------------------------------------------------------- Measuring


class Clock:
    """A simulated clock, which only wait_until() moves: the test does not depend on the machine."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now

    def wait_until(self, then):
        self.now = max(self.now, then)


class Lazy:
    """A loss that is still being computed; float() waits for it."""

    def __init__(self, clock, ready):
        self.clock, self.ready = clock, ready

    def __float__(self):
        self.clock.wait_until(self.ready)
        return 1.0


class Chunked:
    """A version that takes `size` steps of a millisecond at a time, one chunk ahead, and
    needs a while to start."""

    def __init__(self, clock, size, ahead):
        self.clock, self.size, self.ahead, self.start = clock, size, ahead, 0.05

    def train(self, state, batches):
        batches, held, ready = iter(batches), [], self.clock.now + self.start
        self.start = 0
        while True:
            chunk = [item for _, item in zip(range(self.size), batches)]
            ready = max(ready, self.clock.now) + 1e-3 * len(chunk)
            held.append([Lazy(self.clock, ready) for _ in chunk])
            if len(held) > self.ahead or not chunk:
                yield from held.pop(0)
            if not chunk and not any(held):
                return


@pytest.mark.parametrize("size", [1, 7, 50, 64, 1000])
@pytest.mark.parametrize("ahead", [0, 1])
def test_the_time_of_a_step_is_right_also_where_many_are_taken_at_once(monkeypatch, size, ahead):
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    before = clock.now
    version = Chunked(clock, size, ahead)
    losses, windows, first = worker.train_timed(version, None, iter(range(200)))
    assert losses == [1.0] * 200
    assert worker.seconds_a_step(windows, 200) == pytest.approx(1e-3, rel=0.1)
    assert first - before == pytest.approx(0.051, abs=0.002)


def test_a_row_has_the_figures_of_its_legend(capsys):
    """Mean of the last 50 losses, largest difference at any step, µs, MiB, lines of code."""
    version, losses = versions.find()[NUMPY], [float(step) for step in range(200)]
    apart = [*losses[:100], 100.5, *losses[101:]]
    rows = [
        compare.ComparisonRow(version, result=worker.Result(
            "", numbers, [], 2.5, 1.0, 1.234567, 4.0, 3.0, 64 * 2**20
        ))
        for numbers in (losses, apart)
    ]  # fmt: skip
    compare.show_table(rows, compare.Console(width=120, markup=False, highlight=False))
    _, one, other = capsys.readouterr().out.splitlines()
    lines = compare.code_lines_of(version.path.read_text())
    rest = ["1,234,567", "1.0", "s", "4.0", "s", "64", str(lines)]
    assert one.split() == [NUMPY, "174.5000", "2.5000", "=", *rest]
    assert other.split() == [NUMPY, "174.5000", "2.5000", "5e-01", *rest]


def test_evaluate_0_means_all_held_out_documents(tmp_path, monkeypatch):
    """There are more than the default of 1,000."""
    data, counts = tmp_path / "x.txt", []
    words = itertools.product("abcdefghijkl", repeat=3)
    data.write_text("".join(f"{''.join(word)}\n" for word in words))
    monkeypatch.setattr(
        worker.documents, "nats_a_character", lambda *given: counts.append(len(given[-1])) or 1.0
    )
    config = vars(microgpt.Config(n_embd=8, n_head=2, steps=1))
    for evaluate in (0, 7):
        request = worker.Request(NUMPY, config, 42, str(data), 0.9, evaluate, 0, {}, 0.0)
        assert worker.train_and_measure(request).held_out == 1.0
    assert counts == [12**3 * 9 // 10, 7]


def test_a_step_is_the_median_of_the_windows_after_the_warm_up():
    """Of 50 steps: 10 slow ones of warm-up, then 20 of 0.1 s, and 10 of 1 s at last."""
    windows = [(1, 0.0), (11, 10.0), (21, 11.0), (31, 12.0), (41, 22.0)]
    assert worker.seconds_a_step(windows, 50) == pytest.approx(0.1)


def test_the_peak_memory_is_what_linux_says_in_units_of_1024_bytes(monkeypatch):
    status = "VmPeak:\t  99 kB\nVmHWM:\t    2048 kB\n"
    monkeypatch.setattr(machine, "open", lambda *_, **__: io.StringIO(status), raising=False)
    assert machine.peak_memory() == 2**21


def test_comments_blank_lines_and_docstrings_are_not_lines_of_code():
    text = ['"""Doc', 'string."""', "", 'x = """kept', 'too"""  # no', "# no"]
    source = "\n".join([*text, "def f():", "    'no'", "    return 1", ""])
    assert compare.code_lines_of(source) == 4
