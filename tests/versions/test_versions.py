"""Every version found in the tree is the same model, and behaves as one program does."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import checks, mutants, verify

FOUND = versions.find()
OTHERS = [name for name in FOUND if name != versions.REFERENCE]
ROWS = [
    pytest.param(version, dtype, variant, id=f"{version.name}{variant and '-' + variant}-{dtype}")
    for version in FOUND.values()
    for variant in ("", *version.variants)
    for dtype in version.dtypes
]


@pytest.fixture(scope="session")
def rows():
    """One run of all checks for all tests. MICROGPT_VERIFY may name a file that `microgpt
    verify --json` has just written, so that they need not run twice."""
    path = os.environ.get("MICROGPT_VERIFY")
    if path:
        run = json.loads(Path(path).read_text())
    else:
        run = verify.run_record(list(verify.run_all([], 2)))
    return {(row["version"], row["dtype"], row["variant"]): row for row in run["rows"]}


@pytest.mark.parametrize("check", verify.COLUMNS)
@pytest.mark.parametrize(("version", "dtype", "variant"), ROWS)
def test_matches_the_reference(rows, version, dtype, variant, check):
    row = rows[version.name, dtype, variant]
    if row["reason"]:
        pytest.skip(row["reason"])
    assert not [f for f in row["failures"] if f["check"] == "error"]
    finding = row["checks"][check]
    assert finding["status"] in ("exact", "pass"), finding
    assert finding["worst"] <= checks.TOLERANCES[dtype][check]


# One process runs a version's program with each of these in turn: to import a framework takes
# longer than any of them.
DRIVER = """
import io, json, runpy, sys
said = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["main.py", *arguments]
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in "oe")
    try:
        runpy.run_path(PROGRAM, run_name="__main__")
        status = 0
    except SystemExit as e:
        status = e.code
    said.append([status, *(x.buffer.getvalue().decode() for x in (sys.stdout, sys.stderr))])
sys.__stdout__.write(json.dumps(said))
"""
AS_REFERENCE = {
    "seed": ("--recipe", "seed", "--batch-size", "1", "--seed", "42"),
    "gist": ("--recipe", "gist", "--batch-size", "1", "--seed", "42", "--steps", "100"),
}
REFUSED = {
    ("--dtype", "float16"): "float16",
    ("--device", "abacus"): "abacus|--device",
    ("--batch-size", "0"): "batch_size is 0",
    ("--batch-size", "99999"): "batch_size 99999",
    ("--n-embd", "10"): "n_embd 10",
    ("--learning-rate", "nan"): "learning_rate is nan",
    ("--data", "no/such/file"): "no/such/file",
}


def rule(said):
    """A rule that a version breaks, and where it is explained."""
    return f"{said} ({versions.GUIDE})"


def run(name, *arguments, **environment):
    version = FOUND[name]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=version.path.parent,
        env=version.with_variables | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@functools.cache
def ran(name):
    """{arguments: (exit status, output, errors)} of a version's program."""
    todo = [*AS_REFERENCE.values()]
    if name != versions.REFERENCE:
        todo += [("--steps", "2", *wrong) for wrong in REFUSED]
    driver = DRIVER.replace("PROGRAM", repr(FOUND[name].program))
    done = run(name, "-c", driver, json.dumps(todo))
    assert done.returncode == 0, done.stderr
    return dict(zip(todo, json.loads(done.stdout)))


def names(output):
    return re.findall(r"^ *\d+  (.*)$", output, re.MULTILINE)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("recipe", AS_REFERENCE)
def test_prints_the_names_that_the_reference_prints(name, recipe):
    if FOUND[name].missing:
        pytest.skip(FOUND[name].missing)
    status, output, errors = ran(name)[AS_REFERENCE[recipe]]
    wanted = names(ran(versions.REFERENCE)[AS_REFERENCE[recipe]][1])
    assert status == 0, errors
    assert len(wanted) == 20
    assert names(output) == wanted, rule("the program prints the same names as 01")


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("arguments", REFUSED, ids="".join)
def test_bad_input_is_one_line_and_status_2(name, arguments):
    if FOUND[name].missing:
        pytest.skip(FOUND[name].missing)
    status, _, errors = ran(name)["--steps", "2", *arguments]
    said = f"{' '.join(arguments)} is refused with status 2 and one line, not {status}: {errors}"
    assert status == 2, rule(said)
    assert re.fullmatch(rf"error: .*({REFUSED[arguments]}).*\n", errors), rule(said)


