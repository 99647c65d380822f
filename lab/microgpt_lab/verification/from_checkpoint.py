"""Versions held against 01 from where a run stands, whichever version brought it there."""

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import microgpt

from microgpt_lab.runs import documents, run_folder
from microgpt_lab.runs.checkpoints import Checkpoint
from microgpt_lab.verification import vectors, verify
from microgpt_lab.verification.cases import Case, Plan

STEPS = 20
BATCH = 4  # documents a step at most: 01 has to take these steps too
NAMES = 20


def case_of(checkpoint: Checkpoint) -> Case:
    """The question that a checkpoint asks, with 01's answer: the next 20 steps on the run's
    own documents, and names. Raises InputError if these are not at hand."""
    plan = checkpoint.plan
    config = replace(
        plan.config,
        steps=max(plan.config.steps, checkpoint.step + STEPS),  # a run that has ended goes on
        batch_size=min(plan.config.batch_size, BATCH),
    )
    found = documents.prepare(config, plan.data, plan.seed, plan.held_out, plan.digest)
    first = checkpoint.step * config.batch_size
    count = min(len(found.train), STEPS * config.batch_size)
    docs = [found.train[(first + i) % len(found.train)] for i in range(count)]
    # The case's documents count from its own step 0: turned so that the step meets them.
    docs = [docs[(i - first) % count] for i in range(count)]
    start = {
        part: {name: rows.tolist() for name, rows in matrices.items()}
        for part, matrices in checkpoint.snapshot._asdict().items()
        if part != "step"
    }
    tokenizer, rng = plan.tokenizer, random.Random(plan.seed)
    case: Case = {
        "format": vectors.FORMAT,
        "id": f"step {checkpoint.step:,}",
        "why": "From where a run stands.",
        "rules": ["S13.1"],
        "config": asdict(config),
        "letters": plan.letters,
        "documents": docs,
        "tokens": [tokenizer.encode(doc) for doc in docs],
        "start": start | {"step": checkpoint.step},
        "steps": STEPS,
        "prompt": "",
        "count": NAMES,
        "uniforms": [rng.random() for _ in range(NAMES * (config.block_size + 1))],
    }
    config, snapshot = vectors.question(case)
    batch = next(microgpt.batches(config, tokenizer, docs, snapshot.step))[0]
    gradients = microgpt.loss_and_grads(microgpt.create(config, snapshot), batch)[1]
    zero = {name.split(".")[-1] for name, rows in gradients.items() if not any(map(any, rows))}
    case["zero_gradients"] = sorted(zero)
    plan_of_it = Plan(
        case["id"], "", "", "", config, names=NAMES, steps=STEPS, zeros=" ".join(zero)
    )
    return case | {"answer": vectors.solve(plan_of_it, case, tokenizer)}


def run_all(path: Path, names: Sequence[str], jobs: int) -> list[verify.Row]:
    """Rows of `verify`, from a run or a checkpoint."""
    case = case_of(run_folder.load(path))
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.json"
        cases.write_text(json.dumps([case]))
        return list(verify.run_all(names, jobs, str(cases)))
