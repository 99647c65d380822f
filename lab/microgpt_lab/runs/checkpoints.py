"""A checkpoint: all that a run needs to go on, in any version, in one safetensors file.

Tensors: the weights under the specification's names (S3.1), both moments under
`first_moment.` and `second_moment.` before these names. The header's metadata has one entry,
`microgpt`, JSON with the step, the recipe, the state of the random stream, the data's digest
and who wrote it. What is read is checked before anything is done with it.
"""

import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, InputError, Snapshot

import numpy as np
import safetensors
import safetensors.numpy

from microgpt_lab.base import files

FORMAT = "microgpt-checkpoint"
NUMBER = 1  # of the format; a reader refuses what is newer
PARTS = {"weights": "", "first_moment": "first_moment.", "second_moment": "second_moment."}


@dataclass(frozen=True)
class Plan:
    """What a run is from its first step to its last, whichever version takes them."""

    recipe: str
    config: Config
    seed: int
    data: str  # a file, a URL, makemore or names
    digest: str
    letters: str  # the tokens 0, 1, …; BOS comes after them
    held_out: float  # the share of the distinct documents never seen in training

    @property
    def tokenizer(self) -> Any:
        return microgpt.Tokenizer(self.letters)


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands."""

    plan: Plan
    snapshot: Snapshot
    rng: Any  # random.Random's getstate(): stands before the first sampled token (S13.1)
    version: str  # that took the last steps
    about: str = ""
    options: dict[str, Any] = field(default_factory=dict)  # of its create()
    complete: bool = True  # False: weights alone, enough to sample from

    @property
    def step(self) -> int:
        return int(self.snapshot.step)

    def stream(self) -> random.Random:
        """The random stream, where it stood."""
        rng = random.Random()
        rng.setstate(self.rng)
        return rng


def first(plan: Plan, rng: random.Random, version: str, **said: Any) -> Checkpoint:
    """A run before its first step: draws the weights (S3)."""
    snapshot = microgpt.initial(plan.config, len(plan.letters) + 1, rng)
    return Checkpoint(plan, snapshot, rng.getstate(), version, **said)


# ---------------------------------------------------------------- Writing


def arrays(rows: dict[str, Any]) -> dict[str, np.ndarray]:
    """Matrices as arrays, each float32 or, if it is anything else, float64."""
    made = {name: np.ascontiguousarray(matrix) for name, matrix in rows.items()}
    return {k: a if a.dtype == np.float32 else a.astype(np.float64) for k, a in made.items()}


def tensors(snapshot: Snapshot, complete: bool = True) -> dict[str, np.ndarray]:
    """The file's tensors by name."""
    parts = PARTS if complete else {"weights": ""}
    return {
        prefix + name: array
        for part, prefix in parts.items()
        for name, array in arrays(getattr(snapshot, part)).items()
    }


def metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """All but the tensors, for JSON."""
    return {
        "format": f"{FORMAT}/{NUMBER}",
        "step": checkpoint.step,
        "version": checkpoint.version,
        "about": checkpoint.about,
        "options": checkpoint.options,
        "complete": checkpoint.complete,
        **asdict(checkpoint.plan),
        "rng": checkpoint.rng,
    }


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write it whole or not at all. Raises InputError, also where a number is not finite:
    such a state is no place to go on from."""
    named = tensors(checkpoint.snapshot, checkpoint.complete)
    if bad := not_finite(named):
        raise InputError(f"{bad} after step {checkpoint.step:,}: try a lower --learning-rate")
    said = {"microgpt": json.dumps(metadata(checkpoint))}
    files.write(path, safetensors.numpy.save(named, said))


def not_finite(named: dict[str, np.ndarray]) -> str:
    """The first tensor that holds NaN or infinity, in words; "" if none does."""
    for name, array in named.items():
        bad = np.argwhere(~np.isfinite(array))
        if bad.size:
            row, column = bad[0]
            return f"{name} has {array[row, column]} at [{row}][{column}]"
    return ""


# ---------------------------------------------------------------- Reading


def read(path: Path) -> Checkpoint:
    """Raises InputError with one line for whatever is wrong with the file."""
    with files.failing_plainly(path, "read"):
        raw = path.read_bytes()
    try:
        named = {name: np.array(x) for name, x in safetensors.numpy.load(raw).items()}
        length = int.from_bytes(raw[:8], "little")
        said = json.loads(raw[8 : 8 + length]).get("__metadata__", {})
    except safetensors.SafetensorError:
        what = "is cut short" if is_cut(raw) else "is not a safetensors file"
        raise InputError(f"{path} {what}") from None
    except KeyError as e:  # a type that NumPy does not have
        raise InputError(f"{path} has tensors of type {e}: a checkpoint has F32 or F64") from None
    if "microgpt" not in said:
        raise InputError(f"{path} is a safetensors file, but no checkpoint of microgpt")
    try:
        record = json.loads(said["microgpt"])
        kind, _, number = record["format"].partition("/")
        if kind != FORMAT:
            raise InputError(f"{path} is a {kind}, not a {FORMAT}")
        if int(number) > NUMBER:
            raise InputError(
                f"{path} has format {number}, this microgpt reads up to {NUMBER}: update it"
            )
        return assemble(record, named)
    except InputError as e:
        raise InputError(str(e) if str(path) in str(e) else f"{path}: {e}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        what = f"{type(e).__name__}: {e}"
        raise InputError(f"{path} is damaged: its metadata cannot be read ({what})") from None


def is_cut(raw: bytes) -> bool:
    """Whether it begins as a safetensors file does, and ends before one would."""
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 + length:
        return raw[8:9] in (b"{", b"")
    try:
        header = json.loads(raw[8 : 8 + length])
        ends = [x["data_offsets"][1] for name, x in header.items() if name != "__metadata__"]
        return bool(len(raw) < 8 + length + max(ends))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def assemble(record: dict[str, Any], named: dict[str, np.ndarray]) -> Checkpoint:
    """A checkpoint from what a file says, if all of it fits together."""
    plan = Plan(
        record["recipe"],
        Config(**record["config"]),
        int(record["seed"]),
        str(record["data"]),
        str(record["digest"]),
        str(record["letters"]),
        float(record["held_out"]),
    )
    step, complete = int(record["step"]), bool(record["complete"])
    if not 0 <= step <= plan.config.steps:
        raise InputError(f"step is {step}: the recipe has {plan.config.steps} steps")
    refuse_misfits(plan, named, complete)
    weights = {name: named[name] for name in microgpt.shapes(plan.config, len(plan.letters) + 1)}
    moments = [
        {
            name: named[prefix + name] if complete else np.zeros_like(w)
            for name, w in weights.items()
        }
        for prefix in ("first_moment.", "second_moment.")
    ]
    version, internal, gauss = record["rng"]
    checkpoint = Checkpoint(
        plan,
        Snapshot(weights, *moments, step),
        (version, tuple(internal), gauss),
        str(record["version"]),
        str(record["about"]),
        dict(record["options"]),
        complete,
    )
    checkpoint.stream()  # raises if that is no state of it
    return checkpoint


def refuse_misfits(plan: Plan, named: dict[str, np.ndarray], complete: bool) -> None:
    """A tensor that is missing, not expected, of another shape or type, or not finite."""
    table = microgpt.shapes(plan.config, len(plan.letters) + 1)
    prefixes = PARTS.values() if complete else [""]
    expected = {prefix + name: table[name][:2] for prefix in prefixes for name in table}
    for name, shape in expected.items():
        if name not in named:
            raise InputError(f"the tensor {name} is missing")
        found = named[name]
        if found.shape != shape:
            text = f"{name} has shape {found.shape}, its recipe makes it {shape}"
            raise InputError(text)
        if found.dtype not in (np.float32, np.float64):
            raise InputError(f"{name} is {found.dtype}: it must be float32 or float64")
    if extra := sorted(named.keys() - expected.keys()):
        raise InputError(f"the tensor {extra[0]} is none of its recipe's")
    if bad := not_finite(named):
        raise InputError(f"{bad}: it must be finite")
