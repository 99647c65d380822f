"""A finished run, for all tests that read one; and a count of what the tests try.

`pytest --tried docs/reliability.json` writes the count into that record, and the page beside it.
A test with the mark `tried("what")` is one try for each of its parameters. A test that tries many
things counts them with the fixture `tried`. A try was lost if its test failed.
"""

import os
import signal
from pathlib import Path

import microgpt

import pytest

import reliability
from lab_helpers import SMALL

MARKS = [
    "tried(what): count each run of this test as one try of that",
    "nightly: .ci/run leaves it to the nightly run, to stay below 25 minutes",
]


def pytest_addoption(parser):
    parser.addoption(
        "--tried", metavar="FILE", help="write what was tried, how often, what was lost"
    )


def pytest_configure(config):
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.rows = {}
    heed_signals()


def heed_signals():
    """A shell starts what it runs in the background, and `nohup` what it runs at all, with signals
    that are ignored. The commands under test would ignore them too, and tests send them some."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("tried"):
            item.user_properties.append(("tried", {"what": mark.args[0], "number": 1}))


class Tried:
    """Counts what a test tries."""

    def __init__(self, item):
        self.item, self.counts, self.variables = item, {}, {}

    def __call__(self, what):
        """One more try."""
        if what not in self.counts:
            self.counts[what] = {"what": what, "number": 0, "variables": self.variables}
            self.item.user_properties.append(("tried", self.counts[what]))
        self.counts[what]["number"] += 1

    def number(self, variable, default):
        """How many to try: from an environment variable, or the default."""
        if variable not in os.environ:
            return default
        self.variables[variable] = os.environ[variable]
        return int(os.environ[variable])


@pytest.fixture
def tried(request):
    return Tried(request.node)


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report, config):
    if report.when == "call" and not report.skipped:
        for name, found in report.user_properties:
            if name == "tried":
                reliability.count(config.rows, report.nodeid, found, report.failed)
    return (yield)


def pytest_sessionfinish(session):
    path = session.config.getoption("--tried")
    if path and not hasattr(session.config, "workerinput"):  # in the process that has all reports
        reliability.update(Path(path), list(session.config.rows.values()))


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
