"""From which size on batching, compiling and threads save time: the points at which curves cross,
each as a sentence."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from microgpt_lab.base.versions import find
from microgpt_lab.benchmark.record import Record, short_name

Costs = Mapping[float, float]  # value of the varied size -> seconds

WORTH_SAYING = 0.1  # seconds; a shorter compilation is not mentioned
EQUAL = 0.05  # times that differ by less than this share are equal: two processes of one
# program differ by as much

# ---------------------------------------------------------------- Points


def crossings(one: Costs, other: Costs) -> list[tuple[float, bool]]:
    """(value, whether `one` is the cheaper from there on) of each crossing.

    Interpolated between the values that both have, on logarithmic axes.
    """
    lead = {x: math.log(other[x] / one[x]) for x in sorted(one) if x in other}
    decided = [(x, by) for x, by in lead.items() if abs(by) > EQUAL]
    found = []
    for (x0, by0), (x1, by1) in pairwise(decided):
        if by0 * by1 < 0:
            share = by0 / (by0 - by1)
            found.append((math.exp(math.log(x0) + share * math.log(x1 / x0)), by1 > 0))
    return found


def falls_to(costs: Costs, share: float) -> float | None:
    """The first value at which the cost is this share of the first point's. None if it is
    nowhere that low."""
    points = sorted(costs.items())
    goal = points[0][1] * share
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 <= goal < y0:
            part = math.log(y0 / goal) / math.log(y0 / y1)
            return math.exp(math.log(x0) + part * math.log(x1 / x0))
    return None


def costs_of(curve: Record, per: Callable[[float], float] = lambda x: 1) -> Costs:
    """Seconds a step of a curve's points, divided by `per` of the value."""
    return {p["value"]: p["step"] / per(p["value"]) for p in curve["points"]}


def rounded(x: float) -> str:
    """Two digits: an interpolated point is not known better."""
    return f"{float(f'{x:.2g}'):,.0f}" if x >= 10 else f"{x:.1f}"


# ---------------------------------------------------------------- Sentences


def all_sentences(record: Record) -> list[str]:
    """A sentence for each crossing that a record shows."""
    found = where_compiling_pays(record["rows"])
    for sweep in record["sweeps"]:
        curves = [curve for curve in sweep["curves"] if curve["points"]]
        if len(sweep["threads"]) > 1:
            found += where_threads_pay(sweep, curves)
        else:
            if sweep["varied"] == "batch_size":
                found += where_batches_pay(curves)
            found += who_overtakes(sweep["name"], curves)
    return found


def who_overtakes(name: str, curves: Sequence[Record]) -> list[str]:
    """From which value on one version is faster than another, for pairs that cross once."""
    found = []
    for one, other in combinations(curves, 2):
        changes = crossings(costs_of(one), costs_of(other))
        if len(changes) == 1:
            ((x, one_leads),) = changes
            names = [short_name(one), short_name(other)]
            first, second = names if one_leads else names[::-1]
            found.append((x, f"from {name} {rounded(x)} on {first} is faster than {second}"))
    return [sentence for _, sentence in sorted(found)]


def where_batches_pay(curves: Sequence[Record]) -> list[str]:
    """From which batch on a document takes half as long as alone."""
    found = []
    for curve in curves:
        costs = costs_of(curve, per=lambda documents: documents)
        half, best = falls_to(costs, 0.5), min(costs.values())
        alone = costs[min(costs)]
        if half is None:
            found.append(f"{short_name(curve)}: no measured batch halves the time of a document")
        else:
            size = min(x for x, y in costs.items() if y == best)
            found.append(
                f"{short_name(curve)}: from a batch of {rounded(half)} on, a document takes "
                f"half as long as alone; in a batch of {size:,}, 1/{alone / best:.0f} as long"
            )
    return found


def where_threads_pay(sweep: Record, curves: Sequence[Record]) -> list[str]:
    """From which value on more threads are faster than one."""
    found: list[str] = []
    name: str = "width" if sweep["varied"] == "n_embd" else sweep["varied"]
    costs: dict[str, dict[int, Costs]] = {}
    for curve in curves:
        costs.setdefault(short_name(curve), {})[curve["threads"]] = costs_of(curve)
    for row, of_row in costs.items():
        for n in sweep["threads"][1:]:
            if n in of_row and 1 in of_row and (said := gain_of_threads(name, n, of_row)):
                found.append(f"{row}: {said}")
    return found


def gain_of_threads(name: str, n: int, costs: Mapping[int, Costs]) -> str:
    """What n threads gain over one, as the value called `name` grows."""
    changes = crossings(costs[n], costs[1])
    common = sorted(set(costs[n]) & set(costs[1]))
    gains = {x: costs[1][x] / costs[n][x] for x in common}
    if not gains:
        return ""
    pays = [x for x, gain in gains.items() if gain > 1 + EQUAL]
    if len(changes) == 1 and changes[0][1]:
        said = f"from {name} {rounded(changes[0][0])} on {n} threads are faster"
    elif len(pays) == len(gains):
        said = f"{n} threads are faster from {name} {common[0]} on"
    elif not pays:
        said = f"{n} threads are not faster up to {name} {common[-1]}"
    else:
        said = f"{n} threads are faster at {name} {', '.join(map(str, pays))}"
    top = max(gains, key=lambda x: gains[x])
    return f"{said}; at most {gains[top]:.2g} times as fast, at {name} {top}"


def where_compiling_pays(rows: Sequence[Record]) -> list[str]:
    """After how many steps a compiled version is ahead of the same version without compiling."""
    found, versions = [], find()

    def options(row: Record) -> dict[str, Any]:
        version = versions.get(row["version"])
        return version.variants.get(row["variant"], {}) if version else {}

    for one, other in combinations([row for row in rows if "step" in row], 2):
        if (one["version"], one["recipe"]) != (other["version"], other["recipe"]):
            continue
        both = {*options(one), *options(other)}
        if both != {"compile"}:  # the two differ in more than compiling, or not in that
            continue
        slow, fast = sorted((one, other), key=lambda row: row["first_step"])
        wait = fast["first_step"] - slow["first_step"]
        if wait > WORTH_SAYING and (gain := slow["step"] - fast["step"]) > 0:
            found.append(
                f"{fast['version'][:2]}, recipe {fast['recipe']}: compiling takes "
                f"{fast['first_step_extra']:.2g} s, "
                f"and saves time from {rounded(wait / gain)} steps on"
            )
    return found
