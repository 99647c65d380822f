"""Count what the tests try, for a table: `pytest --tried FILE` writes it as JSON.

A test with the mark `tried("what")` is one try for each of its parameters; it was lost if it
failed.
"""

import json
from pathlib import Path

import pytest

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
