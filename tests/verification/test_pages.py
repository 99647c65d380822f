"""VERIFIED.md and the READMEs' tables: they claim what a run has shown, and no more."""

import copy
import json
import re
import shutil
from dataclasses import replace

from microgpt import InputError

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import checks, verified_page, verify
from microgpt_lab.verification.verified_page import Places
from microgpt_lab.verification.verify import VersionResult

from lab_helpers import Lab

FOUND = versions.find()
NAME = "02_numpy_manual_backprop"
HERE = Places()
RECORD = verified_page.read_record(HERE)


@pytest.fixture
def places(tmp_path):
    """A copy of the record and the pages."""
    copied = Places(tmp_path)
    copied.record.parent.mkdir()
    for each in (HERE, *HERE.on_devices):
        shutil.copy(each.record, copied.record.parent)
    shutil.copy(HERE.page, copied.page)
    for name in FOUND:
        copied.readme(name).parent.mkdir()
        shutil.copy(HERE.readme(name), copied.readme(name))
    return copied


def result(version, dtype, variant="", worst=9e-15, reason=""):
    """A made-up result: the same difference in every check, or none."""
    if reason:
        return VersionResult(version, dtype, variant, reason=reason)
    found = [checks.Finding("hot", c, worst < 1, worst, 1e-12) for c in checks.COLUMNS]
    return VersionResult(version, dtype, variant, "made up", findings=found)


def run_of(*names, **fields):
    """A made-up run of some versions, on another day and machine than the record."""
    results = []
    for name in names:
        version = FOUND[name]
        results += [
            result(name, dtype, variant, **fields)
            for variant in ("", *version.variants)
            for dtype in version.dtypes
        ]
    head = {"date": "2031-01-02", "processor": "abacus"}
    return verify.run_record(results) | head


def files_in(places):
    return {
        path: path.read_bytes()
        for path in (places.record, places.page, *map(places.readme, FOUND))
        if path.exists()
    }


# ---------------------------------------------------------------- Writing


def test_the_pages_are_what_the_record_makes():
    assert HERE.page.read_text() == verified_page.markdown(RECORD, verified_page.on_devices(HERE))
    for name in FOUND:
        readme = HERE.readme(name).read_text()
        assert verified_page.with_table(readme, RECORD["versions"][name]) == readme
        assert verified_page.START in readme


@pytest.mark.parametrize("name", FOUND)
def test_a_run_of_one_version_leaves_the_others_byte_for_byte(places, name):
    before, old = files_in(places), json.loads(places.record.read_text())
    assert verified_page.update_pages(run_of(name), FOUND, False, places) == []
    after, new = files_in(places), json.loads(places.record.read_text())
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {places.record, places.page, places.readme(name)}
    assert new["versions"].pop(name) != old["versions"].pop(name)
    assert new == old
    # Of the page, only this version's lines and the greatest differences may have changed.
    lines = [text.decode().splitlines() for text in (before[places.page], after[places.page])]
    assert len(lines[0]) == len(lines[1])
    for was, now in zip(*lines):
        if was != now:
            assert now.startswith((f"| {name}", f"- {name}", "| *measured noise*")), now
    readme = after[places.readme(name)].decode()
    was = before[places.readme(name)].decode()
    assert readme.split(verified_page.START)[0] == was.split(verified_page.START)[0]
    assert readme.split(verified_page.END)[1] == was.split(verified_page.END)[1]


def test_a_row_says_its_own_date_and_machine_where_these_differ(places):
    verified_page.update_pages(run_of(NAME), FOUND, False, places)
    page = places.page.read_text()
    assert RECORD["on"] in page
    ran = [line for line in page.splitlines() if "abacus" in line]
    assert len(ran) == 1
    assert ran[0].startswith(f"- {NAME}: made up (2031-01-02, Python ")
    verified_page.update_pages(run_of(*FOUND), FOUND, True, places)
    assert places.page.read_text().count("abacus") == 1  # at the top of the page


def test_a_version_that_did_not_run_keeps_its_rows(places):
    before = files_in(places)
    run = run_of("06_mlx", reason="mlx is not installed")
    notes = verified_page.update_pages(run, FOUND, False, places)
    assert notes == ["06_mlx did not run (mlx is not installed): its rows stay as they were"]
    assert files_in(places) == before


