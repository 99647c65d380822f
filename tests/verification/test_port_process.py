"""Programs that misbehave: each ends in one clear line, and nothing of it goes on running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import microgpt

import pytest
from microgpt_lab.verification import port_process, ports

from golden_cases import TINY
from lab_helpers import Lab

VERIFY = [sys.executable, "-m", "microgpt_lab.commands.main", "verify"]
LONG = 600  # seconds: no test depends on the machine's speed
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has this")


def port(tmp_path, body):
    """The command of a program in Python that writes its process id to a file first, and that
    of a child if `body` starts one with child()."""
    path = tmp_path / "port.py"
    path.write_text(
        "import json, os, signal, subprocess, sys, time\n"
        f"def note(number): print(number, file=open({str(tmp_path / 'ids')!r}, 'a'), flush=True)\n"
        "def child(**how):\n"
        "    note(subprocess.Popen(['sleep', '600'], **how).pid)\n"
        f"note(os.getpid())\n{body}\n"
    )
    return f"{sys.executable} {path}"


def ids(tmp_path):
    path = tmp_path / "ids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def runs(number):
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(numbers):
    """Wait until none of these processes runs."""
    while any(runs(number) for number in numbers):
        time.sleep(0.01)
    return True


def refused(tmp_path, body, timeout=LONG):
    """What is said of a program, after all of its processes have ended."""
    reply = ports.judge_reply(ports.ask_program(port(tmp_path, body), TINY[0], timeout))
    assert gone(ids(tmp_path))
    assert not ports.passed([reply])
    return reply


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", f"signal {signal.SIGRTMIN + 3}"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it crashed with SIGSEGV"),
        ("while True: print('x' * 100000)", "it printed more than 1 MB"),
        ("print('[' + '1,' * 1000000)", "it printed more than 1 MB"),
        ("os.close(0); print('no')", "its output is not JSON"),
        ("os.close(0)", "it wrote nothing"),
        ("os.close(1); raise SystemExit(4)", "it ended with status 4"),
        ("child(); print('{}')", "a process that it started keeps its output open"),
        ("child(start_new_session=True)", "a process that it started keeps its output open"),
    ],
)
@linux
def test_what_a_program_does_is_one_line_and_nothing_runs_on(tmp_path, monkeypatch, body, said):
    monkeypatch.setattr(port_process, "MOST", 1_000_000)
    reply = refused(tmp_path, body)
    assert said in reply.error
    assert "\n" not in reply.findings[0].line()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("time.sleep(600)", "it gave no answer within 2 s and was stopped (see --timeout)"),
        ("child(); time.sleep(600)", "it gave no answer within 2 s"),
        ("signal.signal(15, signal.SIG_IGN); time.sleep(600)", "it gave no answer within 2 s"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "it gave no answer within 2 s"),
        ("while True: print('x' * 1000, file=sys.stderr)", "it gave no answer within 2 s"),
        ("child(stdout=-3, stderr=-3, start_new_session=True); time.sleep(600)", "no answer"),
    ],
)
@linux
def test_a_program_that_hangs_is_stopped_with_all_it_started(tmp_path, body, said):
    assert said in refused(tmp_path, body, timeout=2).error


@linux
def test_an_answer_counts_even_if_a_silent_child_stays_behind(tmp_path):
    body = 'child(stdout=-3, stderr=-3); print(\'{"id": "other"}\')'
    assert "it answered for case 'other'" in refused(tmp_path, body).error


@pytest.mark.parametrize("dtype", ["[]", "{}", "null", "64", '["float64"]'])
def test_a_dtype_of_any_kind_is_refused(tmp_path, dtype):
    answer = f'{{"id": "{TINY[0]["id"]}", "levels": ["forward"], "dtype": {dtype}}}'
    reply = ports.judge_reply(ports.read_answer(TINY[0], answer.encode()))
    assert reply.error.startswith("dtype is ")


def test_the_last_lines_of_standard_error_are_kept_whole(tmp_path):
    line = "a long line of an error " * 10
    body = f"for i in range(9): print({line!r}, i, file=sys.stderr)\nraise SystemExit(1)"
    reply = ports.ask_program(port(tmp_path, body), TINY[0], LONG)
    assert reply.errors == tuple(f"{line} {i}" for i in range(4, 9))


@pytest.mark.parametrize("command", ["", " ", "'", "./no/such/program", "\0"])
def test_a_program_that_cannot_start_is_refused(command):
    with pytest.raises(microgpt.InputError, match="--program"):
        ports.run_program(command, TINY[:1], 1)


@pytest.mark.parametrize("command", ["", " "])
def test_an_empty_program_is_no_reason_to_verify_the_versions(monkeypatch, capsys, command):
    said = Lab(monkeypatch, capsys).refuses("verify", "--program", command)
    assert "--program" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
@linux
def test_a_port_ends_with_verify(tmp_path, number, status):
    command = port(tmp_path, "child(); time.sleep(600)")
    verify = subprocess.Popen([*VERIFY, "--program", command], stderr=subprocess.PIPE)
    while len(ids(tmp_path)) < 2:
        time.sleep(0.01)
    os.kill(verify.pid, number)
    assert b"Traceback" not in verify.communicate()[1]
    assert verify.returncode == status
    # Nobody can catch SIGKILL: Linux then ends the port itself, but not what that has started.
    started = ids(tmp_path)
    assert gone(started[:1] if number == signal.SIGKILL else started)
    if number == signal.SIGKILL:
        os.kill(started[1], signal.SIGKILL)
