"""Commands that hold programs against the specification."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError

from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base import json_text
from microgpt_lab.commands.arguments import at_least, flag
from microgpt_lab.verification import page


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
            files.write(self.json, json_text.to_json(run))
        if self.write:
            files.write(page.VERIFIED, page.markdown(run))
            page.into_readmes(run)
        lines = page.shortfalls(rows, run) if self.check else []
        for line in lines:
            console.print(f"[red]✗[/] {line}", highlight=False, soft_wrap=True)
        return 1 if lines or any(row.failures for row in rows) else 0

    def run_port(self) -> int:
        from microgpt_lab.base import files
        from microgpt_lab.verification import ports, vectors

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
            files.write(self.json, json_text.to_json(ports.record(replies)))
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


COMMANDS: dict[str, Any] = {
    "verify": Verify,
    "vectors": Vectors,
    "mutants": Mutants,
}
