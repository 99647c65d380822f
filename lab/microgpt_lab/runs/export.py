"""`microgpt export`: a checkpoint's numbers for other programs.

Exports the weights alone, or the weights with both moments. A .safetensors file is itself a
checkpoint: commands that take a checkpoint can read it. An .npz file has one array for
each tensor, under the same names, and the recipe as JSON under `microgpt`. A .json file has the
same as nested lists, with every digit of each number.
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

SUFFIXES = (".json", ".npz", ".safetensors")


def export_checkpoint(checkpoint: Checkpoint, path: Path, moments: bool) -> None:
    """Write a new file in the format of its suffix. Raises InputError."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"cannot export to {str(path)!r}: it must end in {', '.join(SUFFIXES)}")
    if path.exists():
        raise InputError(f"{str(path)!r} exists: give another name")
    if moments and not checkpoint.complete:
        raise InputError("the checkpoint has weights alone, no moments: leave --moments out")
    files.ensure_writable(path)
    checkpoint = replace(checkpoint, complete=moments)
    if path.suffix == ".safetensors":
        checkpoints.write_checkpoint(path, checkpoint)
        return
    metadata = checkpoints.metadata(checkpoint)
    tensors = checkpoints.tensors(checkpoint.snapshot, moments)
    as_file = npz_file if path.suffix == ".npz" else json_file
    files.write(path, as_file(metadata, tensors))


def npz_file(metadata: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """The content of an .npz file."""
    raw = io.BytesIO()
    np.savez(raw, microgpt=np.array(json.dumps(metadata)), **tensors)  # type: ignore[arg-type]
    return raw.getvalue()


def json_file(metadata: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """The content of a .json file, without the random stream's 625 numbers."""
    without_rng = {key: value for key, value in metadata.items() if key != "rng"}
    lists = {name: array.tolist() for name, array in tensors.items()}
    return json_text.dump(without_rng | {"tensors": lists}) + "\n"
