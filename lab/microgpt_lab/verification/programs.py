"""Programs with known mistakes: what they answer, and whether an answer is theirs.

A mistake is an edit of a version (a mutant), or a change of what the right program is given:
another value of a field, other documents, other weights. Mistakes can be combined.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import CodeType, ModuleType
from typing import Any

import microgpt
from microgpt import Config, Snapshot

import numpy as np

from microgpt_lab.base.versions import REFERENCE, Version, edited, find, shared_by
from microgpt_lab.verification import answers, checks, vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import FIRST_STEPS, TOLERANCES, Finding
from microgpt_lab.verification.mutants import Mutant

Rows = dict[str, Any]
TRAINING = ("losses", "moments", "long run")


Numbers = dict[str, np.ndarray]  # the numbers of a check, under a name for each tensor


@dataclass(frozen=True, eq=False)
class Answered:
    """A case, the answer to it, and the findings of all checks."""

    case: Case
    answer: Case
    findings: Sequence[Finding]
    dtype: str

    @property
    def failed(self) -> bool:
        return any(not f.passed for f in self.findings)

    @functools.cached_property
    def checks(self) -> list[str]:
        """The checks that a program can be compared in, in order."""
        known = {f.check for f in self.findings} - set(checks.INNER)
        return [check for check in checks.CHECKS if check in known]

    def has_failed(self, check: str) -> bool:
        return any(f.check == check and not f.passed for f in self.findings)

    @functools.cached_property
    def question(self) -> Case:
        """The case with arrays for the rows that it starts from."""
        start = self.case["start"]
        kinds = ("weights", "first_moment", "second_moment")
        return self.case | {"start": start | {kind: tables(start[kind]) for kind in kinds}}

    @functools.cached_property
    def given(self) -> dict[str, Numbers]:
        """The numbers of the answer by check; {} for a check whose numbers cannot be read."""
        parts = {check: functools.partial(given_numbers, self.answer, check) for check in GIVEN}
        after = self.answer.get("after")
        after = after if isinstance(after, dict) else {}
        for step in after:
            parts[f"after {step}"] = functools.partial(state_numbers, after[step])
        found: dict[str, Numbers] = {}
        for key, part in parts.items():
            try:
                found[key] = part()
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                found[key] = {}
        return found


GIVEN = ("logits", "loss", "grads", "order")


def tables(rows: Rows) -> dict[str, np.ndarray]:
    return {name: np.asarray(x, dtype=np.float64) for name, x in rows.items()}


def given_numbers(answer: Case, check: str) -> Numbers:
    """The numbers of an answer, or of a program, in one check."""
    if check == "logits":
        return tables({str(i): document for i, document in enumerate(answer["logits"])})
    if check == "loss":
        return tables({"loss": answer["loss"]})
    if check == "order":
        return tables({"loss": answer["order"]["loss"], **answer["order"]["gradients"]})
    return tables(answer["gradients"])


def state_numbers(state: Case) -> Numbers:
    kinds = ("weights", "first_moment", "second_moment")
    return {f"{kind} {name}": x for kind in kinds for name, x in tables(state[kind]).items()}


def close(got: Numbers, want: Numbers, tolerance: float) -> bool:
    """Whether all tensors of `want`, at least one, are in `got` too, within the tolerance."""

    def fits(g: np.ndarray, w: np.ndarray) -> bool:
        if g.shape != w.shape:
            return False
        if np.isnan(w).any():  # then the answer is NaN in the same places
            return bool((np.isnan(g) == np.isnan(w)).all())
        scale = float(np.linalg.norm(w)) or 1.0
        return bool(np.linalg.norm(g - w) <= tolerance * scale)  # False for NaN

    return bool(want) and got.keys() == want.keys() and all(fits(got[k], want[k]) for k in want)


@dataclass(frozen=True)
class Mistake:
    """A known mistake. Only its name and its rule tell it from another one."""

    id: str
    rule: str
    words: str
    mutant: Mutant | None = None
    # What the right program is asked instead of the case.
    question: Callable[[Case], Case] | None = None
    # How it reads the rows of each weight; its own inverse, for what it writes.
    rows: Callable[[Rows], Rows] | None = None
    reads_only: bool = False  # it writes the rows as it has them
    state: Callable[[Any], None] | None = None  # changes a new state of version 02
    seen: int = 0  # the documents of a batch that count; 0: all
    learned: int = 0  # the documents of a batch that have a gradient; 0: all
    rate: Callable[[float], float] | None = None  # changes the learning rate of each step
    fields: tuple[str, ...] = ()  # of the recipe, which it takes as another value

    @property
    def key(self) -> tuple[str, str, str]:
        return self.id, self.words, self.mutant.version if self.mutant else ""

    @property
    def inside(self) -> bool:
        """Whether it needs version 02: it changes what only 02 keeps in this form."""
        return bool(self.state or self.seen or self.learned)


# ---------------------------------------------------------------- Loading quickly


@functools.cache
def compiled(text: str, path: str) -> CodeType:
    return compile(text, path, "exec")


def pieces(source: str) -> list[str]:
    """A program's text, cut before each function and class at its left margin: a mutant
    differs in one or two pieces, so the others need not be compiled again."""
    found, before = [""], ""
    for line in source.splitlines(keepends=True):
        if line.startswith(("def ", "class ", "@")) and not before.startswith("@"):
            found.append("")
        found[-1] += line
        before = line
    return found


def load(name: str, path: Any, source: str, shared: ModuleType | None) -> ModuleType:
    """As versions.load_source, in pieces that are compiled once each."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("microgpt")
    sys.modules[name] = module
    if shared is not None:
        sys.modules["microgpt"] = shared
    try:
        for piece in pieces(source):
            exec(compiled(piece, str(path)), module.__dict__)
    finally:
        del sys.modules[name]
        if shared is not None and before is not None:
            sys.modules["microgpt"] = before
    return module


