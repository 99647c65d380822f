"""One tiny GPT, many implementations: train, compare and verify them."""

import contextlib
import io
import re
import sys
from importlib import metadata
from typing import Any

from microgpt import InputError, visible

import tyro
from rich.table import Table

from microgpt_lab.base import options, processes, terminal, versions
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands import (
    adding,
    beyond,
    checking,
    measuring,
    porting,
    racing,
    running,
    site,
)
from microgpt_lab.commands.arguments import refuse_empty

COMMANDS: dict[str, Any] = running.COMMANDS | checking.COMMANDS | measuring.COMMANDS
COMMANDS |= beyond.COMMANDS | racing.COMMANDS | adding.COMMANDS | porting.COMMANDS
COMMANDS |= site.COMMANDS
DEFAULT = "compare"  # what `microgpt` alone does


def parse(arguments: list[str]) -> Any:
    """The command with its options, from the arguments. Raises InputError with one line."""
    if arguments and arguments[0] in ("-h", "--help"):
        show_commands()
        sys.exit()
    if arguments and arguments[0] == "--version":
        print(f"microgpt {metadata.version('microgpt-beyond')}")
        sys.exit()
    if not arguments or arguments[0].startswith("-"):
        arguments = [DEFAULT, *arguments]
    name = arguments[0]
    if name not in COMMANDS:
        raise InputError(f"no command {name!r}{options.hint(name, COMMANDS)}")
    refuse_empty(arguments[1:])
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="microgpt",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as e:
        if not e.code:  # --help
            raise
        raise InputError(f"{error_in(messages.getvalue())} (microgpt {name} --help)") from None


def show_commands() -> None:
    """Print a line for each command."""
    console, table = plain_console(), Table.grid(padding=(0, 2))
    for name, command in COMMANDS.items():
        table.add_row(f"  {name}", command.__doc__)
    console.print(f"{__doc__}\n\nusage: microgpt [COMMAND] [OPTIONS]\n")
    console.print(table)
    console.print(f"\nmicrogpt alone runs {DEFAULT}; microgpt COMMAND --help lists its options.")


def error_in(box: str) -> str:
    """The first paragraph of an error message of tyro, which draws a box around it, as one line."""
    words: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        text = line.strip("│ ")
        if text and not set(text) <= set("─-╰╯"):
            words += text.replace("(required)", "").split()
        elif words:
            break
    return " ".join(words).rstrip(".")


def status_of(arguments: list[str]) -> int:
    """Run a command -> the exit status: 2, with one line, for an InputError."""
    try:
        with processes.ended_in_order():
            command = parse(arguments)
            for option in ("write", "record"):
                if getattr(command, option, False):
                    versions.ensure_checkout(f"--{option}")
            return int(command.run())
    except InputError as e:
        print(f"error: {visible(e)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except processes.Ended as e:
        return e.status
    except SystemExit as e:  # --help
        return e.code if isinstance(e.code, int) else 0


def main() -> None:
    """Run the command of sys.argv, and exit with its status. A standard output that takes nothing
    does not stop it, but is an error at the end."""
    terminal.ensure_columns()
    with terminal.guarded_output() as output:
        status = status_of(sys.argv[1:])
        output.flush()
        if output.problem:
            print(f"error: {output.problem}", file=sys.stderr)
            status = status or 2
    sys.exit(status)


if __name__ == "__main__":
    main()