HEAD = 'import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it'


@pytest.mark.parametrize("name", OTHERS)
def test_the_first_import_is_01_and_says_how_to_find_it(name):
    """Python shows this line to somebody who starts the program without uv."""
    source = FOUND[name].path.read_text()
    said = f"the first import beside Python's own is the line {HEAD}"
    assert source.count(f"\n{HEAD}\n") == 1, rule(said)
    before = ast.parse(source[: source.index(HEAD)])
    modules = [node.module for node in ast.walk(before) if isinstance(node, ast.ImportFrom)]
    modules += [a.name for n in ast.walk(before) if isinstance(n, ast.Import) for a in n.names]
    first = [module.split(".")[0] for module in modules]
    assert set(first) <= sys.stdlib_module_names, rule(said)


@pytest.mark.parametrize("name", FOUND)
def test_no_version_imports_the_lab_or_another_version(name):
    folder = FOUND[name].path.parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [getattr(node, "module", None)] if isinstance(node, ast.ImportFrom) else []
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for module in filter(None, modules):
                others = module.startswith(("microgpt_lab", "version_", "main"))
                assert not others, rule(f"{path.name} imports {module}: of this project only 01")


@pytest.mark.parametrize("name", FOUND)
def test_sections_stand_in_the_same_order(name):
    titles = re.findall(r"^# -{64} (.*)$", FOUND[name].path.read_text(), re.MULTILINE)
    order = ["Parameters", "Forward", "Backward", "Loss and training", "Interface"]
    wanted = [title for title in order if title in titles or title != "Backward"]
    said = f"the sections are {', '.join(wanted)} in this order, each under a ruler of 64 dashes"
    assert [title for title in titles if title in order] == wanted, rule(said)


@pytest.mark.parametrize("name", FOUND)
def test_readme_quotes_its_own_code_and_fits_a_screen(name):
    folder = FOUND[name].path.parent
    text = (folder / "README.md").read_text()
    sources = [path.read_text() for path in folder.glob("*.py")]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks, rule("the README quotes the program's idea in a ```python block")
    for block in blocks:
        said = f"this block of the README stands in no program as it is:\n{block}"
        assert any(block in source for source in sources), rule(said)
    said = f"the README has {len(text.splitlines())} lines: it may have 110"
    assert len(text.splitlines()) <= 110, rule(said)


@pytest.mark.parametrize("name", FOUND)
def test_breaking_edits_of_the_readme_are_mutants(name):
    text = (FOUND[name].path.parent / "README.md").read_text()
    file = mutants.FOLDER / f"{name}.toml"
    assert file.exists(), rule(f"there is no spec/mutants/{file.name}")
    assert "## Break it" in text, rule("the README has a section ## Break it")
    tables = tomllib.loads(file.read_text())
    wrong = [table for kind, found in tables.items() if kind != "harmless" for table in found]
    known = {table["id"] for table in wrong}  # also those that show with several workers alone
    listed = set(re.findall(r"`([a-z0-9-]+)`", text.split("## Break it")[1]))
    said = "## Break it names at least three mutants of spec/mutants, each as `id`"
    assert len(listed & known) >= 3, rule(f"{said}; of {sorted(known)} it names {listed & known}")


@pytest.mark.parametrize("name", FOUND)
def test_nothing_is_left_to_be_written(name):
    folder = FOUND[name].path.parent
    files = [path for path in folder.glob("*.*") if path.is_file()]  # not the folders of caches
    for path in (*files, mutants.FOLDER / f"{name}.toml"):
        assert "TODO" not in path.read_text("utf-8"), rule(f"{path.name} has a TODO left")


def test_members_join_by_their_folder_alone():
    root = tomllib.loads((versions.ROOT / "pyproject.toml").read_text())
    assert root["tool"]["uv"]["workspace"]["members"] == ["[0-9][0-9]_*"]
    for path in versions.ROOT.glob("lab/microgpt_lab/**/*.py"):
        text = path.read_text()
        named = [name for name in OTHERS if name in text]
        assert named in ([], ["02_numpy_manual_backprop"]), f"{path.name} names {named}"
