"""What the tests of the lab share."""

import functools
import importlib
import pkgutil
import sys

import microgpt_lab
import pytest
from microgpt_lab.base import options, versions
from microgpt_lab.commands import main
from microgpt_lab.runs import run_folder

NUMPY = next(name for name in versions.find() if name.startswith("02"))
SMALL = ["--n-embd", "8", "--n-head", "2"]
HERE = [version for version in versions.find().values() if not version.missing]
FIRST = {version.framework: version.name for version in reversed(HERE)}  # of each framework


def each(found):
    """Versions as parameters of a test that starts their programs, for which the import of the
    framework takes longest: of each framework one always, the others nightly."""
    return [
        pytest.param(
            version,
            id=version.name,
            marks=() if version.name in FIRST.values() else pytest.mark.nightly,
        )
        for version in found
    ]


@functools.cache
def module_of(name):
    """A version's module, loaded and compiled once for all tests."""
    return versions.find()[name].load()


def runnable(name):
    """As options.runnable, with that module."""
    (version,) = versions.pick([name])
    return version, module_of(version.name)


def replace_tree(monkeypatch, folder):
    """A folder in place of the repository. All modules of the lab are imported before: some make
    their paths from the tree, and would keep this one for later tests."""
    for module in pkgutil.walk_packages(microgpt_lab.__path__, "microgpt_lab."):
        importlib.import_module(module.name)
    monkeypatch.setattr(versions, "ROOT", folder)


def losses_of(folder):
    """The losses in a run's log, whose steps are 1, 2, 3 … without a gap or a repeat."""
    records = [record for record in run_folder.read_log(folder) if "loss" in record]
    assert [record["step"] for record in records] == [*range(1, len(records) + 1)]
    return [record["loss"] for record in records]


class Lab:
    """The command line, in this process: status, what it printed, and its one line of error."""

    def __init__(self, monkeypatch, capsys):
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setattr(options, "runnable", runnable)

    def __call__(self, *arguments):
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["microgpt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        self.out, self.err = self.capsys.readouterr()
        return ended.value.code or 0

    def refuses(self, *arguments):
        """Ends with status 2 and one line, which is returned; nothing else is said."""
        assert self(*arguments) == 2
        assert self.err.count("\n") == 1
        assert self.err.startswith("error: ")
        assert "Traceback" not in self.err
        return self.err
