"""One style for all pictures. The same numbers give the same bytes, so that a picture changes in
git only when its numbers do."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from microgpt import InputError

import matplotlib
import numpy as np

from microgpt_lab.base import files

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "microgpt",
    "figure.constrained_layout.use": True,
}
matplotlib.rcParams.update(STYLE)
# The palette of Okabe and Ito, which colour-blind readers can tell apart; strongest contrast first
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c"]


def save(figure: Any, path: Path) -> None:
    """Write a figure in the format of the path's suffix. Raises InputError for an unknown one."""
    kind, raw = path.suffix.lstrip(".").lower(), BytesIO()
    known = sorted(figure.canvas.get_supported_filetypes())
    if kind not in known:
        raise InputError(f"cannot draw {path.name!r}: a picture ends in {', '.join(known)}")
    # by default these formats hold the time of day
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(raw, format=kind, metadata=dateless.get(kind), dpi=150)
    files.write(path, raw.getvalue())


def running_mean(losses: Sequence[float], width: int = 50) -> np.ndarray:
    """For each loss, the mean of the last `width` losses up to it. (n,) -> (n,)"""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(0, ends - width)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