@functools.cache
def load_shared(edits: tuple[Mutant, ...]) -> Any:
    """01 with these edits."""
    if not edits:
        return microgpt
    path = find()[REFERENCE].path
    source = edited(path.read_text("utf-8"), [m.edit for m in edits], REFERENCE)
    return load("mutant_shared", path, source, None)


def load_mutants(version: Version, edits: Sequence[Mutant]) -> Any:
    """A version's module with these edits; those of 01 are in the copy that it imports.
    Raises InputError if an edit does not fit."""
    shared = load_shared(tuple(m for m in edits if m.version == REFERENCE))
    if version.name == REFERENCE:
        return shared
    own = [m.edit for m in edits if m.version == version.name]
    source = edited(version.path.read_text("utf-8"), own, version.name)
    return load(f"mutant_{version.name}", version.path, source, shared)


# ---------------------------------------------------------------- Programs


class Program:
    """A version with mistakes. Raises InputError if they cannot be combined."""

    def __init__(self, version: Version, mistakes: Sequence[Mistake]):
        self.mistakes = mistakes
        edits = [m.mutant for m in mistakes if m.mutant]
        self.module = load_mutants(version, edits)
        self.shared = shared_by(self.module)
        inside = [m for m in mistakes if m.inside]
        if inside and version.name == REFERENCE:
            raise microgpt.InputError(f"{inside[0].id} needs another version than 01")
        for mistake in inside:
            if mistake.seen or mistake.learned:
                limit_documents(self.module, mistake.seen, mistake.learned)

    def asked(self, case: Case) -> Case:
        """The case as this program understands it."""
        for mistake in self.mistakes:
            if mistake.question:
                case = mistake.question(case)
        return case

    def turned(self, rows: Rows, reading: bool = False) -> Rows:
        """The rows of all weights as this program reads or writes them."""
        for mistake in self.mistakes:
            if mistake.rows and (reading or not mistake.reads_only):
                rows = mistake.rows(rows)
        return rows

    def create(self, case: Case) -> Any:
        start = Snapshot(**case["start"])
        read = (self.turned(rows, reading=True) for rows in start[:3])
        start = Snapshot(*read, start.step)
        state = self.module.create(self.shared.Config(**case["config"]), start, dtype="float64")
        for mistake in self.mistakes:
            if mistake.state:
                mistake.state(state)
        return state

    def batches(self, case: Case) -> Iterator[Any]:
        tokenizer = self.shared.Tokenizer(case["letters"])
        config = self.shared.Config(**case["config"])
        found: Iterator[Any] = self.shared.batches(
            config, tokenizer, case["documents"], case["start"]["step"]
        )
        for mistake in self.mistakes:
            if mistake.rate:
                found = with_rate(mistake.rate, found)
        return found

    def numbers(self, question: Case, check: str) -> Numbers:
        """What it answers in one of the checks of a single batch."""
        asked = self.asked(question)
        state = self.create(asked)
        batch = next(self.batches(asked))[0]
        if check == "logits":
            made = [self.module.logits(state, tokens[:-1]) for tokens in batch]
            return given_numbers({"logits": made}, check)
        backwards = check == "order"
        batch = answers.other_order(question, batch) if backwards else batch
        loss, gradients = self.module.loss_and_grads(state, batch)
        answer = {"loss": loss, "gradients": self.turned(tables(gradients))}
        return given_numbers({"order": answer} if backwards else answer, check)

    def texts(self, case: Case, check: str) -> Case:
        """What it makes of the random stream, or the names that it samples: a case of which
        that is the right answer."""
        asked = self.asked(case)
        if check == "stream":
            made = answers.prepared(self.shared, asked, Config(**asked["config"]))
            return case | {
                "documents": made["shuffled"],
                "letters": made["letters"],
                "start": case["start"] | {"weights": made["weights"]},
                "uniforms": made["uniforms"],
            }
        tokenizer = self.shared.Tokenizer(asked["letters"])
        config = self.shared.Config(**asked["config"])
        names = vectors.sample(self.module, self.create(asked), config, tokenizer, asked)
        return case | {"answer": {"names": [tokenizer.decode(name) for name in names]}}

    def training(self, case: Case) -> Iterator[tuple[float, Callable[[], Snapshot]]]:
        """The loss of each step, and a function that gives the state after it."""
        asked = self.asked(case)
        state = self.create(asked)
        steps = islice(self.batches(asked), case["steps"])

        def export() -> Snapshot:
            *rows, step = self.module.export(state)
            return Snapshot(*map(self.turned, rows), step)

        for loss in self.module.train(state, steps):
            yield float(loss), export

    @np.errstate(all="ignore")
    def gives(self, reply: Answered, check: str) -> bool:
        """Whether this program gives the numbers of a reply in one check."""
        try:
            if check in TRAINING:
                return self.trains_like(reply, check)
            if check in GIVEN:
                mine = self.numbers(reply.question, check)
                return close(reply.given[check], mine, TOLERANCES[reply.dtype][check])
            texts = self.texts(reply.question, check)
            found = checks.compare(texts, reply.answer, check, reply.dtype)
        except Exception:  # a wrong program may raise
            return False
        return found is not None and found.passed

    def trains_like(self, reply: Answered, check: str) -> bool:
        """The same for training, which ends at the first difference."""
        given, last = reply.answer.get("losses"), reply.case["steps"]
        digits = reply.answer.get("digits")
        tolerance = TOLERANCES[reply.dtype][check]
        if not isinstance(given, list) or len(given) != last:
            return False
        steps = last if check == "long run" else min(last, FIRST_STEPS)
        for step, (loss, export) in enumerate(islice(self.training(reply.question), steps), 1):
            if check == "moments":
                kept = reply.given.get(f"after {step}", {})
                if step in vectors.KEPT and not close(
                    kept, state_numbers(export()._asdict()), tolerance
                ):
                    return False
            elif (step > FIRST_STEPS) == (check == "long run"):
                theirs = {"loss": np.array(float(given[step - 1]))}
                # losses as a port prints them: half a unit of the last digit may be missing
                half = 0.5 * 10.0**-digits if isinstance(digits, int) else 0.0
                allowed = tolerance + half / (abs(loss) or 1.0)
                if not close(theirs, {"loss": np.array(loss)}, allowed):
                    return False
        return True


