"""Run tests on edited copies of the lab, each copy in a process of its own.

This file is run as a script and imports nothing of the lab: a forked process then imports the
lab from its copy. What takes long to import is imported once, before the forks.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

SLOW_IMPORTS = (
    "pytest", "_pytest.assertion.rewrite", "numpy", "matplotlib.figure", "matplotlib.patches",
    "rich.console", "rich.progress", "rich.table", "tyro", "safetensors.numpy", "jsonschema",
    "multiprocessing.forkserver", "microgpt",
)  # fmt: skip
OPTIONS = ("-x", "-q", "-rf", "--tb=line", "-p", "no:cacheprovider")


def run_tests(folder: str, tests: list[str]) -> int:
    """In the forked process: run tests with the lab in that folder -> pytest's exit status."""
    import pytest

    lab = str(Path(folder) / "lab")
    sys.path.insert(0, lab)
    os.environ["PYTHONPATH"] = lab  # for the processes that a test starts
    os.chdir(folder)
    where = ["--rootdir", folder, "-c", str(Path(folder) / "pyproject.toml")]
    return int(pytest.main([*OPTIONS, *where, *(f"tests/{test}" for test in tests)]))


def start(folder: str, tests: list[str], said: Any) -> int:
    """Fork a process that runs the tests and writes what pytest prints into the file `said`
    -> its process number."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    status = 70
    try:
        if sys.platform == "linux":  # as base/processes.py, which cannot be imported here
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        status = run_tests(folder, tests)
        sys.stdout.flush()
    finally:
        os._exit(status)


def main() -> None:
    """sys.argv has the number of processes at a time; the input has [[folder, [test, …]], …] as
    JSON. Prints a line of JSON for each that ended: its number, exit status, processor seconds, and
    what pytest printed."""
    try:
        jobs, todo = int(sys.argv[1]), list(enumerate(json.load(sys.stdin)))
    except ValueError:  # the command ended before it had said all
        sys.exit(1)
    for name in SLOW_IMPORTS:
        with contextlib.suppress(ImportError):
            __import__(name)
    running: dict[int, tuple[int, Any]] = {}
    while todo or running:
        while todo and len(running) < jobs:
            number, (folder, tests) = todo.pop(0)
            said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
            running[start(folder, tests, said)] = number, said
        process, status, used = os.wait4(-1, 0)
        number, said = running.pop(process)
        said.seek(0)
        seconds = used.ru_utime + used.ru_stime
        print(json.dumps([number, os.waitstatus_to_exitcode(status), seconds, said.read()]))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
