"""Ask a version for its answer to a case, through the functions that all versions have (S14)."""

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
from microgpt_lab.verification.checks import FIRST_STEPS, Finding, compare, failure


def batches_of(shared: Any, config: Any, tokenizer: Any, case: Case) -> list[Any]:
    """The batches of a case. At the end of a run they are asked for without a limit that would
    hide a step too many."""
    start = case["start"]["step"]
    every = shared.batches(config, tokenizer, case["documents"], start)
    ends = start + case["steps"] == config.steps
    return list(islice(every, case["steps"] + ends))


def ask(module: Any, case: Case, dtype: str, options: dict[str, Any]) -> Iterator[tuple[str, Case]]:
    """Yield (check, answer so far) in the order of the checks; the caller can stop early."""
    shared = shared_by(module)
    config = shared.Config(**case["config"])
    tokenizer, start = shared.Tokenizer(case["letters"]), Snapshot(**case["start"])
    answer: Case = {}
    if "stream" in case:
        answer["stream"] = prepared(shared, case, config)
        yield "stream", answer
    if case["steps"]:
        state = module.create(config, start, dtype=dtype, **options)
        todo = batches_of(shared, config, tokenizer, case)
        batch = todo[0][0]
        answer["logits"] = [np.asarray(module.logits(state, t[:-1])).tolist() for t in batch]
        yield "logits", answer
        answer["loss"], answer["gradients"] = module.loss_and_grads(state, batch)
        yield "loss", answer
        yield "grads", answer
        if len(batch) > 1 and case["id"] != "scaled":  # whose gradients take 01 half a minute
            loss, gradients = module.loss_and_grads(state, other_order(case, batch))
            answer["order"] = {"loss": loss, "gradients": gradients}
            yield "order", answer
        # Train the same state: if loss_and_grads has changed it, the losses show that.
        losses: list[float] = []
        answer["after"], steps = {}, iter(todo)
        for until in (*vectors.KEPT, len(todo)):
            more = islice(steps, until - len(losses))
            losses += [float(loss) for loss in module.train(state, more)]
            if len(losses) == until and until in vectors.KEPT:
                answer["after"][str(until)] = module.export(state)._asdict()
        answer["losses"] = losses
        yield "losses", answer
        yield "moments", answer
        if len(losses) > FIRST_STEPS:
            yield "long run", answer
    state = module.create(config, start, dtype=dtype, **options)
    tokens = vectors.sample(module, state, config, tokenizer, case)
    answer["names"] = [tokenizer.decode(name) for name in tokens]
    yield "names", answer


def other_order(case: Case, batch: list[list[int]]) -> list[list[int]]:
    """The documents in reverse order, which has the same loss and gradients. In one case each of
    them twice: so has that, and the batch is larger than the recipe says."""
    return batch[::-1] * (2 if case["id"] == "ragged-batch" else 1)


def prepared(shared: Any, case: Case, config: Config) -> Case:
    """What the copy of 01 that a version uses computes from a case's data and seed: documents in
    order, letters, initial weights and the next ten uniforms (S1, S2.1, S3, S11)."""
    docs = case["stream"]["documents"]
    with tempfile.TemporaryDirectory() as folder:
        source = docs
        if docs != "names":
            source = str(Path(folder) / "documents.txt")
            text = "\n".join(f"\n  {doc}\t\r" for doc in docs)  # S1.1 removes the white space
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
    """Yield the findings of one case for one version, one by one. `answers`, if given,
    receives the answer under the case's id. A version that raises has failed."""
    try:
        for check, answer in ask(module, case, dtype, options or {}):
            if answers is not None:
                answers[case["id"]] = answer
            finding = compare(case, answer, check, dtype)
            if finding:
                yield finding
    except Exception as e:
        text = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        yield failure(case["id"], "error", "it raised", text)
