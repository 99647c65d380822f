"""The folder of a run: created whole, locked while a process trains in it.

    run.json                       what the run is: recipe, seed, data, SHA-256 of the data
    log.jsonl                      one JSON object a line: losses, held-out losses, checkpoints
    checkpoints/step-000100.safetensors
    names.txt  loss.svg            written at the end
    lock                           locked by the process that trains

Each line of the log has `step` and one of these: `loss`; `held_out` with `names`, the number of
documents it was measured on; `checkpoint`, the name of a file that is now on the disk; `version`
and `about`, the version that trains from here on; `steps`, the new length of a run that was made
longer. The log is synced to the disk before a checkpoint
is written, so it never has fewer steps than the newest checkpoint. If it has more, `resume` cuts
them off.
"""

import difflib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import files
from microgpt_lab.runs import checkpoints, log_schema
from microgpt_lab.runs.checkpoints import Checkpoint

try:
    import fcntl
except ImportError:  # Windows has no fcntl: runs are not locked there
    fcntl = None  # type: ignore[assignment]

FOLDER = Path("runs")
STEP = re.compile(r"step-(\d+)\.safetensors")


@dataclass
class Run:
    """A run that is open for training: its folder is locked and its log can be written."""

    path: Path
    log: Any = None  # log.jsonl, open to append
    lock: Any = field(default=None, repr=False)  # the file stays open to keep the lock

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: Any) -> None:
        for file in (self.log, self.lock):
            with suppress(OSError):  # an error while writing was reported when it happened
                if file:
                    file.close()

    @property
    def is_finished(self) -> bool:
        """Whether all was done that comes after the last step: the names are written last."""
        return (self.path / "names.txt").exists()

    def write_records(self, records: Iterable[dict[str, Any]]) -> None:
        """Append records to the log, one a line."""
        self.write_lines(json.dumps(record) + "\n" for record in records)

    def write_lines(self, lines: Iterable[str]) -> None:
        """Append lines of JSON to the log and flush, so that other processes see them."""
        with files.failing_plainly(self.path / "log.jsonl"):
            self.log.writelines(lines)
            self.log.flush()

    def save(self, checkpoint: Checkpoint, keep: int) -> Path:
        """Sync the log, write the checkpoint, then record it in the log. Deletes checkpoints
        beyond `keep`. Raises InputError."""
        with files.failing_plainly(self.path / "log.jsonl"):
            os.fsync(self.log.fileno())
        path = checkpoint_path(self.path, checkpoint.step)
        checkpoints.write_checkpoint(path, checkpoint)
        self.write_records([{"step": checkpoint.step, "checkpoint": path.name}])
        delete_surplus(self.path, keep)
        return path

    def rewind(self, step: int) -> str:
        """Open the log and cut off what is after a step: those steps are taken again. Temporary
        files that a killed process left are deleted. -> what the log has lost, in words, or "" """
        for part in (*self.path.glob(".*.part"), *self.path.glob("checkpoints/.*.part")):
            part.unlink(missing_ok=True)
        there = (self.path / "log.jsonl").exists()
        said = repair_log(self.path, step) if there else f"{self.path} has no log.jsonl"
        self.log = open_log(self.path)
        kept = [(len(line), record) for line, record in log_lines(self.path, step)]
        with files.failing_plainly(self.path / "log.jsonl"):
            self.log.truncate(sum(length for length, _ in kept))
        if lost := step - len({record["step"] for _, record in kept if "loss" in record}):
            said = said or f"{self.path / 'log.jsonl'} is incomplete"
            said += f"; it lacks the losses of {lost:,} of {step:,} steps"
        return said


# ---------------------------------------------------------------- Checkpoints


def checkpoint_path(path: Path, step: int) -> Path:
    """The file of a run's checkpoint after that step."""
    return path / "checkpoints" / f"step-{step:06}.safetensors"


def step_of(path: Path) -> int:
    """The step in a checkpoint's file name; -1 for any other file."""
    found = STEP.fullmatch(path.name)
    return int(found[1]) if found else -1


