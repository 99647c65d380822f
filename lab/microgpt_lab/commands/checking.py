"""Commands that check programs against the specification."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError

from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base import files, json_text
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, flag


@dataclass
class Verify:
    """Check versions, or a port, against the golden vectors; status 1 on a failure."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number."""
    checkpoint: Annotated[Path | None, flag("RUN|CHECKPOINT", "none")] = None
    """Start from this run or checkpoint, and compare the next 20 steps with 01's."""
    program: Annotated[str | None, flag("COMMAND", "none")] = None
    """Check a port: the command that starts it (see spec/README.md)."""
    results: Annotated[Path | None, flag("FILE", "none")] = None
    """Check a port: a file with its answers."""
    json: Annotated[Path | None, flag("FILE", "none")] = None
    """Write the whole run to this file, for programs to read."""
    jobs: int = 2
    """How many versions to check at the same time."""
    timeout: float = 60.0
    """Seconds that a port may take for one case."""
    write: bool = False
    """Write this run into VERIFIED.md and the READMEs. Other versions' rows stay."""
    check: bool = False
    """Fail also if VERIFIED.md claims more than this run shows, or a version did not run."""

    def run(self) -> int:
        from microgpt_lab.verification import verify

        at_least(1, jobs=self.jobs)
        at_least(0.001, timeout=self.timeout)
        if self.program or self.results:
            return self.run_port()
        console = plain_console()
        results = self.results_of_versions(console)
        verify.show_results(results, console)
        run = verify.run_record(results)
        if self.json:
            files.write(self.json, json_text.to_json(run))
        lines = self.pages(run, console)
        if all(result.reason for result in results):
            raise InputError(f"nothing was verified: {results[0].name}: {results[0].reason}")
        return 1 if lines or any(result.failures for result in results) else 0

    def results_of_versions(self, console: Console) -> list[Any]:
        from microgpt_lab.verification import from_checkpoint, verify

        if self.checkpoint:
            if self.write or self.check:
                raise InputError("VERIFIED.md is about the golden vectors: leave --checkpoint out")
            return from_checkpoint.run_all(self.checkpoint, self.versions, self.jobs)
        with console.status("running the checks: all versions take a minute or two"):
            return list(verify.run_all(self.versions, self.jobs))

    def pages(self, run: dict[str, Any], console: Console) -> list[str]:
        """Write or check the pages, as asked; returns the failures of the check."""
        from microgpt_lab.base import versions
        from microgpt_lab.verification import output, verified_page

        places, whole = verified_page.Places(), not self.versions
        if self.write:
            for note in verified_page.update_pages(run, versions.find(), whole, places):
                output.print_explanation(console, note)
        lines = verified_page.shortfalls(run, whole, places) if self.check else []
        for line in lines:
            output.print_failure(console, line)
        return lines

    def run_port(self) -> int:
        from microgpt_lab.verification import ports, vectors

        if self.versions or (self.program and self.results):
            raise InputError("verify takes versions, or --program, or --results")
        cases = vectors.read_vectors()
        if self.program:
            replies = ports.run_program(self.program, cases, self.timeout)
        else:
            assert self.results
            replies = ports.read_results(self.results, cases)
        ports.show_replies(replies, plain_console())
        if self.json:
            files.write(self.json, json_text.to_json(ports.replies_record(replies)))
        return 0 if ports.passed(replies) else 1


@dataclass
class Vectors:
    """Compute the golden vectors again, with 01 alone."""

    def run(self) -> int:
        from microgpt_lab.base.versions import ROOT
        from microgpt_lab.verification import vectors

        for path in vectors.write_vectors():
            print(path.relative_to(ROOT))
        return 0


@dataclass
class Mutants:
    """Test the checks: each wrong program must fail, each harmless rewrite must pass."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number."""
    jobs: int = 2
    """How many versions to run at the same time."""
    write: bool = False
    """Write this run into spec/MUTANTS.md. Other versions' sections stay."""
    check: bool = False
    """Fail also if a section of spec/MUTANTS.md is not what this run makes."""

    def run(self) -> int:
        from microgpt_lab.base import versions
        from microgpt_lab.verification import mutants, mutants_page, output

        at_least(1, jobs=self.jobs)
        console = plain_console()
        verdicts = list(mutants.run_all(self.versions, self.jobs))
        mutants.show_verdicts(verdicts, console)
        in_tree, whole = versions.find(), not self.versions
        if self.write:
            for note in mutants_page.write_page(verdicts, in_tree):
                output.print_explanation(console, note)
        lines = mutants_page.outdated(verdicts, in_tree, whole) if self.check else []
        for line in lines:
            output.print_failure(console, line)
        return 1 if lines or not all(v.right for v in verdicts) else 0


@dataclass
class Proof:
    """Prove how far verify reaches: each field read wrongly must fail, each line must run."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number."""
    jobs: int = 2
    """How many versions to run at the same time."""
    lines: bool = False
    """Also measure which lines and branches verify runs; this takes as long as verify."""
    write: bool = False
    """Write the lines that verify does not run into VERIFIED.md. Needs --lines."""

    def run(self) -> int:
        from microgpt_lab.verification import proof, reach

        at_least(1, jobs=self.jobs)
        if self.write and not self.lines:
            raise InputError("--write is about lines: give --lines too")
        console = plain_console()
        right = [proof.show(*one, console) for one in proof.run_all(self.versions, self.jobs)]
        if self.lines:
            right += reach.measure_all(self.versions, self.write, console)
        return 0 if all(right) else 1


COMMANDS: dict[str, Any] = {
    "verify": Verify,
    "vectors": Vectors,
    "mutants": Mutants,
    "proof": Proof,
}
