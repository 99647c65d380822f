"""What commands print alike."""

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console


def plain_console() -> Console:
    """A terminal that takes names and paths as they are, brackets and colons too."""
    return Console(markup=False, emoji=False, highlight=False)


def side_by_side(names: Sequence[str]) -> Columns:
    """Names in columns, to be read downwards; the empty one as quotes."""
    shown = [name or '""' for name in names]
    return Columns(shown, padding=(0, 3), column_first=True, equal=True)


def duration(seconds: float) -> str:
    """Three digits and a unit, or minutes and hours as on a clock."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min {seconds % 60:02.0f} s"
