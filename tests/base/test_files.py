"""Files are written whole or not at all, and JSON is what every reader takes."""

import errno
import json
import math
import os
import subprocess
import sys

from microgpt import InputError

import pytest
from microgpt_lab.base import files, json_text, terminal


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path, monkeypatch, call):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if call == "fsync" else type(path), call, refuse)
    with pytest.raises(InputError, match="No space left on device"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    calls = []
    sync, rename = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("sync"), sync(file)))
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda a, b: (calls.append("rename"), rename(a, b))
    )
    files.write(tmp_path / "x", "x")
    assert calls == ["sync", "rename", "sync"]


def test_numbers_that_json_does_not_have_become_null():
    text = json_text.to_json({"a": [1.0, math.nan], "b": {"c": -math.inf}})
    assert json.loads(text) == {"a": [1.0, None], "b": {"c": None}}


def test_a_line_for_each_key_and_row_reads_back_to_the_last_digit():
    value = {"rows": [[0.1 + 0.2, 1e-300], [1.0, 2.0]], "name": "é", "empty": []}
    text = json_text.dump(value)
    assert json.loads(text) == value
    assert len(text.splitlines()) == 8
    with pytest.raises(ValueError, match="Out of range"):
        json_text.dump({"x": math.nan})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.5e-6, "2.5 µs"),
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (99, "99 s"),
        (150, "2 min 30 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations_have_three_digits_or_a_clock(seconds, text):
    assert terminal.duration(seconds) == text


def test_peak_memory_is_that_of_the_process_alone():
    """A process started by one that holds 300 MB does not seem to hold them too."""
    code = (
        "import subprocess, sys; held = b'x' * 300_000_000\n"
        "code = 'from microgpt_lab.base.machine import peak_memory; print(peak_memory())'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout)"
    )
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
    assert 2**23 < peak < 250_000_000
