"""Known mistakes with a number in them: only the first documents, layers that share their
weights, fields that are taken as another value; and what a program reads in another order.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.programs import Answered, Mistake, Rows
from microgpt_lab.verification.readings import FIELDS, Scene, laws, rates

SQUARE = ("attn_wq", "attn_wk", "attn_wv", "attn_wo")

# ---------------------------------------------------------------- Weights and documents


def first_documents(count: int, learned: bool) -> Mistake:
    what = "the gradient" if learned else "the loss"
    words = f"only the first {count} documents of a batch are in {what}"
    if learned:
        return Mistake(f"first-{count}-documents-learned", "S8.3", words, learned=count)
    return Mistake(f"first-{count}-documents-only", "S8.2", words, seen=count)


def layers_reused(count: int) -> Mistake:
    """Layers from that one on have the weights of the one before it."""

    def state(state: Any) -> None:
        for name in list(state.w):
            layer, _, short = name.rpartition(".")
            if layer and int(layer[5:]) >= count:
                state.w[name] = state.w[f"layer{count - 1}.{short}"]

    words = f"layers from layer{count} on have the weights of layer{count - 1}"
    return Mistake(f"layers-past-{count}-reused", "S4.3", words, state=state)


def layers_left_out(count: int) -> Mistake:
    def state(state: Any) -> None:
        state.config = replace(state.config, n_layer=count)

    words = f"only the first {count} layers are computed"
    return Mistake(f"layers-past-{count}-left-out", "S4.3", words, state=state)


def transposed(names: Sequence[str], reads_only: bool = False) -> Mistake:
    def rows(rows: Rows) -> Rows:
        return {
            name: np.ascontiguousarray(x.T) if name.split(".")[-1] in names else x
            for name, x in rows.items()
        }

    words = f"{', '.join(names)}: the rows are read as columns"
    words += ", and not turned back in the answer" if reads_only else ""
    key = "square-weights" if len(names) > 1 else names[0].replace("attn_", "")
    name = f"{key}-transposed"
    return Mistake(name, "S3.1", words, rows=rows, reads_only=reads_only)


def swapped(a: str, b: str) -> Mistake:
    def rows(rows: Rows) -> Rows:
        other = {name: name.replace(a, b) if a in name else name.replace(b, a) for name in rows}
        return {name: rows[other[name]] for name in rows}

    return Mistake(f"{a}-and-{b}-swapped", "S3.1", f"{a} and {b} are swapped", rows=rows)


def documents_from(offset: int, key: str, words: str) -> Mistake:
    def question(case: Case) -> Case:
        docs = case["documents"]
        first = offset % len(docs)
        return case | {"documents": docs[first:] + docs[:first]}

    return Mistake(key, "S1.4", words, question=question)


def other_documents(reply: Answered) -> Iterator[Mistake]:
    """Other documents than those of the first step: shifted, or in another order."""
    case = reply.case
    size, step = case["config"]["batch_size"], case["start"]["step"]
    count = len(case["documents"])
    yield documents_from(1, "documents-from-1", "documents are counted from 1, not from 0")
    if size > 1:
        yield documents_from(size, "steps-from-1", "the first step takes the second batch")

    def from_the_first(case: Case) -> Case:
        first = -case["start"]["step"] * case["config"]["batch_size"] % len(case["documents"])
        return case | {"documents": case["documents"][first:] + case["documents"][:first]}

    if step:
        words = "a run that continues begins again with the first documents"
        yield Mistake("documents-from-the-first-again", "S1.4", words, question=from_the_first)

    def sorted_documents(case: Case) -> Case:
        return case | {"documents": sorted(case["documents"])}

    def reversed_documents(case: Case) -> Case:
        return case | {"documents": case["documents"][::-1]}

    words = "the documents are taken in alphabetic order"
    yield Mistake("documents-sorted", "S1.4", words, question=sorted_documents)
    words = "the documents are taken from the last to the first"
    yield Mistake("documents-reversed", "S1.4", words, question=reversed_documents)
    for offset in range(2, min(count, 12)):
        words = f"the first step takes the documents from number {offset} on, counted from 0"
        yield documents_from(offset, f"documents-from-{offset}", words)


def structural(check: str, reply: Answered) -> Iterator[Mistake]:
    """The mistakes with a number that can explain a wrong check of a reply."""
    config = reply.case["config"]
    if check == "logits":
        for count in range(1, config["n_layer"]):
            yield layers_reused(count)
            yield layers_left_out(count)
        for names in (SQUARE, SQUARE[:3], *([name] for name in SQUARE)):
            yield transposed(names)
            yield transposed(names, reads_only=True)
        yield swapped("wte", "lm_head")
        yield swapped("attn_wq", "attn_wv")
        yield swapped("attn_wk", "attn_wv")
        yield from other_documents(reply)
    some = [*range(1, min(config["batch_size"], 9)), 16, 32, 64]
    for count in (x for x in some if x < config["batch_size"]):
        if check == "loss":
            yield first_documents(count, learned=False)
        elif check == "grads":
            yield first_documents(count, learned=True)


# ---------------------------------------------------------------- All of a check


def numbered(scene: Scene, known: Sequence[Mistake]) -> Iterator[tuple[Mistake, ...]]:
    """All mistakes with a number in them that may explain a check, beside the known ones;
    several together where each was read from the answers."""
    done = {field for mistake in known for field in mistake.fields}
    read: list[Mistake] = []
    if scene.check in ("losses", "moments"):
        steps = list(rates(scene.all))
        yield from ((mistake,) for mistake in steps)
        done |= {"learning_rate"} if steps else set()
    for field in FIELDS.get(scene.check, ()):
        if field not in done:
            found = list(laws(field, scene.readings(field)))
            read += [m for m in found[:1] if m.key not in {x.key for x in read}]
            yield from ((mistake,) for mistake in found)
    yield from (tuple(x) for n in range(2, len(read) + 1) for x in combinations(read, n))
    seen = {mistake.key for mistake in known}
    for reply in scene.failed:
        for mistake in structural(scene.check, reply):
            if mistake.key not in seen:
                seen.add(mistake.key)
                yield (mistake,)


@functools.cache
def check_of(rule: str) -> str:
    """The first check in which a mistake against a rule can show."""
    table = {
        "stream": ("S1.1", "S1.2", "S1.3", "S2.1", "S3.2", "S3.3", "S3.4"),
        "loss": ("S8.1", "S8.2"),
        "grads": ("S5.2", "S7.3", "S8.3"),
        "losses": ("S9", "S10", "S13"),
        "names": ("S11",),
    }
    return next(
        (c for c, rules in table.items() if rule in rules or rule.split(".")[0] in rules),
        "logits",
    )
