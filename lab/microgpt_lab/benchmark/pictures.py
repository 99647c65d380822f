"""Pictures of a bench: the staircase, and its sweeps."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from microgpt import RECIPES

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from microgpt_lab.base.plots import COLOURS, save
from microgpt_lab.base.versions import find, readable
from microgpt_lab.benchmark import crossovers

FLOOR: Any = {"color": "black", "lw": 1.1, "ls": (0, (1, 1.5))}
PALETTE = [*COLOURS[:4], "#a87400"]  # the fifth darker than it was, as text must be read in it
Record = Mapping[str, Any]


def title_of(row: Record) -> str:
    """A row in words: its number, the version's title, the variant."""
    version = find().get(row["version"])
    title = version.title if version else row["version"][3:]
    if row["variant"]:
        title = f"{title.split(',')[0]}, {row['variant']}"
    return f"{row['version'][:2]}  {title}"


def colour(row: Record) -> str:
    """That of its framework, in the order of the tree; grey where there is none."""
    found = {version.name: version.framework for version in readable()}
    frameworks = list(dict.fromkeys(filter(None, found.values())))
    mine = found.get(row["version"])
    return PALETTE[frameworks.index(mine) % len(PALETTE)] if mine else "#4d4d4d"


def duration(seconds: float) -> str:
    """Two digits and a unit: 2.7 µs, 48 µs, 4.2 ms."""
    for scale, unit in ((1e6, "µs"), (1e3, "ms")):
        if (x := float(f"{seconds * scale:.2g}")) < 1000:
            return f"{x:g} {unit}" if x >= 10 else f"{x:.1f} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"


