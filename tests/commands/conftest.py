"""What the tests of the commands share."""

import pytest

import lab_helpers


@pytest.fixture
def lab(monkeypatch, capsys):
    """The command line, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return lab_helpers.Lab(monkeypatch, capsys)
