"""A record is merged row by row, and the page in docs/ is made from it."""

import copy
import json
import re

import pytest
from microgpt_lab.base import versions
from microgpt_lab.benchmark import bench, changes, page, pictures, record

from bench_records import make_curve, make_failed_row, make_record, make_row, make_sweep
from lab_helpers import Lab

FOUND = versions.find()
ONE, TWO, THREE = list(FOUND)[:3]
STORED = record.read_record(page.DOCS / "bench.json")
LATER = {"date": "2031-02-03"}


@pytest.fixture
def docs(monkeypatch, tmp_path):
    """A folder in the place of docs/, with the stored record and page."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("bench.json", page.NAME):
        (folder / name).write_text((page.DOCS / name).read_text())
    monkeypatch.setattr(page, "DOCS", folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    for name in ("draw_step_times", "draw_sweeps"):
        monkeypatch.setattr(pictures, name, lambda record, path: None)


@pytest.fixture
def lab(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Lab(monkeypatch, capsys)


def measured_again(old, chosen, factor=2.0, **run):
    """A new record of the rows and curves for which `chosen(row)`, slower by a factor."""
    new = copy.deepcopy(old)
    new["runs"] = [new["runs"][0] | LATER | run]
    new["rows"] = [row for row in new["rows"] if chosen(row)]
    for sweep in new["sweeps"]:
        sweep["curves"] = [curve for curve in sweep["curves"] if chosen(curve)]
    curves = [curve for sweep in new["sweeps"] for curve in sweep["curves"]]
    for item in [*new["rows"], *(point for curve in curves for point in curve["points"])]:
        item["step"] *= factor
    return new


# ---------------------------------------------------------------- Merging


def test_a_record_of_the_same_run_changes_nothing():
    assert record.merge(STORED, copy.deepcopy(STORED), FOUND) == STORED


@pytest.mark.parametrize("version", sorted({row["version"] for row in STORED["rows"]}))
def test_a_run_of_one_version_leaves_all_else_byte_for_byte(version, docs, no_pictures):
    new = measured_again(STORED, lambda row: row["version"] == version)
    page.write_page(new)
    merged = json.loads((docs / "bench.json").read_text())
    assert merged["runs"] == [STORED["runs"][0], new["runs"][0] | {"run": 2}]
    pairs = [(STORED["rows"], merged["rows"])]
    assert [s["name"] for s in merged["sweeps"]] == [s["name"] for s in STORED["sweeps"]]
    pairs += [(a["curves"], b["curves"]) for a, b in zip(STORED["sweeps"], merged["sweeps"])]
    for before, after in pairs:
        assert len(before) == len(after)
        for was, now in zip(before, after):
            if was["version"] == version:
                assert now["run"] == 2
            else:
                assert json.dumps(was) == json.dumps(now)
    lines = (page.DOCS / page.NAME).read_text().splitlines()
    stored_lines = page.page_text(STORED).splitlines()
    for line in stored_lines:
        if line.startswith("| ") and not line.startswith(f"| {version[:2]}"):
            assert line in lines
    mine = [line for line in lines if line.startswith(f"| {version[:2]}")]
    assert mine
    assert all("(2031-02-03)" in line for line in mine)


def test_a_quick_run_keeps_all_sweeps():
    new = measured_again(STORED, lambda row: row["version"] == TWO)
    new["sweeps"] = []
    merged = record.merge(STORED, new, FOUND)
    assert merged["sweeps"] == STORED["sweeps"]
    assert sum(row["run"] == 2 for row in merged["rows"]) == 2


def test_a_failed_row_never_replaces_a_measured_one():
    old = make_record([make_row(ONE, 1.0), make_failed_row(TWO, reason="old")])
    new = make_record([make_failed_row(ONE), make_failed_row(TWO), make_failed_row(THREE)], **LATER)
    merged = record.merge(old, new, FOUND)
    assert [row["reason"] for row in merged["rows"]] == ["", "no luck", "no luck"]
    assert merged["rows"][0] == old["rows"][0]
    assert page.kept_rows(merged, new) == [
        f"{ONE[:2]}, recipe seed: not measured now, the stored row stays"
    ]
    broken = make_row(ONE, 1.0, reason="it ended with: no luck")
    del broken["step"]  # it failed in a round
    assert record.merge(old, make_record([broken], **LATER), FOUND)["rows"][0]["step"] == 1.0


def test_a_curve_replaces_another_unless_it_failed():
    old = make_record(
        [make_row(ONE, 1.0)],
        [make_sweep("n_embd", make_curve(ONE, {16: 1, 64: 2}), make_curve(TWO, {16: 1, 64: 2}))],
    )
    again = make_sweep(
        "n_embd",
        make_curve(ONE, {16: 3}, reason="over the time budget"),
        make_curve(TWO, {16: 3}, reason="it ended with: MemoryError"),
        make_curve(THREE, {128: 4}),
    )
    (sweep,) = record.merge(old, make_record([], [again], **LATER), FOUND)["sweeps"]
    assert [(curve["version"], curve["run"]) for curve in sweep["curves"]] == [
        (ONE, 2), (TWO, 1), (THREE, 2),
    ]  # fmt: skip
    assert sweep["curves"][1] == old["sweeps"][0]["curves"][1]
    assert sweep["values"] == [16, 64, 128]


def test_rows_stand_in_the_order_of_recipes_and_versions():
    old = make_record([make_row(ONE, 1.0), make_row(THREE, 1.0), make_row(ONE, 1, recipe="scaled")])
    new = make_record([make_row(TWO, 1.0), make_row(TWO, 1.0, recipe="scaled")])
    rows = record.merge(old, new, FOUND)["rows"]
    assert [(row["recipe"], row["version"]) for row in rows] == [
        ("seed", ONE), ("seed", TWO), ("seed", THREE), ("scaled", ONE), ("scaled", TWO),
    ]  # fmt: skip


def test_versions_and_variants_that_left_the_tree_leave_the_record():
    old = make_record(
        [make_row(ONE, 1.0), make_row("99_gone", 1.0), make_row(ONE, 1.0, "gone")],
        [make_sweep("n_embd", make_curve("99_gone", {16: 1}))],
    )
    merged = record.merge(old, make_record([make_row(TWO, 1.0)], **LATER), FOUND)
    assert [row["version"] for row in merged["rows"]] == [ONE, TWO]
    assert merged["sweeps"][0]["curves"] == []


def test_a_run_whose_rows_are_all_replaced_leaves_the_record():
    old = make_record([make_row(ONE, 1.0)])
    merged = record.merge(old, make_record([make_row(ONE, 2.0)], **LATER), FOUND)
    assert [run["date"] for run in merged["runs"]] == [LATER["date"]]


@pytest.mark.parametrize(
    ("row", "run", "said"),
    [
        ({"dtype": "float64"}, {}, "02 is measured in float64 and the record in float32"),
        ({}, {"device": "cuda"}, "this run is on cuda and the record on cpu"),
    ],
)
def test_what_one_table_cannot_show_is_not_merged(row, run, said, lab, docs, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(make_record([make_row(TWO, 1.0, **row)], **run)))
    assert said in lab.refuses("bench", "--from", path, "--write")


# ---------------------------------------------------------------- Files and the page


def test_the_page_is_what_the_stored_record_gives():
    text = (page.DOCS / page.NAME).read_text()
    between = text.split(page.START)[1].split(page.END)[0]
    assert between == f"\n{page.page_text(STORED)}\n"


def test_the_page_explains_each_column():
    text = (page.DOCS / page.NAME).read_text().split(page.START)[0]
    assert tuple(re.findall(r"^- \*(.*)\*: ", text, re.MULTILINE)) == page.HEADS


def test_the_page_is_written_from_a_record(docs, lab, tmp_path):
    path = tmp_path / "new.json"
    rows = [make_row(ONE, 1e-4), make_row(ONE, 5e-3, recipe="scaled"), make_failed_row(TWO)]
    path.write_text(json.dumps(make_record(rows)))
    (docs / "bench.json").unlink()
    (docs / page.NAME).write_text("before\nafter\n")
    said = lab.refuses("bench", "--from", path, "--write")
    assert "must have the lines <!-- bench -->" in said
    (docs / page.NAME).write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    assert lab("bench", "--from", path, "--write") == 1  # a row is missing
    text = (docs / page.NAME).read_text()
    assert text.startswith("before\n<!-- bench -->\n2031-01-02, P, 2 cores, S")
    assert "| 01 | 100 µs | 2 % | 70,000 | 2.5 s | 3.0 s | 64 MiB |\n" in text
    assert "| 01 | 5.00 ms | 0.04 % | 1,400 | 2.5 s | 3.0 s | 64 MiB |\n" in text
    assert "\n02 was not measured: no luck.\n" in text
    assert "\n- 01: made up\n" in text
    assert text.endswith("\n<!-- /bench -->\nafter\n")
    assert json.loads((docs / "bench.json").read_text())["runs"][0]["date"] == "2031-01-02"
    assert "<svg" in (docs / "step-times.svg").read_text()


def test_a_row_of_another_machine_says_so():
    old = make_record([make_row(ONE, 1.0), make_row(TWO, 1.0)])
    machine = old["runs"][0]["machine"] | {"processor": "Q"}
    merged = record.merge(old, make_record([make_row(THREE, 1.0)], machine=machine), FOUND)
    assert "| 03 (Q, 2 cores, S, Python 3.11.0) | " in page.page_text(merged)


def test_the_old_format_is_refused_with_a_reason(lab, tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"format": "microgpt-bench/1"}')
    said = lab.refuses("bench", "--from", path)
    assert "has the old format 'microgpt-bench/1', whose keys have other names" in said


def test_nothing_is_measured_if_the_page_cannot_be_written(docs, lab, monkeypatch):
    monkeypatch.setattr(bench, "measure", None)
    (docs / "bench.json").write_text('{"format": "microgpt-bench/1"}')
    assert "old format" in lab.refuses("bench", "02", "--quick", "--write")
    (docs / page.NAME).unlink()
    assert "must have the lines" in lab.refuses("bench", "02", "--quick", "--write")


# ---------------------------------------------------------------- Against another record


def test_against_speaks_of_the_rows_that_were_asked_for(lab, monkeypatch, tmp_path):
    new = measured_again(STORED, lambda row: (row["version"], row.get("recipe")) == (TWO, "seed"))
    new["sweeps"] = []
    monkeypatch.setattr(bench, "measure", lambda plan, progress: new)
    asked = ["bench", "02", "--quick", "--recipe", "seed", "--out", tmp_path / "out"]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(STORED))
    assert lab(*asked, "--against", old) == 0
    assert "only in" not in lab.out
    assert "1 of 1 rows changed by more than noise" in lab.out
    # a row that was asked for and is missing is still named
    kept = changes.restrict(STORED, None, ["seed"])
    lines = changes.find_differences(kept, new)
    assert sum("only in the old one: seed" in line for line in lines) == len(kept["rows"]) - 1
