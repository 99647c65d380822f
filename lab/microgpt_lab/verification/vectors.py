"""Golden vectors: the questions of all cases with 01's answers, as files in `spec/vectors/`.

`microgpt vectors` writes them, with 01 and no other version. They contain the initial weights
and the uniforms, so a port does not need Python's random generator.
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

from microgpt_lab.base import files
from microgpt_lab.base.json_text import dump
from microgpt_lab.base.trace import numbers, patched, recording
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification import covering
from microgpt_lab.verification.cases import PLANS, Case, CasePlan
from microgpt_lab.verification.projections import projected

FORMAT = "microgpt-vectors/1"
FOLDER = ROOT / "spec" / "vectors"
KEPT = (1, 2, 3, 20)  # the steps after which weights and moments are recorded

# ---------------------------------------------------------------- One case


def make(plan: CasePlan) -> Case:
    """Compute a case with 01: the question, then the answer."""
    case = without_answer(plan)
    answer = solve(case, inner=not plan.compact)
    return case | {"answer": compact(answer) if plan.compact else answer}


def without_answer(plan: CasePlan) -> Case:
    """The question of a case: recipe, documents, weights, moments and uniforms."""
    rng, docs = random.Random(plan.seed), plan.documents
    given = list(docs)
    if not plan.docs or plan.stream:
        rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    snapshot = start_of(plan, tokenizer, docs, rng)
    draws = plan.names * (plan.config.block_size + 1)
    uniforms = list(plan.uniforms) or [rng.random() for _ in range(draws)]
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
    return case


def start_of(
    plan: CasePlan, tokenizer: Tokenizer, docs: Sequence[str], rng: random.Random
) -> Snapshot:
    """Initial weights; or those of a run in progress, trained or with moments of any numbers."""
    snapshot = microgpt.initial(plan.config, tokenizer.vocab_size, rng)
    if plan.weights:
        return snapshot._replace(weights=made_for(plan.weights, snapshot.weights))
    if plan.trained:
        before = replace(plan.config, steps=max(plan.trained, plan.config.steps))
        snapshot = replay(before, snapshot, tokenizer, docs, plan.trained)
    elif plan.start:
        other = random.Random(f"moments of {plan.id}")  # the stream stands where S13.1 says
        m, v = (
            {
                name: [[rounded(other.gauss(0, 0.003) ** power) for _ in row] for row in rows]
                for name, rows in snapshot.weights.items()
            }
            for power in (1, 2)
        )
        snapshot = snapshot._replace(first_moment=m, second_moment=v)
    return snapshot._replace(step=plan.start)


def rounded(x: float) -> float:
    """Three digits: any moments will do, and these take little room in a file."""
    return float(f"{x:.3g}")


def made_for(kind: str, weights: dict[str, Any]) -> dict[str, Any]:
    """Weights with numbers that are exact, whatever the precision. flat: all logits 0.
    underflow: all letters' logits equal, and BOS's far below them. row-of-zeros: the first row
    of each mlp_fc1, so that its number reaches the ReLU as 0."""
    if kind == "row-of-zeros":
        return {
            name: [[0.0] * len(rows[0]), *rows[1:]] if name.endswith("mlp_fc1") else rows
            for name, rows in weights.items()
        }
    made = {name: [[0.0] * len(row) for row in rows] for name, rows in weights.items()}
    if kind == "underflow":
        made["wte"] = [[1.0] * len(row) for row in weights["wte"]]
        made["lm_head"] = [[1.0] * len(row) for row in weights["lm_head"]]
        made["lm_head"][-1] = [-1.0] * len(made["lm_head"][-1])
    return made


def compact(answer: Case) -> Case:
    """An answer with large tensors as projections, after the first and the last step."""
    logits = [projected(rows) for rows in answer["logits"]]
    gradients = {name: projected(rows) for name, rows in answer["gradients"].items()}
    last = max(map(int, answer["after"]))
    after = {
        step: {
            kind: {name: projected(rows) for name, rows in of_kind.items()}
            for kind, of_kind in state.items()
            if kind != "step"
        }
        for step, state in answer["after"].items()
        if int(step) in (1, last)
    }
    return answer | {"logits": logits, "gradients": gradients, "after": after}


def replay(
    config: Config,
    snapshot: Snapshot,
    tokenizer: Tokenizer,
    docs: Sequence[str],
    steps: int,
) -> Snapshot:
    """The snapshot after that many steps of 01."""
    state = microgpt.create(config, snapshot)
    for _ in microgpt.train(state, islice(microgpt.batches(config, tokenizer, docs), steps)):
        pass
    return microgpt.export(state)


def solve(case: Case, inner: bool = True) -> Case:
    """01's answer to a question, with the values inside the forward pass if `inner`. Raises
    ValueError if a gradient is all zero and the case does not say so."""
    config, start = question(case)
    tokenizer = Tokenizer(case["letters"])
    answer: Case = {}
    if case["steps"]:
        every = microgpt.batches(config, tokenizer, case["documents"], start.step)
        todo = list(islice(every, case["steps"]))
        answer |= (first_batch if inner else outside)(config, start, todo[0][0])
        refuse_zeros(case, answer["gradients"])
        state, losses, after = microgpt.create(config, start), [], {}
        for loss in microgpt.train(state, todo):
            losses.append(loss)
            if len(losses) in KEPT:
                after[str(len(losses))] = microgpt.export(state)._asdict()
        answer |= {"losses": losses, "after": after}
    state = microgpt.create(config, start)
    tokens = sample(microgpt, state, config, tokenizer, case)
    answer["sampled_tokens"] = tokens
    answer["names"] = [tokenizer.decode(name) for name in tokens]
    return answer


def refuse_zeros(case: Case, gradients: dict[str, Any]) -> None:
    """A gradient that is all zero proves nothing, so the case must list its weight."""
    zero = {name for name, rows in gradients.items() if not any(map(any, rows))}
    listed = {name for name in gradients if name.split(".")[-1] in case["zero_gradients"]}
    if zero != listed:
        raise ValueError(f"case {case['id']}: zero gradients {zero}, listed are {listed}")


def sample(
    module: Any,
    state: Any,
    config: Config,
    tokenizer: Tokenizer,
    case: Case,
) -> list[list[int]]:
    """The names that a version samples with a case's uniforms, each a list of tokens (S11)."""
    shared = getattr(module, "microgpt", module)
    drawn = iter(case["uniforms"])
    names = shared.generate(
        functools.partial(module.logits, state),
        config,
        tokenizer.bos,
        lambda: next(drawn),
        tokenizer.encode(case["prompt"])[1:-1],
    )
    return list(islice(names, case["count"]))


