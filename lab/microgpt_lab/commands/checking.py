"""Commands that check programs against the specification."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from microgpt import InputError

from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base import files, json_text
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, flag

if TYPE_CHECKING:
    from microgpt_lab.verification.random_cases import RandomCases


BY_DEFAULT = 3  # random cases


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
    random: Annotated[int | None, flag("N", str(BY_DEFAULT))] = None
    """Also draw so many cases at random, in each precision; 01 computes their answers."""
    seed: Annotated[int | None, flag("N", "a new one")] = None
    """Draw the random cases of this seed again."""
    case: Annotated[str | None, flag("NAME|FILE", "none")] = None
    """Only this golden case, or the case in this file."""
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
        from microgpt_lab.verification import random_runs, verify

        at_least(1, jobs=self.jobs)
        at_least(0.001, timeout=self.timeout)
        at_least(0, random=self.random or 0, seed=self.seed or 0)
        if self.program or self.results:
            return self.run_port()
        console = plain_console()
        drawn = self.draw_cases(console)
        results = self.results_of_versions(drawn, console)
        verify.show_results(results, console)
        random_runs.show_drawn(drawn, console)
        random_runs.write_cases({r.version: r.shrunk for r in results if r.shrunk}, console)
        run = verify.run_record(results)
        if self.json:
            files.write(self.json, json_text.to_json(run))
        lines = self.pages(run, console)
        if all(result.reason for result in results):
            raise InputError(f"nothing was verified: {results[0].name}: {results[0].reason}")
        return 1 if lines or any(result.failures for result in results) else 0

    def draw_cases(self, console: Console) -> "RandomCases":
        """The random cases of this run: none with --case, --checkpoint or --results."""
        from microgpt_lab.verification import random_cases

        alone = self.case is not None or self.checkpoint or self.results
        if alone and (self.random or self.seed is not None):
            raise InputError("--random and --seed: leave --case, --checkpoint and --results out")
        wanted = BY_DEFAULT if self.random is None else self.random
        seed = random_cases.new_seed() if self.seed is None else self.seed
        with console.status("drawing random cases: 01 computes their answers"):
            wanted = 0 if alone else wanted
            return random_cases.draw_cases(seed, wanted, self.random is not None)

    def results_of_versions(self, drawn: "RandomCases", console: Console) -> list[Any]:
        from microgpt_lab.verification import from_checkpoint, random_cases, verify

        if self.write or self.check:
            for name in ("checkpoint", "case"):
                if getattr(self, name) is not None:
                    raise InputError(f"VERIFIED.md is about all golden vectors: leave --{name} out")
        if self.checkpoint:
            return from_checkpoint.run_all(self.checkpoint, self.versions, self.jobs)
        with console.status("running the checks: all versions take a minute or two"):
            if self.case is None:
                return list(verify.run_all(self.versions, self.jobs, "", drawn))
            return verify.run_case(random_cases.find_case(self.case), self.versions, self.jobs)

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
        from microgpt_lab.verification import ports, random_cases, random_runs, vectors

        if self.versions or (self.program and self.results):
            raise InputError("verify takes versions, or --program, or --results")
        cases = [random_cases.find_case(self.case)] if self.case else vectors.read_vectors()
        if self.program:
            replies = ports.run_program(self.program, cases, self.timeout)
        else:
            assert self.results
            replies = ports.read_results(self.results, cases)
        console = plain_console()
        ports.show_replies(replies, console)
        if self.json:
            files.write(self.json, json_text.to_json(ports.replies_record(replies)))
        if not ports.passed(replies):
            return 1
        if not self.program or self.case:
            return 0
        drawn = self.draw_cases(console)
        return 0 if random_runs.check_port(self.program, replies, drawn, self.timeout) else 1


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


COMMANDS: dict[str, Any] = {
    "verify": Verify,
    "vectors": Vectors,
    "mutants": Mutants,
}
