"""The benchmark measures what it says, and computes exactly from what it measured."""

import json
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import microgpt
import numpy as np
import pytest
from microgpt_lab.base import versions  # fmt: skip
from microgpt_lab.benchmark import (
    ablation,
    bench,
    changes,
    crossovers,
    lower_bound,
    page,
    pictures,
    process,
    record,
    report,
    setups,
    sweeps,
    worker,
)
from rich.console import Console

from lab_helpers import NUMPY, Lab

REFERENCE = versions.REFERENCE
FOUND = versions.find()


@pytest.fixture
def lab(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Lab(monkeypatch, capsys)


# ---------------------------------------------------------------- The floor


class Counted(float):
    """A number that counts what is computed with it."""

    operations = 0

    def __bool__(self):
        return True  # a zero is multiplied too: the count knows no sparsity

    def __neg__(self):
        return Counted(-float(self))  # a sign costs nothing


def counting(name):
    plain = getattr(float, name)

    def count(self, other):
        Counted.operations += 1
        return Counted(plain(self, other))

    return count


for _name in ("add", "sub", "mul", "truediv", "pow"):
    for _side in ("", "r"):
        setattr(Counted, f"__{_side}{_name}__", counting(f"__{_side}{_name}__"))


def counted_step(config, batch, monkeypatch):
    """The operations of 01's own step, with numbers that count."""

    class Mathematics:
        def __getattr__(self, name):
            def count(x):
                Counted.operations += 1
                return Counted(getattr(math, name)(x))

            return count

    rng = np.random.default_rng(1)
    table = microgpt.shapes(config, 27)
    weights = {n: rng.normal(0, 0.3, (r, c)).tolist() for n, (r, c, _) in table.items()}
    zeros = {n: [[0.0] * c for _ in range(r)] for n, (r, c, _) in table.items()}
    state = microgpt.create(config, microgpt.Snapshot(weights, zeros, zeros, 0))
    for p in microgpt.leaves(state):
        p.data, p.m, p.v = Counted(p.data), Counted(0), Counted(0)
    with monkeypatch.context() as patch:
        patch.setattr(microgpt, "math", Mathematics())
        patch.setattr(microgpt, "sumprod", lambda x, y: sum(a * b for a, b in zip(x, y)))
        patch.setattr(Counted, "operations", 0)
        list(microgpt.train(state, [(batch, 0.01)]))
        return Counted.operations


def known_surplus(config, lengths):
    """What 01 computes and nobody must: the whole matrix of a softmax's derivatives, forward
    and backward; products by one, the derivative of a sum by its parts; the activation and its
    slope as powers; and Adam's learning rate over its correction, anew for each weight."""
    rows = sum(u * u for n in lengths for u in range(1, n + 1))
    sums = (2 * config.n_layer + 1) * config.n_embd * sum(lengths)
    hidden = 4 * config.n_embd * config.n_layer * sum(lengths)
    weights = sum(r * c for r, c, _ in microgpt.shapes(config, 27).values())
    powers = (6 - 2 * config.relu_power) * hidden
    return 4 * config.n_layer * config.n_head * rows + 2 * sums + powers + weights


@pytest.mark.parametrize(
    ("numbers", "lengths"),
    [
        ({}, [7]),
        ({}, [8, 8, 8]),  # cut at the block
        ({"n_layer": 2}, [3, 1, 8, 5]),
        ({"n_embd": 32, "n_head": 2, "block_size": 16}, [16, 4]),
        ({"relu_power": 1}, [5, 6]),
        ({"n_embd": 64}, [1]),
    ],
)
def test_the_floor_counts_what_the_reference_computes(numbers, lengths, monkeypatch):
    """To one in a hundred: 01 has a few more small products. Without any of the formula's
    terms it is further off in one of these cases."""
    config = microgpt.Config(**numbers)
    batch = [[26, *([3] * (n - 1)), 26] for n in lengths]
    counted = counted_step(config, batch, monkeypatch) - known_surplus(config, lengths)
    assert lower_bound.work(config, 27, lengths).operations == pytest.approx(counted, rel=0.01)


def test_the_floor_grows_by_exactly_what_is_added():
    """A batch is the sum of its documents, but for Adam, which comes once a step."""
    config = microgpt.RECIPES["scaled"]
    weights = sum(r * c for r, c, _ in microgpt.shapes(config, 27).values())

    def count(*lengths):
        return lower_bound.work(config, 27, lengths).operations

    assert count(3, 9) == count(3) + count(9) - 13 * weights
    assert lower_bound.work(config, 27, [5]).moved == 6 * weights
    twice = lower_bound.work(replace(config, n_layer=4), 27, [1]).operations - count(1)
    C, H = 64, 4
    # two layers more, one token that sees itself: products, attention, softmax, norms,
    # residuals, activation, Adam
    layer = 72 * C * C + 12 * C + 10 * H + 16 * C + 4 * C + 12 * C + 13 * 12 * C * C
    assert twice == 2 * layer
    # a letter more, in two matrices: one product a token, softmax, Adam
    letter = lower_bound.work(config, 28, [5]).operations - count(5)
    assert letter == 5 * (6 * C + 5) + 2 * 13 * C


def test_recipe_seed_is_a_fifth_of_a_million_operations_a_step():
    config = microgpt.RECIPES["seed"]
    run = microgpt.prepare(config, say=lambda text: None)
    steps = microgpt.batches(config, run.tokenizer, run.docs)
    counts = [lower_bound.work(config, 27, [len(x) - 1 for x in b]).operations for b, _ in steps]
    assert sum(counts) / len(counts) == pytest.approx(0.21e6, rel=0.01)


def test_the_floor_s_time_is_the_longer_of_computing_and_moving():
    rates = {"operations": {"float32": 1e9, "float64": 5e8}, "bytes": {"1000": 1e9, "4000": 1e8}}
    small, wide = lower_bound.Work(2000, 100), lower_bound.Work(2000, 1500)
    assert lower_bound.seconds(small, rates, "float32") == pytest.approx(2e-6)
    assert lower_bound.seconds(small, rates, "float64") == pytest.approx(4e-6)
    # 6000 bytes, half of them read: they need the slower, larger level
    assert lower_bound.seconds(wide, rates, "float32") == pytest.approx(6e-5)
    # and beyond the largest level there is nothing faster
    assert lower_bound.seconds(wide, rates, "float64") == pytest.approx(1.2e-4)


def test_rates_of_two_runs_join_to_the_best_of_each():
    one, two = {"operations": {"a": 1, "b": 5}}, {"operations": {"a": 2, "b": 4}}
    assert lower_bound.better(one, two) == {"operations": {"a": 2, "b": 5}}


def test_calibration_uses_one_thread_and_finds_rates():
    found = lower_bound.rates()
    assert {*found["operations"]} == {"float32", "float64"}
    assert all(rate > 1e6 for kind in found.values() for rate in kind.values())


# ---------------------------------------------------------------- Statistics, crossovers


def test_spread_reaches_the_farthest_round_from_the_median():
    assert rows.spread([1, 2, 3, 4, 5]) == pytest.approx(2 / 3)
    assert rows.spread([4, 2, 3, 9, 3]) == pytest.approx(2)
    assert rows.spread([7.0]) == 0


def test_curves_cross_where_their_logarithms_do():
    flat, rising = {1: 10, 100: 10}, {1: 1, 100: 100}
    assert crossovers.crossings(flat, rising) == [(pytest.approx(10), True)]
    assert crossovers.crossings(rising, flat) == [(pytest.approx(10), False)]
    steep = {1: 1, 100: 10**4}
    assert crossovers.crossings(flat, steep) == [(pytest.approx(10**0.5), True)]
    assert crossovers.crossings(flat, {1: 11, 100: 90}) == []
    assert crossovers.crossings(flat, {2: 1, 50: 100}) == []  # no value in common


def test_a_difference_within_the_noise_is_no_crossing():
    one = {1: 100, 2: 100, 4: 100, 8: 100}
    assert crossovers.crossings(one, {1: 120, 2: 98, 4: 103, 8: 130}) == []
    (change,) = crossovers.crossings(one, {1: 50, 2: 98, 4: 103, 8: 200})
    assert change == (pytest.approx(8**0.5), True)


def test_where_a_curve_falls_to_a_share():
    assert crossovers.falls_to({1: 100, 100: 1}, 0.1) == pytest.approx(10)
    assert crossovers.falls_to({1: 100, 4: 90}, 0.5) is None
    assert crossovers.falls_to({1: 1}, 0.5) is None


def line(version, costs, variant="", threads=1):
    points = [
        {"value": x, "step": y, "rounds": [y], "floor": min(costs.values()) / 3}
        for x, y in costs.items()
    ]
    return {
        "version": version, "variant": variant, "dtype": "float32", "threads": threads,
        "about": f"made up, {threads} thread", "reason": "", "points": points,
    }  # fmt: skip


def sweep(number, *lines, threads=(1,)):
    names = {"n_embd": "width", "batch_size": "batch"}
    return {
        "name": "threads" if threads[1:] else names[number], "number": number, "threads": threads,
        "recipe": "scaled" if number == "batch_size" else "seed", "lines": list(lines),
    }  # fmt: skip


def row(version, step, variant="", recipe="seed", **other):
    rounds = [0.9 * step, step, step, step, 1.1 * step]
    made = {
        "version": version, "variant": variant, "dtype": "float32", "recipe": recipe,
        "reason": "", "about": "made up", "start": 1.0, "first": 1.5, "names": 3.0,
        "memory": 2**26, "lap": 8, "tokens": 7.0, "operations": 2e5, "moved": 1000,
        "rounds": rounds, "step": step, "spread": 0.05, "compile": 0.5, "rate": 7 / step,
        "floor": 2e-6,
    }  # fmt: skip
    return made | other


def record(rows=(), swept=()):
    return {
        "format": bench.FORMAT, "date": "2031-01-02", "device": "cpu", "threads": 1, "rounds": 5,
        "seconds": 9.0, "rates": {}, "rows": list(rows), "sweeps": list(swept),
        "machine": {"processor": "P", "cores": 2, "system": "S", "python": "3.11.0"},
    }  # fmt: skip


def test_crossovers_become_sentences():
    a, b = NUMPY, next(name for name in FOUND if name.startswith("03"))
    rows = [row(a, 4e-3), row(b, 3e-3), row(b, 1e-3, "compiled", first=21.5, compile=20.0)]
    curves = [
        sweep("n_embd", line(a, {16: 1, 64: 16}), line(b, {16: 4, 64: 4})),
        sweep("batch_size", line(a, {1: 1, 100: 100}), line(b, {1: 1, 100: 10})),
        sweep(
            "n_embd", line(a, {10: 1, 1000: 10}), line(a, {10: 10, 1000: 1}, threads=2),
            line(b, {10: 1, 1000: 10}), line(b, {10: 2, 1000: 20}, threads=2), threads=(1, 2),
        ),
    ]  # fmt: skip
    assert crossovers.all_of(record(rows, curves)) == [
        "03, recipe seed: compiling takes 20 s and pays from 10,000 steps on",
        "from width 32 on 03 is faster than 02",
        "02: no batch halves what a document costs",
        "03: a document costs half from a batch of 4.0 on, 1/10 in one of 100",
        "02: from width 100 on 2 threads pay; at most × 10, at width 1000",
        "03: 2 threads do not pay up to width 1000; at most × 0.5, at width 10",
    ]


# ---------------------------------------------------------------- Two records, tables


def test_a_change_is_beyond_both_spreads_and_not_the_mood_of_the_machine():
    """The machine takes 1.2 times as long as before: the median row says so."""
    names = ("02_a", "03_b", "04_c", "05_d", "06_e", "07_f")
    old = record([row(name, 1.0) | {"spread": 0.1} for name in names])
    new = record([
        row("02_a", 1.2), row("03_b", 1.2), row("04_c", 1.2 * 1.14), row("05_d", 1.2 * 1.16),
        row("06_e", 1.2 * 0.8), row("07_f", 0.1, rounds=[0.1]),
    ])  # fmt: skip
    found = {c["row"]["version"]: c["beyond"] for c in report.changes(old, new)}
    assert found == {
        "02_a": False, "03_b": False, "04_c": False, "05_d": True, "06_e": True, "07_f": None,
    }  # fmt: skip


def test_two_processes_of_one_program_differ_by_a_little_that_is_no_change():
    old, new = (record([row("02_a", step) | {"spread": 0.0}]) for step in (1.0, 1.04))
    assert [c["beyond"] for c in report.changes(old, new)] == [False]


def test_what_is_not_the_same_is_said_before_what_has_changed(capsys):
    old, new = record([row("02_a", 1.0)]), record([row("02_a", 2.0, about="2.0"), row("03_b", 1)])
    new["machine"] = new["machine"] | {"processor": "Q"}
    console = Console(width=80, markup=False, highlight=False)
    report.show_changes(old, new, console)
    told = [" ".join(text.split()) for text in capsys.readouterr().out.splitlines() if text]
    assert told == [
        "not the same in both:",
        "processor: P → Q",
        "02_a: made up → 2.0",
        "only in the new: seed 03_b float32",
        "recipe 2031-01-02 ± 2031-01-02 ± ratio",
        "02_a seed 1,000,000 µs 5 % 2,000,000 µs 5 % 2.00 slower",
        "1 of 1 rows changed beyond the noise: their ratio differs by more than both ± from that "
        "of the machine as a whole, 1.00 in seed",
    ]


def test_tables_fit_eighty_columns(capsys):
    name = "02_numpy_manual_backprop"
    rows = [
        row("01_pure_python", 4.9e-3, rounds=[1.0]),
        row(name, 9.2e-5, names=None),
        row(name, 3.4567, "compiled", recipe="scaled"),
        {"version": "03_x", "variant": "", "recipe": "seed", "dtype": "float32", "reason": "no!"},
    ]
    report.show(record(rows), Console(width=80, markup=False, highlight=False))
    told = capsys.readouterr().out.splitlines()
    assert max(map(len, told)) <= 80
    table = [text for text in told if text.startswith("0")]
    cells = "4,900 once 1,430 1.0 s 0.5 s 3.0 s 64 0.041 %"
    assert " ".join(table[0].split()) == f"01_pure_python {cells}"
    assert "03_x: not measured: no!" in told


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0123, "0.012"), (2.714, "2.71"), (48.5, "48.5"), (1234.5, "1,230"), (7, "7.00")],
)
def test_numbers_have_few_digits(x, text):
    assert report.digits(x) == text


