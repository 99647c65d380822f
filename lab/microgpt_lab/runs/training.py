"""`microgpt train` and `resume`: a version is driven from checkpoint to checkpoint.

The version gets its batches in pieces that end where a checkpoint is due, so that its state
stands on a step's boundary whenever it is saved, however many steps it takes at a time.
"""

import functools
import math
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from microgpt_lab.base import files, options
from microgpt_lab.base.terminal import duration, side_by_side
from microgpt_lab.runs import checkpoints, documents, loss_pictures, run_folder
from microgpt_lab.runs.checkpoints import Checkpoint, Plan
from microgpt_lab.runs.documents import Documents
from microgpt_lab.runs.run_folder import Run

GLIMPSE = 100  # held-out documents that are looked at on the way
SHARE = 0.1  # of the time of training that such looks may take


@dataclass(frozen=True)
class Settings:
    """What a person decides about the running, not about the run."""

    until: int | None = None  # stop after that step, as if interrupted
    save_every: int | None = None
    keep: int = 100
    evaluate: int = 1000  # held-out documents; 0: all
    samples: int = 20

    def __post_init__(self) -> None:
        for name, low in (("save_every", 1), ("keep", 2), ("evaluate", 0), ("samples", 0)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} is {value}: it must be {low} or more")


@dataclass
class Stop:
    """Which signal asked for an end; 0: none."""

    signal: int = 0