def decades(axis: Any, low: float, high: float) -> None:
    """Ticks at powers of ten, with units."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**p for p in powers if low <= 10.0**p <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda x, _: duration(x).replace(".0", "")))
    axis.set_minor_locator(NullLocator())


# ---------------------------------------------------------------- The staircase


def staircase(record: Record, path: Path) -> None:
    """A bar a row: the time of a step, on a logarithmic axis, and the floor below it."""
    rows = [row for row in record["rows"] if "step" in row]
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    labels = {identity(row): title_of(row) for row in sorted(rows, key=identity)}
    figure = Figure(figsize=(3.4 + 2.8 * len(recipes), 0.9 + 0.27 * len(labels)))
    panels = figure.subplots(1, len(recipes), sharey=True, squeeze=False)[0]
    for axes, recipe in zip(panels, recipes):
        mine = {identity(row): row for row in rows if row["recipe"] == recipe}
        low = min(row["floor"] or row["step"] for row in mine.values()) / 2
        high = max(row["step"] for row in mine.values())
        axes.set(xscale="log", xlim=(low, high * (high / low) ** 0.22))  # room for the numbers
        for y, name in enumerate(labels):
            if name in mine:
                bar(axes, y, mine[name], low)
        if floors := [row["floor"] for row in mine.values() if row["floor"]]:
            least = statistics.median(floors)
            axes.annotate(
                f"floor {duration(least)}", (least, 1), (0, 3), ha="center", fontsize=8,
                xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            )  # fmt: skip
        axes.set_xlabel(f"a step of recipe {recipe}: {documents(recipe)}")
        decades(axes.xaxis, low, high)
        axes.grid(False, axis="y")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(labels)), labels.values(), ha="left")
    panels[0].set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    panels[0].tick_params(axis="y", pad=5.4 * max(map(len, labels.values())))
    save(figure, path)


def bar(axes: Any, y: int, row: Record, low: float) -> None:
    """One row: its step, how far the rounds went apart, its floor."""
    step, off = row["step"], row["step"] * row["spread"]
    axes.barh(y, step - low, left=low, height=0.62, color=colour(row))
    axes.plot([step - off, step + off], [y, y], color="black", lw=1, solid_capstyle="butt")
    if row["floor"]:
        axes.plot([row["floor"]] * 2, [y - 0.5, y + 0.5], **FLOOR)
    axes.annotate(
        duration(step), (step + off, y), (4, 0), textcoords="offset points", va="center",
        fontsize=8,
    )  # fmt: skip


def identity(row: Record) -> tuple[str, str]:
    return row["version"], row["variant"]


def documents(recipe: str) -> str:
    """How many a step takes."""
    n = RECIPES[recipe].batch_size
    return "one name" if n == 1 else f"{n:,} names"


# ---------------------------------------------------------------- The sweeps

AXES = {
    "n_embd": "width",
    "n_layer": "layers",
    "block_size": "block, tokens, each name that long",
    "batch_size": "names in a batch",
}


def sweeps(record: Record, path: Path) -> None:
    """A panel a sweep: what a step costs, over the number that varies. Then who is who."""
    shown = [s for s in record["sweeps"] if any(line["points"] for line in s["lines"])]
    rows = (len(shown) + 2) // 2
    figure = Figure(figsize=(9, 2.9 * rows))
    panels = list(figure.subplots(rows, 2, squeeze=False).flat)
    told: dict[tuple[str, str], Record] = {}
    for axes, sweep in zip(panels, shown):
        one_sweep(axes, sweep)
        told |= {identity(line): line for line in sweep["lines"] if line["points"]}
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    who = [told[name] for name in sorted(told)]
    kwargs = [{"color": colour(row), "ls": style(row), "marker": "o", "ms": 3} for row in who]
    handles = [Line2D([], [], **how) for how in [*kwargs, FLOOR]]
    names = [*map(title_of, who), "the floor of one core"]
    panels[len(shown)].legend(handles, names, loc="center left", fontsize=9, handlelength=3)
    save(figure, path)


def style(row: Record) -> str:
    return "--" if row["variant"] else "-"


def one_sweep(axes: Any, sweep: Record) -> None:
    """The curves of a sweep, each with its number at its end."""
    batch, many = sweep["number"] == "batch_size", len(sweep["threads"]) > 1
    ends, least = [], dict[float, float]()
    for line in sweep["lines"]:
        each = float if batch else one
        if not (costs := sorted(crossovers.curve(line, each).items())):
            continue
        width = 2.6 if many and line["threads"] == 1 else 1.3
        axes.plot(*zip(*costs), style(line), color=colour(line), marker="o", ms=3, lw=width)
        text = crossovers.short(line) + (f" × {line['threads']}" if many else "")
        ends.append((*costs[-1], text, colour(line)))
        for point in line["points"]:
            value, floor = point["value"], point["floor"] or math.nan
            least[value] = min(floor / each(value), least.get(value, math.inf))
    values = sorted(least)
    axes.plot(values, [least[value] for value in values], **FLOOR)
    axes.set(xscale="log", yscale="log")
    low, high = axes.get_ylim()
    high *= (high / low) ** 0.06  # room for names
    axes.set_ylim(low, high)
    room = 0.3 if any(line["variant"] for line in sweep["lines"]) or many else 0.12
    axes.set_xlim(values[0] / 1.15, values[-1] * max(2, values[-1] / values[0]) ** room)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    decades(axes.yaxis, low, high)
    label(axes, ends, low, high)
    what = f"{'a name' if batch else 'a step'}, recipe {sweep['recipe']}"
    more = f", with {' or '.join(map(str, sweep['threads']))} threads" if many else ""
    axes.set_title(what + more, fontsize=10, loc="left")
    axes.set_xlabel(AXES[sweep["number"]])


def one(value: float) -> float:
    return 1


def label(
    axes: Any, ends: Sequence[tuple[float, float, str, str]], low: float, high: float
) -> None:
    """Names right of the ends of curves, moved apart where they would overlap."""
    gap = 0.07 * math.log(high / low)  # a line of text
    for end in sorted({x for x, *_ in ends}):
        there = [found for found in ends if found[0] == end]
        places = apart([math.log(y) for _, y, _, _ in there], gap)
        for (x, _, text, paint), place in zip(there, places):
            axes.annotate(
                text, (x, math.exp(place)), (5, 0), textcoords="offset points", va="center",
                fontsize=8, color=paint, annotation_clip=False,
            )  # fmt: skip


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places near those wanted, in the same order, none nearer to the next than the gap."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[tuple[float, list[int]]] = []  # (centre, members): each a block of labels
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