def saved_checkpoints(path: Path) -> list[Path]:
    """The files of a run's checkpoints, ordered by step."""
    found = [p for p in path.glob("checkpoints/step-*.safetensors") if step_of(p) >= 0]
    return sorted(found, key=step_of)


def delete_surplus(path: Path, keep: int) -> None:
    """Delete checkpoints until `keep` are left: each time the one whose neighbours are closest
    together, never the first or the last. So those that are left span the run evenly."""
    found = saved_checkpoints(path)
    while len(found) > max(2, keep):
        gaps = [step_of(after) - step_of(before) for before, after in zip(found, found[2:])]
        with suppress(OSError):  # one checkpoint too many is no reason to stop training
            found[1 + gaps.index(min(gaps))].unlink()
        del found[1 + gaps.index(min(gaps))]


def last_checkpoint(path: Path) -> Checkpoint:
    """The last checkpoint of a run. Raises InputError; if the file is damaged, the message names
    the one before it."""
    found = saved_checkpoints(path)
    if not found:
        raise InputError(f"{path} has no checkpoints")
    try:
        last = checkpoints.read_checkpoint(found[-1])
        if last.step != step_of(found[-1]):
            right = checkpoint_path(path, last.step).name
            raise InputError(f"{found[-1]} holds step {last.step}: its name should be {right}")
        return last
    except InputError as e:
        before = f"; {found[-2].name} is before it: move the other away" if found[1:] else ""
        raise InputError(f"{e}{before}") from None


# ---------------------------------------------------------------- The log


def open_log(path: Path) -> Any:
    """A run's log.jsonl, open to append."""
    with files.failing_plainly(path / "log.jsonl"):
        return open(path / "log.jsonl", "a", encoding="utf-8")


def log_lines(path: Path, until: int | None = None) -> Iterable[tuple[bytes, dict[str, Any]]]:
    """(line, record) of the log, up to that step, without lines that are no record. The last line
    may be none: a process was killed while it wrote that line."""
    with files.failing_plainly(path / "log.jsonl", "read"), open(path / "log.jsonl", "rb") as log:
        for line in log:
            record = record_of(line)
            if record is None:
                continue
            if until is not None and record["step"] > until:
                return
            yield line, record