def test_labels_move_apart_and_no_further():
    assert pictures.apart([1.0, 5.0, 3.0], 1) == [1.0, 5.0, 3.0]
    assert pictures.apart([1.0, 1.0, 9.0], 1) == [0.5, 1.5, 9.0]
    assert pictures.apart([2.0, 1.0, 1.5], 1) == [2.5, 0.5, 1.5]


def test_pictures_are_the_same_for_the_same_numbers(tmp_path):
    rows = [row("02_a", 1e-4), row("03_b", 1e-5, recipe="scaled", dtype="float64")]
    curves = [sweep("n_embd", line("02_a", {16: 1, 64: 16}), line("03_b", {16: 4}, "compiled"))]
    texts = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        kept = report.keep(record(rows, curves), folder)
        assert [path.name for path in kept] == ["bench.json", "staircase.svg", "sweeps.svg"]
        texts.append([path.read_text() for path in kept])
    assert texts[0] == texts[1]
    assert all("<svg" in text for text in texts[0][1:])


def test_without_a_floor_there_is_none(tmp_path, capsys):
    """On a GPU, whose speed nobody has calibrated."""
    assert lower_bound.seconds(lower_bound.Work(1, 1), {}, "float32") is None
    made = record([row("02_a", 1e-4, floor=None)], [sweep("n_embd", line("02_a", {16: 1, 64: 2}))])
    for point in made["sweeps"][0]["lines"][0]["points"]:
        point["floor"] = None
    report.keep(made, tmp_path)
    assert "floor 2" not in (tmp_path / "staircase.svg").read_text()
    report.show(made, Console(width=80, markup=False, highlight=False))
    assert " –\n" in capsys.readouterr().out


