"""Where batching, compiling and threads begin to pay: points where curves cross, as sentences."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from microgpt_lab.base.versions import find

Curve = Mapping[float, float]  # what a value of the swept number costs

SOON = 0.1  # seconds; less is no wait
LEVEL = 0.05  # two costs that are no further apart than this share are the same


def crossings(one: Curve, other: Curve) -> list[tuple[float, bool]]:
    """(value, whether `one` is the cheaper from there on) where it changes, between values
    that both have, interpolated in the logarithms of both axes."""
    ahead = {x: math.log(other[x] / one[x]) for x in sorted(one) if x in other}
    decided = [(x, by) for x, by in ahead.items() if abs(by) > LEVEL]
    found = []
    for (x0, by0), (x1, by1) in pairwise(decided):
        if by0 * by1 < 0:
            share = by0 / (by0 - by1)
            found.append((math.exp(math.log(x0) + share * math.log(x1 / x0)), by1 > 0))
    return found


def falls_to(curve: Curve, share: float) -> float | None:
    """The first value at which a curve is down to that share of its first point."""
    points = sorted(curve.items())
    goal = points[0][1] * share
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 <= goal < y0:
            part = math.log(y0 / goal) / math.log(y0 / y1)
            return math.exp(math.log(x0) + part * math.log(x1 / x0))
    return None


def short(row: Mapping[str, Any]) -> str:
    """A row by the number of its folder, and its variant: 03 compiled."""
    return f"{row['version'][:2]} {row['variant']}".strip()


def curve(line: Mapping[str, Any], each: Callable[[float], float] = lambda x: 1) -> Curve:
    """Seconds a step, over what `each` makes of the value."""
    return {p["value"]: p["step"] / each(p["value"]) for p in line["points"]}


def near(x: float) -> str:
    """Two digits: an interpolated point is not known better."""
    return f"{float(f'{x:.2g}'):,.0f}" if x >= 10 else f"{x:.1f}"


# ---------------------------------------------------------------- Sentences


def all_of(record: Mapping[str, Any]) -> list[str]:
    """Everything that a record shows to begin to pay, a sentence each."""
    found = compiling(record["rows"])
    for sweep in record["sweeps"]:
        lines = [line for line in sweep["lines"] if line["points"]]
        if len(sweep["threads"]) > 1:
            found += threads(sweep, lines)
        else:
            if sweep["number"] == "batch_size":
                found += batching(lines)
            found += overtaking(sweep["name"], lines)
    return found


def overtaking(name: str, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who is faster than whom from where on, if that changes but once."""
    found = []
    for one, other in combinations(lines, 2):
        changes = crossings(curve(one), curve(other))
        if len(changes) == 1:
            ((x, one_leads),) = changes
            names = [short(one), short(other)]
            first, second = names if one_leads else names[::-1]
            found.append((x, f"from {name} {near(x)} on {first} is faster than {second}"))
    return [sentence for _, sentence in sorted(found)]


def batching(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many documents at once make each of them cheap."""
    found = []
    for line in lines:
        costs = curve(line, each=lambda documents: documents)
        half, best = falls_to(costs, 0.5), min(costs.values())
        alone = costs[min(costs)]
        if half is None:
            found.append(f"{short(line)}: no batch halves what a document costs")
        else:
            size = min(x for x, y in costs.items() if y == best)
            found.append(
                f"{short(line)}: a document costs half from a batch of {near(half)} on, "
                f"1/{alone / best:.0f} in one of {size:,}"
            )
    return found


def threads(sweep: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """From which value on more threads are faster than one."""
    found, name = [], {"n_embd": "width"}.get(sweep["number"], sweep["number"])
    of_row: dict[str, dict[int, Curve]] = {}
    for line in lines:
        of_row.setdefault(short(line), {})[line["threads"]] = curve(line)
    for row, curves in of_row.items():
        for n in sweep["threads"][1:]:
            if n not in curves or 1 not in curves:
                continue
            changes = crossings(curves[n], curves[1])
            common = sorted(set(curves[n]) & set(curves[1]))
            gains = {x: curves[1][x] / curves[n][x] for x in common}
            if len(changes) == 1 and changes[0][1]:
                said = f"from {name} {near(changes[0][0])} on {n} threads pay"
            elif gains and all(gain > 1 + LEVEL for gain in gains.values()):
                said = f"{n} threads pay from {name} {common[0]} on"
            elif gains and all(gain <= 1 + LEVEL for gain in gains.values()):
                said = f"{n} threads do not pay up to {name} {common[-1]}"
            elif gains:
                pays = [str(x) for x, gain in gains.items() if gain > 1 + LEVEL]
                said = f"{n} threads pay at {name} {', '.join(pays)}"
            else:
                continue
            top = max(gains, key=lambda x: gains[x])
            found.append(f"{row}: {said}; at most × {gains[top]:.2g}, at {name} {top}")
    return found


def compiling(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """After how many steps a version that compiles is ahead of itself that does not."""
    found, versions = [], find()
    for one, other in combinations([row for row in rows if "step" in row], 2):
        if (one["version"], one["recipe"]) != (other["version"], other["recipe"]):
            continue
        variants = versions[one["version"]].variants if one["version"] in versions else {}
        settings = [variants.get(row["variant"], {}) for row in (one, other)]
        if not any("compile" in given for given in settings) or any(
            set(given) - {"compile"} for given in settings
        ):
            continue
        slow, quick = sorted((one, other), key=lambda row: row["first"])
        wait = quick["first"] - slow["first"]
        if wait > SOON and (gain := slow["step"] - quick["step"]) > 0:
            found.append(
                f"{quick['version'][:2]}, recipe {quick['recipe']}: compiling takes "
                f"{quick['compile']:.2g} s and pays from {near(wait / gain)} steps on"
            )
    return found
