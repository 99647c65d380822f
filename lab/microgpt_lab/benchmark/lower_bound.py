"""The lower bound of a training step's time (roofline): what every program must compute, divided
by what one core of this machine can compute.

`count` counts the operations of a step from the recipe's numbers and the documents' lengths.
`calibrate` measures how fast one core is at best, with two small kernels: a product of matrices
that fit in the cache, and a copy of an array. A program that reaches its lower bound computes
the model and nothing else, at full speed.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from microgpt import Config, InputError, shapes

from microgpt_lab.base import processes

BYTES = {"float32": 4, "float64": 8}  # of one number
# The environment variables that set the number of threads, one for each library.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS", "PJRT_NPROC",
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What one training step must do at the least."""

    operations: float  # additions, multiplications, and every other operation, counted as one
    numbers_moved: int  # numbers read from memory or written to it


def count(config: Config, vocab_size: int, lengths: Sequence[int]) -> Work:
    """The work of one step on documents with these numbers of targets (each at most the block).

    N is the number of all targets, C = n_embd, L = n_layer, H = n_head, V = vocab_size, P the
    number of weights, and pairs = Σ T(T+1)/2 over the documents, T targets each: the number of
    times that one token attends to one token.

    - products: N (12 L C² + C V) with weight matrices, 2 L C pairs in attention. Each product is
      a multiplication and an addition. It is computed once in the forward pass, and twice in the
      backward pass, where the gradient of each factor is a product too: 6 operations.
    - softmax of the L H pairs scores: scale, subtract the maximum, exponential, sum, divide
      in the forward pass; p (dp - Σ p dp) and the scale in the backward pass: 10 operations.
    - RMSNorm, 2 L + 1 for each token: x·x and the scaling, 3 C; in the backward pass y·dy,
      subtract, scale, 5 C.
    - residual stream: 2 L + 1 sums of C numbers for each token forward, 2 L + 2 backward.
    - activation of 4 L C numbers for each token: relu_power - 1 products forward; its slope and
      the chain rule's product backward, relu_power.
    - loss: subtract the maximum, exponential, sum, divide, average: 5 V for each token.
    - Adam: 13 operations for each weight (S9), after everything that is equal for all weights.
    - numbers moved: weights and both moments, each read once and written once. Everything else
      may stay in the processor's caches.

    A division, a root or an exponential counts as one operation, the least that it can cost.
    Multiplications by zero, comparisons, copies and look-ups cost nothing.
    """
    C, L, H, V = config.n_embd, config.n_layer, config.n_head, vocab_size
    N, P = sum(lengths), sum(rows * columns for rows, columns, _ in shapes(config, V).values())
    pairs = sum(T * (T + 1) // 2 for T in lengths)
    operations = (
        6 * (N * (12 * L * C * C + C * V) + 2 * L * C * pairs)  # products
        + 10 * L * H * pairs  # softmax
        + 8 * C * N * (2 * L + 1)  # RMSNorm
        + C * N * (4 * L + 3)  # residual stream
        + 4 * L * C * N * (2 * config.relu_power - 1)  # activation
        + 5 * V * N  # loss
        + 13 * P  # Adam
    )
    return Work(operations, numbers_moved=6 * P)


def seconds(work: Work, rates: Mapping[str, Any], dtype: str) -> float | None:
    """The least time that one core needs for this work, in seconds.

    Computing and moving may overlap, so it is the longer of the two times (roofline model:
    Williams, Waterman and Patterson, 2009). None without rates: no lower bound is known for GPUs.
    """
    if not rates:
        return None
    moved = work.numbers_moved * BYTES[dtype]
    levels = sorted((int(size), rate) for size, rate in rates["bytes"].items())
    # half of what is moved is read: that much must fit in a level of the cache
    speed = next((rate for size, rate in levels if moved / 2 <= size), levels[-1][1])
    return float(max(work.operations / rates["operations"][dtype], moved / speed))


# ---------------------------------------------------------------- Calibration


def calibrate() -> dict[str, Any]:
    """The best rates of one core, measured in processes of their own.

    -> {"operations": {dtype: operations a second}, "bytes": {size of the copied array in bytes:
    bytes read or written a second}}. Raises InputError if no measurement succeeds.
    """
    command = [sys.executable, "-m", "microgpt_lab.benchmark.lower_bound"]
    one_thread = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    found: list[dict[str, Any]] = []
    # On some processors with AVX-512, OpenBLAS chooses a kernel for narrower vectors. So measure
    # a second time with the AVX-512 kernel; that process fails on processors without AVX-512.
    for environment in (one_thread, {**one_thread, "OPENBLAS_CORETYPE": "SkylakeX"}):
        done = processes.run(command, env=environment)
        if not done.returncode:
            found.append(json.loads(done.stdout))
    if not found:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise InputError(f"cannot measure this machine's lower bound: {said[-1]}")
    return higher(found[0], found[-1])


def higher(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The higher of each two rates: other processes can only make a measurement slower."""
    return {
        kind: {name: max(rate, other[kind][name]) for name, rate in of_kind.items()}
        for kind, of_kind in one.items()
    }


def measure_rates(budget: float = 0.05) -> dict[str, Any]:
    """The rates of `calibrate`, measured in this process; `budget` is seconds for each kernel."""
    import numpy as np

    rates: dict[str, Any] = {"operations": {}, "bytes": {}}
    for dtype in BYTES:
        rate = max(product_rate(np, n, dtype, budget) for n in (128, 192, 256))
        rates["operations"][dtype] = rate
    for size in (2**15, 2**18, 2**21, 2**24, 2**26):
        a = np.ones(size // 8)
        b = a.copy()
        rates["bytes"][size] = 2 * size / fastest(partial(np.copyto, b, a), budget)
    return rates


def product_rate(np: Any, n: int, dtype: str, budget: float) -> float:
    """Operations a second of a product of two (n, n) matrices, which fit in the cache."""
    a = np.ones((n, n), dtype)
    b, out = a.copy(), a.copy()
    return 2 * n**3 / fastest(partial(np.matmul, a, b, out=out), budget)


def fastest(kernel: Callable[[], Any], budget: float) -> float:
    """Seconds of the fastest run, of at least three and of as many as `budget` seconds allow."""
    least, runs, end = math.inf, 0, time.perf_counter() + budget
    while runs < 3 or time.perf_counter() < end:
        before = time.perf_counter()
        kernel()
        least = min(least, time.perf_counter() - before)
        runs += 1
    return least


if __name__ == "__main__":
    print(json.dumps(measure_rates()))
