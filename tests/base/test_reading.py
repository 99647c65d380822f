"""Everything that the lab reads may be wrong in every place: it is read, or refused with one line
that names the file. What is read can be used."""

import json

import pytest

import odd_values
from readers import READERS


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", READERS)
def test_one_odd_value_anywhere_is_read_or_is_one_line(kind, tmp_path):
    read, make = READERS[kind]
    path = tmp_path / ("pyproject.toml" if kind == "table" else f"{kind}.file")
    document, tried, refused = json.loads(json.dumps(make())), 0, 0
    assert odd_values.refusal(read, json.dumps(document).encode(), path) == ""
    every = {"reply": 131, "results": 149, "case": 9}.get(kind, 1)  # these are large or slow
    for said, raw in odd_values.texts(document, every):
        if kind == "table" and not is_json(raw):
            continue
        line = odd_values.refusal(read, raw, path)
        tried, refused = tried + 1, refused + bool(line)
        assert "\n" not in line, said
        assert path.name in line or not line, said
    assert tried > 20
    assert refused or kind in ("log", "reply")  # which have no refusal, but an end or a finding


def is_json(raw):
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True
