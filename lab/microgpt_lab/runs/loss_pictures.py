"""Pictures of losses: of one run, and of several versions side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from microgpt_lab.base import plots
from microgpt_lab.base.plots import COLOURS, smooth
from microgpt_lab.runs import run_folder


def draw_run(folder: Path, name: str = "loss.svg") -> None:
    """loss.svg of a run from its log: every loss, their running mean, what was held out, and
    where another version took over."""
    log = run_folder.read_log(folder)
    losses = [(r["step"], r["loss"]) for r in log if "loss" in r]
    held_out = [(r["step"], r["held_out"]) for r in log if "held_out" in r]
    figure = Figure(figsize=(7.2, 4))
    axes = figure.subplots()
    if losses:
        steps, values = np.array(losses).T
        means = smooth(values)
        some = slice(None, None, 1 + len(steps) // 2000)  # more are not to be seen
        axes.plot(steps[some], values[some], ".", ms=2, color="#c8c8c8", label="each step")
        axes.plot(steps[some], means[some], color=COLOURS[0], label="mean of 50 steps")
    if held_out:
        axes.plot(*np.array(held_out).T, "o", ms=4, color=COLOURS[1], label="held out")
    takers = [(r["step"], r["version"]) for r in log if "version" in r]
    for i, (step, version) in enumerate(takers):
        if i == 0 or version != takers[i - 1][1]:
            if step:
                axes.axvline(step, color="#8c8c8c", lw=0.8)
            axes.annotate(
                version, (step, 0), (4, 4), xycoords=axes.get_xaxis_transform(), rotation=90,
                textcoords="offset points", fontsize=8, color="#555555",
            )  # fmt: skip
    axes.set(xlabel="step", ylabel="loss, nats a character", title=folder.resolve().name)
    axes.legend(loc="upper right")
    plots.save(figure, folder / name)


def draw_comparison(curves: Mapping[str, Sequence[float]], first: str, path: Path) -> None:
    """The losses of several versions, drawn over one another, and below the greatest
    difference from the first one's that each has had so far."""
    figure = Figure(figsize=(7.2, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for i, (version, losses) in enumerate(curves.items()):
        steps = np.arange(1, len(losses) + 1)
        some = slice(None, None, 1 + len(steps) // 2000)
        colour = COLOURS[i % len(COLOURS)]
        # wide below, narrow above: curves that coincide all show
        width = 1 + 7 * (1 - i / max(1, len(curves) - 1))
        above.plot(steps[some], smooth(losses)[some], color=colour, lw=width, label=version)
        if version != first:
            n = min(len(losses), len(curves[first]))
            off = np.abs(np.subtract(losses[:n], curves[first][:n]))
            most = np.maximum.accumulate(np.maximum(off, 1e-17))  # a logarithm has no zero
            below.plot(steps[:n][some], most[some], color=colour, lw=1.5)
    above.set(ylabel="loss, mean of 50 steps")
    above.legend(loc="upper right", fontsize=8)
    below.set(xlabel="step", ylabel=f"greatest |loss − {first[:2]}’s| so far", yscale="log")
    plots.save(figure, path)
