"""Run each program once as a user does, and compare its log with 01's numbers.

No option gives precision, device or recipe, so the defaults are what is verified: a default
that is wrong changes the losses or the names.
"""

import functools
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import microgpt
from microgpt import RECIPES

from microgpt_lab.base import processes
from microgpt_lab.base.versions import ROOT, Version, readable
from microgpt_lab.verification.checks import Finding, compare, failure

STEPS, NAMES = 3, 5
SECONDS = 300  # a program that takes longer hangs
# For a step of more weights times tokens, of which 01 needs seconds, the version in NumPy
# computes what is wanted: in double precision the golden vectors hold it to 01's numbers.
LARGE = 1e6
FAST = "numpy"


@functools.cache
def expected(recipe: str) -> dict[str, Any]:
    """What a run of a recipe with STEPS steps logs."""
    config = replace(RECIPES[recipe], steps=STEPS)
    run = microgpt.prepare(config, say=lambda *_: None)
    size = sum(len(rows) * len(rows[0]) for rows in run.snapshot.weights.values())
    large = size * config.batch_size * config.block_size > LARGE
    fast = [version for version in readable() if version.framework == FAST]
    module = fast[0].load() if large and fast else microgpt
    state = module.create(config, run.snapshot, dtype="float64")
    losses = list(module.train(state, microgpt.batches(config, run.tokenizer, run.docs)))
    draw = functools.partial(module.logits, state)
    names = microgpt.generate(draw, config, run.tokenizer.bos, run.rng.random)
    return {
        "config": asdict(config),
        "losses": losses,
        "names": [run.tokenizer.decode(name) for name in islice(names, NAMES)],
    }


def logged(version: Version) -> dict[str, Any]:
    """Recipe, losses and names in the log of one run of the program. Raises OSError with the
    program's last words if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        asked = ["--steps", str(STEPS), "--samples", str(NAMES), "--log", str(log)]
        done = processes.run(
            [sys.executable, str(version.path), *asked],
            cwd=ROOT, env=version.with_variables, timeout=SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["no message"])[-1])
        records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return {
        "config": records[0]["config"],
        "losses": [record["loss"] for record in records if "loss" in record],
        "names": [record["name"] for record in records if "name" in record],
    }


def findings(version: Version) -> list[Finding]:
    """The losses and the names of one run, in the precision that the program has without
    options: the first of its dtypes."""
    title = f"{version.program} --steps {STEPS}"
    try:
        answer = logged(version)
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as e:
        return [failure(title, "error", "as a user runs it", str(e))]
    wanted = expected(version.recipe)
    case = {"id": title, "answer": wanted}
    if answer["config"] != wanted["config"]:
        text = f"its recipe is not {version.recipe}: {answer['config']}"
        return [failure(title, "error", "as a user runs it", text)]
    found = (compare(case, answer, check, version.dtypes[0]) for check in ("losses", "names"))
    return [finding for finding in found if finding]
