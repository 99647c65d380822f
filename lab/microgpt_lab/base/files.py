"""Write files. A regular file is written whole or not at all: after a crash or a power cut the old
content or the new one is there, never a part of it. A symbolic link stays a link, and what it
points at is written. Anything else, such as a device or a FIFO, is written through: it stays what
it is."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from microgpt import InputError

LONGEST = 200  # bytes of a made-up file name; file systems allow 255, suffixes included


@contextmanager
def failing_plainly(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError inside the block (a full disk, a read-only folder) into an InputError that
    names the path: "cannot write 'x': No space left on device"."""
    try:
        yield
    except (OSError, ValueError) as e:  # ValueError: a null character in a path
        raise InputError(f"cannot {doing} {str(path)!r}: {reason(e)}") from None


def reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def write(path: Path, content: bytes | str) -> None:
    """Write the content to a path: whole or not at all, unless it is a device or a FIFO. Raises
    InputError."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write several files. None of them changes before all are on the disk under temporary names:
    so a full disk, or a process that is killed, leaves all as they were. Raises InputError."""
    finished: list[tuple[Path, Path]] = []  # (temporary file, file that it replaces)
    try:
        for path, content in contents.items():
            raw = content.encode() if isinstance(content, str) else content
            with failing_plainly(path):
                refuse_unwritable(path)
                if is_written_through(path):
                    write_through(path, raw)
                else:
                    target = Path(os.path.realpath(path))
                    finished.append((part_of(target), target))
                    write_part(*finished[-1], raw)
        for part, target in finished:
            with failing_plainly(target):
                part.replace(target)
        for folder in {target.parent for _, target in finished}:
            with failing_plainly(folder):
                sync_folder(folder)
    finally:
        for part, _ in finished:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_through(path: Path, raw: bytes) -> None:
    """Write to what is no regular file, or to this process's own output."""
    file, left = os.open(path, os.O_WRONLY | os.O_APPEND), memoryview(raw)
    try:
        while left:
            left = left[os.write(file, left) :]
    finally:
        os.close(file)


def part_of(path: Path) -> Path:
    """The temporary file beside a file."""
    return path.with_name(f".{cut(path.name, 40)}.{os.getpid()}.part")


def write_part(part: Path, path: Path, raw: bytes) -> None:
    """Write a temporary file and sync it to the disk. It gets the permissions of the file that it
    will replace."""
    part.unlink(missing_ok=True)  # a process with this number may have been killed
    with open(part, "xb") as file:
        with suppress(FileNotFoundError, PermissionError):
            os.chmod(part, stat.S_IMODE(path.stat().st_mode))
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Sync a folder's entries to the disk. Without this a power cut may undo a rename."""
    if os.name == "nt":  # Windows cannot open a folder as a file
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ---------------------------------------------------------------- What stands at a path


def status_of(path: Path) -> os.stat_result | None:
    """What a path points at; None if nothing is there. Raises OSError."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def is_written_through(path: Path) -> bool:
    """Whether a file is not replaced: it is no regular one, or this process's own output goes to
    it, as with --json /dev/stdout. Raises OSError."""
    found = status_of(path)
    return found is not None and (not stat.S_ISREG(found.st_mode) or is_own_output(found))


def is_own_output(found: os.stat_result) -> bool:
    for stream in (1, 2):
        with suppress(OSError):  # the stream is closed
            if os.path.samestat(found, os.fstat(stream)):
                return True
    return False


def refuse_unwritable(path: Path) -> None:
    """Raises an OSError if a file cannot be written as it stands: it is a folder or may not be
    written, or its folder is missing or may not be written. Changes nothing."""
    found = status_of(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "it is a folder: name a file")
    if found is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if found is None or stat.S_ISREG(found.st_mode):
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise OSError(errno.ENOENT, f"there is no folder {str(folder)!r}")
        if not is_written_through(path) and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"its folder {str(folder)!r} is read-only")


def ensure_writable(path: Path) -> None:
    """Raises InputError if a file could not be written: a check before long work. What stands at
    the path stays as it is."""
    with failing_plainly(path):
        refuse_unwritable(path)
        if not is_written_through(path):  # opening a FIFO would end its reader
            target = Path(os.path.realpath(path))
            part = part_of(target)
            try:
                write_part(part, target, b"")
            finally:
                part.unlink(missing_ok=True)


def refuse_nameless(folder: Path) -> None:
    """Raises InputError for a folder such as "." or "/", which is not one for results alone."""
    if folder.name in ("", ".."):
        raise InputError(f"cannot write to {str(folder)!r}: give the results a folder of their own")


def ensure_folder(folder: Path, *names: str) -> None:
    """Make a folder, and try whether files of these names can be written in it: a check before long
    work. Raises InputError."""
    refuse_nameless(folder)
    with failing_plainly(folder, "make"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        ensure_writable(folder / name)


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, which need not exist. Two ways to one device, such as a
    terminal, are no mistake."""
    if os.path.exists(one) and not os.path.isfile(one):
        return False
    return os.path.realpath(one) == os.path.realpath(other)


# ---------------------------------------------------------------- Names


def name_from(text: str) -> str:
    """Text as a part of a file's name: what cannot stand in one, or is invisible, becomes _, and
    what is too long is cut."""
    safe = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in text)
    return cut(safe.strip(". ") or "_", LONGEST)


def cut(text: str, length: int) -> str:
    """The beginning of a text: at most so many bytes of UTF-8, and whole characters."""
    return text.encode(errors="replace")[:length].decode(errors="ignore")


# ---------------------------------------------------------------- Reading


PLENTY = 2**28  # bytes


def read(path: Path, most: int = PLENTY) -> bytes:
    """All bytes of a file. Raises InputError for more than `most` bytes, because a path such as
    /dev/zero never ends. What is no regular file may have PLENTY at most."""
    raw = bytearray()
    with failing_plainly(path, "read"), open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            most = min(most, PLENTY)
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
