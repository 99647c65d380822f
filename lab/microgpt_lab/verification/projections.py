"""Large tensors of golden vectors, as a few numbers that every entry contributes to.

A tensor of more than LARGE numbers is stored as its shape, its norm and its projections
p_k = Σ_i w_i cos(k i), k = 1 … 8, i = 1, 2, … row by row. An answer gives the whole tensor;
what is compared is its projections.
"""

import functools
from typing import Any

import numpy as np

LARGE = 500  # numbers
COUNT = 8


def projected(rows: Any) -> Any:
    """A large matrix as {"shape", "norm", "projections"}; a small one as it is."""
    w = np.asarray(rows, np.float64)
    if w.size <= LARGE:
        return rows
    numbers = project(w.reshape(-1)).tolist()
    return {"shape": list(w.shape), "norm": float(np.linalg.norm(w)), "projections": numbers}


def project(w: np.ndarray) -> np.ndarray:
    """The projections of a row of numbers. (n,) -> (COUNT,)"""
    p: np.ndarray = cosines(w.size) @ w
    return p


@functools.cache
def cosines(n: int) -> np.ndarray:
    """cos(k i). -> (COUNT, n)"""
    return np.cos(np.outer(np.arange(1, COUNT + 1), np.arange(1, n + 1)))


def relative_difference(got: np.ndarray, want: dict[str, Any]) -> float:
    """The norm of got - want over that of want, estimated: of a difference e, whatever its
    entries, the projections have a mean square of ‖e‖² / 2. got: (n,)"""
    off = np.linalg.norm(project(got) - np.asarray(want["projections"]))
    return float(off / ((COUNT / 2) ** 0.5 * (want["norm"] or 1.0)))
