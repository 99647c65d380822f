"""The lower bound counts what 01 computes, operation by operation."""

import math
from dataclasses import replace

import microgpt

import numpy as np
import pytest
from microgpt_lab.benchmark import lower_bound


class Counted(float):
    """A number that counts what is computed with it."""

    operations = 0

    def __bool__(self):
        return True  # never false, so 01 skips no gradient of zero

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
    for p in microgpt.parameters(state):
        p.data, p.m, p.v = Counted(p.data), Counted(0), Counted(0)
    with monkeypatch.context() as patch:
        patch.setattr(microgpt, "math", Mathematics())
        patch.setattr(microgpt, "sumprod", lambda x, y: sum(a * b for a, b in zip(x, y)))
        patch.setattr(Counted, "operations", 0)
        list(microgpt.train(state, [(batch, 0.01)]))
        return Counted.operations


def known_surplus(config, lengths):
    """The operations of 01 that no program needs: the whole matrix of a softmax's derivatives,
    forward and backward; products with one, the derivative of a sum; the activation and its slope
    as powers; and, for each weight again, Adam's learning rate divided by its correction."""
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
def test_the_lower_bound_counts_what_the_reference_computes(numbers, lengths, monkeypatch):
    """Within one percent, because 01 has a few more small products. Without any one term of the
    formula the difference is larger in one of these cases."""
    config = microgpt.Config(**numbers)
    batch = [[26, *([3] * (n - 1)), 26] for n in lengths]
    counted = counted_step(config, batch, monkeypatch) - known_surplus(config, lengths)
    assert lower_bound.count(config, 27, lengths).operations == pytest.approx(counted, rel=0.01)


def test_the_lower_bound_grows_by_exactly_what_is_added():
    """A batch is the sum of its documents, except for Adam, which is counted once a step."""
    config = microgpt.RECIPES["scaled"]
    weights = sum(r * c for r, c, _ in microgpt.shapes(config, 27).values())

    def count(*lengths):
        return lower_bound.count(config, 27, lengths).operations

    assert count(3, 9) == count(3) + count(9) - 13 * weights
    assert lower_bound.count(config, 27, [5]).numbers_moved == 6 * weights
    twice = lower_bound.count(replace(config, n_layer=4), 27, [1]).operations - count(1)
    C, H = 64, 4
    # two more layers, one token that attends to itself: products, attention, softmax, norms,
    # residuals, activation, Adam
    layer = 72 * C * C + 12 * C + 10 * H + 16 * C + 4 * C + 12 * C + 13 * 12 * C * C
    assert twice == 2 * layer
    # without any layer: lm_head, one norm, three sums of the stream, the softmax of the loss, Adam
    rest = 6 * C * 27 + 8 * C + 3 * C + 5 * 27 + 13 * (2 * 27 + 16) * C
    assert count(1) - 2 * layer == rest
    # one more letter, in two matrices: one product a token, softmax, Adam
    letter = lower_bound.count(config, 28, [5]).operations - count(5)
    assert letter == 5 * (6 * C + 5) + 2 * 13 * C


def test_recipe_seed_is_a_fifth_of_a_million_operations_a_step():
    config = microgpt.RECIPES["seed"]
    run = microgpt.prepare(config, say=lambda text: None)
    steps = microgpt.batches(config, run.tokenizer, run.docs)
    counts = [lower_bound.count(config, 27, [len(x) - 1 for x in b]).operations for b, _ in steps]
    assert sum(counts) / len(counts) == pytest.approx(0.21e6, rel=0.01)


def test_the_lower_bound_is_the_longer_of_computing_and_moving():
    rates = {"operations": {"float32": 1e9, "float64": 5e8}, "bytes": {"1000": 1e9, "4000": 1e8}}
    small, wide = lower_bound.Work(2000, 100), lower_bound.Work(2000, 1500)
    assert lower_bound.seconds(small, rates, "float32") == pytest.approx(2e-6)
    assert lower_bound.seconds(small, rates, "float64") == pytest.approx(4e-6)
    # 6000 bytes, half of them read, fit only in the larger, slower level
    assert lower_bound.seconds(wide, rates, "float32") == pytest.approx(6e-5)
    # what exceeds the largest level moves at that level's speed
    assert lower_bound.seconds(wide, rates, "float64") == pytest.approx(1.2e-4)


def test_half_of_what_is_moved_must_fit_in_a_level():
    """6000 bytes, half of them read: they fit in the faster level of 4000 bytes."""
    rates = {"operations": {"float32": 1e9}, "bytes": {"4000": 1e9, "8000": 1e8}}
    assert lower_bound.seconds(lower_bound.Work(0, 1500), rates, "float32") == pytest.approx(6e-6)


def test_a_rate_is_that_of_the_fastest_run(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock, durations = Clock(), iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(lower_bound, "time", clock)

    def kernel():
        clock.now += next(durations)

    assert lower_bound.fastest(kernel, budget=0.0) == 1.0


def test_rates_count_what_the_kernels_do(monkeypatch):
    """Kernels of one second each: a copy reads each byte and writes it, and a product has a
    multiplication and an addition for each pair of numbers."""
    monkeypatch.setattr(lower_bound, "fastest", lambda kernel, budget: 1.0)
    found = lower_bound.measure_rates()
    assert found["operations"] == dict.fromkeys(("float32", "float64"), 2 * 256**3)
    assert all(rate == 2 * size for size, rate in found["bytes"].items())


def test_of_two_calibrations_each_higher_rate_is_taken():
    one, two = {"operations": {"a": 1, "b": 5}}, {"operations": {"a": 2, "b": 4}}
    assert lower_bound.higher(one, two) == {"operations": {"a": 2, "b": 5}}


def test_calibration_uses_one_thread_and_finds_rates():
    found = lower_bound.calibrate()
    assert {*found["operations"]} == {"float32", "float64"}
    assert all(rate > 1e6 for kind in found.values() for rate in kind.values())
