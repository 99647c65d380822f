"""`microgpt export`: a checkpoint's numbers for other programs, and back.

Weights alone, or with both moments. safetensors is the checkpoint's own format and loads
wherever one does; npz has an array a tensor, under the same names, and the recipe as JSON in
`microgpt`; JSON has the same as nested lists, each number to its last digit.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from microgpt import InputError

import numpy as np

from microgpt_lab.base import files, json_text
from microgpt_lab.runs import checkpoints
from microgpt_lab.runs.checkpoints import Checkpoint

KINDS = (".json", ".npz", ".safetensors")


def export(checkpoint: Checkpoint, path: Path, moments: bool) -> None:
    """Write it in the format that the suffix names. Raises InputError."""
    if path.suffix not in KINDS:
        raise InputError(f"cannot export to {path.name!r}: it must end in {', '.join(KINDS)}")
    if path.exists():
        raise InputError(f"{str(path)!r} exists: give another name")
    if moments and not checkpoint.complete:
        raise InputError("it has weights alone, no moments: leave --moments out")
    checkpoint = replace(checkpoint, complete=moments)
    if path.suffix == ".safetensors":
        checkpoints.write(path, checkpoint)
    else:
        said = checkpoints.metadata(checkpoint)
        named = checkpoints.tensors(checkpoint.snapshot, moments)
        files.write(path, to_npz(said, named) if path.suffix == ".npz" else to_json(said, named))


def to_npz(said: dict[str, Any], named: dict[str, np.ndarray]) -> bytes:
    raw = io.BytesIO()
    np.savez(raw, microgpt=np.array(json.dumps(said)), **named)  # type: ignore[arg-type]
    return raw.getvalue()


def to_json(said: dict[str, Any], named: dict[str, np.ndarray]) -> str:
    del said["rng"]
    tensors = {name: array.tolist() for name, array in named.items()}
    return json_text.dump(said | {"tensors": tensors}) + "\n"
