"""09: threads share a batch, and compute what one thread computes."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import microgpt

import numpy as np
import pytest
from microgpt_lab.base import versions

numba = pytest.importorskip("numba")
(VERSION,) = versions.pick(["09"])
SMALL = microgpt.Config(n_embd=8, n_head=2, n_layer=2, block_size=8, zero_init=False, init_std=0.3)
DOCS = ["emma", "jo", "alexandr", "bo", "a", "isabella", "mia"]
# Steps of one document, of fewer than threads, of all equal and of very unequal ones.
STEPS = [[2], [0, 2], [1, 3, 1], [2, 4, 4, 4, 4], [4], [0, 1, 2, 3, 4, 5, 6], [5, 2, 5]] * 3


@pytest.fixture(scope="module")
def module():
    return VERSION.load()


@pytest.fixture
def cores(monkeypatch):
    """As on a machine with three."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)


def start():
    tokenizer = microgpt.Tokenizer(DOCS)
    documents = [tokenizer.encode(doc)[: SMALL.block_size + 1] for doc in DOCS]
    snapshot = microgpt.initial(SMALL, 14, microgpt.random.Random(1))
    rates = [0.01 * (1 - s / len(STEPS)) for s in range(len(STEPS))]
    return snapshot, [([documents[i] for i in step], rate) for step, rate in zip(STEPS, rates)]


def trained(module, threads, dtype="float64", batches=None):
    snapshot, steps = start()
    state = module.create(replace(SMALL, batch_size=7), snapshot, dtype, threads=threads)
    first = [module.loss_and_grads(state, batch) for batch, _ in steps[:7]]
    losses = list(module.train(state, iter(batches or steps)))
    return first, losses, module.export(state)


def matrices(first, snapshot):
    yield from (grads[name] for _, grads in first for name in grads)
    yield from (part[name] for part in snapshot[:3] for name in part)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_compute_what_one_does(module, threads):
    (first, losses, end), (first_1, losses_1, end_1) = (trained(module, n) for n in (threads, 1))
    np.testing.assert_allclose([x for x, _ in first], [x for x, _ in first_1], rtol=1e-12)
    np.testing.assert_allclose(losses, losses_1, rtol=1e-12)
    for got, want in zip(matrices(first, end), matrices(first_1, end_1), strict=True):
        assert np.linalg.norm(got - want) <= 1e-10 * np.linalg.norm(want)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("threads", [2, 3])
def test_as_many_threads_give_the_same_bits_again(module, threads):
    runs = [trained(module, threads, "float32") for _ in range(5)]
    for first, losses, end in runs[1:]:
        assert losses == runs[0][1]
        for got, want in zip(matrices(first, end), matrices(runs[0][0], runs[0][2]), strict=True):
            assert np.array_equal(got, want)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_each_document_goes_to_one_thread_and_each_thread_gets_its_share(module, threads, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, size=5)
    lengths = rng.integers(1, 17, size=sizes.sum())
    starts, ends = np.cumsum([0, *lengths]), np.cumsum([0, *sizes])
    shares = module.share_out(starts, sizes, threads)
    assert shares.shape == (5, threads + 1)
    for part, (first, end) in zip(shares, pairwise(ends), strict=True):
        assert (part[0], part[-1]) == (first, end)
        assert (np.diff(part) >= 0).all()
        tokens = np.diff(starts[part])
        assert (abs(tokens - tokens.mean()) <= lengths[first:end].max()).all()


@pytest.mark.parametrize("threads", [-1, 0, 4, 10**9])
@pytest.mark.usefixtures("cores")
def test_refuses_fewer_threads_than_one_and_more_than_cores(module, threads):
    with pytest.raises(microgpt.InputError, match=rf"threads is {threads}: .* 1 … 3"):
        module.create(SMALL, start()[0], threads=threads)


@pytest.mark.usefixtures("cores")
def test_says_how_many_threads_there_are(module):
    about = [module.about(module.create(SMALL, start()[0], threads=n)) for n in (1, 2)]
    assert about[0].endswith(", 1 thread")
    assert about[1].endswith(", 2 threads")


# Prints the number of functions that were compiled, and of those that were found compiled.
STARTED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import main, microgpt
snapshot = microgpt.initial(microgpt.Config(), 27, microgpt.random.Random(1))
main.create(microgpt.Config(), snapshot, threads=int(sys.argv[2]))
stats = main.steps.stats
print(json.dumps([sum(stats.cache_misses.values()), sum(stats.cache_hits.values())]))
"""

# Ctrl-C at moments of all kinds, each followed by a step that must come to its end.
INTERRUPTED = """
import itertools, random, signal, sys, threading
sys.path.insert(0, sys.argv[1])
import main, microgpt
config = microgpt.Config(batch_size=4)
tokens = [[0, 1, 2, 3, 0], [0, 4, 0], [0, 1, 1, 0], [0, 5, 0]]
snapshot = microgpt.initial(config, 6, microgpt.random.Random(1))
state = main.create(config, snapshot, threads=2)
def press(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, press)
heard = 0
for _ in range(100):
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 6e-3))
    try:
        for _ in main.train(state, itertools.repeat((tokens, 0.001))):
            pass
    except KeyboardInterrupt:
        heard += 1
    list(main.train(state, [(tokens, 0.001)]))
print(heard, threading.active_count())
"""


def run(program, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", program, str(VERSION.path.parent), *map(str, arguments)],
        env=os.environ | {"NUMBA_NUM_THREADS": "2"} | environment,
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip


@pytest.mark.nightly
def test_threads_need_no_build_of_their_own(tmp_path):
    first, *later = (
        json.loads(run(STARTED, threads, NUMBA_CACHE_DIR=str(tmp_path))) for threads in (1, 2, 2)
    )
    assert first == [1, 0]
    assert later == [[0, 1], [0, 1]]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that presses Ctrl-C")
def test_ctrl_c_leaves_no_thread_waiting():
    heard, threads = map(int, run(INTERRUPTED).split())
    assert heard == 100
    assert threads == 3  # Python's own, and the two that share the work
