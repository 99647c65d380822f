"""The ladder: what is compared, in which order, and how close is close enough.

One table of tolerances, keyed by dtype and never by version. An answer, whoever gave it, is
compared with a golden vector number by number; the first tensor in order of execution that
differs is the finding. A comparison fails closed: NaN, a wrong shape and a missing number are
failures.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from microgpt_lab.verification.cases import Case

# Short enough for a table of 80 columns.
HEADS = {
    "stream": "draws",
    "intermediates": "inner",
    "logits": "logit",
    "intermediate gradients": "igrad",
    "gradients": "grads",
    "permuted batch": "perm",
    "losses": "train",
    "moments": "adam",
    "long run": "long",
}

# Check -> (level of a port that answers it, what is said of it).
CHECKS = {
    "stream": ("stream", "documents read and shuffled, letters, initial draws, from a seed"),
    "intermediates": ("forward", "every named value of the forward pass"),
    "logits": ("forward", "of every position of the first batch"),
    "loss": ("forward", "of the first batch"),
    "intermediate gradients": ("gradients", "of every named value of the forward pass"),
    "gradients": ("gradients", "of each weight, from the first batch"),
    "permuted batch": (
        "gradients",
        "documents in another order: the same loss and gradients",
    ),
    "losses": ("training", "of the first 20 steps"),
    "moments": ("training", "weights and both moments after 1, 2, 3 and 20 steps"),
    "long run": ("training", "losses of steps 21 to 500, recipes seed and gist"),
    "names": ("sampling", "names from given uniforms: all equal"),
}
# The checks that a version answers; a port may answer all of CHECKS.
COLUMNS = [c for c in CHECKS if not c.startswith("intermediate")]
LEVELS = ("forward", "gradients", "training", "sampling", "stream")

# The greatest relative difference ‖got - want‖ / ‖want‖ of a tensor that passes.
# One wrong document of the shuffle is more than any of these.
TOLERANCES = {
    "float64": dict.fromkeys(CHECKS, 1e-12) | {"moments": 1e-10, "long run": 1e-10},
    "float32": dict.fromkeys(CHECKS, 1e-5) | {"moments": 1e-4, "long run": 1e-3},
}
for table in TOLERANCES.values():
    table["names"] = 0.0


@dataclass(frozen=True)
class Finding:
    """One check of one case: how far the worst tensor is off, and the first that fails."""

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

    def record(self) -> dict[str, Any]:
        return asdict(self)


# ---------------------------------------------------------------- Comparing


def difference(got: Any, want: Any) -> tuple[float, str]:
    """‖got - want‖ / ‖want‖ of a tensor, and where it is worst in words.

    Infinite if got is not numbers of the same shape or not all finite; if want is all zero,
    the absolute ‖got‖.
    """
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


def flat(x: Any) -> np.ndarray:
    """Nested lists of numbers, ragged or not -> one row of float64."""
    if isinstance(x, list | tuple):
        return np.concatenate([flat(y) for y in x]) if x else np.zeros(0)
    if isinstance(x, bool | str | dict) or x is None:
        raise TypeError(x)
    return np.asarray(x, dtype=np.float64).reshape(-1)


def shape(x: Any) -> Any:
    """(rows, columns) of nested lists; ragged ones as a list of their rows' shapes."""
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
    """The indices, [i][j], of the number that stands at `index` of flat(x)."""
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
    text = repr(x)
    return text if len(text) <= 40 else text[:37] + "..."


def equal(got: Any, want: list[Any], what: str) -> tuple[float, str]:
    """Lists that must agree entry by entry: the share that does not, and the first."""
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


def pairs(case: Case, answer: Case, check: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, got, want) of each tensor of a check, in order of execution."""
    want = case["answer"]
    if check in ("logits", "loss"):
        yield check, answer[check], want[check]
    elif check in ("intermediates", "intermediate gradients"):
        key = "value" if check == "intermediates" else "gradient"
        tensors = want["intermediates"]
        given = {i["name"]: i[key] for i in answer["intermediates"] if key == "value" or key in i}
        for tensor in tensors if key == "value" else reversed(tensors):
            if tensor["name"] in given:  # a port says which it has
                yield tensor["name"], given[tensor["name"]], tensor[key]
    elif check in ("gradients", "permuted batch"):
        if check == "permuted batch":
            yield "loss", answer[check]["loss"], want["loss"]
            answer = answer[check]
        for name in reversed(want["gradients"]):
            yield name, answer["gradients"].get(name), want["gradients"][name]
    elif check in ("losses", "long run"):
        got, right = answer["losses"], want["losses"]
        cut = slice(0, 20) if check == "losses" else slice(20, None)
        if not isinstance(got, list) or len(got) != len(right):
            yield "losses", got, right
        else:
            for step, (g, w) in enumerate(zip(got[cut], right[cut]), 1 + (cut.start or 0)):
                yield f"loss of step {step}", g, w
    elif check == "moments":
        for step, right in want["after"].items():
            state = answer["after"].get(step) or {}
            for kind in ("first_moment", "second_moment", "weights"):
                for name in right[kind]:
                    got = (state.get(kind) or {}).get(name)
                    yield f"{kind} of {name} after step {step}", got, right[kind][name]


def compare(case: Case, answer: Case, check: str, dtype: str) -> Finding | None:
    """One check of an answer; None where the case or the answer has nothing to compare.

    Whatever the answer holds, this raises nothing: what cannot be compared has failed.
    """
    if not answered(case, answer, check):
        return None
    try:
        if check == "names":
            rows = [("names", *equal(answer.get("names"), case["answer"]["names"], "names"))]
        elif check == "stream":
            rows = stream_rows(case, answer["stream"])
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


def answered(case: Case, answer: Case, check: str) -> bool:
    """Whether a case asks for a check at all, and whether an answer that may leave it out
    has it. What must be there and is not, is for `compare` to fail."""
    want = case["answer"]
    if check == "stream":
        return "stream" in case and (case["stream"]["documents"] != "names" or check in answer)
    if check in ("intermediates", "intermediate gradients"):
        return "intermediates" in want and "intermediates" in answer
    if check == "permuted batch":
        return check in answer
    if check == "long run":
        return len(want.get("losses", ())) > 20
    return {"moments": "after"}.get(check, check) in want


def stream_rows(case: Case, given: Any) -> list[tuple[str, float, str]]:
    rows = [("shuffle", *equal(given["shuffled"], case["documents"], "documents"))]
    if "letters" in given:  # a port is told them
        rows.append(("letters", *equal(given["letters"], list(case["letters"]), "letters")))
    for name, want in case["start"]["weights"].items():
        rows.append((f"initial {name}", *difference(given["weights"].get(name), want)))
    if "uniforms" in given:
        want = case["uniforms"][: len(given["uniforms"])]
        rows.append(("uniforms after the weights", *difference(given["uniforms"], want)))
    return rows
