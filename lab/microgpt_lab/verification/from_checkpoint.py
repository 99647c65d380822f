"""Check versions against 01 from a checkpoint of a run, whichever version wrote it."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from microgpt import Config

from microgpt_lab.runs import documents, run_folder
from microgpt_lab.runs.checkpoints import Checkpoint
from microgpt_lab.verification import random_cases, vectors, verify
from microgpt_lab.verification.cases import Case

STEPS = 20
BATCH = 4  # documents of a step at most: 01 has to take these steps too
NAMES = 20


def case_of(checkpoint: Checkpoint) -> Case:
    """A case that starts from a checkpoint, with 01's answer: the next 20 steps on the run's
    own documents, then names. Raises InputError if these documents cannot be read."""
    plan = checkpoint.plan
    config = replace(
        plan.config,
        steps=max(plan.config.steps, checkpoint.step + STEPS),  # also if the run has ended
        batch_size=min(plan.config.batch_size, BATCH),
    )
    docs = next_documents(checkpoint, config)
    rng = random.Random(plan.seed)
    case: Case = {
        "format": vectors.FORMAT,
        "id": f"step {checkpoint.step:,}",
        "why": "It starts from a run's checkpoint.",
        "rules": ["S13.1"],
        "config": asdict(config),
        "letters": plan.letters,
        "documents": docs,
        "tokens": [plan.tokenizer.encode(doc) for doc in docs],
        "start": start_of(checkpoint),
        "steps": STEPS,
        "prompt": "",
        "count": NAMES,
        "uniforms": [rng.random() for _ in range(NAMES * (config.block_size + 1))],
    }
    case["zero_gradients"] = random_cases.zero_gradients(case)
    return case | {"answer": vectors.solve(case)}


def next_documents(checkpoint: Checkpoint, config: Config) -> list[str]:
    """The documents of the next 20 steps, in such an order that step `checkpoint.step` of a
    run on these alone takes the same ones (S1.4)."""
    plan = checkpoint.plan
    found = documents.prepare(config, plan.data, plan.seed, plan.held_out, plan.digest)
    first = checkpoint.step * config.batch_size
    count = min(len(found.train), STEPS * config.batch_size)
    docs = [found.train[(first + i) % len(found.train)] for i in range(count)]
    return [docs[(i - first) % count] for i in range(count)]


def start_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint's snapshot as plain lists."""
    parts = checkpoint.snapshot._asdict()
    step = parts.pop("step")
    lists = {
        part: {name: rows.tolist() for name, rows in matrices.items()}
        for part, matrices in parts.items()
    }
    return lists | {"step": step}


def run_all(path: Path, names: Sequence[str], jobs: int) -> list[verify.VersionResult]:
    """The results of versions from a run's newest checkpoint, or from one checkpoint."""
    return verify.run_case(case_of(run_folder.load(path)), names, jobs)
