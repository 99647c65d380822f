"""A run's folder, which is there whole from its first moment, and whose it is.

    run.json                       what the run is: recipe, seed, data, digest
    log.jsonl                      a line a step, and what was measured, saved, taken over
    checkpoints/step-000100.safetensors
    names.txt  loss.svg            when it has ended
    lock                           held by the process that trains in it

A log's line has `step` and one of: `loss`; `held_out` and `names`, over how many; `checkpoint`,
which is then safe; `version` and `about`, who goes on from here. The log is synced before the
checkpoint, so that it never knows less; what it knows more is cut off on the way back.
"""

import difflib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files
from microgpt_lab.runs import checkpoints
from microgpt_lab.runs.checkpoints import Checkpoint

try:
    import fcntl
except ImportError:  # Windows: nobody stands at the door
    fcntl = None  # type: ignore[assignment]

FOLDER = Path("runs")
STEP = re.compile(r"step-(\d+)\.safetensors")


@dataclass
class Run:
    """An open run: locked, its log at hand."""

    path: Path
    log: Any = None  # a text file to append to
    lock: Any = field(default=None, repr=False)  # holding it open holds the lock

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: Any) -> None:
        for file in (self.log, self.lock):
            with suppress(OSError):  # what could not be written has been said
                if file:
                    file.close()

    def note(self, records: Iterable[dict[str, Any]]) -> None:
        """Add a line to the log for each record."""
        self.write(json.dumps(record) + "\n" for record in records)

    def write(self, lines: Iterable[str]) -> None:
        """Add lines to the log and let others see them."""
        with files.failing_plainly(self.path / "log.jsonl"):
            self.log.writelines(lines)
            self.log.flush()

    def save(self, checkpoint: Checkpoint, keep: int) -> Path:
        """Keep a checkpoint and say so in the log; the log first, and both on the disk."""
        with files.failing_plainly(self.path / "log.jsonl"):
            os.fsync(self.log.fileno())
        path = checkpoint_path(self.path, checkpoint.step)
        checkpoints.write(path, checkpoint)
        self.note([{"step": checkpoint.step, "checkpoint": path.name}])
        thin(self.path, keep)
        return path

    def rewind(self, step: int) -> None:
        """Cut off what the log knows beyond a step: those steps are taken again. What a killed
        process left half-written goes too."""
        for part in (*self.path.glob(".*.part"), *self.path.glob("checkpoints/.*.part")):
            part.unlink(missing_ok=True)
        self.log = open_log(self.path)
        whole = sum(len(line) for line, _ in lines(self.path, step))
        with files.failing_plainly(self.path / "log.jsonl"):
            self.log.truncate(whole)


def checkpoint_path(path: Path, step: int) -> Path:
    return path / "checkpoints" / f"step-{step:06}.safetensors"


def step_of(path: Path) -> int:
    found = STEP.fullmatch(path.name)
    return int(found[1]) if found else -1


def saved(path: Path) -> list[Path]:
    """The checkpoints in a run's folder, the first step first."""
    found = [p for p in path.glob("checkpoints/step-*.safetensors") if step_of(p) >= 0]
    return sorted(found, key=step_of)


def thin(path: Path, keep: int) -> None:
    """Drop checkpoints until `keep` are left: always the one whose neighbours are closest,
    never the first or the last, so that those left span the run."""
    found = saved(path)
    while len(found) > max(2, keep):
        gaps = [step_of(after) - step_of(before) for before, after in zip(found, found[2:])]
        with suppress(OSError):  # too many is no reason to stop
            found[1 + gaps.index(min(gaps))].unlink()
        del found[1 + gaps.index(min(gaps))]


def open_log(path: Path) -> Any:
    with files.failing_plainly(path / "log.jsonl"):
        return open(path / "log.jsonl", "a", encoding="utf-8")


def lines(path: Path, until: int | None = None) -> Iterable[tuple[bytes, dict[str, Any]]]:
    """The log's lines and what they say, up to that step; the first that was not written
    whole ends it."""
    with files.failing_plainly(path / "log.jsonl", "read"), open(path / "log.jsonl", "rb") as log:
        for line in log:
            try:
                record = json.loads(line)
                beyond = until is not None and record["step"] > until
            except (ValueError, KeyError, TypeError):
                return
            if beyond or not line.endswith(b"\n"):
                return
            yield line, record


