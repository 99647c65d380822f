"""Commands that check programs against the specification."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from microgpt import InputError

from rich.console import Console
from tyro.conf import Positional

from microgpt_lab.base import files, json_text, terminal
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, ensure_outputs, flag

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
    recipe: Annotated[str | None, flag("RECIPE", "none")] = None
    """Check a port with this recipe alone: seed, gist or scaled."""
    first: bool = False
    """Check a port: stop after the first case that fails."""
    watch: bool = False
    """Check a port: run again whenever its files change; Ctrl-C ends."""
    report: Annotated[Path | None, flag("FILE", "none")] = None
    """Check a port: write the verdict to this file as a page (Markdown)."""
    badge: Annotated[Path | None, flag("FILE", "none")] = None
    """Check a port: write the verdict to this file as a picture (SVG)."""
    random: Annotated[int | None, flag("N", str(BY_DEFAULT))] = None
    """Also draw so many cases at random, in each precision; 01 computes their answers."""
    seed: Annotated[int | None, flag("N", "a new one")] = None
    """Draw the random cases of this seed again."""
    case: Annotated[str | None, flag("NAME|FILE", "none")] = None
    """Only this golden case, or the case in this file."""
    device: Annotated[str | None, flag("cuda|gpu|tpu|mps", "cpu")] = None
    """Where to compute: versions that have this device, without random cases."""
    json: Annotated[Path | None, flag("FILE", "none")] = None
    """Write the whole run, with a port's verdict, to this file, for programs to read."""
    jobs: int = 2
    """How many versions to check at the same time."""
    timeout: float = 60.0
    """Seconds that a port may take for one case."""
    write: bool = False
    """Write this run into VERIFIED.md and the READMEs. Other versions' rows stay."""
    check: bool = False
    """Fail also if VERIFIED.md claims more than this run shows, or a version did not run."""

    def run(self) -> int:
        from microgpt_lab.base import versions
        from microgpt_lab.verification import random_runs, verify

        at_least(1, jobs=self.jobs)
        at_least(0.001, timeout=self.timeout)
        at_least(0, random=self.random or 0, seed=self.seed or 0)
        self.ensure_files()
        if self.program is not None or self.results is not None:
            return self.run_port()
        self.refuse_port_options()
        versions.with_device(self.versions, self.device or "")  # refused before 01 draws cases
        console = plain_console()
        drawn = self.draw_cases(console)
        results = self.results_of_versions(drawn, console)
        verify.show_results(results, console)
        random_runs.show_drawn(drawn, console)
        random_runs.write_cases({r.version: r.shrunk for r in results if r.shrunk}, console)
        if all(result.reason for result in results):
            raise InputError(f"nothing was verified: {results[0].name}: {results[0].reason}")
        run = verify.run_record(results)
        if self.json:
            files.write(self.json, json_text.to_json(run))
        lines = self.pages(run, console)
        return 1 if lines or any(result.failures for result in results) else 0

    def ensure_files(self) -> None:
        """Raises InputError if a file that was asked for cannot be written."""
        names = ("json", "report", "badge")
        case = Path(self.case) if self.case is not None else None
        inputs = {"--results": self.results, "--checkpoint": self.checkpoint, "--case": case}
        ensure_outputs({f"--{name}": getattr(self, name) for name in names}, inputs)

    def draw_cases(self, console: Console) -> "RandomCases":
        """The random cases of this run: none with --case, --checkpoint or --results."""
        from microgpt_lab.verification import random_cases

        alone = self.case is not None or self.checkpoint or self.results or self.device
        if alone and (self.random or self.seed is not None):
            others = "--case, --checkpoint, --device and --results"
            raise InputError(f"--random and --seed: leave {others} out")
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
        if self.device and (self.check or self.checkpoint or self.case is not None):
            raise InputError("--device goes without --check, --checkpoint and --case")
        if self.checkpoint:
            return from_checkpoint.run_all(self.checkpoint, self.versions, self.jobs)
        with console.status("running the checks: all versions take a minute or two"):
            if self.case is None:
                named = (self.versions, self.jobs, "", drawn, self.device or "")
                return list(verify.run_all(*named))
            return verify.run_case(random_cases.find_case(self.case), self.versions, self.jobs)

    def pages(self, run: dict[str, Any], console: Console) -> list[str]:
        """Write or check the pages, as asked; returns the failures of the check."""
        from microgpt_lab.base import versions
        from microgpt_lab.verification import output, verified_page

        places = verified_page.Places(device=self.device or "")
        whole = not self.versions
        if self.write:
            for note in verified_page.update_pages(run, versions.find(), whole, places):
                output.print_explanation(console, note)
        lines = verified_page.shortfalls(run, whole, places) if self.check else []
        for line in lines:
            output.print_failure(console, line)
        return lines

    def refuse_port_options(self) -> None:
        """Raises InputError for an option that only a port has."""
        for name in ("recipe", "first", "watch", "report", "badge"):
            if getattr(self, name):
                raise InputError(f"--{name} is for a port: give --program or --results too")

    def run_port(self) -> int:
        if self.versions or (self.program is not None and self.results is not None):
            raise InputError("verify takes versions, or --program, or --results")
        for name in ("checkpoint", "device", "write", "check"):
            if getattr(self, name):
                raise InputError(f"--{name} is for versions: leave it out with a port")
        if self.results is not None and (self.first or self.watch):
            raise InputError("--first and --watch run a program: give --program")
        if self.recipe is not None and self.random:
            raise InputError("--random draws other recipes: leave it or --recipe out")
        cases = self.cases_for_port()
        return self.watch_port(cases) if self.watch else self.check_port(cases)

    def cases_for_port(self) -> list[Any]:
        """The golden cases; or one case, or those of one recipe, if asked."""
        from microgpt_lab.verification import port_recipe, random_cases, vectors

        if self.case is not None and self.recipe is not None:
            raise InputError("--case is one case, --recipe all of a recipe: leave one out")
        if self.case is not None:
            return [random_cases.find_case(self.case)]
        golden = vectors.read_vectors()
        if self.recipe is None:
            return golden
        return port_recipe.recipe_cases(self.recipe, golden, self.seed)

    def check_port(self, cases: list[Any]) -> int:
        """Check the port once: show the report, write what was asked -> the exit status."""
        from microgpt_lab.verification import port_page, port_report, ports, random_runs

        console, drawn, left = plain_console(), None, 0
        if self.results is not None:
            replies = ports.read_results(self.results, cases)
        else:
            assert self.program is not None
            replies = ports.run_program(self.program, cases, self.timeout, self.first)
            left = len(cases) - len(replies)
            if self.recipe is None and not any(reply.failed for reply in replies):
                drawn = self.draw_cases(console)
                replies += random_runs.ask_port(self.program, replies, drawn, self.timeout)
        report = port_report.make(replies, left=left)
        port_report.show(report, console)
        if self.program is not None and drawn is not None:
            random_runs.show_port(self.program, replies, drawn, self.timeout, console)
        if self.json:
            files.write(self.json, json_text.to_json(port_report.record(report)))
        if self.report:
            files.write(self.report, port_page.page(report))
        if self.badge:
            files.write(self.badge, port_report.badge(report.verdict))
        return report.verdict.status

    def watch_port(self, cases: list[Any]) -> int:
        """Check the port, and again whenever its files change, until Ctrl-C."""
        from microgpt_lab.verification import output, port_watch

        console = plain_console()
        watched = port_watch.files_of(self.program or "")
        before = port_watch.state_of(watched)
        self.check_port(cases)
        names = ", ".join(map(str, watched))
        output.print_explanation(console, f"watching {names}: Ctrl-C ends")
        for changed in port_watch.changes(watched, before, port_watch.wait):
            if terminal.nobody_reads():
                break
            output.print_explanation(console, f"changed: {', '.join(map(str, changed))}")
            try:
                self.check_port(cases)
            except InputError as e:  # it may not start while somebody works on it
                output.print_failure(console, str(e))
        return 0


