"""The page's deception: losses of wrong programs beside those of the right one.

`microgpt site --record` trains the wrong programs of `WRONG` and the right one, each from a seed
of its own, and records their losses and what the checks say. The page shows the curves, and the
reader guesses which programs are wrong.
"""

import json
import math
import platform
import random
from datetime import date
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np

from microgpt_lab.base import files
from microgpt_lab.base.versions import ROOT, Version, pick
from microgpt_lab.verification import answers, mutants, vectors
from microgpt_lab.verification.checks import CHECKS, Finding

FILE = ROOT / "site" / "src" / "recorded" / "deception.json"
COMMAND = "microgpt site --record"
VERSION, DTYPE, RECIPE = "02_numpy_manual_backprop", "float64", "seed"
REFERENCE_SEED = 42  # of the right program that each curve is drawn over
RIGHT = 4  # right programs among those that the reader judges
ORDER = 2  # the seed of the order in which they stand
DIGITS = 5
WRONG = (
    "adam-without-correction",
    "no-attention-scale",
    "softmax-gradient-diagonal",
    "layer-norm",
    "blind-to-itself",
    "repeated-letter-once",
    "slope-without-power",
    "gelu",
)


# ---------------------------------------------------------------- Measuring


def losses(module: Any, seed: int) -> list[float]:
    """The losses of a whole run of the recipe, rounded to DIGITS."""
    config = microgpt.RECIPES[RECIPE]
    run = microgpt.prepare(config, seed=seed, say=lambda *_: None)
    state = module.create(config, run.snapshot, dtype=DTYPE)
    batches = microgpt.batches(config, run.tokenizer, run.docs)
    return [round(float(loss), DIGITS) for loss in module.train(state, batches)]


def findings(module: Any) -> list[Finding]:
    """The findings of every check, in the cases that fail most wrong programs."""
    cases = {case["id"]: case for case in vectors.vectors_for("")}
    return [
        finding
        for name in mutants.FIRST
        for finding in answers.run_checks(module, cases[name], DTYPE)
    ]


def told(finding: Finding) -> dict[str, Any]:
    """A finding as JSON: the level of its check, the difference and the tolerance."""
    worst = finding.worst if math.isfinite(finding.worst) else None
    level = CHECKS[finding.check][0]
    return {**finding.fields(), "level": level, "worst": worst}


def by_check(found: list[Finding]) -> list[dict[str, Any]]:
    """For each check, in order, the finding with the largest difference."""
    present = [check for check in CHECKS if any(one.check == check for one in found)]
    return [
        told(max((one for one in found if one.check == check), key=lambda one: one.worst))
        for check in present
    ]


def wrong_program(version: Version, mutant: mutants.Mutant, seed: int) -> dict[str, Any]:
    """A wrong program: its edit, its losses, and how it is rejected. Raises InputError if the
    checks pass it."""
    module = mutants.apply(version, [mutant])
    found = findings(module)
    failed = [one for one in found if not one.passed]
    if not failed:
        raise InputError(f"{mutant.version}: {mutant.id}: no check of {mutants.FIRST} fails it")
    edit = {"rule": mutant.rule, "why": mutant.why, **mutant.edit}
    return {
        "id": mutant.id,
        "seed": seed,
        **edit,
        "first": told(failed[0]),
        "checks": by_check(found),
        "losses": losses(module, seed),
    }


@np.errstate(all="ignore")  # a wrong program may divide by zero
def measure() -> dict[str, Any]:
    """Everything that the page shows, without the date. Raises InputError if a wrong program of
    WRONG is gone, or passes."""
    (version,) = pick([VERSION])
    known = {mutant.id: mutant for mutant in mutants.read_mutants(VERSION)}
    if gone := [key for key in WRONG if key not in known]:
        raise InputError(f"spec/mutants/{VERSION}.toml has no {gone[0]!r}, which the page shows")
    module = mutants.apply(version, [])
    order: list[str] = [*WRONG, *[""] * RIGHT]
    random.Random(ORDER).shuffle(order)
    programs: list[dict[str, Any]] = []
    for seed, key in enumerate(order, REFERENCE_SEED + 1):
        if key:
            programs.append(wrong_program(version, known[key], seed))
        else:
            programs.append({"id": "", "seed": seed, "losses": losses(module, seed)})
    return {
        "version": VERSION,
        "dtype": DTYPE,
        "recipe": RECIPE,
        "reference": {"seed": REFERENCE_SEED, "losses": losses(module, REFERENCE_SEED)},
        "right": by_check(findings(module)),
        "programs": programs,
    }


# ---------------------------------------------------------------- The file


def differs(made: dict[str, Any], recorded: dict[str, Any]) -> str:
    """The first thing in which a recording is not what was measured now, or "". Differences
    between right programs are rounding, which another computer has otherwise: they may differ."""
    for name in ("version", "dtype", "recipe"):
        if made[name] != recorded.get(name):
            return name
    if len(made["programs"]) != len(recorded["programs"]):
        return "the number of programs"
    runs = [[one["reference"], *one["programs"]] for one in (made, recorded)]
    for new, old in zip(*runs):
        where = f"{new.get('id') or 'the right program'} with seed {new['seed']}"
        for name in ("id", "seed", "rule", "why", "find", "replace"):
            if new.get(name) != old.get(name):
                return f"{where}: {name}"
        if not np.allclose(new["losses"], old["losses"], rtol=0, atol=1e-4):
            return f"{where}: losses"
        if verdict(new) != verdict(old):
            return f"{where}: the verdict"
    return ""


def verdict(program: dict[str, Any]) -> list[Any]:
    """Which checks a program fails, and the first of them."""
    first = program.get("first", {})
    failed = [check["check"] for check in program.get("checks", []) if not check["passed"]]
    return [first.get("check"), first.get("case"), first.get("tensor"), failed]


def record() -> str:
    """Measure, and write the file if it is not what was measured -> what was done, in a line."""
    made, name = measure(), FILE.relative_to(ROOT)
    if FILE.exists():
        recorded = json.loads(FILE.read_text("utf-8"))
        if not differs(made, recorded):
            return f"{name} is as recorded on {recorded['date']}"
    said = {
        "command": COMMAND,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    files.write(FILE, json.dumps(said | made) + "\n")
    return f"wrote {name}"
