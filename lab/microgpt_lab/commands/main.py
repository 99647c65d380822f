"""One tiny GPT, many implementations: train, compare, verify, look."""

import contextlib
import io
import os
import re
import sys
from typing import Any

from microgpt import InputError

import tyro
from rich.table import Table

from microgpt_lab.base import options
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands import checking, measuring, porting, running

COMMANDS: dict[str, Any] = running.COMMANDS | checking.COMMANDS | measuring.COMMANDS
COMMANDS |= porting.COMMANDS
DEFAULT = "compare"  # what `microgpt` alone does


def parse(arguments: list[str]) -> Any:
    """The command that was asked for. Raises InputError with one line."""
    if arguments and arguments[0] in ("-h", "--help"):
        show_commands()
        sys.exit()
    if not arguments or arguments[0].startswith("-"):
        arguments = [DEFAULT, *arguments]
    name = arguments[0]
    if name not in COMMANDS:
        raise InputError(f"no command {name!r}{options.hint(name, COMMANDS)}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="microgpt",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as e:
        if not e.code:  # --help
            raise
        raise InputError(f"{plain(said.getvalue())} (microgpt {name} --help)") from None


def show_commands() -> None:
    """What there is, a line each."""
    console, table = plain_console(), Table.grid(padding=(0, 2))
    for name, command in COMMANDS.items():
        table.add_row(f"  {name}", command.__doc__)
    console.print(f"{__doc__}\n\nusage: microgpt [COMMAND] [OPTIONS]\n")
    console.print(table)
    console.print(f"\nmicrogpt alone runs {DEFAULT}; microgpt COMMAND --help lists its options.")


def plain(box: str) -> str:
    """The first paragraph under the title of a box drawn of lines, as one line."""
    words: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        text = line.strip("│ ")
        if text and not set(text) <= set("─-╰╯"):
            words += text.replace("(required)", "").split()
        elif words:
            break
    return " ".join(words).rstrip(".")


def main() -> None:
    """Run a subcommand; what cannot work is one line and status 2."""
    try:
        status = parse(sys.argv[1:]).run()
        sys.stdout.flush()
        sys.exit(status)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
