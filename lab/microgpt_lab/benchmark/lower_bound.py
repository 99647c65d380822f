"""The floor of a training step: what must be computed, over what the machine can compute.

`work` counts, from the recipe's numbers and the documents' lengths alone, what any program has
to do. `rates` measures how fast one core of this machine does it at best, in a small kernel:
a product of matrices that stay in the cache, and a copy. A program that reaches its floor
computes nothing but the model, at full speed.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from microgpt import Config, InputError, shapes

SIZES = {"float32": 4, "float64": 8}  # bytes of a number
# Every library that would take more threads than it is told to, and how it is told.
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS", "PJRT_NPROC",
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What one training step has to do."""

    operations: float  # additions, subtractions, multiplications, and all else as one each
    moved: int  # numbers read from or written to memory


def work(config: Config, vocab_size: int, lengths: Sequence[int]) -> Work:
    """Count one step on documents with so many targets each (cut to the block).

    With N targets in all, C = n_embd, L = n_layer, H = n_head, V = vocab_size, P weights, and
    pairs = Σ T(T+1)/2 over documents of T targets, which is how often a token looks at one:

    - products: N (12 L C² + C V) with matrices, 2 L C pairs in attention. A product is a
      multiplication and an addition, made once forward and twice backward (the gradient of
      each factor is a product with the other): 6 operations.
    - softmax of the scores, L H pairs of them: scale, subtract the greatest, exponential, sum,
      divide by the sum forward; p (dp - Σ p dp) and the scale backward: 10 operations.
    - RMSNorm, 2 L + 1 a token: x·x and the scaling, 3 C; backward y·dy, subtract, scale, 5 C.
    - residual stream: 2 L + 1 sums of C a token forward, 2 L + 2 backward.
    - activation, of 4 L C numbers a token: relu_power - 1 products forward; its slope and the
      chain rule's product backward, relu_power.
    - loss: subtract the greatest, exponential, sum, divide, average: 5 V a token.
    - Adam: 13 operations for each weight (S9; what is the same for all weights taken out).
    - moved: weights and both moments, each read and written once. The rest may stay in the
      processor.

    A division, a root or an exponential counts as one operation, which is the least that it
    can be. Multiplying by zero, comparing, copying and looking up are free.
    """
    C, L, H, V = config.n_embd, config.n_layer, config.n_head, vocab_size
    N, P = sum(lengths), sum(rows * columns for rows, columns, _ in shapes(config, V).values())
    pairs = sum(T * (T + 1) // 2 for T in lengths)
    operations = (
        6 * (N * (12 * L * C * C + C * V) + 2 * L * C * pairs)
        + 10 * L * H * pairs
        + 8 * C * N * (2 * L + 1)
        + C * N * (4 * L + 3)
        + 4 * L * C * N * (2 * config.relu_power - 1)
        + 5 * V * N
        + 13 * P
    )
    return Work(operations, moved=6 * P)


def seconds(todo: Work, rates: Mapping[str, Any], dtype: str) -> float | None:
    """What one core needs at the least: computing and moving may overlap (the roofline). None
    without rates: of what else than a core computes there is no floor here."""
    if not rates:
        return None
    moved = todo.moved * SIZES[dtype]
    levels = sorted((int(held), speed) for held, speed in rates["bytes"].items())
    speed = next((speed for held, speed in levels if moved / 2 <= held), levels[-1][1])
    return float(max(todo.operations / rates["operations"][dtype], moved / speed))


# ---------------------------------------------------------------- Calibration


def rates() -> dict[str, Any]:
    """Best rates of one core, measured in processes of their own: operations a second by
    dtype; and bytes a second, read or written, by the size of what is copied."""
    command = [sys.executable, "-m", "microgpt_lab.benchmark.lower_bound"]
    one = {**os.environ, **dict.fromkeys(THREADS, "1")}
    found: list[dict[str, Any]] = []
    # OpenBLAS, asked for its kernel of widest vectors too: of itself it takes narrower ones on
    # some processors that have these. On others the second process fails, and does not count.
    for kernel in (one, {**one, "OPENBLAS_CORETYPE": "SkylakeX"}):
        done = subprocess.run(command, capture_output=True, text=True, env=kernel)
        if not done.returncode:
            found.append(json.loads(done.stdout))
    if not found:
        raise InputError(f"no floor: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return better(found[0], found[-1])


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The greater of each rate: a neighbour can only take speed away."""
    return {
        kind: {name: max(rate, other[kind][name]) for name, rate in of_kind.items()}
        for kind, of_kind in one.items()
    }


def measure(budget: float = 0.05) -> dict[str, Any]:
    """`rates`, in this process; so many seconds for each kernel."""
    import numpy as np

    found: dict[str, Any] = {"operations": {}, "bytes": {}}
    for dtype in SIZES:
        rate = max(products(np, n, dtype, budget) for n in (128, 192, 256))
        found["operations"][dtype] = rate
    for size in (2**15, 2**18, 2**21, 2**24, 2**26):
        a = np.ones(size // 8)
        b = a.copy()
        found["bytes"][size] = 2 * size / best(partial(np.copyto, b, a), budget)
    return found


def products(np: Any, n: int, dtype: str, budget: float) -> float:
    """Operations a second of a product of two n x n matrices, which stay in the cache."""
    a = np.ones((n, n), dtype)
    b, out = a.copy(), a.copy()
    return 2 * n**3 / best(partial(np.matmul, a, b, out=out), budget)


def best(kernel: Callable[[], Any], budget: float) -> float:
    """Seconds of the fastest of as many runs as the budget allows, three at the least."""
    fastest, runs, end = math.inf, 0, time.perf_counter() + budget
    while runs < 3 or time.perf_counter() < end:
        before = time.perf_counter()
        kernel()
        fastest = min(fastest, time.perf_counter() - before)
        runs += 1
    return fastest


if __name__ == "__main__":
    print(json.dumps(measure()))
