"""One style for all pictures. The same numbers give the same bytes, so that a picture changes in
git only when its numbers do."""

import functools
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from microgpt import InputError, visible

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.text import Text

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


def kind_of(path: Path) -> str:
    """The format of a picture: its suffix. Raises InputError for an unknown one."""
    kind, known = path.suffix.lstrip(".").lower(), sorted(FigureCanvasBase.filetypes)
    if kind not in known:
        raise InputError(f"cannot draw {str(path)!r}: a picture ends in {', '.join(known)}")
    return kind


def save(figure: Any, path: Path) -> None:
    """Write a figure in the format of the path's suffix. Raises InputError for an unknown one."""
    kind, raw = kind_of(path), BytesIO()
    # by default these formats hold the time of day
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with without_warnings(figure):
        figure.savefig(raw, format=kind, metadata=dateless.get(kind), dpi=150)
    files.write(path, raw.getvalue())


# ---------------------------------------------------------------- Fonts


@contextmanager
def without_warnings(figure: Any) -> Iterator[None]:
    """Give each text of a figure a font that has its letters, where one is installed. Inside the
    block no letter without a font is warned of; one line names them all."""
    for axes in figure.axes:  # their texts are set when they are asked for
        axes.get_xticklabels(), axes.get_yticklabels()
    texts = figure.findobj(Text)
    letters = {c for text in texts for c in text.get_text()} - {"\n"}
    missing = letters - letters_of(font_manager.findfont(FontProperties()))
    if missing:
        others, missing = fonts_with(missing)
        for text in texts:
            text.set_fontfamily([*matplotlib.rcParams["font.family"], *others])
    if missing:
        shown = ", ".join(map(visible, sorted(missing)[:10])) + ", …" * (len(missing) > 10)
        said = f"no installed font has {len(missing)} of the picture's letters ({shown})"
        print(f"warning: {said}: they are drawn as boxes", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")
        yield


@functools.cache
def letters_of(font: str) -> frozenset[str]:
    """The letters that a font's file has; none if it cannot be read."""
    try:
        return frozenset(map(chr, get_font(font).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def fonts_with(letters: set[str]) -> tuple[list[str], set[str]]:
    """(names of fonts that together have the letters, the letters that no font has)"""
    names, left = [], set(letters)
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if left and (has := left & letters_of(font.fname)):
            names.append(font.name)
            left -= has
    return names, left


# ---------------------------------------------------------------- Losses


def running_mean(losses: Sequence[float], width: int = 50) -> np.ndarray:
    """For each loss, the mean of the last `width` losses up to it. (n,) -> (n,)"""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(0, ends - width)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
