"""How far a training run is, and the line that shows it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from microgpt_lab.base.terminal import duration


@dataclass
class TrainingProgress:
    """What is known of a run while it trains."""

    steps: int  # of the whole run
    step: int  # steps taken so far
    first: int  # the step at which this process began
    seconds: float = 0.0  # spent in training steps by this process
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=50))  # losses
    held_out: float | None = None  # the held-out loss, if it was just computed

    def text(self) -> str:
        """Mean loss of the last 50 steps, held-out loss, time of a step, time left."""
        parts = [f"loss {sum(self.recent) / len(self.recent):.4f}"] if self.recent else []
        parts += [f"held-out {self.held_out:.4f}"] if self.held_out is not None else []
        if self.step > self.first:
            pace = self.seconds / (self.step - self.first)
            parts += [f"{duration(pace)}/step"]
            left = self.steps - self.step
            parts += [f"{duration(pace * left)} left"] if left else []
        return "  ".join(parts)


class ProgressLine:
    """On a terminal one line that is redrawn; elsewhere a new line at each checkpoint."""

    def __init__(self, progress: TrainingProgress, console: Console) -> None:
        self.progress, self.console = progress, console
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.bar = Progress(
            TextColumn("step {task.completed:,} of {task.total:,}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=console,
            auto_refresh=False,
            expand=True,
            disable=not self.live,
        )
        self.task = self.bar.add_task("", total=progress.steps, completed=progress.step, text="")

    def __enter__(self) -> "ProgressLine":
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def redraw(self) -> None:
        """Update the line of a terminal; call it after some steps."""
        if self.live:
            self.bar.update(self.task, completed=self.progress.step, text=self.progress.text())
            self.bar.refresh()

    def checkpoint_line(self) -> None:
        """Print a line where the output is not a terminal; call it after a checkpoint."""
        if self.live:
            self.redraw()
        else:
            p = self.progress
            step = f"step {p.step:{len(f'{p.steps:,}')},} of {p.steps:,}"
            self.console.print(f"{step}  {p.text()}", soft_wrap=True)
