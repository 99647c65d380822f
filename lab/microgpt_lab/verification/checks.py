"""The checks: what is compared, in which order, and how large a difference may be.

The tolerances stand in one table, with a column for each dtype and none for a version. An
answer, from a version or a port, is compared with a golden vector number by number. The
first tensor in order of execution that differs is reported. NaN, a wrong shape and a missing
number are failures.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.projections import relative_difference

# Check -> (the level of a port that answers it, what is compared). The names are short: each
# is also the head of a column, broken at its space, and a table must fit 80 columns.
CHECKS = {
    "stream": ("stream", "the shuffled documents, letters and initial weights of a seed"),
    "inner": ("forward", "every named value inside the forward pass"),
    "logits": ("forward", "the logits at every position of the first batch"),
    "loss": ("forward", "the loss of the first batch"),
    "inner grads": ("gradients", "the gradient of every named value inside the forward pass"),
    "grads": ("gradients", "the gradient of each weight, from the first batch"),
    "order": ("", "the batch in reverse order, in one case twice: the same loss and gradients"),
    "losses": ("training", "the losses of the first 20 steps"),
    "moments": ("training", "weights and both moments after 1, 2, 3 and 20 steps"),
    "long run": ("training", "the losses after step 20, of the whole recipes seed and gist"),
    "names": ("sampling", "the names sampled from given uniforms: all equal"),
}
INNER = ("inner", "inner grads")  # only a port can be asked for these
COLUMNS = [check for check in CHECKS if check not in INNER]  # the checks of a version
LEVELS = ("forward", "gradients", "training", "losses", "sampling", "stream")
PRINTED = ("losses", "long run")  # the checks of the level `losses`: losses as a port prints them
FIRST_STEPS = 20  # the steps of the check `losses`; `long run` has those after

# The greatest relative difference ‖got - want‖ / ‖want‖ of a tensor that passes. A single
# wrong document in the shuffle gives more than any of these.
TOLERANCES = {
    "float64": dict.fromkeys(CHECKS, 1e-12) | {"moments": 1e-10, "long run": 1e-10},
    "float32": dict.fromkeys(CHECKS, 1e-5) | {"moments": 1e-4, "long run": 1e-3},
}
for table in TOLERANCES.values():
    table["names"] = 0.0


@dataclass(frozen=True)
class Finding:
    """The result of one check in one case: the largest difference, and the first failure."""

    case: str
    check: str
    passed: bool
    worst: float  # relative difference; infinite where there is nothing to compare
    tolerance: float
    tensor: str = ""  # the first that fails, in order of execution
    detail: str = ""  # where, got, want, ratio

    def line(self) -> str:
        return ": ".join(x for x in (self.case, self.tensor, self.detail) if x)

    def saying(self, detail: str) -> "Finding":
        return replace(self, detail=detail)

    def fields(self) -> dict[str, Any]:
        return asdict(self)


def failure(case: str, check: str, tensor: str, detail: str) -> Finding:
    """A finding where no numbers could be compared, with the reason."""
    return Finding(case, check, False, math.inf, 0.0, tensor, detail)


# ---------------------------------------------------------------- Comparing two tensors


def difference(got: Any, want: Any) -> tuple[float, str]:
    """‖got - want‖ / ‖want‖ of a tensor, and the place of the largest difference in words.

    Infinite if `got` has another shape or is not all finite numbers. If `want` is all zero:
    the absolute ‖got‖.
    """
    if isinstance(want, dict):
        return difference_of_projections(got, want)
    try:
        g, w = flat(got), flat(want)
    except (TypeError, ValueError, OverflowError):
        return math.inf, f"got {shorten(got)}, want numbers of shape {shape(want)}"
    if shape(got) != shape(want):
        return math.inf, f"got shape {shape(got)}, want {shape(want)}"
    bad = np.flatnonzero(~np.isfinite(g))
    if bad.size:
        return math.inf, f"got {g[bad[0]]} at {place(want, int(bad[0]))}"
    with np.errstate(over="ignore", invalid="ignore"):
        scale = float(np.linalg.norm(w))
        off = float(np.linalg.norm(g - w)) / (scale or 1.0)
    if not math.isfinite(off):
        return math.inf, f"got numbers as large as {np.abs(g).max():.3g}"
    if not off:
        return 0.0, "equal"
    worst = int(np.argmax(np.abs(g - w)))
    ratio = f", ratio {g[worst] / w[worst]:.6g}" if w[worst] else ""
    where = place(want, worst)
    text = f"got {g[worst]:.17g}, want {w[worst]:.17g}{ratio}; relative difference {off:.2g}"
    return off, f"at {where} {text}" if where else text


def difference_of_projections(got: Any, want: dict[str, Any]) -> tuple[float, str]:
    """The same for a large tensor, of which the case has projections."""
    try:
        g = flat(got)
    except (TypeError, ValueError, OverflowError):
        return math.inf, f"got {shorten(got)}, want numbers of shape {tuple(want['shape'])}"
    if shape(got) != tuple(want["shape"]):
        return math.inf, f"got shape {shape(got)}, want {tuple(want['shape'])}"
    bad = np.flatnonzero(~np.isfinite(g))
    if bad.size:
        return math.inf, f"got {g[bad[0]]} at {place(got, int(bad[0]))}"
    with np.errstate(over="ignore", invalid="ignore"):
        off = relative_difference(g, want)
    if not math.isfinite(off):
        return math.inf, f"got numbers as large as {np.abs(g).max():.3g}"
    text = f"norm {np.linalg.norm(g):.6g}, want {want['norm']:.6g}; relative difference {off:.2g}"
    return off, text if off else "equal"


def flat(x: Any) -> np.ndarray:
    """Nested lists of numbers, of equal length or not -> one row of float64. Raises TypeError
    or ValueError for what is not a number."""
    if isinstance(x, list | tuple):
        return np.concatenate([flat(y) for y in x]) if x else np.zeros(0)
    if isinstance(x, bool | str | dict) or x is None:
        raise TypeError(x)
    return np.asarray(x, dtype=np.float64).reshape(-1)


def shape(x: Any) -> Any:
    """(rows, columns) of nested lists; if rows differ in length, a list of their shapes."""
    if isinstance(x, np.ndarray):
        return tuple(x.shape)
    if not isinstance(x, list | tuple):
        return ()
    inner = [shape(y) for y in x]
    same = all(s == inner[0] for s in inner)
    if same and (not inner or isinstance(inner[0], tuple)):
        return (len(x), *(inner[0] if inner else ()))
    return inner


def place(x: Any, index: int) -> str:
    """The indices, such as [i][j], of the number at `index` of flat(x)."""
    if isinstance(x, np.ndarray):
        x = x.tolist()
    if not isinstance(x, list | tuple):
        return ""
    for i, y in enumerate(x):
        size = flat(y).size
        if index < size:
            return f"[{i}]{place(y, index)}"
        index -= size
    return ""


def shorten(x: Any) -> str:
    """The repr of anything, cut to 40 characters."""
    text = repr(x)
    return text if len(text) <= 40 else text[:37] + "..."


def equal(got: Any, want: list[Any], what: str) -> tuple[float, str]:
    """Compare lists entry by entry -> (share of entries that differ, the first in words)."""
    if not isinstance(got, list | tuple) or len(got) != len(want):
        return math.inf, f"got {shorten(got)}, want {len(want)} {what}"
    wrong = [i for i, (g, w) in enumerate(zip(got, want)) if g != w]
    if not wrong:
        return 0.0, "equal"
    i = wrong[0]
    text = (
        f"{len(wrong)} of {len(want)} differ, first [{i}]: got {shorten(got[i])}, want {want[i]!r}"
    )
    return len(wrong) / len(want), text


# ---------------------------------------------------------------- One check of one case


def compare(case: Case, answer: Case, check: str, dtype: str) -> Finding | None:
    """One check of an answer; None where the case or the answer has nothing to compare.

    Raises nothing, whatever the answer holds: what cannot be compared has failed.
    """
    if not (asks_for(case, check) or may_add(case, answer, check)):
        return None
    if check in PRINTED and answer.get("digits") is not None:
        return compare_printed(case, answer, check, dtype)
    try:
        if check == "names":
            rows = [("names", *equal(answer.get("names"), case["answer"]["names"], "names"))]
        elif check == "stream":
            rows = compare_streams(case, answer["stream"])
        else:
            rows = [(name, *difference(g, w)) for name, g, w in pairs(case, answer, check)]
    except (KeyError, TypeError, AttributeError, RecursionError) as e:
        rows = [(check, math.inf, f"the answer cannot be read: {type(e).__name__} {e}")]
    if not rows:
        return None
    tolerance = TOLERANCES[dtype][check]
    # not (off <= tolerance), so that NaN fails too
    failed = next(((name, text) for name, off, text in rows if not off <= tolerance), ("", ""))
    worst = max(off for _, off, _ in rows)
    return Finding(case["id"], check, not failed[0], worst, tolerance, *failed)


def compare_printed(case: Case, answer: Case, check: str, dtype: str) -> Finding:
    """As compare, for losses that were rounded to `digits` digits after the point: half a unit
    of the last digit is added to the tolerance. Reports the loss that uses the most of it."""
    rows = []
    half = 0.5 * 10.0 ** -answer["digits"]
    try:
        for name, got, want in pairs(case, answer, check):
            off, text = difference(got, want)
            allowed = TOLERANCES[dtype][check]
            allowed += half / abs(want) if isinstance(want, float) and want else 0.0
            rows.append((off / allowed, name, off, allowed, text))
    except (KeyError, TypeError) as e:
        text = f"the answer cannot be read: {type(e).__name__} {e}"
        return failure(case["id"], check, check, text)
    bad = [row for row in rows if not row[0] <= 1]  # so that NaN fails too
    _, name, off, allowed, text = bad[0] if bad else max(rows)
    said = (name, f"{text}; printed to {answer['digits']} digits") if bad else ("", "")
    return Finding(case["id"], check, not bad, off, allowed, *said)


def asks_for(case: Case, check: str) -> bool:
    """Whether every answer to this case must have what the check compares."""
    want = case["answer"]
    if check == "stream":
        return "stream" in case and case["stream"]["documents"] != "names"
    if check == "long run":
        return len(want.get("losses", ())) > FIRST_STEPS
    field = {"grads": "gradients", "moments": "after"}.get(check, check)
    return check not in (*INNER, "order") and field in want


def may_add(case: Case, answer: Case, check: str) -> bool:
    """Whether an answer has something to compare that it could have left out."""
    if check == "stream":
        return "stream" in case and "stream" in answer
    if check in INNER:
        return "intermediates" in case["answer"] and "intermediates" in answer
    return check == "order" and check in answer


def pairs(case: Case, answer: Case, check: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, got, want) of each tensor of a check, in order of execution."""
    want = case["answer"]
    if check == "logits" and any(isinstance(rows, dict) for rows in want["logits"]):
        if len(answer["logits"]) != len(want["logits"]):
            yield check, answer["logits"], want["logits"]
        for i, (got, right) in enumerate(zip(answer["logits"], want["logits"])):
            yield f"logits of document {i}", got, right
    elif check in ("logits", "loss"):
        yield check, answer[check], want[check]
    elif check in INNER:
        key = "value" if check == "inner" else "gradient"
        tensors = want["intermediates"]
        given = {i["name"]: i[key] for i in answer["intermediates"] if key == "value" or key in i}
        for tensor in tensors if key == "value" else reversed(tensors):
            if tensor["name"] in given:  # a port may give any of them
                yield tensor["name"], given[tensor["name"]], tensor[key]
    elif check in ("grads", "order"):
        if check == "order":
            answer = answer["order"]
            yield "loss", answer["loss"], want["loss"]
        for name in reversed(want["gradients"]):
            yield name, answer["gradients"].get(name), want["gradients"][name]
    elif check in ("losses", "long run"):
        got, right = answer["losses"], want["losses"]
        steps = slice(0, FIRST_STEPS) if check == "losses" else slice(FIRST_STEPS, None)
        if not isinstance(got, list) or len(got) != len(right):
            yield "losses", got, right
        else:
            for step, (g, w) in enumerate(zip(got[steps], right[steps]), 1 + (steps.start or 0)):
                yield f"loss of step {step}", g, w
    elif check == "moments":
        for step, right in want["after"].items():
            state = answer["after"].get(step) or {}
            for kind in ("first_moment", "second_moment", "weights"):
                for name in right[kind]:
                    if case["config"]["block_size"] == 1 and name.endswith(("_wq", "_wk")):
                        continue  # their gradient is 0, and Adam makes steps of its rounding
                    got = (state.get(kind) or {}).get(name)
                    yield f"{kind} of {name} after step {step}", got, right[kind][name]


def compare_streams(case: Case, given: Any) -> list[tuple[str, float, str]]:
    """(name, difference, detail) of everything that comes from the random stream (S1, S3)."""
    rows = [("shuffle", *equal(given["shuffled"], case["documents"], "documents"))]
    if "letters" in given:  # only versions are asked: a port is told the letters
        rows.append(("letters", *equal(given["letters"], list(case["letters"]), "letters")))
    for name, want in case["start"]["weights"].items():
        rows.append((f"initial {name}", *difference(given["weights"].get(name), want)))
    if "uniforms" in given:
        want = case["uniforms"][: len(given["uniforms"])]
        rows.append(("uniforms after the weights", *difference(given["uniforms"], want)))
    return rows
