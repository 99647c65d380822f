"""The command `microgpt`: its subcommands as typed dataclasses, each with a method `run`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from microgpt import InputError
from tyro.conf import Positional, subcommand


@dataclass
class Verify:
    """Hold every version, or a port, against the golden vectors. Status 1 on a failure."""

    versions: Positional[tuple[str, ...]] = ()
    """Versions by folder name or number; none: all of the tree."""
    json: Path | None = None
    """Write the whole run here for machines."""
    jobs: int = 2
    """Versions checked at a time."""
    write: bool = False
    """Write VERIFIED.md and the READMEs' tables from this run."""
    check: bool = False
    """Fail if VERIFIED.md claims what this run does not show, or if anything did not run."""

    def run(self) -> int:
        from rich.console import Console

        from microgpt_lab import verify

        rows = list(verify.run_all(self.versions, self.jobs))
        console = Console()
        verify.show(rows, console)
        run = verify.record(rows)
        if self.json:
            verify.write(self.json, verify.to_json(run))
        failed = any(row.failures for row in rows)
        if self.write:
            verify.write(verify.VERIFIED, verify.markdown(run))
            verify.into_readmes(run)
        if self.check:
            lines = verify.overclaims(verify.VERIFIED.read_text(), run)
            lines += [f"{row.name} {row.dtype}: {row.reason}" for row in rows if row.reason]
            for line in lines:
                console.print(f"[red]✗[/] {line}", highlight=False, soft_wrap=True)
            failed = failed or bool(lines)
        return 1 if failed else 0


@dataclass
class Vectors:
    """Make the golden vectors again, with 01 and nothing else."""

    def run(self) -> int:
        from microgpt_lab import vectors
        from microgpt_lab.versions import ROOT

        for path in vectors.write():
            print(path.relative_to(ROOT))
        return 0


Command = Annotated[Verify, subcommand("verify")] | Annotated[Vectors, subcommand("vectors")]


def main() -> None:
    """Run a subcommand; what cannot work is one line and status 2."""
    try:
        command = tyro.cli(Command, prog="microgpt", description=__doc__)
        sys.exit(command.run())
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
