"""How the lab is built: which package may import which, and how long its parts may be."""

import ast
import sys
from pathlib import Path

import pytest
from microgpt_lab.base.versions import REFERENCE, ROOT

LAB = ROOT / "lab" / "microgpt_lab"
MODULES = sorted(path for path in LAB.glob("*/*.py") if path.stat().st_size)
# A package may import itself and these.
ARROWS = {
    "base": set(),
    "runs": {"base"},
    "verification": {"base", "runs"},
    "benchmark": {"base", "runs"},
    "beyond": {"base", "runs", "verification"},
    "speedrun": {"base", "runs", "benchmark"},
    "commands": {"base", "runs", "verification", "benchmark", "beyond", "speedrun"},
}
PROGRAMS = sorted(ROOT.glob("[0-9][0-9]_*/*.py"))
FUNCTION, FILE = 40, 400  # lines at most


def package(path: Path) -> str:
    return path.relative_to(LAB).parts[0]


def name(path: Path) -> str:
    return str(path.relative_to(LAB))


def modules_in(path: Path) -> list[str]:
    """The modules that a program imports, inside its functions too."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return modules


def imported(path: Path) -> set[str]:
    """The lab's packages that a module imports."""
    modules = modules_in(path)
    return {m.split(".")[1] for m in modules if m.startswith("microgpt_lab.")}


def test_every_module_stands_in_one_of_the_packages():
    assert [path.name for path in LAB.glob("*.py")] == ["__init__.py"]
    assert {package(path) for path in MODULES} == set(ARROWS)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_package_imports_only_those_below_it(path):
    allowed = ARROWS[package(path)] | {package(path)}
    assert imported(path) <= allowed, f"{package(path)} may import {sorted(allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_and_functions_are_short(path):
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= FILE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION, f"{node.name} has {lines} lines: split it"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_version_imports_the_lab(path):
    found = [m for m in modules_in(path) if m.split(".")[0] == "microgpt_lab"]
    assert not found, "a version is read and run without the lab: the lab drives versions"


def test_the_reference_imports_the_standard_library_alone():
    found = {m.split(".")[0] for m in modules_in(ROOT / REFERENCE / "microgpt.py")}
    assert found <= sys.stdlib_module_names, "01 is one file that runs alone, copied anywhere"
    assert len(found) > 10


def test_these_checks_reject_what_they_should(tmp_path):
    """An import inside a function counts, and so does one of a whole module."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def f():\n    from microgpt_lab.commands import main\n    import microgpt_lab.runs.show\n"
    )
    assert imported(wrong) == {"commands", "runs"}
    assert "microgpt_lab.runs.show" in modules_in(wrong)
