"""Files with many things wrong at once: each is read, or refused with one line that names it.
MICROGPT_INPUTS is the number of files of each kind; without it they are the same each time."""

import json

import pytest
from hypothesis import HealthCheck, given, settings

import odd_files
import odd_values
from readers import BYTES, READERS, path_for

KINDS = {**READERS, **BYTES}
ALWAYS_READ = ("log", "reply")  # a bad line ends a log; a bad answer is a finding


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_many_mistakes_is_read_or_is_one_line(kind, tmp_path, tried):
    inputs = tried.number("MICROGPT_INPUTS", 250)
    read, make = KINDS[kind]
    path, refused = path_for(kind, tmp_path), []
    json_text = json.dumps(make()) if kind in READERS else None
    files = odd_files.json_files(json_text) if json_text else odd_files.byte_files(make())

    @settings(
        max_examples=inputs, deadline=None, database=None,
        derandomize=not tried.variables, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(files)
    def is_read_or_is_one_line(raw):
        if kind == "table" and not is_object(raw):
            return
        tried(f"files with mistakes: {kind}")
        line = odd_values.refusal(read, raw, path)
        refused.append(bool(line))
        assert "\n" not in line
        assert path.name in line or not line

    is_read_or_is_one_line()
    assert any(refused) or kind in ALWAYS_READ


def is_object(raw):
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False
