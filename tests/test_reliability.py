"""docs/reliability.md is what its record says, and its rows are the tests that there are."""

import ast
import json
import re

import pytest
from microgpt_lab.base.versions import ROOT

import reliability

RECORD = ROOT / "docs" / "reliability.json"


def tries_in(source):
    """{function: what it tries} of the tests in a module: as a mark, or with the fixture."""
    found = {}
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("tried"):
                found.setdefault(function.name, set()).add(beginning(node.args[0]))
    return found


def beginning(text):
    """A string, or the part of an f-string before its first value."""
    if isinstance(text, ast.Constant):
        return text.value
    assert isinstance(text, ast.JoinedStr)
    assert isinstance(text.values[0], ast.Constant), "it must begin with words"
    return text.values[0].value


@pytest.fixture
def record():
    return json.loads(RECORD.read_text("utf-8"))


def test_the_page_is_what_the_record_says(record):
    assert RECORD.with_suffix(".md").read_text("utf-8") == reliability.page(record)


def test_every_test_that_tries_something_has_its_rows_and_every_row_its_test(record):
    """Otherwise: uv run pytest TEST --tried docs/reliability.json"""
    rows = {(row["test"], row["what"]) for row in record}
    assert len(rows) == len(record)
    tests = {
        (f"{path.relative_to(ROOT).as_posix()}::{function}", what)
        for path in (ROOT / "tests").glob("*/test_*.py")
        for function, tries in tries_in(path.read_text("utf-8")).items()
        for what in tries
    }
    for test, what in tests:
        assert any(t == test and w.startswith(what) for t, w in rows), f"no row for {test}: {what}"
    for test, what in rows:
        fits = any(t == test and what.startswith(w) for t, w in tests)
        assert fits, f"no test for the row {test}: {what}"


def test_every_variable_in_a_command_is_read_by_its_test(record):
    for row in record:
        path, _, name = row["test"].partition("::")
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        (test,) = [node for node in tree.body if getattr(node, "name", "") == name]
        for variable in row["variables"]:
            assert variable in ast.unparse(test)
        assert f"pytest {row['test']}" in reliability.command_of(row)


def test_every_test_that_a_workflow_names_is_there():
    text = "".join(path.read_text("utf-8") for path in ROOT.glob(".github/workflows/*.yml"))
    named = re.findall(r"pytest (tests/\S+)", text)
    assert len(named) >= 4
    for path, _, name in (test.partition("::") for test in named):
        functions = {
            getattr(node, "name", "") for node in ast.parse((ROOT / path).read_text()).body
        }
        assert not name or name in functions, f"{path} has no {name}"


def test_what_a_test_tries_is_counted(tmp_path):
    """Failures too; rows of other tests stay."""
    rows = {}
    for failed in (False, True):
        reliability.count(rows, "tests/a.py::test_a[1]", {"what": "kills", "number": 5}, failed)
    path = tmp_path / "record.json"
    reliability.update(path, list(rows.values()))
    other = {"what": "reads", "number": 2, "variables": {"N": "2"}}
    rows = {}
    reliability.count(rows, "tests/a.py::test_b", other, False)
    reliability.update(path, list(rows.values()))
    found = json.loads(path.read_text("utf-8"))
    assert [(row["what"], row["tried"], row["lost"]) for row in found] == [
        ("kills", 10, 1),
        ("reads", 2, 0),
    ]
    page = path.with_suffix(".md").read_text("utf-8")
    assert "| kills | 10 | 1 |" in page
    assert "`N=2 uv run pytest tests/a.py::test_b`" in page
    assert "In all: 12 tries, 1 lost." in page


def test_tries_are_found_in_a_test_s_source():
    source = """
@pytest.mark.tried("kills")
def test_a(tried):
    def inner():
        tried(f"files: {kind}")
"""
    assert tries_in(source) == {"test_a": {"kills", "files: "}}
