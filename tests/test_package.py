"""The wheels, installed from files into an empty environment outside the repository."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from microgpt_lab.base.versions import ROOT

from lab_helpers import losses_of

WINDOWS = sys.platform == "win32"
SMALL = ["--n-embd", "4", "--n-head", "1", "--steps", "12", "--evaluate", "5", "--samples", "2"]


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """installed(command, *arguments) -> the finished process, of the environment's own commands."""
    folder = tmp_path_factory.mktemp("installed")
    uv = shutil.which("uv")
    assert uv, "pip install uv"

    def call(*words, cwd=ROOT):
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr

    for package in ("microgpt-beyond", "microgpt-beyond-reference"):
        call(uv, "build", "--wheel", "--package", package, "--out-dir", folder / "wheels")
    call(uv, "venv", "--python", sys.executable, folder / "environment")
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert len(wheels) == 2
    programs = folder / "environment" / ("Scripts" if WINDOWS else "bin")
    call(uv, "pip", "install", "--python", programs / "python", *wheels)
    (folder / "here").mkdir()
    left_out = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: text for name, text in os.environ.items() if name not in left_out}
    environment["PATH"] = os.pathsep.join([str(programs), os.environ["PATH"]])

    def run(command, *arguments):
        return subprocess.run(
            [programs / command, *map(str, arguments)], cwd=folder / "here", env=environment,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip

    run.here = folder / "here"
    return run


def done(process):
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_it_uses_nothing_of_the_repository(installed):
    names = "microgpt_lab.base.versions as v, microgpt, sys; print(v.ROOT, microgpt.__file__)"
    told = done(installed("python", "-c", f"import {names}; print(*sys.path, sep='\\n')"))
    assert "site-packages" in told
    assert str(ROOT) not in told


def test_it_says_what_is_installed_and_how_to_install_the_rest(installed):
    told = installed("microgpt", "doctor").stdout
    assert "✓ 01_pure_python" in told
    assert "✓ 02_numpy_manual_backprop" in told
    assert 'pip install "microgpt-beyond[torch]"' in " ".join(told.split())
    assert done(installed("microgpt", "--version")) == "microgpt 0.1.0\n"


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_versions_are_verified_and_a_wrong_program_is_not(installed):
    told = done(installed("microgpt", "verify", "01", "02", "--case", "first-steps"))
    assert "02_numpy" in told
    wrong = installed("microgpt", "verify", "--program", "true", "--case", "seed")
    assert wrong.returncode == 1


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")
def test_the_example_in_c_is_certified(installed):
    source = ROOT / "spec" / "examples" / "c" / "port.c"
    program = installed.here / "c-port"
    subprocess.run(["cc", "-O2", "-o", program, source, "-lm"], check=True)
    how = ("--case", "seed", "--badge", "badge.svg")  # test_ports.py has all cases
    told = done(installed("microgpt", "verify", "--program", "./c-port", *how))
    assert "certified: the seed recipe: forward, gradients, training, sampling" in told
    assert (installed.here / "badge.svg").read_text("utf-8").startswith("<svg")


def test_a_run_is_trained_sampled_shown_and_continued(installed):
    done(installed("microgpt", "train", "01", *SMALL, "--until", "6", "--out", "run"))
    done(installed("microgpt", "resume", "run", "--with", "02"))
    assert len(losses_of(installed.here / "run")) == 12
    assert "2 are new" in done(installed("microgpt", "sample", "run", "-n", "2", "--seed", "1"))
    assert "picture: " in done(installed("microgpt", "show", "run", "emma"))


def test_ideas_and_ports_are_there(installed):
    assert "02_cache" in done(installed("microgpt", "beyond", "02"))
    missing = installed("microgpt", "beyond", "03")  # it reads a version that is not installed
    assert missing.returncode == 1
    assert 'numba is not installed: pip install "microgpt-beyond[numba]"' in missing.stdout
    told = done(installed("microgpt", "port", "new", "c"))
    assert "    microgpt verify --program" in told


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "--write"], ["mutants", "02", "--write"], ["lines", "--write"], ["vectors"],
        ["new", "mine"], ["beyond", "--write"], ["mutants", "lab"], ["site", "--build-only"],
        ["site", "--record"], ["speedrun", "--write"], ["proof", "--lines", "--write"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_changes_the_repository_is_refused(installed, words):
    refused = installed("microgpt", *words)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "in a checkout of the repository" in refused.stderr
    assert refused.stderr.count("\n") == 1
