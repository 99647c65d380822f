"""Commands that hold programs against the specification."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError
from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.running import flag


def at_least(least: float, **numbers: float) -> None:
    """Raises InputError for a number that is less, or none at all."""
    for name, value in numbers.items():
        if not value >= least:
            raise InputError(f"{name} is {value}: it must be {least} or more")


@dataclass
class Verify:
    """Hold versions, or a port, against the golden vectors; status 1 on a failure."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number."""
    checkpoint: Annotated[Path | None, flag("RUN|CHECKPOINT", "none")] = None
    """Start from this run or checkpoint instead of the golden vectors' small cases."""
    program: Annotated[str | None, flag("COMMAND", "none")] = None
    """A port instead: the command that starts it (see spec/README.md)."""
    results: Annotated[Path | None, flag("FILE", "none")] = None
    """A port instead: a file with its answers."""
    json: Annotated[Path | None, flag("FILE", "none")] = None
    """Write the whole run here for machines."""
    jobs: int = 2
    """Versions checked at a time."""
    timeout: float = 60.0
    """Seconds that a port may take for one case."""
    write: bool = False
    """Write VERIFIED.md and the READMEs' tables from this run."""
    check: bool = False
    """Fail too if VERIFIED.md claims what this run does not show, or a version did not run."""

    def run(self) -> int:
        from microgpt_lab.base import files
        from microgpt_lab.verification import from_checkpoint, verify

        at_least(1, jobs=self.jobs)
        at_least(0.001, timeout=self.timeout)
        if self.program or self.results:
            return self.run_port()
        console = Console()
        if self.checkpoint:
            if self.write or self.check:
                raise InputError("VERIFIED.md is about the golden vectors: leave --checkpoint out")
            rows = from_checkpoint.run_all(self.checkpoint, self.versions, self.jobs)
        else:
            with console.status("climbing the ladder: all versions take a minute or two"):
                rows = list(verify.run_all(self.versions, self.jobs))
        verify.show(rows, console)
        run = verify.record(rows)
        if self.json:
            files.write(self.json, verify.to_json(run))
        if self.write:
            files.write(verify.VERIFIED, verify.markdown(run))
            verify.into_readmes(run)
        lines = verify.shortfalls(rows, run) if self.check else []
        for line in lines:
            console.print(f"[red]✗[/] {line}", highlight=False, soft_wrap=True)
        return 1 if lines or any(row.failures for row in rows) else 0

    def run_port(self) -> int:
        from microgpt_lab.base import files
        from microgpt_lab.verification import ports, vectors, verify

        if self.versions or (self.program and self.results):
            raise InputError("verify takes versions, or --program, or --results")
        cases = vectors.read()
        if self.program:
            replies = ports.run_program(self.program, cases, self.timeout)
        else:
            assert self.results
            replies = ports.read_results(self.results, cases)
        ports.show(replies, Console())
        if self.json:
            files.write(self.json, verify.to_json(ports.record(replies)))
        return 0 if ports.passed(replies) else 1


@dataclass
class Vectors:
    """Make the golden vectors again, with 01 and nothing else."""

    def run(self) -> int:
        from microgpt_lab.base.versions import ROOT
        from microgpt_lab.verification import vectors

        for path in vectors.write():
            print(path.relative_to(ROOT))
        return 0


@dataclass
class Mutants:
    """Try to kill every wrong program and none of the harmless; status 1 otherwise."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number."""
    jobs: int = 2
    """Versions tried at a time."""
    write: bool = False
    """Write spec/MUTANTS.md from this run."""
    check: bool = False
    """Fail too if spec/MUTANTS.md is not what this run makes."""

    def run(self) -> int:
        from microgpt_lab.base import files
        from microgpt_lab.verification import mutants

        at_least(1, jobs=self.jobs)
        console = Console()
        verdicts = list(mutants.run_all(self.versions, self.jobs))
        mutants.show(verdicts, console)
        page = mutants.markdown(verdicts)
        if self.write:
            files.write(mutants.PAGE, page)
        stale = self.check and (not mutants.PAGE.exists() or mutants.PAGE.read_text() != page)
        if stale:
            console.print("[red]✗[/] spec/MUTANTS.md is not of this run: microgpt mutants --write")
        return 0 if all(v.right for v in verdicts) and not stale else 1


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


COMMANDS: dict[str, Any] = {
    "verify": Verify,
    "vectors": Vectors,
    "mutants": Mutants,
    "ideas": Ideas,
    "bench": Bench,
}