def test_the_readme_s_table_is_what_its_record_gives():
    kept = bench.read(report.DOCS / "bench.json")
    text = report.README.read_text()
    between = text.split(report.START)[1].split(report.END)[0]
    assert between == f"\n{report.markdown(kept)}\n"


def test_the_readme_is_written_from_a_record(tmp_path, monkeypatch, lab):
    readme = tmp_path / "README.md"
    monkeypatch.setattr(report, "README", readme)
    monkeypatch.setattr(report, "DOCS", tmp_path / "docs")
    path = tmp_path / "old.json"
    path.write_text(json.dumps(record([row("02_a", 1e-4), row("02_a", 5e-3, recipe="scaled")])))
    assert "must have the lines <!-- bench -->" in lab.refuses("bench", "--from", path, "--write")
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    assert lab("bench", "--from", path, "--write") == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench -->\n2031-01-02, P, 2 cores, S")
    assert "| 02 | 100 | 2 % | 5.00 | 0.04 % | 70,000 | 2.5 s | 3.0 s | 64 MiB |\n" in text
    assert text.endswith("\n<!-- /bench -->\nafter\n")
    assert json.loads((tmp_path / "docs" / "bench.json").read_text())["date"] == "2031-01-02"
    assert "<svg" in (tmp_path / "docs" / "staircase.svg").read_text()


