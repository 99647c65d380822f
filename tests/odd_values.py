"""JSON documents in which one value is odd: for the tests of everything that is read."""

import copy
import json
from itertools import islice

from microgpt import InputError

DEEP = "[" * 50_000 + "]" * 50_000
ODD = [
    None, True, False, 0, -1, 1.5, 2**63, 10**400, 1e308, float("inf"), float("nan"), "", "x",
    "\x1b[31m[red]\n", "\ud800", [], [[]], {}, {"x": 1}, [None], [1e308, "a"],
]  # fmt: skip


def places(value, path=()):
    """The path of every value in a document, the document itself included. Of a list only the
    first and the last are taken."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) - 1} if value else ()):
            yield from places(value[i], (*path, i))


def replaced(value, path, other):
    """The document with another value at a path."""
    if not path:
        return other
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], other)
    return value


def removed(value, path):
    """The document without the value at a path."""
    if len(path) == 1:
        return (
            {k: v for k, v in value.items() if k != path[0]}
            if isinstance(value, dict)
            else (value[: path[0]] + value[path[0] + 1 :])
        )
    return replaced(value, path[:1], removed(value[path[0]], path[1:]))


def variants(document):
    """(what was done, the document) for every place and every odd value there."""
    for path in places(document):
        for other in ODD:
            yield f"{path} = {other!r}", replaced(document, path, other)
        if path:
            yield f"{path} removed", removed(document, path)
        yield f"{path} = an unknown key", replaced(document, path, {"unknown": 1})


def texts(document, every=1):
    """(what was done, the bytes of the file) for every nth odd document, and for files that are
    no JSON at all."""
    for said, odd in islice(variants(document), 0, None, every):
        yield said, json.dumps(odd).encode()
    whole = json.dumps(document).encode()
    yield "empty", b""
    yield "cut", whole[: len(whole) // 2]
    yield "not UTF-8", b"\xff\xfe" + whole
    yield "zeros", bytes(100)
    yield "nested lists", DEEP.encode()
    yield "nested objects", b'{"a":' * 50_000
    yield "nested value", whole.replace(b"1", DEEP.encode(), 1)
    yield "5000 digits", whole.replace(b"1", b"1" * 5000, 1)


def refusal(read, *arguments):
    """The one line with which reading is refused; "" if it is not."""
    try:
        read(*arguments)
    except InputError as e:
        return str(e)
    return ""
