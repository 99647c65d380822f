"""Pictures of a benchmark: a bar chart of step times, and the curves of its sweeps."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt import RECIPES

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from microgpt_lab.base.plots import COLOURS, save
from microgpt_lab.base.versions import find, readable
from microgpt_lab.benchmark.crossovers import costs_of
from microgpt_lab.benchmark.record import Record, measured, short_name

LOWER_BOUND: Any = {"color": "black", "lw": 1.1, "ls": (0, (1, 1.5))}
PALETTE = [*COLOURS[:4], "#a87400"]  # the fifth is darker here, so that text in it is readable


def title_of(row: Record) -> str:
    """The row's label: number, the version's title, the variant."""
    version = find().get(row["version"])
    title = version.title if version else row["version"][3:]
    if row["variant"]:
        title = f"{title.split(',')[0]}, {row['variant']}"
    return f"{row['version'][:2]}  {title}"


def colour(row: Record) -> str:
    """The framework\'s colour, by its place in the tree; grey for no framework."""
    found = {version.name: version.framework for version in readable()}
    frameworks = list(dict.fromkeys(filter(None, found.values())))
    mine = found.get(row["version"])
    return PALETTE[frameworks.index(mine) % len(PALETTE)] if mine else "#4d4d4d"


def duration(seconds: float) -> str:
    """Seconds as two digits and a unit: 2.7 µs, 48 µs, 4.2 ms."""
    for scale, unit in ((1e6, "µs"), (1e3, "ms")):
        if (x := float(f"{seconds * scale:.2g}")) < 1000:
            return f"{x:g} {unit}" if x >= 10 else f"{x:.1f} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"


