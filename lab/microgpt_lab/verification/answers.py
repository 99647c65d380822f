"""What a version answers to a case, asked through the contract (SPEC S14)."""

import math
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from microgpt import Config, Snapshot

import numpy as np

from microgpt_lab.base.versions import shared_by
from microgpt_lab.verification import vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import Finding, compare


def ask(module: Any, case: Case, dtype: str, options: dict[str, Any]) -> Iterator[tuple[str, Case]]:
    """Put a case to a version through the contract; yields (check, answer so far) in the
    order of the ladder, so that whoever has seen enough can stop."""
    shared = shared_by(module)
    config = shared.Config(**case["config"])
    tokenizer, start = shared.Tokenizer(case["letters"]), Snapshot(**case["start"])
    answer: Case = {}
    if "stream" in case:
        answer["stream"] = draw(shared, case, config)
        yield "stream", answer
    if case["steps"]:
        state = module.create(config, start, dtype=dtype, **options)
        todo = list(shared.batches(config, tokenizer, case["documents"], start.step))
        batch = todo[0][0]
        answer["logits"] = [np.asarray(module.logits(state, t[:-1])).tolist() for t in batch]
        yield "logits", answer
        answer["loss"], answer["gradients"] = module.loss_and_grads(state, batch)
        yield "loss", answer
        yield "gradients", answer
        if len(batch) > 1:
            loss, gradients = module.loss_and_grads(state, batch[::-1])
            answer["permuted batch"] = {"loss": loss, "gradients": gradients}
            yield "permuted batch", answer
        # The same state goes on, so that loss_and_grads is seen not to have moved it.
        losses: list[float] = []
        answer["after"], steps = {}, iter(todo[: case["steps"]])
        for until in (*vectors.KEPT, case["steps"]):
            more = islice(steps, until - len(losses))
            losses += [float(loss) for loss in module.train(state, more)]
            if len(losses) == until and until in vectors.KEPT:
                answer["after"][str(until)] = module.export(state)._asdict()
        answer["losses"] = losses
        yield "losses", answer
        yield "moments", answer
        if len(losses) > 20:
            yield "long run", answer
    state = module.create(config, start, dtype=dtype, **options)
    tokens = vectors.sample(module, state, config, tokenizer, case, case["count"])
    answer["names"] = [tokenizer.decode(name) for name in tokens]
    yield "names", answer


def draw(shared: Any, case: Case, config: Config) -> Case:
    """What a version's copy of 01 makes of a case's data and seed: it reads, shuffles, finds
    the letters, draws the weights and goes on drawing (S1, S2.1, S3, S11)."""
    docs = case["stream"]["documents"]
    with tempfile.TemporaryDirectory() as folder:
        source = docs
        if docs != "names":
            source = str(Path(folder) / "documents.txt")
            text = "\n".join(f"\n  {doc}\t\r" for doc in docs)  # what no document keeps
            Path(source).write_bytes(text.encode())
        run = shared.prepare(config, source, case["stream"]["seed"], say=lambda *_: None)
    return {
        "shuffled": run.docs[: len(case["documents"])],
        "letters": run.tokenizer.letters,
        "weights": run.snapshot.weights,
        "uniforms": [run.rng.random() for _ in range(10)],
    }


def run_checks(
    module: Any,
    case: Case,
    dtype: str,
    options: dict[str, Any] | None = None,
    answers: dict[str, Case] | None = None,
) -> Iterator[Finding]:
    """All checks of one case for one version, as they are made; `answers` keeps what it
    said, by case."""
    try:
        for check, answer in ask(module, case, dtype, options or {}):
            if answers is not None:
                answers[case["id"]] = answer
            finding = compare(case, answer, check, dtype)
            if finding:
                yield finding
    except Exception as e:  # a version that raises has failed, whatever it raised
        text = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        yield Finding(case["id"], "error", False, math.inf, 0.0, "it raised", text)
