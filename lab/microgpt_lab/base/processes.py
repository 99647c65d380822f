"""Processes that the lab starts. They end with it, whichever way it ends.

Each is the first of a process group of its own, so what it starts is stopped with it. Ctrl-C,
SIGTERM and SIGHUP stop all of them before the lab itself ends. If the lab is killed, Linux kills
them; elsewhere nothing can.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1

running: set["subprocess.Popen[Any]"] = set()
ending = threading.Event()  # set when a signal has asked the lab to end: nothing starts any more


class Ended(BaseException):
    """A signal asked the lab to end: SIGTERM or SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number  # as in a shell


# ---------------------------------------------------------------- Starting and stopping


def start(command: Sequence[str], **how: Any) -> "subprocess.Popen[Any]":
    """As subprocess.Popen; text is UTF-8. Call `stop` when the process is no longer needed."""
    if ending.is_set():
        raise OSError("the lab is ending")
    if how.get("text"):
        how = {"encoding": "utf-8", "errors": "replace"} | how
    how |= {"start_new_session": True} if os.name == "posix" else {}
    process = subprocess.Popen(command, **how, preexec_fn=dying_with(os.getpid()))
    running.add(process)
    if ending.is_set():
        stop(process)
    return process


def dying_with(parent: int) -> Callable[[], None] | None:
    """What a new process does first: ask Linux to kill it when the thread that started it ends,
    and so when the lab ends. None on other systems."""

    def ask() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return ask if LIBC else None


def stop(process: "subprocess.Popen[Any]") -> None:
    """Kill a process and its group, if any of that still runs, and wait for it."""
    kill(process)
    process.wait()
    running.discard(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """Kill a process with its group. A group outlives its first process, so that one is asked for
    even when it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


@contextmanager
def started(command: Sequence[str], **how: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process that runs inside the block; at its end it is stopped."""
    with start(command, **how) as process:
        try:
            yield process
        finally:
            stop(process)


def run(command: Sequence[str], timeout: float | None = None, **how: Any) -> Any:
    """Wait for a process -> its status and all that it printed, as subprocess.run with
    capture_output and text. Raises subprocess.TimeoutExpired after `timeout` seconds."""
    how = {"stdin": subprocess.DEVNULL, "text": True} | how
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, **pipes, **how) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


# ---------------------------------------------------------------- If the lab itself is ended


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Inside the block Ctrl-C, SIGTERM and SIGHUP stop all processes first. Then Ctrl-C raises
    KeyboardInterrupt, as usual, and the others raise Ended."""

    def leave(number: int, frame: Any) -> None:
        ending.set()
        for process in tuple(running):
            kill(process)
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {n: signal.signal(n, leave) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        ending.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
