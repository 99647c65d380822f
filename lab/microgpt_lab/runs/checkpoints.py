"""Checkpoints: everything that a run needs to continue, in any version, in one safetensors file.

The tensors are the weights, under the specification's names (S3.1), and both moments, under the
same names with the prefix `first_moment.` or `second_moment.`. The metadata in the header has one
entry, `microgpt`: JSON with the step, the recipe, the state of the random stream, the SHA-256 of
the data, and which version wrote it. Everything read is validated before use.
"""

import json
import random
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args

import microgpt
from microgpt import OPTIONS, Config, InputError, Snapshot

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from microgpt_lab.base import files, schema

FORMAT = "microgpt-checkpoint"
FORMAT_VERSION = 1  # a newer format is refused
MOST = 2**32  # bytes of a file
PREFIXES = {"weights": "", "first_moment": "first_moment.", "second_moment": "second_moment."}


@dataclass(frozen=True)
class RunPlan:
    """What stays the same during a whole run, in every version that takes part in it."""

    recipe: str
    config: Config
    seed: int
    data: str  # a file, a URL, makemore or names
    digest: str  # SHA-256 of the data
    letters: str  # the tokens 0, 1, …; BOS comes after them
    held_out: float  # the share of the distinct documents that is held out

    @property
    def tokenizer(self) -> Any:
        return microgpt.Tokenizer(self.letters)


@dataclass(frozen=True)
class Checkpoint:
    """A run after some number of steps."""

    plan: RunPlan
    snapshot: Snapshot
    rng: Any  # random.Random's getstate(), before the first sampled token (S13.1)
    version: str  # the version that took the last steps
    about: str = ""
    options: dict[str, Any] = field(default_factory=dict)  # the parameters of its create()
    complete: bool = True  # False: weights without moments, which is enough to sample from

    @property
    def step(self) -> int:
        return int(self.snapshot.step)

    def stream(self) -> random.Random:
        """A new random stream in the saved state."""
        rng = random.Random()
        rng.setstate(self.rng)
        return rng


def before_first_step(plan: RunPlan, rng: random.Random, version: str, **said: Any) -> Checkpoint:
    """The checkpoint at step 0: draws the initial weights (S3)."""
    snapshot = microgpt.initial(plan.config, len(plan.letters) + 1, rng)
    return Checkpoint(plan, snapshot, rng.getstate(), version, **said)


# ---------------------------------------------------------------- Writing


def arrays(rows: dict[str, Any]) -> dict[str, np.ndarray]:
    """Matrices as arrays: float32 stays float32, anything else becomes float64."""
    made = {name: np.ascontiguousarray(matrix) for name, matrix in rows.items()}
    return {k: a if a.dtype == np.float32 else a.astype(np.float64) for k, a in made.items()}


def tensors(snapshot: Snapshot, complete: bool = True) -> dict[str, np.ndarray]:
    """{name in the file: array} of the weights and, if complete, of both moments."""
    parts = PREFIXES if complete else {"weights": ""}
    return {
        prefix + name: array
        for part, prefix in parts.items()
        for name, array in arrays(getattr(snapshot, part)).items()
    }


def metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything in a checkpoint except the tensors, as JSON can hold it."""
    return {
        "format": f"{FORMAT}/{FORMAT_VERSION}",
        "step": checkpoint.step,
        "version": checkpoint.version,
        "about": checkpoint.about,
        "options": checkpoint.options,
        "complete": checkpoint.complete,
        **asdict(checkpoint.plan),
        "rng": checkpoint.rng,
    }


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the whole file or nothing. Raises InputError, also for a number that is not finite,
    because training cannot continue from it."""
    named = tensors(checkpoint.snapshot, checkpoint.complete)
    if bad := first_not_finite(named):
        raise InputError(f"{bad} after step {checkpoint.step:,}: try a lower --learning-rate")
    header = {"microgpt": json.dumps(metadata(checkpoint))}
    files.write(path, safetensors.numpy.save(named, header))


def first_not_finite(named: dict[str, np.ndarray]) -> str:
    """The first NaN or infinity, such as "wte has nan at [0][3]"; "" if all are finite."""
    for name, array in named.items():
        bad = np.argwhere(~np.isfinite(array))
        if bad.size:
            row, column = bad[0]
            return f"{name} has {array[row, column]} at [{row}][{column}]"
    return ""


# ---------------------------------------------------------------- The metadata


class Format(msgspec.Struct, frozen=True):
    """What is read first: it says whether the other keys are known."""

    format: str


def numbers_schema() -> Any:
    """Every number of a recipe, with its limits."""
    keys = []
    for f in fields(Config):
        low, high = OPTIONS[f.name].low, OPTIONS[f.name].high
        limits = msgspec.Meta(ge=low, le=high) if f.type in (int, float) else msgspec.Meta()
        keys.append((f.name, Annotated[str if get_args(f.type) else f.type, limits]))
    return msgspec.defstruct("Numbers", keys, bases=(schema.Schema,), frozen=True)


Numbers: Any = numbers_schema()
Word = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Words = Annotated[list[Word], msgspec.Meta(min_length=625, max_length=625)]


