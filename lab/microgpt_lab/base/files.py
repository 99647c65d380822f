"""Write files atomically: after a crash or a power cut the old content or the new one is there,
never a part of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from microgpt import InputError


@contextmanager
def failing_plainly(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError inside the block (a full disk, a read-only folder) into an InputError that
    names the path: "cannot write 'x': No space left on device"."""
    try:
        yield
    except OSError as e:
        raise InputError(f"cannot {doing} {str(path)!r}: {e.strerror or e}") from None


def write(path: Path, content: bytes | str) -> None:
    """Write to a temporary file, sync it to the disk, rename it, sync the folder. Until the rename
    the old file stays as it was. Raises InputError."""
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
    """Sync a folder's entries to the disk. Without this a power cut may undo a rename."""
    if os.name == "nt":  # Windows cannot open a folder as a file
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
