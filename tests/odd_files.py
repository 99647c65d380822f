"""Files in which something is wrong, drawn by hypothesis: values in JSON, bytes in anything."""

import functools
import json

from hypothesis import strategies as st

import odd_values

LARGEST = 30_000  # bytes of an insertion
NUMBERS = st.integers() | st.floats() | st.integers(-3, 300)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
ODD = st.sampled_from(odd_values.ODD) | VALUES
PIECES = st.binary(max_size=8) | st.sampled_from(
    [
        b"\0", b"\r", b"\n\n", b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"{", b"]]", b'"', b"NaN",
        b"1e999", b"-", b"9" * 5000, b"[" * LARGEST, b'{"a":' * 9999, b"\xe2\x80\xa8",
    ]
)  # fmt: skip


@functools.cache
def places_in(text):
    return list(odd_values.places(json.loads(text)))


@st.composite
def json_files(draw, text):
    """A JSON document with one to three wrong values, or wrong bytes too."""
    document = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        places = places_in(text)
        place = places[draw(st.integers(0, len(places) - 1))]
        try:
            if place and draw(st.booleans()):
                document = odd_values.removed(document, place)
            else:
                document = odd_values.replaced(document, place, draw(ODD))
        except (LookupError, TypeError, AttributeError):  # an earlier change has removed it
            continue
    raw = json.dumps(document).encode()
    return draw(byte_files(raw)) if draw(st.integers(0, 3)) == 0 else raw


@st.composite
def byte_files(draw, raw):
    """A file in which up to four pieces are cut out, repeated or replaced."""
    for _ in range(draw(st.integers(0, 4))):
        at, length = draw(st.integers(0, len(raw))), draw(st.integers(0, 20))
        piece = draw(PIECES) if draw(st.booleans()) else raw[at : at + length] * draw(REPEATS)
        raw = raw[:at] + piece + raw[at + length :]
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 9)) == 0 else raw


REPEATS = st.integers(0, 3)
