"""Commands that measure versions or compute what they would cost, and `doctor`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError

from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base import files
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, ensure_outputs, flag, positive

VOCABULARY = 27  # tokens of the names in data/


MOST_WORKERS = 10_000


@dataclass
class Scale:
    """Compute what many workers would cost: memory, communication, time of a step."""

    recipe: Annotated[str, flag("seed|gist|scaled", "scaled")] = "scaled"
    """The recipe with the layers, the width of a head and the documents of each worker."""
    widths: Annotated[str, flag("N,N,…", "16,64,256")] = "16,64,256"
    """Widths of the model."""
    workers: Annotated[str, flag("N,N,…", "1,2,4,8")] = "1,2,4,8"
    """Numbers of workers."""
    length: int = 7
    """Targets in a document; the names in data/ have 7.1 on average."""
    operations: Annotated[float | None, flag("GFLOP/S", "measured on one core here")] = None
    """Operations that a worker computes in a second, in 1e9."""
    bandwidth: Annotated[float, flag("GB/S", "1.25")] = 1.25
    """Bytes a second between workers, in 1e9; 1.25 is an Ethernet of 10 Gbit/s."""
    latency: Annotated[float, flag("µS", "50")] = 50.0
    """Time of a message without content."""
    overhead: Annotated[float, flag("µS", "0")] = 0.0
    """Time of each step that more workers do not reduce (the framework's overhead)."""

    def run(self) -> int:
        from microgpt_lab.base import options
        from microgpt_lab.benchmark import lower_bound, scale

        config = options.recipe(self.recipe, {})
        widths, workers = positive("widths", self.widths), positive("workers", self.workers)
        for name in ("length", "bandwidth", "latency", "operations"):
            value = getattr(self, name)
            if value is not None and not 1e-6 <= value <= 1e12:
                raise InputError(f"{name} is {value}: it must lie in 1e-6 … 1e12")
        if not 0 <= self.overhead <= 1e12:
            raise InputError(f"overhead is {self.overhead}: it must lie in 0 … 1e12")
        if max(workers) > MOST_WORKERS:
            raise InputError(f"workers is {max(workers)}: it must lie in 1 … {MOST_WORKERS}")
        rate = self.operations
        if rate is None:
            rate = lower_bound.calibrate()["operations"]["float32"] / 1e9
        cluster = scale.Cluster(
            rate * 1e9, self.bandwidth * 1e9, self.latency * 1e-6, self.overhead * 1e-6
        )
        length = min(self.length, config.block_size)
        scale.show_costs(config, VOCABULARY, length, widths, workers, cluster, plain_console())
        return 0


@dataclass
class Ablation:
    """Time 01 with each of its optimizations removed in turn."""

    rounds: int = 3
    """Rounds; in each, every program is timed once."""
    steps: int = 50
    """Training steps of each program in a round."""

    def run(self) -> int:
        from microgpt_lab.base.versions import ensure_tree
        from microgpt_lab.benchmark import ablation

        at_least(1, rounds=self.rounds, steps=self.steps)
        ensure_tree()
        ablation.show_programs(ablation.measure_programs(self.rounds, self.steps), plain_console())
        return 0


@dataclass
class Bench:
    """Measure what every version costs, beside the lower bound: tables and pictures."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """Versions by folder name or number, each with its variants."""
    recipe: Annotated[str, flag("seed,gist,scaled", "seed,scaled")] = "seed,scaled"
    """One or more recipes, separated by commas."""
    sweeps: Annotated[str, flag("width,layers,block,batch,threads|none|all", "all")] = "all"
    """Sizes to vary, separated by commas."""
    rounds: Annotated[int | None, flag("INT", "7, with --quick 3")] = None
    """Rounds; in each, every row is measured once."""
    quick: bool = False
    """Fewer rounds and no sweeps."""
    dtype: Annotated[str | None, flag("float32|float64", "float32, where a version has it")] = None
    """Precision."""
    device: Annotated[str, flag("cpu|cuda|gpu|mps", "cpu")] = "cpu"
    """Device to compute on. There is no lower bound for GPUs."""
    max_batch: int = 1024
    """Largest batch in the sweep over batches."""
    out: Annotated[Path | None, flag("FOLDER", "runs/<date>-bench")] = None
    """Folder for bench.json, step-times.svg and sweeps.svg."""
    json: Annotated[Path | None, flag("FILE", "none")] = None
    """Write the record to this file too."""
    from_: Annotated[Path | None, flag("FILE", "none", name="from")] = None
    """Measure nothing: show the record in this bench.json."""
    against: Annotated[Path | None, flag("FILE", "none")] = None
    """Show what has changed since this bench.json, in the rows that are measured now."""
    write: bool = False
    """Put the measured rows into docs/ (record, page and pictures); all other rows stay."""

    def run(self) -> int:
        from microgpt_lab.benchmark import changes, page, record, report

        ensure_outputs({"--json": self.json}, {"--from": self.from_})
        if self.out:
            files.ensure_folder(self.out, "bench.json")
        old = record.read_record(self.against) if self.against else None
        if self.write:
            self.refuse_other_rows()
            page.check_page()
        console = plain_console()
        if self.from_:
            if self.versions:
                raise InputError("--from shows a whole record: name no versions with it")
            new, out = record.read_record(self.from_), self.out
        else:
            out = self.out or record.default_folder()
            new, old = self.measure(out, console, old)
        kept = report.save_record(new, out) if out else []
        if self.json:
            kept.append(record.write_record(new, self.json))
        report.show_record(new, console)
        if old:
            console.print()
            changes.show_changes(old, new, console)
        if self.write:
            written, sentences = page.write_page(new)
            kept += written
            for sentence in sentences:
                console.print(sentence, soft_wrap=True)
        for path in kept:
            console.print(f"wrote {path}", soft_wrap=True)
        return 1 if record.failed(new) else 0

    def refuse_other_rows(self) -> None:
        """Rows in another dtype or on another device cannot stand in the page's tables."""
        if self.dtype or self.device != "cpu":
            raise InputError(
                "docs/benchmark.md shows the CPU and each version's default dtype: with --dtype "
                "or --device use --out FOLDER instead of --write"
            )

    def measure(self, out: Path, console: Console, old: Any) -> tuple[Any, Any]:
        """Measure. -> the new record, and the old one with the rows that were asked for alone"""
        from microgpt_lab.base.versions import pick
        from microgpt_lab.benchmark import bench, changes

        plan = bench.make_plan(
            self.versions, self.recipe, "none" if self.quick else self.sweeps,
            (3 if self.quick else 7) if self.rounds is None else self.rounds,
            self.dtype, self.device, self.max_batch,
        )  # fmt: skip
        files.ensure_folder(out, "bench.json")
        if old:
            versions = [version.name for version in pick(self.versions)] if self.versions else None
            old = changes.restrict(old, versions, plan.recipes)
        with console.status("") as status:
            return bench.measure(plan, status.update), old


@dataclass
class Doctor:
    """What is here, what is missing, and the command that installs it."""

    def run(self) -> int:
        from microgpt_lab.commands import doctor

        return doctor.check(plain_console())


COMMANDS: dict[str, Any] = {"bench": Bench, "ablation": Ablation, "scale": Scale, "doctor": Doctor}