@contextmanager
def until_signalled() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM only ask, once: the next one has its usual effect."""
    stop = Stop()
    usual: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        stop.signal = number
        signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for caught, handler in usual.items():
            signal.signal(caught, handler)


@dataclass
class Session:
    """One process's work on a run."""

    run: Run
    checkpoint: Checkpoint  # where it begins, and who goes on
    module: Any
    state: Any
    docs: Documents
    settings: Settings
    console: Console
    step: int = 0
    trained: float = 0.0  # seconds in steps
    looked: float = 0.0  # seconds in looks at what is held out
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    held_out: float | None = None

    def __post_init__(self) -> None:
        self.step = self.checkpoint.step
        self.meter = Meter(self)

    @property
    def config(self) -> Any:
        return self.checkpoint.plan.config

    @property
    def save_every(self) -> int:
        """A tenth of the run, unless told otherwise, but a thousand steps at most."""
        return self.settings.save_every or max(1, min(1000, self.config.steps // 10))

    # ------------------------------------------------------------ The loop

    @np.errstate(all="ignore")  # what is not finite is told in a line of its own
    def work(self) -> int:
        """Train to the end, or to where it is asked to stop. -> exit status"""
        end = self.config.steps
        if self.settings.until is not None:
            end = min(end, max(self.step, self.settings.until))
        with until_signalled() as stop, self.meter:
            while self.step < end and not stop.signal:
                due = self.step - self.step % self.save_every + self.save_every
                self.take_steps(min(due, end), stop)
                self.save()
                self.held_out = None
                if self.step < end and not stop.signal:
                    self.glimpse()
                self.meter.line()
        if self.step == self.config.steps:
            self.finish()
            return 0
        self.say_how_to_go_on(stop)
        return 128 + stop.signal if stop.signal else 0

    def take_steps(self, end: int, stop: Stop) -> None:
        """Steps up to `end`, or fewer if a signal comes; every loss is in the log after."""
        handed = self.step

        def hand_out() -> Iterator[Any]:
            nonlocal handed
            todo = microgpt.batches(
                self.config, self.checkpoint.plan.tokenizer, self.docs.train, self.step
            )
            for item in islice(todo, end - self.step):
                if stop.signal:
                    return
                handed += 1
                yield item

        # A loss may be on its way still: float() waits, so that they are asked in groups.
        before, waiting, due = time.perf_counter(), [], 0.0
        for loss in self.module.train(self.state, hand_out()):
            waiting.append(loss)
            if (now := time.perf_counter()) >= due:
                self.take_losses(waiting)
                self.trained += time.perf_counter() - before
                self.meter.draw()
                before, waiting, due = time.perf_counter(), [], now + 0.1
        self.take_losses(waiting)
        self.trained += time.perf_counter() - before
        if self.step != handed:
            raise AssertionError(f"{handed} batches handed out, {self.step} losses came back")

    def take_losses(self, losses: list[Any]) -> None:
        lines = []
        for loss in map(float, losses):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {self.step + 1:,}: try a lower --learning-rate; "
                    f"{run_folder.saved(self.run.path)[-1]} is the last good checkpoint"
                )
            self.step += 1
            self.recent.append(loss)
            lines.append(f'{{"step": {self.step}, "loss": {loss!r}}}\n')  # JSON, by hand
        self.run.write(lines)

    def save(self) -> None:
        snapshot = self.module.export(self.state)
        if snapshot.step != self.step:
            raise AssertionError(f"the state is at step {snapshot.step}, not {self.step}")
        try:
            self.run.save(replace(self.checkpoint, snapshot=snapshot), self.settings.keep)
        except InputError as e:
            last = run_folder.saved(self.run.path)[-1]
            raise InputError(f"{e}; {last} is the last good checkpoint") from None

    # ------------------------------------------------------------ What is held out

    def measure(self, count: int) -> None:
        """The held-out loss over that many documents, the same ones each time."""
        docs = self.docs.held_out[:count] if count else self.docs.held_out
        if not docs:
            return
        tokenizer = self.checkpoint.plan.tokenizer
        before = time.perf_counter()
        self.held_out = documents.nats_a_character(
            self.module, self.state, self.config, tokenizer, docs
        )
        self.looked += time.perf_counter() - before
        found = {"held_out": self.held_out, "names": len(docs)}
        self.run.note([{"step": self.step} | found])

    def glimpse(self) -> None:
        """A look on the way, where the time is small beside that of training."""
        if self.looked <= SHARE * self.trained:
            self.measure(GLIMPSE)

    # ------------------------------------------------------------ The end

    def finish(self) -> None:
        """Held-out loss, names and the picture of a run that has all its steps."""
        folder, out = self.run.path, self.console
        with out.status("held-out loss …"):
            self.measure(self.settings.evaluate)
        names = self.names()
        loss_pictures.draw_run(folder)
        files.write(folder / "names.txt", "".join(f"{name}\n" for name in names))  # the last
        if self.held_out is not None:
            counted = self.settings.evaluate or len(self.docs.held_out)
            of = f"{min(counted, len(self.docs.held_out)):,} of {len(self.docs.held_out):,}"
            out.print(
                f"held-out loss {self.held_out:.4f} nats a character, over {of} names never seen",
            )
        out.print()
        out.print(side_by_side(names))
        out.print()
        found = f"in {folder}: loss.svg, names.txt, log.jsonl, checkpoints"
        out.print(found, soft_wrap=True)

    def names(self) -> list[str]:
        """What the stream of the run makes up first."""
        tokenizer = self.checkpoint.plan.tokenizer
        draw = functools.partial(self.module.logits, self.state)
        uniform = self.checkpoint.stream().random
        drawn = microgpt.generate(draw, self.config, tokenizer.bos, uniform)
        return [tokenizer.decode(name) for name in islice(drawn, self.settings.samples)]

    def say_how_to_go_on(self, stop: Stop) -> None:
        why = "stopped" if stop.signal or self.settings.until is not None else "ended"
        self.console.print(
            f"{why} after step {self.step:,} of {self.config.steps:,}, which is saved; "
            f"go on with: microgpt resume {self.run.path}",
            soft_wrap=True,
        )


# ---------------------------------------------------------------- The progress line


class Meter:
    """How far it is: a line drawn over on a terminal, a line at each save elsewhere."""

    def __init__(self, session: Session) -> None:
        console = session.console
        self.session = session
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.begun = session.step
        self.progress = Progress(
            TextColumn("step {task.completed:,} of {task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=console,
            auto_refresh=False,
            expand=True,
            disable=not self.live,
        )
        total, done = session.config.steps, session.step
        self.task = self.progress.add_task("", total=total, completed=done, text="")

    def __enter__(self) -> "Meter":
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def text(self) -> str:
        """Loss as the mean of 50 steps, held-out loss, time a step and time left."""
        s = self.session
        parts = [f"loss {sum(s.recent) / len(s.recent):.4f}"] if s.recent else []
        parts += [f"held-out {s.held_out:.4f}"] if s.held_out is not None else []
        if s.step > self.begun:
            pace = s.trained / (s.step - self.begun)
            parts += [f"{duration(pace)}/step"]
            left = s.config.steps - s.step
            parts += [f"{duration(pace * left)} left"] if left else []
        return "  ".join(parts)

    def draw(self) -> None:
        if self.live:
            self.progress.update(self.task, completed=self.session.step, text=self.text())
            self.progress.refresh()

    def line(self) -> None:
        if self.live:
            self.draw()
        else:
            s = self.session
            width = len(f"{s.config.steps:,}")
            text = f"step {s.step:{width},} of {s.config.steps:,}  {self.text()}"
            s.console.print(text, soft_wrap=True)


# ---------------------------------------------------------------- The two commands


def introduce(session: Session) -> None:
    """Who computes, what, from what, and where it goes."""
    plan, docs = session.checkpoint.plan, session.docs
    size = sum(len(rows) * len(rows[0]) for rows in session.checkpoint.snapshot.weights.values())
    lines = [
        f"{session.checkpoint.version}: {session.checkpoint.about}",
        f"recipe {plan.recipe}, seed {plan.seed}: {size:,} weights, {len(docs.train):,} documents, "
        f"{len(docs.held_out):,} distinct ones held out",
    ]
    if cut := documents.cut(plan.config, docs.train):
        lines.append(f"{cut:,} documents do not fit the block and are cut")
    if session.step:
        lines.append(f"going on from step {session.step:,}")
    lines.append(f"{session.run.path}, checkpoints every {session.save_every:,} steps")
    for line in lines:
        session.console.print(line, soft_wrap=True)


def train(
    name: str,
    recipe: str | None,
    numbers: dict[str, Any],
    seed: int,
    data: str,
    held_out: float,
    chosen: tuple[str | None, str | None, tuple[str, ...]],
    out: Path | None,
    settings: Settings,
    console: Console,
) -> int:
    """Start a run. `chosen`: dtype, device and options of the version's own. -> exit status"""
    version, module = options.runnable(name)
    recipe = recipe or version.recipe
    config = options.recipe(recipe, numbers)
    given = options.read(version, module, *chosen)
    docs = documents.prepare(config, data, seed, held_out)
    if Path(data).is_file():
        data = str(Path(data).resolve())  # a run may be taken up from another folder
    letters = "".join(docs.tokenizer.letters)
    plan = Plan(recipe, config, seed, data, docs.digest, letters, held_out)
    checkpoint = checkpoints.first(plan, docs.rng, version.name, options=given)
    state = module.create(config, checkpoint.snapshot, **given)
    checkpoint = replace(checkpoint, about=module.about(state))
    with run_folder.create(out, checkpoint) as run:
        session = Session(run, checkpoint, module, state, docs, settings, console)
        introduce(session)
        return session.work()


def resume(
    path: Path | None,
    with_version: str | None,
    chosen: tuple[str | None, str | None, tuple[str, ...]],
    settings: Settings,
    console: Console,
) -> int:
    """Go on with a run as if it had never stopped. -> exit status"""
    with run_folder.take_over(path) as run:
        checkpoint = run_folder.latest(run.path)
        plan = checkpoint.plan
        if checkpoint.step == plan.config.steps and (run.path / "names.txt").exists():
            done = f"{run.path} has all its {checkpoint.step:,} steps"
            console.print(f"{done}; for more names: microgpt sample {run.path}", soft_wrap=True)
            return 0
        version, module = options.runnable(with_version or checkpoint.version)
        docs = documents.prepare(plan.config, plan.data, plan.seed, plan.held_out, plan.digest)
        given = options.carried_over(version, module, checkpoint.options)
        given |= options.read(version, module, *chosen)
        state = module.create(plan.config, checkpoint.snapshot, **given)
        about = module.about(state)
        checkpoint = replace(checkpoint, version=version.name, about=about, options=given)
        run.rewind(checkpoint.step)
        run.note([{"step": checkpoint.step, "version": version.name, "about": about}])
        session = Session(run, checkpoint, module, state, docs, settings, console)
        session.recent.extend(r["loss"] for r in run_folder.read_log(run.path) if "loss" in r)
        introduce(session)
        return session.work()