def decades(axis: Any, low: float, high: float) -> None:
    """Put ticks with units at powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**p for p in powers if low <= 10.0**p <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda x, _: duration(x).replace(".0", "")))
    axis.set_minor_locator(NullLocator())


# ---------------------------------------------------------------- Step times


def draw_step_times(record: Record, path: Path) -> None:
    """A bar for each row: the time of a step on a logarithmic axis, and its lower bound. A panel
    for each recipe. Raises InputError."""
    rows = measured(record)
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    labels = {label_key(row): title_of(row) for row in sorted(rows, key=label_key)}
    figure = Figure(figsize=(3.4 + 2.8 * len(recipes), 0.9 + 0.27 * len(labels)))
    panels = figure.subplots(1, len(recipes), sharey=True, squeeze=False)[0]
    for axes, recipe in zip(panels, recipes):
        mine = {label_key(row): row for row in rows if row["recipe"] == recipe}
        draw_panel(axes, recipe, [mine.get(key) for key in labels])
    panels[0].set_yticks(range(len(labels)), labels.values(), ha="left")
    panels[0].set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    panels[0].tick_params(axis="y", pad=5.4 * max(map(len, labels.values())))
    save(figure, path)


def draw_panel(axes: Any, recipe: str, rows: Sequence[Record | None]) -> None:
    """The bars of one recipe, from top to bottom; none where a row is None."""
    known = [row for row in rows if row]
    low = min(row["lower_bound"] or row["step"] for row in known) / 2
    high = max(row["step"] for row in known)
    axes.set(xscale="log", xlim=(low, high * (high / low) ** 0.22))  # space for the numbers
    for y, row in enumerate(rows):
        if row:
            draw_bar(axes, y, row, low)
    if bounds := [row["lower_bound"] for row in known if row["lower_bound"]]:
        middle = statistics.median(bounds)
        axes.annotate(
            f"lower bound {duration(middle)}", (middle, 1), (-6, 3), fontsize=8,
            xycoords=axes.get_xaxis_transform(), textcoords="offset points",
        )  # fmt: skip
    axes.set_xlabel(f"a step of recipe {recipe}: {names_in_step(recipe)}")
    decades(axes.xaxis, low, high)
    axes.grid(False, axis="y")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def draw_bar(axes: Any, y: int, row: Record, low: float) -> None:
    """One row: the time of its step, the deviation of the rounds, the lower bound."""
    step, deviation = row["step"], row["step"] * row["spread"]
    axes.barh(y, step - low, left=low, height=0.62, color=colour(row))
    ends = [step - deviation, step + deviation]
    axes.plot(ends, [y, y], color="black", lw=1, solid_capstyle="butt")
    if row["lower_bound"]:
        axes.plot([row["lower_bound"]] * 2, [y - 0.5, y + 0.5], **LOWER_BOUND)
    axes.annotate(
        duration(step), (ends[1], y), (4, 0), textcoords="offset points", va="center",
        fontsize=8,
    )  # fmt: skip


def label_key(row: Record) -> tuple[str, str]:
    return row["version"], row["variant"]


def names_in_step(recipe: str) -> str:
    """How many names a step trains on."""
    n = RECIPES[recipe].batch_size
    return "one name" if n == 1 else f"{n:,} names"


# ---------------------------------------------------------------- The sweeps

AXES = {
    "n_embd": "width",
    "n_layer": "layers",
    "block_size": "block in tokens; every document is as long",
    "batch_size": "names in a batch",
}


def draw_sweeps(record: Record, path: Path) -> None:
    """A panel for each sweep: the time of a step over the varied size; then a legend. Raises
    InputError."""
    shown = [s for s in record["sweeps"] if any(curve["points"] for curve in s["curves"])]
    rows = (len(shown) + 2) // 2
    figure = Figure(figsize=(9, 2.9 * rows))
    panels = list(figure.subplots(rows, 2, squeeze=False).flat)
    drawn: dict[tuple[str, str], Record] = {}
    for axes, sweep in zip(panels, shown):
        draw_sweep(axes, sweep)
        drawn |= {label_key(curve): curve for curve in sweep["curves"] if curve["points"]}
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    who = [drawn[key] for key in sorted(drawn)]
    styles = [{"color": colour(row), "ls": line_style(row), "marker": "o", "ms": 3} for row in who]
    handles = [Line2D([], [], **style) for style in [*styles, LOWER_BOUND]]
    names = [*map(title_of, who), "lower bound of one core"]
    panels[len(shown)].legend(handles, names, loc="center left", fontsize=9, handlelength=3)
    save(figure, path)


def line_style(row: Record) -> str:
    return "--" if row["variant"] else "-"


def draw_sweep(axes: Any, sweep: Record) -> None:
    """The curves of a sweep, each with its name at its end, and the lower bound."""
    per_name, threads = sweep["varied"] == "batch_size", len(sweep["threads"]) > 1
    per = float if per_name else one
    ends, bounds = [], dict[float, float]()
    for curve in sweep["curves"]:
        if not (costs := sorted(costs_of(curve, per).items())):
            continue
        width = 2.6 if threads and curve["threads"] == 1 else 1.3
        axes.plot(*zip(*costs), line_style(curve), color=colour(curve), marker="o", ms=3, lw=width)
        text = short_name(curve) + (f" × {curve['threads']}" if threads else "")
        ends.append((*costs[-1], text, colour(curve)))
        for point in curve["points"]:
            value, bound = point["value"], point["lower_bound"] or math.nan
            bounds[value] = min(bound / per(value), bounds.get(value, math.inf))
    values = sorted(bounds)
    axes.plot(values, [bounds[value] for value in values], **LOWER_BOUND)
    wide_names = threads or any(curve["variant"] for curve in sweep["curves"])
    low, high = scale_axes(axes, values, 0.3 if wide_names else 0.12)
    name_ends(axes, ends, low, high)
    what = f"{'a name' if per_name else 'a step'}, recipe {sweep['recipe']}"
    more = f", with {' or '.join(map(str, sweep['threads']))} threads" if threads else ""
    axes.set_title(what + more, fontsize=10, loc="left")
    axes.set_xlabel(AXES[sweep["varied"]])


def one(value: float) -> float:
    return 1


def scale_axes(axes: Any, values: Sequence[float], margin: float) -> tuple[float, float]:
    """Logarithmic axes with ticks at the values, and space for names at the right: `margin` is a
    share of the axis. -> the limits of the vertical axis"""
    axes.set(xscale="log", yscale="log")
    low, high = axes.get_ylim()
    high *= (high / low) ** 0.06  # space for names
    axes.set_ylim(low, high)
    axes.set_xlim(values[0] / 1.15, values[-1] * max(2, values[-1] / values[0]) ** margin)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    decades(axes.yaxis, low, high)
    return low, high


def name_ends(
    axes: Any, ends: Sequence[tuple[float, float, str, str]], low: float, high: float
) -> None:
    """Write names at the right of the curves' ends, moved apart where they would overlap. Each
    end is (x, y, name, colour)."""
    gap = 0.07 * math.log(high / low)  # the height of a line of text
    for x in sorted({end[0] for end in ends}):
        there = [end for end in ends if end[0] == x]
        heights = apart([math.log(y) for _, y, _, _ in there], gap)
        for (_, _, text, paint), height in zip(there, heights):
            axes.annotate(
                text, (x, math.exp(height)), (5, 0), textcoords="offset points", va="center",
                fontsize=8, color=paint, annotation_clip=False,
            )  # fmt: skip


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places near the wanted ones, in the same order, with at least `gap` between neighbours."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[tuple[float, list[int]]] = []  # (centre, members): labels that touch
    for i in order:
        groups.append((wanted[i], [i]))
        while len(groups) > 1:
            (below, some), (above, more) = groups[-2:]
            if above - below >= gap * (len(some) + len(more)) / 2:
                break
            both = some + more
            groups[-2:] = [(sum(wanted[j] for j in both) / len(both), both)]
    places = [0.0] * len(wanted)
    for centre, members in groups:
        for rank, i in enumerate(members):
            places[i] = centre + gap * (rank - (len(members) - 1) / 2)
    return places
