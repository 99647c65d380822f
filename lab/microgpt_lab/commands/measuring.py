"""The command that thinks about many workers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError

from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, flag, positive

VOCABULARY = 27  # of the embedded names


@dataclass
class Scale:
    """What many workers would cost: memory, communication, time of a step."""

    recipe: str = "scaled"
    """seed, gist or scaled: its layers, head width and documents a worker."""
    widths: str = "16,64,256"
    """Widths of the model."""
    workers: str = "1,2,4,8"
    """Numbers of workers."""
    length: int = 7
    """Targets of a document; the embedded names have 7.1 on average."""
    operations: Annotated[float | None, flag("GFLOP/S", "what one core here reaches")] = None
    """What a worker computes in a second, in this program."""
    bandwidth: float = 1.25
    """GB/s between workers; 1.25 is an Ethernet of 10 Gbit/s."""
    latency: float = 50.0
    """Microseconds of a message."""
    overhead: float = 0.0
    """Microseconds of each step that more workers do not share: the framework's."""

    def run(self) -> int:
        from microgpt_lab.base import options
        from microgpt_lab.benchmark import lower_bound, scale

        config = options.recipe(self.recipe, {})
        widths, workers = positive("widths", self.widths), positive("workers", self.workers)
        for name in ("length", "bandwidth", "latency", "operations"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}: it must be above 0")
        if not self.overhead >= 0:
            raise InputError(f"overhead is {self.overhead}: it must be 0 or more")
        rate = self.operations
        if rate is None:
            rate = lower_bound.rates()["operations"]["float32"] / 1e9
        cluster = scale.Cluster(
            rate * 1e9, self.bandwidth * 1e9, self.latency * 1e-6, self.overhead * 1e-6
        )
        length = min(self.length, config.block_size)
        scale.show(config, VOCABULARY, length, widths, workers, cluster, plain_console())
        return 0


@dataclass
class Ideas:
    """Time 01 with each of its ideas undone: what each one buys."""

    rounds: int = 3
    """How often each variant takes its turn."""
    steps: int = 50
    """Steps of each turn."""

    def run(self) -> int:
        from microgpt_lab.benchmark import ideas

        at_least(1, rounds=self.rounds, steps=self.steps)
        ideas.show(ideas.measure(self.rounds, self.steps), Console())
        return 0


@dataclass
class Bench:
    """Measure what every version costs, against the floor: tables and pictures."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number, each with its variants."""
    recipe: str = "seed,scaled"
    """One or more of seed, gist and scaled."""
    sweeps: str = "all"
    """Some of width, layers, block, batch and threads; none; all."""
    rounds: Annotated[int | None, flag("INT", "7, with --quick 3")] = None
    """How often each row takes its turn."""
    quick: bool = False
    """Fewer rounds and no sweeps."""
    dtype: Annotated[str | None, flag("DTYPE", "float32, where a version has it")] = None
    """Precision: float32 or float64."""
    device: str = "cpu"
    """Where to compute, such as cpu or cuda."""
    max_batch: int = 1024
    """Where the sweep of batches ends."""
    out: Annotated[Path | None, flag("FOLDER", "runs/<date>-bench")] = None
    """Folder for bench.json, staircase.svg and sweeps.svg."""
    json: Annotated[Path | None, flag("FILE", "none")] = None
    """Write the record here too."""
    from_: Annotated[Path | None, flag("FILE", "none", name="from")] = None
    """Measure nothing: show this bench.json."""
    against: Annotated[Path | None, flag("FILE", "none")] = None
    """Say what has changed since this bench.json."""
    write: bool = False
    """Put the table into README.md, record and pictures into docs/."""

    def run(self) -> int:
        from microgpt_lab.benchmark import bench, report

        old = bench.read(self.against) if self.against else None
        console = plain_console()
        if self.from_:
            record, out = bench.read(self.from_), self.out
        else:
            plan = bench.plan(
                self.versions, self.recipe, "none" if self.quick else self.sweeps,
                (3 if self.quick else 7) if self.rounds is None else self.rounds,
                self.dtype, self.device, self.max_batch,
            )  # fmt: skip
            out = self.out or bench.folder()
            bench.room(out, *([self.json] if self.json else []))
            with console.status("") as status:
                record = bench.measure(plan, status.update)
        kept = report.keep(record, out) if out else []
        if self.json:
            kept += [report.write_record(record, self.json)]
        if self.write:
            kept += report.write(record)
        report.show(record, console)
        if old:
            console.print()
            report.show_changes(old, record, console)
        for path in kept:
            console.print(f"wrote {path}", soft_wrap=True)
        return 1 if bench.failed(record) else 0


@dataclass
class Doctor:
    """What is here, what is missing, and the command that installs it."""

    def run(self) -> int:
        from microgpt_lab.commands import doctor

        return doctor.check(plain_console())


COMMANDS: dict[str, Any] = {"bench": Bench, "ideas": Ideas, "scale": Scale, "doctor": Doctor}