def record_of(line: bytes) -> dict[str, Any] | None:
    """The record in a whole line of the log; None if there is none."""
    try:
        return log_schema.parse(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def repair_log(path: Path, step: int) -> str:
    """If a line before the last one is no record, keep the damaged log beside, and write the log
    without such lines. -> what was done, in words; "" if nothing was. Raises InputError."""
    log = path / "log.jsonl"
    with files.failing_plainly(log, "read"):
        raw = log.read_bytes()
    lines = raw.splitlines(keepends=True)
    damaged = [i for i, line in enumerate(lines[:-1], 1) if record_of(line) is None]
    if not damaged:
        return ""
    kept = next(p for i in count(1) if not (p := path / f"log-damaged-{i}.jsonl").exists())
    files.write(kept, raw)
    files.write(log, b"".join(line for line, _ in log_lines(path, step)))
    return f"{log}, line {damaged[0]} is damaged: the log goes on without it, {kept.name} has all"


def read_log(path: Path) -> list[dict[str, Any]]:
    """All records of a run's log."""
    return [record for _, record in log_lines(path)]


# ---------------------------------------------------------------- Creating and locking


def refuse_taken(out: Path | None) -> None:
    """Raises InputError if a run's folder cannot get that name."""
    if out is None:
        return
    files.refuse_nameless(out)
    with files.failing_plainly(out, "make"):
        taken = out.exists() or out.is_symlink()
    if taken:
        is_run = (out / "run.json").exists()
        hint = f"microgpt resume {out} continues it" if is_run else "give --out another name"
        raise InputError(f"{str(out)!r} exists: {hint}")


def read_settings(path: Path) -> dict[str, Any]:
    """What run.json has; {} if it cannot be read: it is for people, and training needs none of
    it."""
    try:
        record = json.loads((path / "run.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def create(
    out: Path | None, checkpoint: Checkpoint, origin: Mapping[str, Any] | None = None
) -> Run:
    """A new run, open and locked. The folder is made under a temporary name and then renamed, so
    wherever a run's folder is, its first checkpoint is too. Without `out` it is
    `runs/<date>-<version>-<recipe>-<seed>`, with -2, -3 … if that exists. `origin` is added to
    run.json. Raises InputError."""
    plan = checkpoint.plan
    name = f"{date.today().isoformat()}-{checkpoint.version}-{plan.recipe}-{plan.seed}"
    target = out or FOLDER / files.name_from(name)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    run = Run(part)
    try:
        with files.failing_plainly(target, "make"):
            (part / "checkpoints").mkdir(parents=True)
            run.lock = lock_folder(part)
            record = {k: v for k, v in checkpoints.metadata(checkpoint).items() if k != "rng"}
            text = json.dumps(record | dict(origin or {}), indent=1) + "\n"
            files.write(part / "run.json", text)
            run.log = open_log(part)
            begins = {"step": 0, "version": checkpoint.version, "about": checkpoint.about}
            run.write_records([begins])
            run.save(checkpoint, keep=2)
            run.path = rename_to_free(part, target, numbered=out is None)
            files.sync_folder(run.path.parent)
    except BaseException:
        run.__exit__()
        shutil.rmtree(part, ignore_errors=True)
        raise
    return run


def rename_to_free(part: Path, target: Path, numbered: bool) -> Path:
    """Rename a finished folder to its name, or to the first free number after it. A rename is
    atomic: of two processes that want the same name, one gets it. Raises InputError if the name
    is taken and `numbered` is false."""
    number, free = 1, target
    while True:
        try:
            part.rename(free)
            return free
        except OSError as e:
            if e.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            if not numbered:
                refuse_taken(target)
                raise
        number += 1
        free = target.with_name(f"{target.name}-{number}")


def lock_folder(path: Path) -> Any:
    """Lock a folder and return the open lock file. The operating system releases the lock when
    the process ends, also when it is killed. Raises InputError if another process has it."""
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


def open_stopped(path: Path | None) -> Run:
    """Lock the folder of a run that no process trains in, to resume it. Raises InputError."""
    path = find_run(path)
    if not (path / "run.json").exists():
        raise InputError(f"{path} is not the folder of a run: microgpt train makes one")
    return Run(path, lock=lock_folder(path))


# ---------------------------------------------------------------- Finding


def find_run(path: Path | None) -> Path:
    """An existing file or folder, given by its path or by its name in runs/; None is the newest
    run. Raises InputError."""
    path = path or newest_run()
    if not path.exists() and (FOLDER / path).exists():
        path = FOLDER / path
    if not path.exists():
        raise InputError(f"there is no {str(path)!r}{similar_run(path)}")
    return path


def folder_of(path: Path) -> Path:
    """The run's folder that a checkpoint lies in; the folder itself for a folder."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def load(path: Path | None) -> Checkpoint:
    """A checkpoint from its file, or the last one of a run's folder; None is the newest run.
    Raises InputError."""
    path = find_run(path)
    return last_checkpoint(path) if path.is_dir() else checkpoints.read_checkpoint(path)


def all_runs() -> list[Path]:
    """The folders in runs/, ordered by when they were last trained in."""
    found = [path.parent for path in FOLDER.glob("*/log.jsonl")]
    return sorted(found, key=lambda path: (path / "log.jsonl").stat().st_mtime)


def newest_run() -> Path:
    """The run that was last trained in. Raises InputError if there is none."""
    found = all_runs()
    if not found:
        raise InputError(f"there is no run in {FOLDER}/: microgpt train makes one")
    return found[-1]


def similar_run(path: Path) -> str:
    """The end of an error message: the run with the most similar name, or nothing."""
    names = {run.name: run for run in all_runs()}
    close = difflib.get_close_matches(path.name, names, 1, 0.5)
    return f": did you mean {names[close[0]]}?" if close else ""
