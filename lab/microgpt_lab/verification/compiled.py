"""Whether a step that a version calls compiled is compiled.

A compiled step does not run the program's Python code for the model again: that ran once, when
the step was compiled. So after two steps of the same shape `rmsnorm`, which every version has
under that name, must not be called any more. The version's own word is not asked for that.
"""

import sys
from types import FrameType
from typing import Any

from microgpt_lab.base.versions import shared_by
from microgpt_lab.verification import vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding, failure

ALWAYS = ("jax", "numba")  # frameworks whose versions compile every step
STEPS = 3  # the shapes of the last one have been seen twice


def claimed(framework: str, options: dict[str, Any], about: str) -> bool:
    """Whether options, framework or the version itself say that steps are compiled."""
    words = about.replace("not compiled", "")
    return framework in ALWAYS or bool(options.get("compile")) or "compiled" in words


def calls(module: Any, state: Any, case: Case) -> int:
    """How often the last of three equal steps calls the program's `rmsnorm` in Python. Trains
    the state."""
    shared = shared_by(module)
    config, start = vectors.question(case)
    tokenizer = shared.Tokenizer(case["letters"])
    batch, _ = next(shared.batches(config, tokenizer, case["documents"], start.step))
    code = getattr(module.rmsnorm, "py_func", module.rmsnorm).__code__
    for _ in module.train(state, [(batch, 0.0)] * (STEPS - 1)):
        pass
    count = 0

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code is code

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        for loss in module.train(state, [(batch, 0.0)]):
            float(loss)
    finally:
        sys.setprofile(before)
    return count


def failures(module: Any, state: Any, case: Case, says_compiled: bool) -> list[Finding]:
    """A finding if a step that should be compiled runs the model's Python code."""
    if not says_compiled:
        return []
    count = calls(module, state, case)
    text = f"it should be compiled, but a third equal step calls rmsnorm {count} times in Python"
    return [failure(case["id"], "error", "a step", text)] if count else []