# ---------------------------------------------------------------- Real rows


TINY = microgpt.Config(n_embd=8, n_head=2, steps=12)
SMALL = microgpt.Config(n_embd=8, n_head=2, steps=6, batch_size=3)


@pytest.fixture
def tiny(monkeypatch):
    """Small recipes, short turns."""
    monkeypatch.setattr(microgpt, "RECIPES", {"seed": TINY, "scaled": SMALL})
    monkeypatch.setattr(sweeps, "RECIPES", microgpt.RECIPES)
    monkeypatch.setattr(pictures, "RECIPES", microgpt.RECIPES)
    monkeypatch.setattr(bench, "TURN", 0.01)


def test_a_bench_of_two_versions(lab, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    width = replace(sweeps.SWEEPS["width"], values=(8, 16))
    threads = replace(sweeps.SWEEPS["threads"], values=(8, 16))
    monkeypatch.setattr(sweeps, "SWEEPS", {"width": width, "threads": threads})
    out = tmp_path / "out"
    assert lab("bench", "01", "02", "--rounds", 2, "--out", out, "--json", tmp_path / "a") == 0
    kept = json.loads((out / "bench.json").read_text())
    assert kept == json.loads((tmp_path / "a").read_text())
    assert {path.name for path in out.iterdir()} == {"bench.json", "staircase.svg", "sweeps.svg"}
    assert [(r["version"], r["recipe"], r["dtype"]) for r in kept["rows"]] == [
        (REFERENCE, "seed", "float64"), (NUMPY, "seed", "float32"),
        (REFERENCE, "scaled", "float64"), (NUMPY, "scaled", "float32"),
    ]  # fmt: skip
    for r in kept["rows"]:
        assert len(r["rounds"]) == 2
        assert r["step"] == pytest.approx(sum(r["rounds"]) / 2)
        assert 0 < r["start"] < r["start"] + r["first"] < r["names"]
        assert 2**23 < r["memory"] < 2**32
        assert r["rate"] == pytest.approx(r["tokens"] / r["step"])
        assert r["floor"] > 0
        assert r["about"].startswith(("Python", "NumPy")[r["version"] == NUMPY])
    one, two = kept["sweeps"]
    assert [[p["value"] for p in x["points"]] for x in one["lines"]] == [[8, 16], [8, 16]]
    reasons = {(x["version"], x["threads"]): x["reason"] for x in two["lines"]}
    assert reasons == {
        (REFERENCE, 1): "it does not say how many threads it takes",
        (REFERENCE, 2): "it does not say how many threads it takes",
        (NUMPY, 1): "", (NUMPY, 2): "",
    }  # fmt: skip
    assert "2 threads" in two["lines"][3]["about"]
    assert max(map(len, lab.out.replace(str(tmp_path), "").splitlines())) <= 80

    assert lab("bench", "--from", out / "bench.json", "--against", tmp_path / "a") == 0
    assert "0 of 4 rows changed beyond the noise" in lab.out


def new_worker(version=NUMPY):
    return worker.Worker(version, time.time())


def test_a_lap_is_the_same_documents_for_every_version(monkeypatch):
    monkeypatch.setattr(worker, "SHORT", 60.0)  # so that none is too slow for all of them
    told = [new_worker(name).point(vars(TINY), {}, False) for name in (REFERENCE, NUMPY)]
    assert told[0]["tokens"] == told[1]["tokens"]
    assert told[0]["operations"] == told[1]["operations"]
    assert told[0]["lap"] == worker.DOCUMENTS
    run = microgpt.prepare(TINY, say=lambda text: None)
    steps = microgpt.batches(replace(TINY, steps=10**6), run.tokenizer, run.docs)
    lengths = [len(batch[0]) - 1 for batch, _ in islice(steps, worker.DOCUMENTS)]
    assert told[0]["tokens"] == pytest.approx(sum(lengths) / len(lengths))


def test_a_lap_knows_every_letter():
    """A letter that never comes has moments that fade until they are too small for the
    processor to be quick with."""
    one = new_worker()
    one.point(vars(TINY), {}, False)
    assert {x for batch, _ in one.lap for tokens in batch for x in tokens} == {*range(27)}


def test_a_turn_takes_as_many_steps_as_it_is_timed_for(monkeypatch):
    one = new_worker()
    one.point(vars(TINY), {}, False)
    taken = []

    class Module:
        def train(self, state, batches):
            for batch, _ in batches:
                taken.append(batch)
                yield 1.0

    one.module = Module()
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(clock))
    assert one.take(3) == {"step": 4.0 / (3 * len(one.lap))}
    assert taken == [batch for batch, _ in one.lap] * 3


