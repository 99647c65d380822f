"""Golden vectors: what 01 computes in small cases, each chosen by the mistake it catches.

`microgpt vectors` writes them to `spec/vectors/`. They carry their initial weights and their
uniforms inside, so that a port needs no random generator of Python's. Only 01 makes them.
"""

import functools
import json
import platform
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, Snapshot, Tokenizer

from microgpt_lab.base.json_text import dump
from microgpt_lab.base.trace import numbers, patched, recording
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification.cases import PLANS, Case, Plan

FORMAT = "microgpt-vectors/1"
FOLDER = ROOT / "spec" / "vectors"
KEPT = (1, 2, 3, 20)  # the steps after which weights and moments are kept

# ---------------------------------------------------------------- One case


def make(plan: Plan) -> Case:
    """Compute a case with 01: the question, then the answer in order of execution."""
    rng = random.Random(plan.seed)
    docs = plan.docs.split() or microgpt.load_documents()
    given = list(docs)
    if not plan.docs or plan.stream:
        rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    snapshot = microgpt.initial(plan.config, tokenizer.vocab_size, rng)
    if plan.trained:
        before = replace(plan.config, steps=max(plan.trained, plan.config.steps))
        snapshot = replay(before, snapshot, tokenizer, docs, plan.trained)
        snapshot = snapshot._replace(step=plan.start)
    uniforms = [rng.random() for _ in range(plan.names * (plan.config.block_size + 1))]
    used = docs if plan.docs else docs[: max(plan.steps, 1) * plan.config.batch_size]
    case: Case = {
        "format": FORMAT,
        "id": plan.id,
        "why": plan.why,
        "made_by": made_by(),
        "rules": plan.rules.split(),
        "zero_gradients": plan.zeros.split(),
        "config": asdict(plan.config),
        "letters": "".join(tokenizer.letters),
        "documents": used,
        "tokens": [tokenizer.encode(doc) for doc in used],
        "start": snapshot._asdict(),
        "steps": min(plan.steps, plan.config.steps - plan.start),
        "prompt": plan.prompt,
        "count": plan.names,
        "uniforms": uniforms,
    }
    if plan.stream and plan.docs:
        case["stream"] = {"seed": plan.seed, "documents": given}
    elif plan.stream:
        case["stream"] = {"seed": plan.seed, "documents": "names"}
    return case | {"answer": solve(plan, case, tokenizer)}


def replay(
    config: Config,
    snapshot: Snapshot,
    tokenizer: Tokenizer,
    docs: Sequence[str],
    steps: int,
) -> Snapshot:
    state = microgpt.create(config, snapshot)
    for _ in microgpt.train(state, islice(microgpt.batches(config, tokenizer, docs), steps)):
        pass
    return microgpt.export(state)


def solve(plan: Plan, case: Case, tokenizer: Tokenizer) -> Case:
    """What 01 answers to a case."""
    config, start = plan.config, Snapshot(**case["start"])
    answer: Case = {}
    if case["steps"]:
        todo = list(microgpt.batches(config, tokenizer, case["documents"], start.step))
        answer |= first_batch(config, start, todo[0][0])
        refuse_zeros(plan, answer["gradients"])
        state, losses, after = microgpt.create(config, start), [], {}
        for loss in microgpt.train(state, islice(todo, case["steps"])):
            losses.append(loss)
            if len(losses) in KEPT:
                after[str(len(losses))] = microgpt.export(state)._asdict()
        answer |= {"losses": losses, "after": after}
    state = microgpt.create(config, start)
    tokens = sample(microgpt, state, config, tokenizer, case, plan.names)
    answer["sampled_tokens"] = tokens
    answer["names"] = [tokenizer.decode(name) for name in tokens]
    return answer


def refuse_zeros(plan: Plan, gradients: dict[str, Any]) -> None:
    """A gradient that is all zero proves nothing, so that a case must own up to it."""
    zero = {name for name, rows in gradients.items() if not any(map(any, rows))}
    owned = {name for name in gradients if name.split(".")[-1] in plan.zeros.split()}
    if zero != owned:
        raise AssertionError(f"case {plan.id}: zero gradients {zero}, said {owned}")


def sample(
    module: Any,
    state: Any,
    config: Config,
    tokenizer: Tokenizer,
    case: Case,
    count: int,
) -> list[list[int]]:
    """Names that a version draws from a case's uniforms, each a list of tokens (S11)."""
    shared = getattr(module, "microgpt", module)
    drawn = iter(case["uniforms"])
    names = shared.generate(
        functools.partial(module.logits, state),
        config,
        tokenizer.bos,
        lambda: next(drawn),
        tokenizer.encode(case["prompt"])[1:-1],
    )
    return list(islice(names, count))


def question(case: Case) -> tuple[Config, Snapshot]:
    """The recipe and the state that a case starts from."""
    return Config(**case["config"]), Snapshot(**case["start"])


# ---------------------------------------------------------------- The forward pass, watched


def first_batch(config: Config, start: Snapshot, batch: list[list[int]]) -> Case:
    """Logits, loss, all gradients and every intermediate of one batch, from 01's graph."""
    state = microgpt.create(config, start)
    watched: list[dict[str, list[Any]]] = []
    with recording(state, lambda: watched[-1]):
        inner = microgpt.forward

        def forward(config: Config, w: Any, token: int, position: int, cache: Any) -> Any:
            if position == 0:
                watched.append({})
            return inner(config, w, token, position, cache)

        with patched(forward=forward):
            loss = microgpt.loss_and_backward(state, batch)
    names = list(watched[0])
    return {
        "logits": [numbers(document["logits"], "data") for document in watched],
        "loss": loss,
        "gradients": microgpt.to_rows(state, "grad"),
        "intermediates": [
            {
                "name": name,
                "value": [numbers(document[name], "data") for document in watched],
                "gradient": [numbers(document[name], "grad") for document in watched],
            }
            for name in names
        ],
    }


# ---------------------------------------------------------------- Files


def text(case: Case) -> str:
    return dump(case) + "\n"


def made_by() -> str:
    """What the last digits depend on: `sum`, `exp` and `log` are the interpreter's."""
    return f"CPython {'.'.join(platform.python_version_tuple()[:2])}, {platform.machine()}"


def write(folder: Path = FOLDER) -> list[Path]:
    """Compute all cases with 01 and write a file each; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for plan in PLANS:
        path = folder / f"{plan.id}.json"
        path.write_text(text(make(plan)))
        paths.append(path)
    return paths


# A variant is the same program run in another way, often compiled anew for each recipe: these
# two cases between them ask for every check.
FOR_VARIANTS = ("ragged-batch", "seed")


def read_for(variant: str) -> list[Case]:
    """The cases that a variant of a version is put to; all for the version itself."""
    return [case for case in read() if not variant or case["id"] in FOR_VARIANTS]


def read(folder: Path = FOLDER) -> list[Case]:
    """All cases, in the order of PLANS."""
    try:
        return [json.loads((folder / f"{plan.id}.json").read_text()) for plan in PLANS]
    except (OSError, ValueError) as e:
        raise microgpt.InputError(
            f"cannot read golden vectors: {e}; run: microgpt vectors"
        ) from None