def question(case: Case) -> tuple[Config, Snapshot]:
    """The recipe and the snapshot that a case starts from."""
    return Config(**case["config"]), Snapshot(**case["start"])


# ---------------------------------------------------------------- The recorded forward pass


def first_batch(config: Config, start: Snapshot, batch: list[list[int]]) -> Case:
    """Logits, loss, all gradients and every named value of one batch, from 01's graph."""
    state = microgpt.create(config, start)
    documents: list[dict[str, list[Any]]] = []
    with recording(state, lambda: documents[-1]):
        inner = microgpt.forward

        def forward(config: Config, w: Any, token: int, position: int, cache: Any) -> Any:
            if position == 0:  # a new document
                documents.append({})
            return inner(config, w, token, position, cache)

        with patched(forward=forward):
            loss = microgpt.loss_and_backward(state, batch)
    names = list(documents[0])
    return {
        "logits": [numbers(document["logits"], "data") for document in documents],
        "loss": loss,
        "gradients": microgpt.to_rows(state, "grad"),
        "intermediates": [
            {
                "name": name,
                "value": [numbers(document[name], "data") for document in documents],
                "gradient": [numbers(document[name], "grad") for document in documents],
            }
            for name in names
        ],
    }


def outside(config: Config, start: Snapshot, batch: list[list[int]]) -> Case:
    """The same without the values inside, which take much memory in a large model."""
    state = microgpt.create(config, start)
    logits = [microgpt.logits(state, tokens[:-1]) for tokens in batch]
    loss, gradients = microgpt.loss_and_grads(state, batch)
    return {"logits": logits, "loss": loss, "gradients": gradients}


# ---------------------------------------------------------------- Files


def text(case: Case) -> str:
    """The content of a case's file."""
    return dump(case) + "\n"


def made_by() -> str:
    """The interpreter and processor: `sum`, `exp` and `log` depend on them in the last digit."""
    return f"CPython {'.'.join(platform.python_version_tuple()[:2])}, {platform.machine()}"


def write_vectors(folder: Path = FOLDER) -> list[Path]:
    """Compute all cases with 01 and write one file for each -> the files. They change together,
    after the last one is computed."""
    with files.failing_plainly(folder, "make"):
        folder.mkdir(parents=True, exist_ok=True)
    plans = [*PLANS, *covering.plans()]
    made = {folder / f"{plan.id}.json": text(make(plan)) for plan in plans}
    files.write_together(made)
    return list(made)


# A variant is the same program run in another way, and often compiles again for each recipe.
# These cases together ask for every check, and vary each field that `create` reads.
FOR_VARIANTS = ("unlike-recipes", "seed")


def vectors_for(variant: str, dtype: str = "") -> list[Case]:
    """The cases for a variant of a version; all cases for the version itself, variant "". Of a
    version with two dtypes each takes half of the cases that cover all pairs, so that the dtype
    is one more factor: every level of every factor meets both. A variant's few cases are asked in
    both, because each of them has checks that the other lacks."""
    if variant:
        return [case for case in read_vectors() if case["id"] in FOR_VARIANTS]
    found = read_vectors()
    return [case for case in found if not dtype or covering.dtype_of(case["id"]) in ("", dtype)]


def read_vectors(folder: Path = FOLDER) -> list[Case]:
    """All cases: those of PLANS in their order, then those that cover all pairs. Raises
    InputError if one cannot be read."""
    paths = [folder / f"{plan.id}.json" for plan in PLANS]
    paths += sorted(folder.glob("pairs-*.json"))
    try:
        return [json.loads(path.read_text("utf-8")) for path in paths]
    except (OSError, ValueError) as e:
        raise microgpt.InputError(
            f"cannot read the golden vectors: {e}: microgpt vectors makes them"
        ) from None
