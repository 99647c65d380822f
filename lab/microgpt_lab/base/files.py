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


# ---------------------------------------------------------------- Reading


def read(path: Path, most: int = 2**28) -> bytes:
    """All bytes of a file. Raises InputError for more than `most` bytes, because a path such as
    /dev/zero never ends."""
    raw = bytearray()
    with failing_plainly(path, "read"), open(path, "rb") as file:
        while len(raw) <= most and (piece := file.read(2**20)):
            raw += piece
    if len(raw) > most:
        raise InputError(f"cannot read {str(path)!r}: it has more than {most:,} bytes")
    return bytes(raw)


def read_text(path: Path) -> str:
    """A file of UTF-8 text. Raises InputError."""
    raw = read(path)
    try:
        return raw.decode()
    except UnicodeDecodeError as e:
        raise InputError(
            f"cannot read {str(path)!r}: it is not UTF-8 text: byte {e.start}"
        ) from None
