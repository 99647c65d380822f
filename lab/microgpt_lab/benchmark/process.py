"""The process in which one setup is measured, seen from the benchmark: it computes only while
it works on a request."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

from microgpt_lab.base import processes
from microgpt_lab.benchmark import lower_bound
from microgpt_lab.benchmark.setups import Setup

PATIENCE = 120.0  # seconds to wait for an answer
CLOSING = 5.0  # seconds that a process has to end by itself


class WorkerFailed(Exception):
    """The process ended, or could not do what was requested: the reason in one line."""


class WorkerTimeout(WorkerFailed):
    """There was no answer in the time given."""


class WorkerProcess:
    """A process of `microgpt_lab.benchmark.worker`. Takes one request at a time and answers it."""

    def __init__(self, setup: Setup) -> None:
        self.name, self.err = setup.name, tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        environment = setup.version.environment
        threads = str(setup.settings["threads"])
        environment |= dict.fromkeys(lower_bound.THREAD_VARIABLES, threads)
        self.process = processes.start(
            [
                sys.executable, "-m", "microgpt_lab.benchmark.worker",
                setup.version.name, repr(time.perf_counter()),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, text=True,
            env=environment,
        )  # fmt: skip
        self.timed_out = False
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self.collect_answers, daemon=True).start()

    def collect_answers(self) -> None:
        """Runs in a thread, so that waiting for an answer can have a time limit."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")  # the process has ended

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the process. At the end of its input it ends by itself, with its own processes."""
        assert self.process.stdin
        assert self.process.stdout
        with suppress(OSError):  # a request that was not read yet
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0 if self.timed_out else CLOSING)
        processes.stop(self.process)
        self.process.stdout.close()
        self.err.close()

    def send(self, request: str, **arguments: Any) -> None:
        """Send a request: the name of a method of `worker.Worker`, and its arguments."""
        assert self.process.stdin
        with suppress(OSError):  # the process has ended: `receive` says why
            self.process.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
            self.process.stdin.flush()

    def receive(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The answer to the last request. Raises WorkerFailed, after `patience` seconds
        WorkerTimeout."""
        try:
            line = self.answers.get(timeout=max(0.0, patience))
        except queue.Empty:
            self.timed_out = True
            raise WorkerTimeout(f"no answer in {patience:.0f} s") from None
        if not line:
            status = self.process.wait()
            self.err.seek(0)
            said = self.err.read().strip().splitlines() or [f"status {status}"]
            raise WorkerFailed(f"it ended with: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def ask(self, request: str, patience: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises WorkerFailed."""
        self.send(request, **arguments)
        return self.receive(patience)
