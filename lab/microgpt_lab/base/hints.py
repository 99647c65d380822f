"""The end of an error message about an unknown name."""

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar, or all known names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    return f": did you mean {near[0]}?" if near else f": there is {', '.join(known)}"
