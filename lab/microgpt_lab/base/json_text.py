"""JSON text in the two layouts that the lab writes."""

import json
import math
from typing import Any


def dump(value: Any, indent: int = 0) -> str:
    """JSON with one line for each key and each row of numbers; floats keep every digit.
    Raises ValueError for NaN and infinity."""
    if isinstance(value, dict):
        pad = " " * (indent + 1)
        lines = [f"{pad}{json.dumps(k)}: {dump(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        pad = " " * (indent + 1)
        rows = ",\n".join(pad + dump(v, indent + 1) for v in value)
        return "[\n" + rows + "\n" + " " * indent + "]"
    return json.dumps(value, allow_nan=False)


def to_json(value: Any) -> str:
    """JSON for any reader: NaN and infinity, which JSON does not have, become null."""

    def clean(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: clean(v) for k, v in x.items()}
        if isinstance(x, list):
            return [clean(v) for v in x]
        return None if isinstance(x, float) and not math.isfinite(x) else x

    return json.dumps(clean(value), indent=1) + "\n"
