"""Read JSON by a schema: a class that names every key and its type. What does not fit is an
InputError of one line that names the file, the key and the value."""

import json
import re
from typing import Any, TypeVar

from microgpt import InputError

import msgspec

Kind = TypeVar("Kind")
SHOWN = 60  # letters of a value in an error message
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object with keys",
    "null": "null",
}


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object with exactly these keys. One with a default can be left out."""


def decode(raw: bytes, kind: type[Kind], where: str) -> Kind:
    """JSON as a value of that type; `where` begins the message. Raises InputError."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as e:
        raise InputError(f"{where}: {complaint(e, raw)}") from None
    except RecursionError:
        raise InputError(f"{where}: its JSON is nested too deep") from None
    except UnicodeDecodeError as e:
        raise InputError(f"{where} is not UTF-8 text: byte {e.start}") from None
    except msgspec.DecodeError as e:
        reason = str(e).removeprefix("JSON is malformed: ").lower()
        raise InputError(f"{where} is not JSON: {reason}") from None


def complaint(error: msgspec.ValidationError, raw: bytes) -> str:
    """The key, its value, and what it must be, from an error of msgspec such as
    "Expected `int`, got `str` - at `$.config.n_embd`"."""
    said, _, path = str(error).partition(" - at `$")
    key = path.rstrip("`").removeprefix(".")
    field = re.fullmatch("Object (contains unknown|missing required) field `(.*)`", said)
    if field:
        name = shorten(f"{key}.{field[2]}".strip(".")).strip('"')
        return f"{name} is missing" if "missing" in field[1] else f"there is no key {name}"
    wanted = said.partition(", got ")[0].removeprefix("Expected ")
    # a choice, such as `str` matching regex '^(float32|float64)$'
    wanted = re.sub(r"`str` matching regex '\^\((.*)\)\$'", r"\1", wanted).replace("|", " or ")
    wanted = re.sub(r"\b(" + "|".join(WORDS) + r")\b", lambda word: WORDS[word[0]], wanted)
    wanted = " ".join(wanted.replace("`", "").split())
    rule = f"it must be {wanted}" if said.startswith("Expected") else said.lower()
    return f"{key or 'it'} is {shown(raw, key)}: {rule}"


def shown(raw: bytes, key: str) -> str:
    """The value under a key such as `rows[3].step`, escaped and cut. msgspec writes `[...]` where
    it does not know which key of an object it is."""
    try:
        value: Any = json.loads(raw)
        for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
            value = value[name] if name else value[int(number)]
    except (ValueError, RecursionError, LookupError, TypeError):
        return "what cannot be read"
    return shorten(value)


def shorten(value: Any) -> str:
    """A value as JSON of at most SHOWN letters, all of them ASCII."""
    text = json.dumps(value) if not isinstance(value, (dict, list)) else ""
    text = text or f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