def test_a_new_version_that_did_not_run_is_said_not_to_have_run(places):
    record = copy.deepcopy(RECORD)
    del record["versions"]["06_mlx"]
    run = run_of("06_mlx", reason="mlx is not installed")
    new, notes = verified_page.merged(record, run, FOUND, False)
    assert notes == []
    page = verified_page.markdown(new)
    assert "| 06_mlx | not run | not run |" in page
    assert "- 06_mlx: not run: mlx is not installed (2031-01-02" in page
    assert "- 06_mlx: made up" in verified_page.markdown(
        verified_page.merged(new, run_of("06_mlx"), FOUND, False)[0]
    )


def test_a_failure_replaces_rows_that_passed(places):
    verified_page.update_pages(run_of(NAME, worst=2.0), FOUND, False, places)
    assert f"| {NAME} | **FAIL** | **FAIL** |" in places.page.read_text()


def test_a_version_that_left_the_tree_loses_its_rows(places):
    left = {name: version for name, version in FOUND.items() if name != "06_mlx"}
    (note,) = verified_page.update_pages(run_of(NAME), left, False, places)
    assert note == "06_mlx is not in the tree any more: its rows are removed"
    assert "06_mlx" not in places.page.read_text()
    assert "08_mlx_batched" in places.page.read_text()


def test_the_first_run_of_all_makes_the_record(tmp_path):
    places = Places(tmp_path)
    (tmp_path / "spec").mkdir()
    verified_page.update_pages(run_of(NAME), FOUND, False, places)
    assert list(verified_page.read_record(places)["versions"]) == [NAME]
    assert places.page.read_text().count("abacus") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices"),
        ('{"format": "x"}', "its format is 'x'"),
        ('{"format": "microgpt-verified/1"}', "no 'on'"),
        ('{"format": "microgpt-verified/1", "on": "", "versions": {"02_x": {}}}', "no 'rows'"),
    ],
)
def test_a_record_that_cannot_be_read_is_one_line(places, text, said):
    places.record.write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        verified_page.read_record(places)
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- Checking


def test_a_page_may_claim_what_a_run_shows_and_no_more(places):
    verified_page.update_pages(run_of(NAME), FOUND, False, places)
    for worst in (9e-15, 1e-13, 0.0):  # as good, less close but within the tolerance, better
        assert verified_page.shortfalls(run_of(NAME, worst=worst), False, places) == []
    lines = verified_page.shortfalls(run_of(NAME, worst=2.0), False, places)
    assert len(lines) == 2 * len(checks.COLUMNS)  # in both precisions
    assert lines[0] == f"{NAME} float32: stream: claimed pass, the run shows FAIL"
    verified_page.update_pages(run_of(NAME, worst=0.0), FOUND, False, places)
    lines = verified_page.shortfalls(run_of(NAME), False, places)
    assert lines[0] == f"{NAME} float32: stream: claimed exact, the run shows pass"


def test_a_check_of_some_versions_is_about_these_alone(places):
    verified_page.update_pages(run_of(*FOUND), FOUND, True, places)
    run = run_of(NAME)
    assert verified_page.shortfalls(run, False, places) == []
    lines = verified_page.shortfalls(run, True, places)
    others = [name for name in FOUND if name != NAME]
    assert lines == [f"{n}: VERIFIED.md has its rows, but it is not in the tree" for n in others]


def test_a_version_that_did_not_run_or_has_no_row_falls_short(places):
    run = run_of(NAME, reason="not installed")
    assert verified_page.shortfalls(run, False, places) == [f"{NAME}: not run: not installed"]
    record = copy.deepcopy(RECORD)
    rows = record["versions"][NAME]["rows"]
    rows.pop()
    verified_page.write_pages(record, places)
    (line,) = verified_page.shortfalls(run_of(NAME, worst=0.0), False, places)
    assert line == f"{NAME} float64: VERIFIED.md has no row: microgpt verify 02 --write"


def test_a_page_edited_by_hand_falls_short(places):
    run = run_of(NAME, worst=0.0)
    assert verified_page.shortfalls(run, False, places) == []
    places.page.write_text(places.page.read_text().replace("1e-05", "exact"))
    readme = places.readme(NAME)
    readme.write_text(re.sub(r"\| \d+e-\d+ \|", "| exact |", readme.read_text(), count=1))
    lines = verified_page.shortfalls(run, False, places)
    assert lines[0].startswith("VERIFIED.md is not what spec/verified.json makes")
    assert lines[1] == f"{NAME}/README.md: its table is not that of spec/verified.json"


# ---------------------------------------------------------------- Another device