def with_rate(change: Callable[[float], float], batches: Iterator[Any]) -> Iterator[Any]:
    """Batches with another learning rate."""
    return ((batch, change(rate)) for batch, rate in batches)


def limit_documents(module: Any, seen: int, learned: int) -> None:
    """Let version 02 take only the first documents of each batch, or learn from them only."""
    whole = module.loss_and_backward

    def loss_and_backward(state: Any, batch: list[list[int]]) -> float:
        batch = batch[:seen] if seen else batch
        loss = float(whole(state, batch))
        if 0 < learned < len(batch):
            first = batch[:learned]
            whole(state, first)  # the mean over the targets of these; wanted: over all
            state.grads *= sum(len(x) - 1 for x in first) / sum(len(x) - 1 for x in batch)
        return loss

    module.loss_and_backward = loss_and_backward


def plain(value: Any) -> Any:
    """Arrays in nested dictionaries and lists -> nested lists."""
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def count_numbers(case: Case) -> int:
    """How many numbers the weights of a case have."""
    return sum(len(row) for rows in case["start"]["weights"].values() for row in rows)


def cost(reply: Answered, check: str, pure: bool = False) -> float:
    """About how many milliseconds version 02 takes to answer a check; `pure`: version 01."""
    config, case = reply.case["config"], reply.case
    size = count_numbers(case)
    tokens = min(config["block_size"], 8)
    document = 8e-4 * size * tokens if pure else 0.3 * config["n_layer"] + 1e-6 * size * tokens
    if check == "stream":
        named = case.get("stream", {}).get("documents") == "names"
        return 300.0 if named else size * 1e-3
    if check == "names":
        return float(case["count"] * tokens * document)
    if check in TRAINING:
        steps = case["steps"] if check == "long run" else min(case["steps"], 20)
        return float(steps * config["batch_size"] * document)
    return float(config["batch_size"] * document)
