"""One tiny GPT, many implementations: train, compare, verify, look."""

import contextlib
import difflib
import io
import os
import re
import sys
from typing import Annotated, Any, Union

import tyro
from microgpt import InputError

from microgpt_lab import cli_checks, cli_runs

COMMANDS: dict[str, Any] = cli_runs.COMMANDS | cli_checks.COMMANDS
DEFAULT = "compare"  # what `microgpt` alone does
SUBCOMMANDS: Any = Union[  # noqa: UP007
    tuple(Annotated[command, tyro.conf.subcommand(name)] for name, command in COMMANDS.items())
]


def parse(arguments: list[str]) -> Any:
    """The command that was asked for. Raises InputError with one line."""
    name = arguments[0] if arguments else DEFAULT
    if not name.startswith("-") and name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise InputError(f"no command {name!r}: {hint}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                SUBCOMMANDS,
                prog="microgpt",
                description=__doc__,
                default=COMMANDS[DEFAULT](),
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as e:
        if not e.code:  # --help
            raise
        raise InputError(f"{plain(said.getvalue())} (microgpt {name} --help)") from None


def plain(box: str) -> str:
    """The first paragraph of what stands in a box drawn of lines, as one line."""
    words = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        text = line.strip("│ ")
        if not text or set(text) <= set("─╰╯"):
            break
        words.append(text.replace("(required)", ""))
    return " ".join(" ".join(words).split()).rstrip(".")


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