def test_a_run_on_another_device_has_a_record_and_a_part_of_its_own(places):
    before, gpu = files_in(places), replace(places, device="gpu")
    verified_page.update_pages(run_of("05_jax", worst=4e-14), FOUND, False, gpu)
    after = files_in(places)
    assert {path for path in before if before[path] != after[path]} == {places.page}
    page = places.page.read_text()
    part = page.partition("## On another device: gpu")[2].partition("\n## ")[0]
    assert "| 05_jax | 4e-14 |" in part
    assert "2031-01-02" in part
    assert "abacus" in part
    assert verified_page.shortfalls(run_of("05_jax", worst=0.0), False, places) == []


def test_what_did_not_run_on_another_device_is_in_no_record(places):
    gpu = replace(places, device="gpu")
    verified_page.update_pages(run_of("05_jax", reason="no gpu"), FOUND, False, gpu)
    assert not gpu.record.exists()
    run = run_of("05_jax")
    run["rows"] += run_of("07_jax_batched", reason="no gpu")["rows"]
    verified_page.update_pages(run, FOUND, False, gpu)
    assert list(verified_page.read_record(gpu)["versions"]) == ["05_jax"]


def test_a_part_of_another_device_edited_by_hand_falls_short(places):
    gpu = replace(places, device="gpu")
    verified_page.update_pages(run_of("05_jax", worst=4e-14), FOUND, False, gpu)
    places.page.write_text(places.page.read_text().replace("4e-14", "4e-15"))
    (line,) = verified_page.shortfalls(run_of("05_jax", worst=0.0), False, places)
    assert line.startswith("VERIFIED.md is not what")


def test_the_devices_of_the_record_are_devices_of_those_versions():
    recorded = verified_page.on_devices(HERE)
    assert recorded
    for device, record in recorded.items():
        assert record["versions"]
        for name, entry in record["versions"].items():
            assert FOUND[name].device_named(device), (name, device)
            assert all(
                f"on {FOUND[name].device_named(device)}" in r["about"] for r in entry["rows"]
            )


# ---------------------------------------------------------------- The command


@pytest.fixture
def lab(monkeypatch, capsys, places):
    """The command line on the copied pages; `verify` shows what `lab.results` holds."""
    lab = Lab(monkeypatch, capsys)
    monkeypatch.setattr(verified_page, "Places", lambda device="": replace(places, device=device))
    monkeypatch.setattr(verify, "run_all", lambda *_: lab.results)
    return lab


def test_write_and_check_of_one_version(lab, places):
    lab.results = [result(NAME, dtype) for dtype in ("float32", "float64")]
    assert lab("verify", "02", "--write", "--check") == 0
    assert f"| {NAME} | 9e-15 |" in places.page.read_text()
    assert "11_pytorch_packed" in places.page.read_text()
    lab.results = [result(NAME, dtype, worst=2.0) for dtype in ("float32", "float64")]
    assert lab("verify", "02", "--check") == 1
    assert f"✗ {NAME} float64: names: claimed pass, the run shows FAIL" in lab.out


def test_a_version_without_its_framework_is_written_down_nowhere(lab, places):
    before = files_in(places)
    lab.results = [result("06_mlx", "float32", reason="mlx is not installed: uv sync")]
    assert lab("verify", "06", "--write") == 2
    assert lab.err.startswith("error: nothing was verified: 06_mlx: mlx is not installed")
    assert files_in(places) == before


def test_a_device_that_a_version_lacks_is_one_line():
    with pytest.raises(InputError, match=r"^--device is 'cuda': 02_numpy_manual_backprop has cpu$"):
        list(verify.run_all(["02"], 1, device="cuda"))
    with pytest.raises(InputError, match=r"^--device is 'abacus': the versions have cpu, cuda, "):
        list(verify.run_all([], 1, device="abacus"))


def test_a_device_that_is_not_here_is_said_and_nothing_is_written(lab, places, tmp_path):
    before = files_in(places)
    lab.results = [result("03_pytorch", "float32", reason="device is cuda: PyTorch has cpu here")]
    run = tmp_path / "run.json"
    said = lab.refuses("verify", "03", "--device", "cuda", "--write", "--json", run)
    assert said == "error: nothing was verified: 03_pytorch: device is cuda: PyTorch has cpu here\n"
    assert files_in(places) == before
    assert not run.exists()


def test_a_device_that_is_not_here_is_found_out_by_the_version(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    results = verify.run_version(FOUND["04_pytorch_batched"], device="gpu")
    assert results
    assert all("cuda" in r.reason and not r.findings for r in results)
