"""How all commands print: standard output that never stops a command, the console, names in
columns, durations."""

import codecs
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import microgpt

from rich.columns import Columns
from rich.console import Console
from rich.text import Text

NARROWEST, WIDEST = 20, 1000  # columns; beyond these the layout would fail or fill the memory
# for encodings that lack these: one character for one, so that columns stay in line
REPLACEMENTS = dict(zip("✓✗→–—µ×…·Δ≠░▒▓█", "+x>--ux..d!.:%#"))
PLAIN = "microgpt.plain"


# ---------------------------------------------------------------- Standard output


def in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """The error handler of streams: a similar character, or else an escape such as \\u3042."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    shown = (REPLACEMENTS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(shown), error.end


codecs.register_error(PLAIN, in_plain_letters)


class Output:
    """A stream that never raises: after a write that fails, the rest is thrown away, and the
    command goes on. `failure` is what the write raised."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self.lasting():
            self.stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with self.lasting():
            self.stream.flush()

    @contextmanager
    def lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            self.failure = self.failure or e
            with suppress(OSError, ValueError):  # what is in the buffer goes there too
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)

    @property
    def problem(self) -> str:
        """What a person should know of a failed write; "" if a reader such as `head` ended."""
        if self.failure is None or isinstance(self.failure, BrokenPipeError):
            return ""
        reason = self.failure.strerror or self.failure
        return f"cannot write to standard output: {reason}; everything else is done"


@contextmanager
def guarded_output() -> Iterator[Output]:
    """Inside the block both streams take every text, and neither raises."""
    microgpt.guard_output()
    before: tuple[TextIO, TextIO] = sys.stdout, sys.stderr
    for stream in before:
        stream.reconfigure(errors=PLAIN)  # type: ignore[attr-defined]
    out = Output(sys.stdout)
    sys.stdout, sys.stderr = out, Output(sys.stderr)
    try:
        yield out
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        sys.stdout, sys.stderr = before


def nobody_reads() -> bool:
    """Whether what is printed is thrown away, because a write has failed."""
    return getattr(sys.stdout, "failure", None) is not None


# ---------------------------------------------------------------- The console


class PlainConsole(Console):
    """A console that prints text as it is: by default rich reads [x] as markup and :x: as an emoji,
    and a name or a path may contain both. Control characters, which a terminal would obey, are
    printed as escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible_lines(text), **options)


def visible_lines(text: str) -> str:
    """The text with control characters as escapes, except the ends of its lines."""
    return "\n".join(map(microgpt.visible, text.split("\n")))


def plain_console() -> Console:
    """The console of all commands."""
    return PlainConsole()


def ensure_columns() -> None:
    """Correct a COLUMNS that no layout fits; without one, rich asks the terminal."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        os.environ["COLUMNS"] = str(max(NARROWEST, min(WIDEST, int(given))))
    else:
        os.environ.pop("COLUMNS", None)


def side_by_side(names: Sequence[str]) -> Columns:
    """Names in columns, in order from top to bottom; an empty name is shown as \"\"."""
    shown = [name or '""' for name in names]
    return Columns(shown, padding=(0, 3), column_first=True, equal=True)


def duration(seconds: float) -> str:
    """Seconds as text: three digits and a unit below 100 s, else minutes or hours."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min {seconds % 60:02.0f} s"
