"""How all commands print: the console, names in columns, durations."""

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console


def plain_console() -> Console:
    """A console that prints text as it is. By default rich reads [x] as markup and :x: as an emoji,
    and a name or a path may contain both."""
    return Console(markup=False, emoji=False, highlight=False)


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
