"""What the tests of runs share: the command line, small data, and a finished run."""

import microgpt

import pytest

import lab_helpers
from lab_helpers import SMALL


@pytest.fixture
def lab(monkeypatch, capsys):
    """The command line, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return lab_helpers.Lab(monkeypatch, capsys)


@pytest.fixture
def names(tmp_path):
    """The path of a small file of documents."""
    path = tmp_path / "names.txt"
    path.write_text("\n".join(microgpt.load_documents()[:400]))
    return path


@pytest.fixture
def short(names):
    """Options that make a run short."""
    return [*SMALL, "--data", names, "--steps", 40, "--save-every", 10, "--evaluate", 20]