def read_log(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in lines(path)]


# ---------------------------------------------------------------- Making and finding one


def create(out: Path | None, checkpoint: Checkpoint) -> Run:
    """Make the folder under another name and rename it: where it is, its first checkpoint is.
    Without `out`, `runs/<date>-<version>-<recipe>-<seed>`, with -2, -3 … if there is one."""
    plan = checkpoint.plan
    name = f"{date.today().isoformat()}-{checkpoint.version}-{plan.recipe}-{plan.seed}"
    target = out or FOLDER / name
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    run = Run(part)
    try:
        with files.failing_plainly(target, "make"):
            (part / "checkpoints").mkdir(parents=True)
            run.lock = take_lock(part)
            record = {k: v for k, v in checkpoints.metadata(checkpoint).items() if k != "rng"}
            files.write(part / "run.json", json.dumps(record, indent=1) + "\n")
            run.log = open_log(part)
            run.note([{"step": 0, "version": checkpoint.version, "about": checkpoint.about}])
            run.save(checkpoint, keep=2)
            run.path = claim(part, target, numbered=out is None)
            files.sync_folder(run.path.parent)
    except BaseException:
        run.__exit__()
        shutil.rmtree(part, ignore_errors=True)
        raise
    return run


def claim(part: Path, target: Path, numbered: bool) -> Path:
    """Give a finished folder its name; of two processes that want it, one gets it."""
    number, free = 1, target
    while True:
        try:
            part.rename(free)
            return free
        except OSError as e:
            if e.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        if not numbered:
            is_run = (target / "run.json").exists()
            hint = f"microgpt resume {target} goes on" if is_run else "give --out another name"
            raise InputError(f"{str(target)!r} exists: {hint}")
        number += 1
        free = target.with_name(f"{target.name}-{number}")


def take_lock(path: Path) -> Any:
    """Hold the folder until this process ends, however it ends."""
    with files.failing_plainly(path / "lock"):
        lock = open(path / "lock", "a+", encoding="utf-8")  # noqa: SIM115
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise InputError(f"{path} is in use: process {holder} trains in it") from None
    except OSError as e:
        raise InputError(f"cannot lock {str(path / 'lock')!r}: {e.strerror}") from None
    with files.failing_plainly(path / "lock"):
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    return lock


def take_over(path: Path | None) -> Run:
    """Lock a run that has stopped."""
    path = find(path)
    if not (path / "run.json").exists():
        raise InputError(f"{path} is no run's folder: microgpt train makes one")
    return Run(path, lock=take_lock(path))


def latest(path: Path) -> Checkpoint:
    """The last checkpoint of a run."""
    found = saved(path)
    if not found:
        raise InputError(f"{path} has no checkpoints")
    try:
        return checkpoints.read(found[-1])
    except InputError as e:
        before = f"; {found[-2].name} is before it: move the other away" if found[1:] else ""
        raise InputError(f"{e}{before}") from None


def find(path: Path | None) -> Path:
    """A file or a folder, also by its name in runs/; the newest run for None."""
    path = path or newest()
    if not path.exists() and (FOLDER / path).exists():
        path = FOLDER / path
    if not path.exists():
        raise InputError(f"there is no {str(path)!r}{near(path)}")
    return path


def folder_of(path: Path) -> Path:
    """The run's folder that a path is, or that a checkpoint lies in; else the file's folder."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def load(path: Path | None) -> Checkpoint:
    """A checkpoint's file, the last one of a run's folder, or that of the newest run."""
    path = find(path)
    return latest(path) if path.is_dir() else checkpoints.read(path)


def all_runs() -> list[Path]:
    """The runs in runs/, the one that was worked at last at the end."""
    found = [path.parent for path in FOLDER.glob("*/log.jsonl")]
    return sorted(found, key=lambda path: (path / "log.jsonl").stat().st_mtime)


def newest() -> Path:
    found = all_runs()
    if not found:
        raise InputError(f"there is no run in {FOLDER}/: microgpt train makes one")
    return found[-1]


def near(path: Path) -> str:
    """A hint at the run that was meant."""
    names = {run.name: run for run in all_runs()}
    close = difflib.get_close_matches(path.name, names, 1, 0.5)
    return f": did you mean {names[close[0]]}?" if close else ""
