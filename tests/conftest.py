"""A finished run, for all tests that read one; and a count of what the tests try.

`pytest --tried FILE` writes the count as JSON, for a table.
A test with the mark `tried("what")` is one try for each of its parameters; it was lost if it
failed.
"""

import json
from pathlib import Path

import microgpt

import pytest

from lab_helpers import SMALL

MARK = "tried(what): count each run of this test as one try of that"


def pytest_addoption(parser):
    parser.addoption(
        "--tried", metavar="FILE", help="write what was tried, how often, what was lost"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", MARK)
    config.rows = {}


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("tried"):
            item.user_properties.append(("tried", mark.args[0]))


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report, config):
    if report.when == "call" and not report.skipped:
        for name, what in report.user_properties:
            if name == "tried":
                file = report.nodeid.split("::")[0]
                row = config.rows.setdefault((what, file), {"tried": 0, "lost": 0})
                row["tried"] += 1
                row["lost"] += report.failed
    return (yield)


def pytest_sessionfinish(session):
    path = session.config.getoption("--tried")
    if path and not hasattr(session.config, "workerinput"):  # in the process that has all reports
        rows = [
            {"what": what, **counts, "command": f"uv run pytest {file}"}
            for (what, file), counts in sorted(session.config.rows.items())
        ]
        Path(path).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a short run that has all its steps."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "names.txt"
    data.write_text("\n".join(microgpt.load_documents()[:400]))
    options = [*SMALL, "--data", data, "--steps", 60, "--evaluate", 20, "--out", folder / "run"]
    from microgpt_lab.commands import main

    assert main.parse(["train", "02", *map(str, options)]).run() == 0
    return folder / "run"
