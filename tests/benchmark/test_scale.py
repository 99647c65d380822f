"""What many workers cost: the formulas are checked against counts made in another way."""

import re
from dataclasses import replace

from microgpt import RECIPES, shapes

import numpy as np
import pytest
from microgpt_lab.base import versions
from microgpt_lab.benchmark import scale

from lab_helpers import Lab

SCALED = RECIPES["scaled"]
CLUSTER = scale.Cluster(operations=1e9, bandwidth=1e8, latency=1e-4)


@pytest.fixture
def lab(monkeypatch, capsys):
    return Lab(monkeypatch, capsys)


def chunks(rows, workers):
    """The rows of each worker: parts of equal size, the last ones smaller."""
    size = -(-rows // workers)
    return [max(0, min(rows, (rank + 1) * size) - rank * size) for rank in range(workers)]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 64])
def test_the_first_worker_holds_the_most_and_all_hold_everything(workers):
    parts = np.zeros(workers, int)
    for rows, columns, _ in shapes(SCALED, 27).values():
        parts += columns * np.array(chunks(rows, workers))
    assert scale.held(SCALED, 27, workers, sharded=True) == parts[0] == parts.max()
    assert parts.sum() == scale.held(SCALED, 27, workers, sharded=False)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_a_ring_sends_what_the_formula_says(workers):
    """Pass the parts of a vector round a ring until all have the sum; count them."""
    vectors = np.random.default_rng(0).normal(size=(workers, workers, 5))
    want, passed = vectors.sum(axis=0), 0
    for turn in range(2 * (workers - 1)):
        held = vectors.copy()
        for rank in range(workers):
            part = (rank - turn) % workers
            after = (rank + 1) % workers
            add = held[after, part] if turn < workers - 1 else 0
            vectors[after, part] = held[rank, part] + add
            passed += 1 if rank == 0 else 0
    np.testing.assert_allclose(vectors, np.broadcast_to(want, vectors.shape))
    small = replace(SCALED, n_embd=4, n_head=1)
    assert scale.messages(small, 27, workers, sharded=False) == passed
    numbers = scale.held(small, 27, 1, False)
    assert scale.sent(small, 27, workers, False) == pytest.approx(passed * 4 * numbers / workers)


def test_one_worker_sends_nothing_and_never_waits():
    for sharded in (False, True):
        alone = scale.step(SCALED, 27, [7] * 32, 1, sharded, CLUSTER)
        assert (alone.sent, alone.exchange, alone.efficiency) == (0, 0, 1)
        assert alone.memory == 16 * scale.held(SCALED, 27, 1, False)


def test_sharded_workers_gather_twice_and_scatter_once():
    """Each of the three passes (n - 1) parts of n of each layer, and of all other weights."""
    n, numbers = 4, scale.held(SCALED, 27, 1, False)
    assert scale.messages(SCALED, 27, n, True) == (SCALED.n_layer + 1) * 3 * (n - 1)
    assert scale.sent(SCALED, 27, n, True) == pytest.approx(3 * (n - 1) / n * numbers * 4)


def test_a_speed_up_is_that_of_one_batch_for_all_workers():
    """Without any network time, two workers take half as long, but for Adam, which each does."""
    free = scale.Cluster(operations=1e9, bandwidth=1e30, latency=0.0)
    found = list(scale.combinations(SCALED, 27, 7, [64], [1, 2], free))
    gains = {(workers, sharded): gain for _, workers, sharded, _, gain in found}
    assert gains[1, False] == 1
    assert 1.5 < gains[2, False] < 2


def test_the_overhead_is_the_same_for_any_number_of_workers():
    fixed = replace(CLUSTER, overhead=0.5)
    for workers in (1, 4):
        given = (SCALED, 27, [7] * 32, workers, False)
        more, less = scale.step(*given, fixed), scale.step(*given, CLUSTER)
        assert more.compute - less.compute == pytest.approx(0.5)


def test_a_step_takes_as_long_as_the_worker_with_the_most_targets():
    even = scale.step(SCALED, 27, [8, 8], 2, False, CLUSTER)
    uneven = scale.step(SCALED, 27, [16, 1], 2, False, CLUSTER)
    assert uneven.compute > even.compute
    assert uneven.exchange == even.exchange
    assert scale.step(SCALED, 27, [1, 16], 2, False, CLUSTER) == uneven


def test_for_wide_models_the_efficiency_depends_on_the_tokens_alone():
    """Computing and sending both grow with the number of weights, so their ratio stays."""
    wide, wider = (scale.widened(SCALED, width) for width in (1024, 4096))
    fast = replace(CLUSTER, latency=1e-12)
    one, two = (scale.step(w, 27, [7] * 64, 2, False, fast) for w in (wide, wider))
    assert two.compute > 10 * one.compute
    assert two.efficiency == pytest.approx(one.efficiency, rel=0.01)
    longer = scale.step(wide, 27, [7] * 128, 2, False, fast)
    assert longer.efficiency > one.efficiency


def test_the_table_fits_a_terminal_and_says_what_it_assumes(lab, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    known = ("--operations", "40", "--bandwidth", "1.5", "--latency", "40", "--overhead", "2e3")
    assert lab("scale", *known) == 0
    lines = lab.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "a worker: 40 GFLOP/s, 2 ms of overhead a step\n" in lab.out
    assert "the network: 1.5 GB/s, 40 µs a message\n" in lab.out
    assert sum("sharded" in line for line in lines if " kB" in line or " MB" in line) == 9


PAGE = (versions.ROOT / "docs" / "scale.md").read_text()
SHOWN = re.findall(r"^```\n\$ microgpt (scale .*)\n((?:.*\n)*?)```", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=str)
def test_the_page_shows_what_the_command_prints(command, shown, lab, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert lab(*command.split()) == 0
    printed = "".join(f"{line.rstrip()}\n" for line in lab.out.splitlines())
    assert printed.startswith(shown)


def test_the_page_has_the_bytes_of_the_formula():
    rows = re.findall(r"^\| width (\d+), (replicated|sharded) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(SHOWN) == 2
    assert len(rows) == 4
    for width, how, cells in rows:
        config = scale.widened(SCALED, int(width))
        want = [scale.memory(config, 27, n, how == "sharded") for n in (1, 2, 4)]
        assert [int(cell.replace(",", "")) for cell in cells.split(" | ")] == want


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--workers", "0"), ("--workers", "2,x"), ("--widths", ""), ("--latency", "nan"),
     ("--bandwidth", "0"), ("--operations", "-1"), ("--overhead", "-1"), ("--recipe", "sed")],
)  # fmt: skip
def test_bad_input_of_scale_is_one_line(flag, value, lab):
    assert flag[2:] in lab.refuses("scale", flag, value)
