"""How every version's own program ends: by SIGTERM, and where nobody can read what it prints."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import microgpt

import pytest

from lab_helpers import HERE, each

SMALL = ["--recipe", "seed", "--n-embd", "4", "--n-head", "1", "--samples", "5"]
# 10 is started by torchrun: test_distributed.py interrupts its workers
PROGRAMS = [version for version in HERE if "distributed" not in version.name]
each_program = pytest.mark.parametrize("version", each(PROGRAMS))
# Output has one guard, in 01: a program of each framework shows that it is reached.
FRAMEWORKS = {version.framework: version for version in reversed(PROGRAMS)}
each_framework = pytest.mark.parametrize(
    "version", FRAMEWORKS.values(), ids=lambda version: version.name
)


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["anna", "bob", "c\x1b[31md", "zoë", "evelyn"]), "utf-8")
    return path


def start(version, *arguments, **how):
    environment = {**version.environment, **how.pop("env", {})}
    command = [sys.executable, str(version.path), *SMALL, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **how)


def catches_sigterm(process):
    """Whether the process has a handler for it: it begins to train."""
    status = Path(f"/proc/{process}/status").read_text().split("SigCgt:")[1]
    return int(status.split()[0], 16) >> (signal.SIGTERM - 1) & 1


def records(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.tried("SIGTERM to a version's own program")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@each_program
def test_sigterm_ends_training_and_makes_up_names_though_nobody_reads(version, words, tmp_path):
    """Standard output is closed before the start, so that the log alone can tell."""
    log = tmp_path / "log.jsonl"
    steps = ("--data", words, "--log", log, "--steps", 10**7)
    program = start(version, *steps, preexec_fn=lambda: os.close(1))
    while program.poll() is None and not catches_sigterm(program.pid):
        time.sleep(0.02)
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=600)
    assert program.returncode == 0, said
    assert "stopping after this step" in said
    assert "Traceback" not in said
    first, *rest = records(log)
    losses = [r["step"] for r in rest if "loss" in r]
    assert losses == [*range(1, len(losses) + 1)]
    assert len([r for r in rest if "name" in r]) == 5
    assert first["config"]["steps"] == 10**7


@pytest.mark.tried("a version's own program whose output cannot be printed")
@each_framework
def test_letters_that_cannot_be_printed_end_no_program(version, words):
    program = start(
        version, "--data", words, "--steps", 3, "--samples", 40,
        stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    out, said = program.communicate(timeout=600)
    assert (program.returncode, "Traceback" in said) == (0, False)
    assert out.isascii()
    assert "\x1b" not in out
    assert "40  " in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.tried("a version's own program whose output cannot be printed")
@each_framework
def test_a_full_device_is_one_line(version, words):
    with open("/dev/full", "w") as full:
        program = start(version, "--data", words, "--steps", 3, stdout=full)
        _, said = program.communicate(timeout=600)
    assert program.returncode == 2
    assert said.splitlines()[-1] == "error: cannot write: No space left on device"
    assert "Traceback" not in said


@pytest.mark.tried("the documents as a version's log")
@pytest.mark.parametrize("log", ["words.txt", "link", "names"])
def test_a_log_does_not_replace_documents(words, tmp_path, log, monkeypatch, capsys):
    """For all versions alike: they share these options with 01."""
    (tmp_path / "link").symlink_to(words)
    names = microgpt.ROOT / "data" / "names.txt"
    path = names if log == "names" else tmp_path / log
    before = path.read_bytes()
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(words), "--log", str(path)])
    for version in HERE:
        with pytest.raises(microgpt.InputError, match="holds the documents"):
            microgpt.parse_options(version.load(), "seed")
    assert path.read_bytes() == before
