"""Train a version from checkpoint to checkpoint.

The version gets the batches up to the next checkpoint in one call of its train(). So its state is
between two steps whenever a checkpoint is saved, however many steps it takes at once.
"""

import functools
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np
from rich.console import Console

from microgpt_lab.base import files
from microgpt_lab.base.terminal import side_by_side
from microgpt_lab.runs import documents, loss_pictures, run_folder, yardsticks
from microgpt_lab.runs.checkpoints import Checkpoint
from microgpt_lab.runs.documents import Documents
from microgpt_lab.runs.progress import ProgressLine, TrainingProgress
from microgpt_lab.runs.run_folder import Run

QUICK_COUNT = 100  # held-out documents of a quick evaluation, between two checkpoints
QUICK_SHARE = 0.1  # quick evaluations may take this share of the training time


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of this process, which do not change what the run computes. Raises InputError for
    a value out of range."""

    until: int | None = None  # stop after that step, as if interrupted
    save_every: int | None = None  # steps from one checkpoint to the next; None: a tenth
    keep: int = 100  # checkpoints
    evaluate: int = 1000  # held-out documents at the end; 0: all
    samples: int = 20  # names at the end

    def __post_init__(self) -> None:
        least = {"until": 1, "save_every": 1, "keep": 2, "evaluate": 0, "samples": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} is {value}: it must be {low} or more")


@dataclass
class StopRequest:
    """The number of the signal that asked the process to stop; 0 if none did."""

    signal: int = 0


@contextmanager
def catching_signals() -> Iterator[StopRequest]:
    """Inside the block, the first Ctrl-C, SIGTERM or SIGHUP (the terminal is closed) only sets the
    request's number, so that the current step can end. A second one has its usual effect. A signal
    that is ignored, as SIGHUP is under nohup, stays so."""
    stop = StopRequest()
    usual: dict[int, Any] = {}

    def request_stop(number: int, frame: Any) -> None:
        stop.signal = number
        signal.signal(number, usual[number])

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            usual[number] = signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        for caught, handler in usual.items():
            signal.signal(caught, handler)


@dataclass
class TrainingSession:
    """The work of one process on a run."""

    run: Run
    checkpoint: Checkpoint  # where this process begins
    module: Any  # the version's
    state: Any
    docs: Documents
    settings: TrainingSettings
    console: Console
    evaluation_seconds: float = 0.0
    high: int = 0  # so many of the last losses are far too high

    def __post_init__(self) -> None:
        step = self.checkpoint.step
        self.progress = TrainingProgress(self.config.steps, step, first=step)

    @property
    def config(self) -> Any:
        return self.checkpoint.plan.config

    @property
    def step(self) -> int:
        return self.progress.step

    @property
    def save_every(self) -> int:
        """Steps from one checkpoint to the next; by default a tenth of the run, at most 1000."""
        return self.settings.save_every or max(1, min(1000, self.config.steps // 10))

    # ------------------------------------------------------------ The loop

    @np.errstate(all="ignore")  # no warnings: a loss that is not finite is an error below
    def work(self) -> int:
        """Train to the end, to `until`, or to a signal. -> exit status"""
        end = self.config.steps
        if self.settings.until is not None:
            end = min(end, max(self.step, self.settings.until))
        line = ProgressLine(self.progress, self.console)
        with catching_signals() as stop, line:
            while self.step < end and not stop.signal:
                next_save = self.step - self.step % self.save_every + self.save_every
                self.take_steps(min(next_save, end), stop, line)
                self.save()
                self.progress.held_out = None
                if self.step < end and not stop.signal:
                    self.evaluate_quickly()
                line.checkpoint_line()
        if self.step == self.config.steps:
            self.finish()
            return 0
        self.show_how_to_resume()
        return 128 + stop.signal if stop.signal else 0

    def take_steps(self, end: int, stop: StopRequest, line: ProgressLine) -> None:
        """Train up to step `end`, or to a signal. Afterwards the log has every loss."""
        requested = self.step

        def batches() -> Iterator[Any]:
            nonlocal requested
            todo = microgpt.batches(
                self.config, self.checkpoint.plan.tokenizer, self.docs.train, self.step
            )
            for item in islice(todo, end - self.step):
                if stop.signal:
                    return
                requested += 1
                yield item

        # The framework may still be computing a loss when it arrives here, and float() waits for
        # it. So losses are collected and converted ten times a second.
        before, waiting, due = time.perf_counter(), [], 0.0
        for loss in self.module.train(self.state, batches()):
            waiting.append(loss)
            if (now := time.perf_counter()) >= due:
                self.log_losses(waiting)
                self.progress.seconds += time.perf_counter() - before
                line.redraw()
                before, waiting, due = time.perf_counter(), [], now + 0.1
        self.log_losses(waiting)
        self.progress.seconds += time.perf_counter() - before
        if self.step != requested:
            raise AssertionError(
                f"train() took {requested} batches, but yielded {self.step} losses"
            )

    def log_losses(self, losses: list[Any]) -> None:
        """Count the steps and write their losses into the log. Raises InputError for a loss that
        is not finite."""
        lines = []
        for loss in map(float, losses):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {self.step + 1:,}: try a lower --learning-rate"
                    f"{microgpt.not_finite(self.module.export(self.state))}; "
                    f"{self.last_saved()}"
                )
            self.progress.step += 1
            self.progress.recent.append(loss)
            self.say_if_diverged(loss)
            lines.append(f'{{"step": {self.step}, "loss": {loss!r}}}\n')
        self.run.write_lines(lines)

    def say_if_diverged(self, loss: float) -> None:
        """Say once if many losses in a row are far above that of a blind guess."""
        guess = math.log(len(self.checkpoint.plan.letters) + 1)
        self.high = self.high + 1 if loss > 2 * guess else 0
        if self.high == microgpt.PATIENCE:
            self.console.print(
                f"step {self.step:,}: the last {self.high} losses are over twice {guess:.2f}, "
                "that of a blind guess: try a lower --learning-rate",
                soft_wrap=True,
            )

    def save(self) -> None:
        """Save a checkpoint of the current state. Raises InputError."""
        snapshot = self.module.export(self.state)
        if snapshot.step != self.step:
            raise AssertionError(f"the state is at step {snapshot.step}, not {self.step}")
        try:
            self.run.save(replace(self.checkpoint, snapshot=snapshot), self.settings.keep)
        except InputError as e:
            raise InputError(f"{e}; {self.last_saved()}") from None

    def last_saved(self) -> str:
        """The last checkpoint, for the end of an error message."""
        found = run_folder.saved_checkpoints(self.run.path)
        if not found:
            return f"{self.run.path} has no checkpoint any more"
        return f"{found[-1]} is the last good checkpoint"

    # ------------------------------------------------------------ Held-out loss

    def evaluate(self, count: int) -> None:
        """Compute the held-out loss on the first `count` held-out documents (0: on all)."""
        docs = self.docs.held_out[:count] if count else self.docs.held_out
        if not docs:
            return
        tokenizer = self.checkpoint.plan.tokenizer
        before = time.perf_counter()
        loss = documents.nats_a_character(self.module, self.state, self.config, tokenizer, docs)
        self.evaluation_seconds += time.perf_counter() - before
        self.progress.held_out = loss
        self.run.write_records([{"step": self.step, "held_out": loss, "names": len(docs)}])

    def evaluate_quickly(self) -> None:
        """Evaluate on a few documents, unless that has already taken too much of the time."""
        if self.evaluation_seconds <= QUICK_SHARE * self.progress.seconds:
            self.evaluate(QUICK_COUNT)

    # ------------------------------------------------------------ The end

    def finish(self) -> None:
        """After the last step: held-out loss, picture and names."""
        folder, out = self.run.path, self.console
        with out.status("held-out loss …"):
            self.evaluate(self.settings.evaluate)
        names = self.generate_names()
        letters, block = self.checkpoint.plan.letters, self.config.block_size
        held_out = self.docs.held_out[: self.settings.evaluate or None]
        lines = yardsticks.losses(self.docs.train, held_out, letters, block)
        loss_pictures.draw_run(folder, lines)
        # the last file to be written: `resume` takes it as the sign of a finished run
        files.write(folder / "names.txt", "".join(f"{name}\n" for name in names))
        if self.progress.held_out is not None:
            of_all = len(self.docs.held_out)
            count = min(self.settings.evaluate or of_all, of_all)
            out.print(
                f"held-out loss {self.progress.held_out:.4f} nats a character, "
                f"on {count:,} of {of_all:,} held-out names"
            )
        out.print()
        out.print(side_by_side(names))
        out.print()
        out.print(f"in {folder}: loss.svg, names.txt, log.jsonl, checkpoints", soft_wrap=True)

    def generate_names(self) -> list[str]:
        """The first names from the run's random stream."""
        tokenizer = self.checkpoint.plan.tokenizer
        logits = functools.partial(self.module.logits, self.state)
        uniform = self.checkpoint.stream().random
        tokens = microgpt.generate(logits, self.config, tokenizer.bos, uniform)
        return [tokenizer.decode(name) for name in islice(tokens, self.settings.samples)]

    def show_header(self) -> None:
        """Print the version, the recipe, the data and the run's folder."""
        checkpoint, docs = self.checkpoint, self.docs
        plan, weights = checkpoint.plan, checkpoint.snapshot.weights
        size = sum(len(rows) * len(rows[0]) for rows in weights.values())
        lines = [
            f"{checkpoint.version}: {checkpoint.about}",
            f"recipe {plan.recipe}, seed {plan.seed}: {size:,} weights, {len(docs.train):,} "
            f"documents, {len(docs.held_out):,} distinct ones held out",
        ]
        if cut := documents.count_cut(plan.config, docs.train):
            lines.append(f"{cut:,} documents do not fit the block and are cut")
        if self.step:
            lines.append(f"continuing from step {self.step:,}")
        lines.append(f"{self.run.path}, a checkpoint every {self.save_every:,} steps")
        for line in lines:
            self.console.print(line, soft_wrap=True)

    def show_how_to_resume(self) -> None:
        self.console.print(
            f"stopped after step {self.step:,} of {self.config.steps:,}, which is saved; "
            f"continue with: microgpt resume {self.run.path}{self.data_option()}",
            soft_wrap=True,
        )

    def data_option(self) -> str:
        """How `resume` gets the documents if they came by a pipe, which cannot be read again."""
        data = self.checkpoint.plan.data
        return "" if documents.can_be_read_again(data) else " --data FILE, with the same documents"