def test_names_are_those_of_the_whole_training_or_none():
    one = new_worker()
    assert one.run(vars(TINY), {}, 60.0)["names"] > 0
    assert one.state.step >= TINY.steps
    broken_off = new_worker().run(vars(replace(TINY, steps=10**6)), {}, 0.5)
    assert broken_off["names"] is None


def test_joined_documents_fill_the_block():
    for size in (8, 256):
        joined = worker.join(["anna", "bo"] * 10**5, size)
        assert {len(doc) for doc in joined} == {size}
        assert len(joined) == worker.DOCUMENTS
    one = new_worker()
    told = one.point(vars(replace(TINY, block_size=32)), {}, True)
    assert told["tokens"] == 32


def test_a_waiting_row_computes_nothing():
    with rows.Child(rows.Row(FOUND[NUMPY], options={"dtype": "float32"})) as child:
        child.ask("point", config=vars(TINY), given={"dtype": "float32"}, joined=False)
        if not os.path.exists("/proc"):
            pytest.skip("only Linux tells what another process has computed")

        def ticks():
            with open(f"/proc/{child.process.pid}/stat") as file:
                return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))

        before = ticks()
        time.sleep(0.5)
        assert ticks() - before <= 1
    assert child.process.poll() == 0


def test_a_row_that_dies_says_why_and_the_others_go_on(lab, tiny, tmp_path, monkeypatch):
    dying = replace(FOUND[NUMPY], name="99_dying")
    real, at = subprocess.Popen, sys.executable

    def popen(command, **kwargs):
        dies = any("99_dying" in part for part in command)
        return real([at, "-c", "raise RuntimeError('no luck')"] if dies else command, **kwargs)

    monkeypatch.setattr(rows.subprocess, "Popen", popen)
    picked = [dying, FOUND[NUMPY]]
    monkeypatch.setattr(rows, "pick", lambda names: picked)
    out = tmp_path / "out"
    asked = ["bench", "--rounds", 1, "--recipe", "seed", "--sweeps", "none", "--out", out]
    assert lab(*asked) == 1
    assert "99_dying: not measured: it ended with: RuntimeError: no luck\n" in lab.out
    kept = json.loads((out / "bench.json").read_text())["rows"]
    assert [bool(r["reason"]) for r in kept] == [True, False]


