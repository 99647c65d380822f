"""The rows of a bench: each a process that computes only while it is told to, and statistics
of what it took."""

import json
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from microgpt import InputError

from microgpt_lab.base import options
from microgpt_lab.base.versions import Version, pick, readable
from microgpt_lab.benchmark import lower_bound

TURN = 0.12  # seconds that a row computes in a round, at the least
PATIENCE = 120.0  # seconds without an answer after which a process is given up

Say = Callable[[str], None]


class Died(Exception):
    """A row's process, or its order, came to nothing: why, in one line."""


class Late(Died):
    """It did not answer in the time that it had."""


@dataclass
class Row:
    """A version, or one of its variants, with one recipe: what was measured, or why not."""

    version: Version
    variant: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.version.name} {self.variant}".strip()

    @property
    def dtype(self) -> str:
        return str(self.options["dtype"])

    @property
    def settings(self) -> dict[str, Any]:
        """For create(), as far as it knows them."""
        return {"threads": self.threads} | self.options

    def label(self) -> dict[str, Any]:
        """What tells it from the other rows of a record."""
        return {"version": self.version.name, "variant": self.variant, "dtype": self.dtype}


def rows(names: Sequence[str], dtype: str | None, device: str) -> list[Row]:
    """The versions asked for and their variants; in float32 where they have it, unless told
    otherwise."""
    if device not in (known := devices()):
        raise InputError(f"no device {device!r}{options.hint(device, known)}")
    if dtype not in (None, *lower_bound.SIZES):
        raise InputError(f"no dtype {dtype!r}{options.hint(str(dtype), lower_bound.SIZES)}")
    found = []
    for version in pick(names):
        fits = "float32" if "float32" in version.dtypes else version.dtypes[0]
        # what one framework calls cuda another calls gpu
        near = {"cuda": ("cuda", "gpu"), "gpu": ("gpu", "cuda")}.get(device, (device,))
        here = [name for name in near if name in version.devices]
        for variant, settings in {"": {}, **version.variants}.items():
            given = settings | {"dtype": dtype or fits, "device": here[0] if here else device}
            reason = version.missing or ""
            if dtype and dtype not in version.dtypes:
                reason = f"it has no {dtype}"
            elif not here:
                reason = f"it has no {device}"
            found.append(Row(version, variant, given, reason=reason))
    return found


def devices() -> list[str]:
    """All that some version computes on."""
    return sorted({name for version in readable() for name in version.devices})


# ---------------------------------------------------------------- Processes


class Child:
    """A row's process: takes an order at a time, and answers."""

    def __init__(self, row: Row) -> None:
        self.name, self.err = row.name, tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = row.version.environment
        environment |= dict.fromkeys(lower_bound.THREADS, str(row.settings["threads"]))
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "microgpt_lab.benchmark.worker",
                row.version.name, repr(time.time()),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, text=True,
            env=environment,
        )  # fmt: skip
        self.late = False
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(OSError):  # what it was told last, it did not hear
            self.process.stdin.close()
        try:  # hearing no more, it ends by itself, and ends its own helpers
            self.process.wait(0 if self.late else 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.err.close()

    def tell(self, do: str, **order: Any) -> None:
        assert self.process.stdin
        with suppress(OSError):  # it is gone: whoever asks for the answer hears why
            self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self.process.stdin.flush()

    def hear(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The answer to the last order. Raises Died."""
        try:
            line = self.answers.get(timeout=max(0.0, patience))
        except queue.Empty:
            self.late = True
            raise Late(f"no answer in {patience:.0f} s") from None
        if not line:
            status = self.process.wait()
            self.err.seek(0)
            said = self.err.read().strip().splitlines() or [f"status {status}"]
            raise Died(f"it ended with: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Died(answer["error"])
        return answer

    def ask(self, do: str, patience: float = PATIENCE, **order: Any) -> dict[str, Any]:
        self.tell(do, **order)
        return self.hear(patience)


# ---------------------------------------------------------------- Statistics


def spread(rounds: Sequence[float]) -> float:
    """How far from the median the farthest round lies, over the median. 0 for a single round,
    which says nothing of it."""
    middle = statistics.median(rounds)
    return max(abs(taken - middle) for taken in rounds) / middle