class Metadata(schema.Schema, frozen=True):
    """All keys of the metadata. `assemble` checks what two of them say together."""

    format: str
    step: Annotated[int, msgspec.Meta(ge=0)]
    version: str
    about: str
    options: dict[str, bool | int | float | str]
    complete: bool
    recipe: str
    config: Numbers
    seed: int
    data: str
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    letters: Annotated[str, msgspec.Meta(min_length=1)]
    held_out: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    rng: tuple[int, Words, float | None]


# ---------------------------------------------------------------- Reading


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and validate a file. Raises InputError with one line for whatever is wrong with it."""
    raw = files.read(path, MOST)
    try:
        named = {name: np.array(x) for name, x in safetensors.numpy.load(raw).items()}
        header = json.loads(raw[8 : 8 + header_length(raw)]).get("__metadata__", {})
    except safetensors.SafetensorError:
        what = "is cut short" if is_cut_short(raw) else "is not a safetensors file"
        raise InputError(f"{path} {what}") from None
    except KeyError as e:  # a type that NumPy does not have
        raise InputError(f"{path} has tensors of type {e}: a checkpoint has F32 or F64") from None
    if "microgpt" not in header:
        raise InputError(f"{path} is a safetensors file, but not a checkpoint of microgpt")
    try:
        return from_text(path, header["microgpt"], named)
    except InputError as e:
        raise InputError(str(e) if str(path) in str(e) else f"{path}: {e}") from None


def header_length(raw: bytes) -> int:
    """A safetensors file begins with the length of its JSON header, in eight bytes."""
    return int.from_bytes(raw[:8], "little")


def is_cut_short(raw: bytes) -> bool:
    """Whether these bytes are the beginning of a longer safetensors file."""
    length = header_length(raw)
    if len(raw) < 8 + length:
        return raw[8:9] in (b"{", b"")
    try:
        header = json.loads(raw[8 : 8 + length])
        ends = [x["data_offsets"][1] for name, x in header.items() if name != "__metadata__"]
        return bool(len(raw) < 8 + length + max(ends))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def from_text(path: Path, text: str, named: dict[str, np.ndarray]) -> Checkpoint:
    """A checkpoint from its metadata and tensors, after a check of the format's version."""
    raw, where = text.encode(), f"{path}, metadata"
    kind, _, number = schema.decode(raw, Format, where).format.partition("/")
    kind, number = (schema.shorten(text).strip('"') for text in (kind, number))
    if kind != FORMAT:
        raise InputError(f"{path} is a {kind}, not a {FORMAT}")
    if number != str(FORMAT_VERSION):
        raise InputError(
            f"{path} has format {number}, this microgpt reads up to {FORMAT_VERSION}: update it"
        )
    return assemble(schema.decode(raw, Metadata, where), named)


def assemble(record: Metadata, named: dict[str, np.ndarray]) -> Checkpoint:
    """A checkpoint from its metadata and tensors. Raises InputError if they contradict each
    other."""
    config = Config(**msgspec.structs.asdict(record.config))
    letters = record.letters
    if list(letters) != sorted(set(letters)):
        said = schema.shorten(letters)
        raise InputError(f"letters is {said}: each must stand once, in sorted order")
    plan = RunPlan(
        record.recipe, config, record.seed, record.data, record.digest, letters, record.held_out
    )
    if record.step > config.steps:
        raise InputError(f"step is {record.step}: the recipe has {config.steps} steps")
    refuse_misfits(plan, named, record.complete)
    version, internal, gauss = record.rng
    checkpoint = Checkpoint(
        plan,
        snapshot_of(plan, named, record.complete, record.step),
        (version, tuple(internal), gauss),
        record.version,
        record.about,
        record.options,
        record.complete,
    )
    try:
        checkpoint.stream()
    except ValueError as e:
        raise InputError(f"rng is no state of random.Random: {e}") from None
    return checkpoint


def snapshot_of(plan: RunPlan, named: dict[str, np.ndarray], complete: bool, step: int) -> Snapshot:
    """A snapshot from the tensors of a file; moments that the file does not have are zero."""
    weights = {name: named[name] for name in microgpt.shapes(plan.config, len(plan.letters) + 1)}
    moments = [
        {
            name: named[PREFIXES[moment] + name] if complete else np.zeros_like(w)
            for name, w in weights.items()
        }
        for moment in ("first_moment", "second_moment")
    ]
    return Snapshot(weights, *moments, step)


def refuse_misfits(plan: RunPlan, named: dict[str, np.ndarray], complete: bool) -> None:
    """Raises InputError for a tensor that is missing, unknown, of a wrong shape or type, or not
    finite."""
    table = microgpt.shapes(plan.config, len(plan.letters) + 1)
    prefixes = PREFIXES.values() if complete else [""]
    expected = {prefix + name: table[name][:2] for prefix in prefixes for name in table}
    for name, shape in expected.items():
        if name not in named:
            raise InputError(f"the tensor {name} is missing")
        found = named[name]
        if found.shape != shape:
            raise InputError(f"{name} has shape {found.shape}, its recipe makes it {shape}")
        if found.dtype not in (np.float32, np.float64):
            raise InputError(f"{name} is {found.dtype}: it must be float32 or float64")
    if unknown := sorted(named.keys() - expected.keys()):
        raise InputError(f"the tensor {unknown[0]} does not belong to its recipe")
    if bad := first_not_finite(named):
        raise InputError(f"{bad}: it must be finite")