def test_a_row_that_dies_in_a_round_keeps_its_reason_and_its_turn_passes():
    class Dying:
        def ask(self, do, **order):
            raise rows.Died("it ended with: no luck")

    class Well:
        def ask(self, do, **order):
            return {"step": 2.0}

    results = [{"reason": "", "rounds": []} for _ in range(2)]
    both = [bench.Measured(child, r, 1) for child, r in zip((Dying(), Well()), results)]
    bench.take_turns(both)
    bench.take_turns(both)
    assert [r["reason"] for r in results] == ["it ended with: no luck", ""]
    assert [r["rounds"] for r in results] == [[], [2.0]]  # beyond a second once is enough


def test_what_a_framework_prints_is_no_answer():
    code = (
        "import sys; from microgpt_lab.benchmark import worker as w\n"
        f"sys.argv = ['', {NUMPY!r}, '0']\n"
        "w.Worker.take = lambda self, laps: print('noise') or {'step': 1.0}\n"
        "w.main()"
    )
    order = '{"do": "take", "laps": 1}\n'
    done = subprocess.run([sys.executable, "-c", code], input=order, capture_output=True, text=True)
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
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_measured(lab, monkeypatch, arguments, said):
    monkeypatch.setattr(bench, "measure", None)
    assert said in lab.refuses("bench", *arguments)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "microgpt-compare/1"}', "3"])
