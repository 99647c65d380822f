"""Verify a port again whenever its files change."""

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PAUSE = 0.5  # seconds between two looks

State = dict[Path, tuple[int, int] | None]


def files_of(command: str) -> list[Path]:
    """The files to watch: the program itself, and each argument that is a file."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    program = [Path(found) for word in words[:1] if (found := shutil.which(word))]
    return program + [Path(word) for word in words[1:] if os.path.isfile(word)]


def state_of(files: Sequence[Path]) -> State:
    """When each file was changed and how long it is; None for one that is not there now."""
    state: State = {}
    for path in files:
        try:
            status = path.stat()
            state[path] = status.st_mtime_ns, status.st_size
        except OSError:
            state[path] = None
    return state


def changes(
    files: Sequence[Path], before: State, pause: Callable[[], None]
) -> Iterator[list[Path]]:
    """Yields the files that have changed, each time that some have. A compiler may take a
    while to write one: waits until all files are there and stay the same for a pause."""
    while True:
        pause()
        now = state_of(files)
        if now == before:
            continue
        settled = False
        while not settled:
            pause()
            last, now = now, state_of(files)
            settled = now == last and None not in now.values()
        yield [path for path in files if now[path] != before[path]]
        before = now


def wait() -> None:
    time.sleep(PAUSE)
