"""Files that are there whole or not at all, whatever kills the process or the machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from microgpt import InputError


@contextmanager
def failing_plainly(path: Path, doing: str = "write") -> Iterator[None]:
    """What the system refuses (a full disk, one that is read-only) as one line."""
    try:
        yield
    except OSError as e:
        raise InputError(f"cannot {doing} {str(path)!r}: {e.strerror or e}") from None


def write(path: Path, content: bytes | str) -> None:
    """A temporary name, synced, one rename, the folder synced: the file before it stays whole
    until this one is. Raises InputError."""
    raw = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with failing_plainly(path):
        try:
            with open(part, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """A rename lives in the folder: without this a power cut may undo it."""
    if os.name == "nt":  # there a folder cannot be opened
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