def test_a_file_that_is_no_record_is_refused(lab, tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert "is no record of a bench: " in lab.refuses("bench", "--from", path)
    assert re.search("it has no format|its format is", lab.err)


# ---------------------------------------------------------------- The time that there is


def curves_of(values, **numbers):
    made = replace(sweeps.SWEEPS["width"], values=values)
    return [sweeps.Line(made, rows.Row(FOUND[NUMPY], options={"dtype": "float32"}))], made


def test_a_point_that_would_take_too_long_is_left_out_and_all_beyond(tiny):
    (one,), _ = curves_of((8, 16, 4096))
    runner = sweeps.Runner([[one]], time.monotonic() + sweeps.RESERVE + 60, lambda text: None)
    with runner:
        for task in runner.tasks[:2]:
            task()
        one.points[-1]["step"] = 1.0  # so that the next would take hours
        runner.tasks[2]()
    assert [p["value"] for p in one.points] == [8, 16]
    assert one.reason == sweeps.OVER


def test_a_model_that_is_not_ready_in_time_ends_its_curve_and_its_process(tiny, monkeypatch):
    for name in ("LEAST", "READY", "IMPORTS"):
        monkeypatch.setattr(sweeps, name, 0.0)
    (one,), _ = curves_of((8, 16))
    with sweeps.Runner([[one]], time.monotonic(), lambda text: None) as runner:
        for task in runner.tasks:
            task()
    assert (one.points, one.reason, runner.children) == ([], sweeps.OVER, {})


def test_sweeps_take_one_version_of_each_framework_unless_told():
    found = rows.rows([], None, "cpu")
    (width,), (batch,) = (
        sweeps.lines([sweeps.named(name, 64)], found, False) for name in ("width", "batch")
    )
    here = {row.version.framework for row in found if not row.reason} - {""}
    for curves in (width, batch):
        assert {x.row.version.framework for x in curves} == here
    assert len({x.row.version.name for x in width}) == len(here)
    assert not any(x.row.variant for x in batch)
    (mine,) = sweeps.lines([sweeps.named("width", 1)], rows.rows(["01"], None, "cpu"), True)
    assert [x.row.version.name for x in mine] == [REFERENCE]


def test_the_sweep_of_batches_ends_where_it_is_told():
    assert sweeps.named("batch", 1024).values == (1, 4, 16, 64, 256, 1024)
    assert sweeps.named("batch", 65536).values[-2:] == (16384, 65536)
    assert sweeps.named("batch", 100).values == (1, 4, 16, 64, 100)
    assert sweeps.named("batch", 1).values == (1,)