@dataclass
class Vectors:
    """Compute the golden vectors again, with 01 alone."""

    out: Annotated[Path | None, flag("FOLDER", "spec/vectors")] = None
    """Folder for the files, which must not exist."""

    def run(self) -> int:
        from microgpt_lab.base import versions
        from microgpt_lab.verification import vectors

        versions.ensure_tree()
        if self.out is None:
            versions.ensure_checkout("microgpt vectors without --out")
            written = vectors.write_vectors()
        else:
            if self.out.exists() or self.out.is_symlink():
                raise InputError(f"--out {str(self.out)!r} exists: choose another folder")
            files.ensure_folder(self.out)
            written = vectors.write_vectors(self.out)
        for path in written:
            print(path.relative_to(versions.ROOT) if self.out is None else path)
        return 0


@dataclass
class Mutants:
    """Test the checks: each wrong program must fail, each harmless rewrite must pass."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number; `lab` for wrong edits of the lab itself."""
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
        if self.versions[:1] == ("lab",):
            return self.run_lab(console)
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

    def run_lab(self, console: Console) -> int:
        """The lab's own mutants: all, or those whose ids follow `lab`."""
        from microgpt_lab.verification import lab_mutants

        if self.write or self.check:
            raise InputError("spec/MUTANTS.md is about versions: leave --write and --check out")
        return lab_mutants.run_and_show(self.versions[1:], self.jobs, console)


@dataclass
class Proof:
    """Show how far verify reaches: each field read wrongly must fail."""

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
