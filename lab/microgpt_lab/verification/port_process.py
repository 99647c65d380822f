"""Run the program of a port once, whatever it does, and leave nothing of it running.

A port may hang, crash, print without end, close its input early, or leave a process behind
that keeps its output open. Each ends in a result with one line that says so.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from microgpt import InputError

from microgpt_lab.base import processes

MOST = 100_000_000  # bytes of an answer: several times what the largest case asks for
KEPT = 65_536  # bytes of standard error that are kept: the last ones
GRACE = 2.0  # seconds that the output may stay open after the program has ended
MARK = "MICROGPT_VERIFY_RUN"  # the environment variable by which its processes are found
SHOWN = 5  # lines of standard error to show


@dataclass(frozen=True)
class Outcome:
    """What one run of a program left: its output, and why that is not an answer."""

    output: bytes
    error: str = ""
    errors: tuple[str, ...] = ()  # the last lines of standard error


# ---------------------------------------------------------------- One run


def run(command: str, question: bytes, timeout: float) -> Outcome:
    """Start the program, write the question to its standard input, and read its output.
    `timeout` in seconds. Raises InputError if the program cannot be started."""
    mark = f"{MARK}={uuid.uuid4().hex}"
    process = start(command, mark)
    try:
        output, errors = Reader(process.stdout, MOST), Reader(process.stderr, KEPT, last=True)
        Writer(process.stdin, question)
        error = wait(process, output, timeout)
    finally:
        stop(process, mark)
    for reader in (output, errors):
        reader.join(GRACE)
    return Outcome(bytes(output.content), error, last_lines(bytes(errors.content)))


def start(command: str, mark: str) -> subprocess.Popen[bytes]:
    """The program in a process group of its own, so that all it starts can be stopped too.
    `mark` is put into its environment."""
    try:
        words = shlex.split(command)
        if not words:
            raise InputError(f"--program is {command!r}: give the command that starts the port")
        pipe = subprocess.PIPE
        environment = os.environ | dict([mark.split("=")])
        return processes.start(
            words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment
        )
    except (OSError, ValueError, subprocess.SubprocessError) as e:
        why = getattr(e, "strerror", None) or e
        raise InputError(f"cannot start --program {command!r}: {why}") from None


def wait(process: subprocess.Popen[bytes], output: "Reader", timeout: float) -> str:
    """Wait until the program has ended and its output is complete -> "", or why there is no
    answer."""
    until = time.monotonic() + timeout
    while process.poll() is None and not output.full:
        if time.monotonic() >= until:
            what = "did not end" if output.content else "gave no answer"
            return f"it {what} within {timeout:g} s and was stopped (see --timeout)"
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(0.05, max(0.0, until - time.monotonic())))
    if not (process.returncode or output.full):
        output.join(GRACE)
    if output.full:  # asked first: the closed pipe may have ended the program
        return f"it printed more than {MOST // 1_000_000} MB and was stopped"
    if process.returncode:
        return how_it_ended(process.returncode)
    if output.is_alive():
        return "it ended, but a process that it started keeps its output open"
    return ""


def stop(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill the program and what it has started, if any of that still runs."""
    processes.stop(process)
    while left := marked(mark):  # what has left the process group
        for number in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.01)


def marked(mark: str) -> list[int]:
    """The processes with this mark in their environment; on Linux only, elsewhere none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ") if sys.platform == "linux" else ():
        with suppress(OSError):  # it has ended, or is somebody else's
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def how_it_ended(status: int) -> str:
    """A program's exit status in words; below zero it is the number of a signal."""
    if status >= 0:
        return f"it ended with status {status}"
    try:
        return f"it crashed with {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no names of their own
        return f"it was ended by signal {-status}"


def last_lines(raw: bytes) -> tuple[str, ...]:
    """The last lines of a program's standard error that are not empty."""
    lines = [line.rstrip() for line in raw.decode(errors="replace").splitlines()]
    return tuple([line for line in lines if line][-SHOWN:])


# ---------------------------------------------------------------- Its pipes


class Reader(threading.Thread):
    """Reads a pipe to its end. Keeps the first `most` bytes, or the last of them."""

    def __init__(self, pipe: IO[bytes] | None, most: int, last: bool = False) -> None:
        super().__init__(daemon=True)
        self.pipe, self.most, self.last = pipe, most, last
        self.content, self.full = bytearray(), False
        self.start()

    def run(self) -> None:
        assert self.pipe
        with self.pipe:
            while piece := self.pipe.read(65_536):
                if self.last:
                    self.content = (self.content + piece)[-self.most :]
                elif len(self.content) + len(piece) <= self.most:
                    self.content += piece
                else:
                    self.full = True
                    return


class Writer(threading.Thread):
    """Writes a question to a pipe and closes it. A program need not read it."""

    def __init__(self, pipe: IO[bytes] | None, question: bytes) -> None:
        super().__init__(daemon=True)
        self.pipe, self.question = pipe, memoryview(question)
        self.start()

    def run(self) -> None:
        assert self.pipe
        left = self.question
        with suppress(OSError), self.pipe:  # a broken pipe: the program reads no further
            while left:
                left = left[self.pipe.write(left) :]
