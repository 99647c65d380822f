"""What is computed and drawn from a record: crossings, changes, tables, pictures."""

import pytest
from microgpt_lab.base import versions
from microgpt_lab.benchmark import changes, crossovers, lower_bound, pictures, report
from rich.console import Console

from bench_records import make_curve, make_failed_row, make_record, make_row, make_sweep
from lab_helpers import NUMPY

FOUND = versions.find()


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


def test_crossovers_become_sentences():
    a, b = NUMPY, next(name for name in FOUND if name.startswith("03"))
    rows = [
        make_row(a, 4e-3),
        make_row(b, 3e-3),
        make_row(b, 1e-3, "compiled", first_step=21.5, first_step_extra=20.0),
    ]
    curves = [
        make_sweep("n_embd", make_curve(a, {16: 1, 64: 16}), make_curve(b, {16: 4, 64: 4})),
        make_sweep("batch_size", make_curve(a, {1: 1, 100: 100}), make_curve(b, {1: 1, 100: 10})),
        make_sweep(
            "n_embd", make_curve(a, {10: 1, 1000: 10}), make_curve(a, {10: 10, 1000: 1}, threads=2),
            make_curve(b, {10: 1, 1000: 10}), make_curve(b, {10: 2, 1000: 20}, threads=2),
            threads=(1, 2),
        ),
    ]  # fmt: skip
    assert crossovers.all_sentences(make_record(rows, curves)) == [
        "03, recipe seed: compiling takes 20 s, and saves time from 10,000 steps on",
        "from width 32 on 03 is faster than 02",
        "02: no measured batch halves the time of a document",
        "03: from a batch of 4.0 on, a document takes half as long as alone; "
        "in a batch of 100, 1/10 as long",
        "02: from width 100 on 2 threads are faster; at most 10 times as fast, at width 1000",
        "03: 2 threads are not faster up to width 1000; at most 0.5 times as fast, at width 10",
    ]


def test_a_change_is_beyond_both_spreads_and_beyond_the_machine_s_overall_change():
    """The machine takes 1.2 times as long as before: the median row says so."""
    names = ("02_a", "03_b", "04_c", "05_d", "06_e", "07_f")
    old = make_record([make_row(name, 1.0) | {"spread": 0.1} for name in names])
    new = make_record([
        make_row("02_a", 1.2), make_row("03_b", 1.2), make_row("04_c", 1.2 * 1.14),
        make_row("05_d", 1.2 * 1.16), make_row("06_e", 1.2 * 0.8),
        make_row("07_f", 0.1, rounds=[0.1]),
    ])  # fmt: skip
    found = {c["row"]["version"]: c["beyond_noise"] for c in changes.find_changes(old, new)}
    assert found == {
        "02_a": False, "03_b": False, "04_c": False, "05_d": True, "06_e": True, "07_f": None,
    }  # fmt: skip


def test_a_difference_as_between_two_processes_of_one_program_is_no_change():
    old, new = (make_record([make_row("02_a", step) | {"spread": 0.0}]) for step in (1.0, 1.04))
    assert [c["beyond_noise"] for c in changes.find_changes(old, new)] == [False]


def test_other_differences_are_printed_before_the_changes(capsys):
    old, new = (
        make_record([make_row("02_a", 1.0)]),
        make_record([make_row("02_a", 2.0, about="2.0"), make_row("03_b", 1)]),
    )
    new["runs"][0] |= {"date": "2031-02-03"}
    new["runs"][0]["machine"] |= {"processor": "Q"}
    console = Console(width=80, markup=False, highlight=False)
    changes.show_changes(old, new, console)
    told = [" ".join(text.split()) for text in capsys.readouterr().out.splitlines() if text]
    assert told == [
        "old: 2031-01-02; new: 2031-02-03",
        "different in the two records:",
        "processor: P → Q",
        "02_a: made up → 2.0",
        "only in the new one: seed 03_b float32",
        "recipe old ± new ± ratio",
        "02_a seed 1,000,000 µs 5 % 2,000,000 µs 5 % 2.00 slower",
        "1 of 1 rows changed by more than noise: their ratio differs by more than both ± from the "
        "machine's overall change, 1.00 in seed",
    ]


def test_tables_fit_eighty_columns(capsys):
    name = "02_numpy_manual_backprop"
    rows = [
        make_row("01_pure_python", 4.9e-3, rounds=[1.0]),
        make_row(name, 9.2e-5, names_after=None),
        make_row(name, 3.4567, "compiled", recipe="scaled"),
        make_failed_row("03_x", reason="no!"),
    ]
    report.show_record(make_record(rows), Console(width=80, markup=False, highlight=False))
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


def test_labels_move_apart_as_far_as_needed():
    assert pictures.apart([1.0, 5.0, 3.0], 1) == [1.0, 5.0, 3.0]
    assert pictures.apart([1.0, 1.0, 9.0], 1) == [0.5, 1.5, 9.0]
    assert pictures.apart([2.0, 1.0, 1.5], 1) == [2.5, 0.5, 1.5]


def test_pictures_are_the_same_for_the_same_numbers(tmp_path):
    rows = [make_row("02_a", 1e-4), make_row("03_b", 1e-5, recipe="scaled", dtype="float64")]
    curves = [
        make_sweep(
            "n_embd", make_curve("02_a", {16: 1, 64: 16}), make_curve("03_b", {16: 4}, "compiled")
        )
    ]
    texts = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        kept = report.save_record(make_record(rows, curves), folder)
        assert [path.name for path in kept] == ["bench.json", "step-times.svg", "sweeps.svg"]
        texts.append([path.read_text() for path in kept])
    assert texts[0] == texts[1]
    assert all("<svg" in text for text in texts[0][1:])


def test_without_rates_no_lower_bound_is_shown(tmp_path, capsys):
    """On a GPU, whose speed nobody has calibrated."""
    assert lower_bound.seconds(lower_bound.Work(1, 1), {}, "float32") is None
    made = make_record(
        [make_row("02_a", 1e-4, lower_bound=None)],
        [make_sweep("n_embd", make_curve("02_a", {16: 1, 64: 2}))],
    )
    for point in made["sweeps"][0]["curves"][0]["points"]:
        point["lower_bound"] = None
    report.save_record(made, tmp_path)
    assert "lower bound 2" not in (tmp_path / "step-times.svg").read_text()
    report.show_record(made, Console(width=80, markup=False, highlight=False))
    assert " –\n" in capsys.readouterr().out
