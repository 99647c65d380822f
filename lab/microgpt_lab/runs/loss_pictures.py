"""Plots of losses: of one run, and of several versions side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from microgpt_lab.base import plots
from microgpt_lab.base.plots import COLOURS, running_mean
from microgpt_lab.runs import run_folder

POINTS = 2000  # about as many as can be told apart in a plot


def draw_run(
    folder: Path, yardsticks: Mapping[str, float] | None = None, name: str = "loss.svg"
) -> None:
    """Plot a run from its log: every loss, their running mean, the held-out losses, a line where
    another version took over, and lines of what tables that count reach (nats a character)."""
    log = run_folder.read_log(folder)
    losses = [(r["step"], r["loss"]) for r in log if "loss" in r]
    held_out = [(r["step"], r["held_out"]) for r in log if "held_out" in r]
    figure = Figure(figsize=(7.2, 4))
    axes = figure.subplots()
    if losses:
        steps, values = np.array(losses).T
        means = running_mean(values)
        some = every_nth(len(steps))
        axes.plot(steps[some], values[some], ".", ms=2, color="#c8c8c8", label="each step")
        axes.plot(steps[some], means[some], color=COLOURS[0], label="mean of 50 steps")
    if held_out:
        axes.plot(*np.array(held_out).T, "o", ms=4, color=COLOURS[1], label="held out")
    mark_versions(axes, [(r["step"], r["version"]) for r in log if "version" in r])
    axes.set(xlabel="step", ylabel="loss, nats a character", title=folder.resolve().name)
    draw_yardsticks(axes, yardsticks or {})
    axes.legend(loc="upper right")
    plots.save(figure, folder / name)


def draw_yardsticks(axes: Any, yardsticks: Mapping[str, float]) -> None:
    """A dashed line for each table, with its name at the right, outside the picture. Lines that
    almost touch share the space of one name."""
    for value in yardsticks.values():
        axes.axhline(value, color="#8c8c8c", lw=0.8, ls=(0, (4, 3)), zorder=1)
    low, high = axes.get_ylim()
    near, last = (high - low) / 30, math.inf
    for name, value in sorted(yardsticks.items(), key=lambda item: -item[1]):
        last = min(value, last - near)  # a name's height below the name above
        axes.annotate(
            f"{name} {value:.2f}", (1, last), (4, 0), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", va="center", fontsize=8, color="#555555",
        )  # fmt: skip


def every_nth(length: int) -> slice:
    """A slice that leaves at most POINTS of that many points, evenly spaced."""
    return slice(None, None, 1 + length // POINTS)


def mark_versions(axes: Any, starts: Sequence[tuple[int, str]]) -> None:
    """Write each version's name at the step where it began, and a line where it took over."""
    for i, (step, version) in enumerate(starts):
        if i and version == starts[i - 1][1]:
            continue  # the same version, resumed
        if step:
            axes.axvline(step, color="#8c8c8c", lw=0.8)
        axes.annotate(
            version, (step, 0), (4, 4), xycoords=axes.get_xaxis_transform(), rotation=90,
            textcoords="offset points", fontsize=8, color="#555555",
        )  # fmt: skip


def draw_comparison(
    curves: Mapping[str, Sequence[float]],
    first: str,
    path: Path,
    yardsticks: Mapping[str, float] | None = None,
) -> None:
    """Plot the losses of several versions in one picture, with lines of what tables that count
    reach; below, for each version, the largest difference from the first version's losses so
    far."""
    figure = Figure(figsize=(7.2, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for i, (version, losses) in enumerate(curves.items()):
        steps = np.arange(1, len(losses) + 1)
        some = every_nth(len(steps))
        colour = COLOURS[i % len(COLOURS)]
        # the first line is the widest: where curves coincide, all of them stay visible
        width = 1 + 7 * (1 - i / max(1, len(curves) - 1))
        above.plot(steps[some], running_mean(losses)[some], color=colour, lw=width, label=version)
        if version != first:
            n = min(len(losses), len(curves[first]))
            off = np.abs(np.subtract(losses[:n], curves[first][:n]))
            most = np.maximum.accumulate(np.maximum(off, 1e-17))  # log(0) cannot be drawn
            below.plot(steps[:n][some], most[some], color=colour, lw=1.5)
    draw_yardsticks(above, yardsticks or {})
    above.set(ylabel="loss, mean of 50 steps")
    above.legend(loc="upper right", fontsize=8)
    below.set(xlabel="step", ylabel=f"greatest |loss − {first[:2]}’s| so far", yscale="log")
    plots.save(figure, path)
