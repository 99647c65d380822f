"""Read a case from a file that somebody gave: every key and type by a schema, then what the keys
say together. What is wrong is an InputError of one line that names the file, the key and the
value, so a case that was read can be asked."""

import json
from pathlib import Path
from typing import Annotated, Any

import microgpt
from microgpt import Config, InputError

import msgspec

from microgpt_lab.base import files, schema
from microgpt_lab.runs.checkpoints import Numbers
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.projections import COUNT

FEWEST_UNIFORMS = 10  # the check `stream` compares so many

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Uniform = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Matrix = list[list[float]]


class Projection(schema.Schema, frozen=True):
    """What stands for a large tensor."""

    shape: Annotated[list[Whole], msgspec.Meta(min_length=2, max_length=2)]
    norm: Annotated[float, msgspec.Meta(ge=0)]
    projections: Annotated[list[float], msgspec.Meta(min_length=COUNT, max_length=COUNT)]


Tensor = Matrix | Projection


class Start(schema.Schema, frozen=True):
    weights: dict[str, Matrix]
    first_moment: dict[str, Matrix]
    second_moment: dict[str, Matrix]
    step: Whole


class After(schema.Schema, frozen=True):
    weights: dict[str, Tensor]
    first_moment: dict[str, Tensor]
    second_moment: dict[str, Tensor]
    step: Whole = 0


class Inner(schema.Schema, frozen=True):
    """A named value inside the forward pass: numbers, nested in any way."""

    name: str
    value: list[Any]
    gradient: list[Any]


class Answer(schema.Schema, frozen=True):
    sampled_tokens: list[list[Whole]]
    names: list[str]
    logits: list[Tensor] = msgspec.field(default_factory=list)
    loss: float = 0.0
    gradients: dict[str, Tensor] = msgspec.field(default_factory=dict)
    intermediates: list[Inner] = msgspec.field(default_factory=list)
    losses: list[float] = msgspec.field(default_factory=list)
    after: dict[Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,8}$")], After] = msgspec.field(
        default_factory=dict
    )


class Stream(schema.Schema, frozen=True):
    seed: Whole
    documents: list[Text] | str


class CaseFile(schema.Schema, frozen=True):
    """All keys of a case. `refuse_contradictions` checks what they say together."""

    format: str
    id: Text
    config: Numbers
    letters: Text
    documents: Annotated[list[Text], msgspec.Meta(min_length=1)]
    tokens: list[list[Whole]]
    start: Start
    steps: Whole
    prompt: str
    count: Whole
    uniforms: Annotated[list[Uniform], msgspec.Meta(min_length=FEWEST_UNIFORMS)]
    answer: Answer
    why: str = ""
    made_by: str = ""
    rules: list[str] = msgspec.field(default_factory=list)
    zero_gradients: list[str] = msgspec.field(default_factory=list)
    stream: Stream | msgspec.UnsetType = msgspec.UNSET


def read_case(path: Path) -> Case:
    """A case from a file. Raises InputError."""
    raw, where = files.read(path), f"case {str(path)!r}"
    found = schema.decode(raw, CaseFile, where)
    try:
        refuse_contradictions(found)
    except InputError as e:
        raise InputError(f"{where}: {e}") from None
    return dict(json.loads(raw))


def refuse_contradictions(case: CaseFile) -> None:
    """Raises InputError if two keys do not fit each other."""
    config = Config(**msgspec.structs.asdict(case.config))
    if list(case.letters) != sorted(set(case.letters)):
        said = schema.shorten(case.letters)
        raise InputError(f"letters is {said}: each must stand once, in sorted order")
    refuse_documents(case)
    refuse_start(case, config)
    limit = config.steps - case.start.step
    if case.steps > limit:
        raise InputError(f"steps is {case.steps}: from start.step on, config.steps leaves {limit}")
    if len(case.prompt) >= config.block_size:
        raise InputError(f"prompt is {schema.shorten(case.prompt)}: it fills the block")
    needed = case.count * config.block_size
    if len(case.uniforms) < needed:
        has = len(case.uniforms)
        raise InputError(f"uniforms is a list of {has}: count and block_size need {needed}")
    refuse_answer(case)


def refuse_documents(case: CaseFile) -> None:
    known, tokenizer = set(case.letters), microgpt.Tokenizer(case.letters)
    for i, text in enumerate([*case.documents, case.prompt]):
        if unknown := sorted(set(text) - known):
            name = f"documents[{i}]" if i < len(case.documents) else "prompt"
            raise InputError(f"{name} has {schema.shorten(unknown[0])}: letters does not have it")
    if case.tokens != [tokenizer.encode(document) for document in case.documents]:
        said = schema.shorten(case.tokens)
        raise InputError(f"tokens is {said}: it must be the documents, encoded by S2")


def refuse_start(case: CaseFile, config: Config) -> None:
    """Raises InputError unless weights and moments have the recipe's names and shapes."""
    table = microgpt.shapes(config, len(case.letters) + 1)
    for part in ("weights", "first_moment", "second_moment"):
        given = getattr(case.start, part)
        if odd := sorted(given.keys() ^ table.keys()):
            what = "is missing" if odd[0] in table else "does not belong to its recipe"
            raise InputError(f"start.{part}.{schema.shorten(odd[0])[1:-1]} {what}")
        for name, rows in given.items():
            height, width, _ = table[name]
            if len(rows) != height or any(len(row) != width for row in rows):
                raise InputError(
                    f"start.{part}.{name} is {schema.shorten(rows)}: it must have {height} rows "
                    f"of {width} numbers"
                )


def refuse_answer(case: CaseFile) -> None:
    """Raises InputError unless the answer has what the question asks for."""
    answer, trained = case.answer, bool(case.steps)
    lengths = {
        "losses": (len(answer.losses), case.steps),
        "names": (len(answer.names), case.count),
        "sampled_tokens": (len(answer.sampled_tokens), case.count),
        "logits": (len(answer.logits), min(case.config.batch_size * trained, len(answer.logits))),
    }
    for name, (has, needs) in lengths.items():
        if has != needs:
            raise InputError(f"answer.{name} is a list of {has}: the case asks for {needs}")
    if trained and not (answer.logits and answer.gradients and answer.after):
        lacks = next(n for n in ("logits", "gradients", "after") if not getattr(answer, n))
        raise InputError(f"answer.{lacks} is missing: the case has {case.steps} steps")
    if any(int(step) > case.steps for step in answer.after):
        raise InputError(f"answer.after has steps beyond the {case.steps} of the case")
