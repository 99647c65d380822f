"""Whatever ends the lab, nothing that it started goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from microgpt_lab.base import processes, versions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

PATIENCE = 60  # seconds until something must have happened
SLEEP = f"{sys.executable} -c 'import time; time.sleep(600)'"
COMMANDS = {
    "verify": ["verify", "02", "--random", "0"],
    "mutants": ["mutants", "02"],
    "mutants lab": ["mutants", "lab"],
    "proof": ["proof", "02"],
    "port": ["verify", "--program", SLEEP],
    "compare": ["compare", "01", "--steps", "100000"],
    "bench": ["bench", "01", "--quick"],
    "doctor": ["doctor"],
    "ablation": ["ablation"],
}


def status_of(number):
    """(parent, state, when it started) of a process; None if there is none."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return int(words[1]), words[0], words[19]
    return None


def descendants(number):
    """All processes below a process, each with the time when it started."""
    known = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    found = {n: status for n in known if (status := status_of(n))}
    below, todo = {}, [number]
    while todo:
        parent = todo.pop()
        for n, (its_parent, _, begun) in found.items():
            if its_parent == parent:
                below[n] = begun
                todo.append(n)
    return below


def left_of(below):
    """Those of these processes that still run."""
    now = {n: status_of(n) for n in below}
    return [n for n, status in now.items() if status and status[2] == below[n] and status[1] != "Z"]


def wait_for(what):
    until = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("command", "number"),
    [(command, n) for command in COMMANDS for n in (signal.SIGTERM, signal.SIGKILL)]
    + [("verify", signal.SIGINT), ("verify", signal.SIGHUP), ("port", signal.SIGINT)],
)
def test_what_a_command_started_ends_with_it(command, number, tmp_path):
    line = [sys.executable, "-m", "microgpt_lab.commands.main", *COMMANDS[command]]
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        lab = subprocess.Popen(
            line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        below = wait_for(lambda: descendants(lab.pid))
        lab.send_signal(number)
        status = lab.wait(PATIENCE)
        wait_for(lambda: not left_of(below))
    finally:
        for n in left_of(descendants(lab.pid)):
            os.kill(n, signal.SIGKILL)
        lab.kill()
    assert status == (-9 if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in errors.read_text()


def test_what_a_child_started_is_stopped_with_it():
    program = f"import subprocess; subprocess.Popen({SLEEP!r}, shell=True); print(1, flush=True)"
    program += "; import time; time.sleep(600)"
    with processes.started([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        below = {child.pid: status_of(child.pid)[2]} | descendants(child.pid)
        assert len(below) > 1
    wait_for(lambda: not left_of(below))


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with processes.ended_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


INTERRUPTING = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
PROGRAMS = {
    version.name: ([str(version.path)], version.framework)
    for version in versions.readable()
    if version.framework  # 01 imports nothing that takes long
} | {
    f"microgpt {framework}": (["-m", "microgpt_lab.commands.main", "train", name], framework)
    for name, framework in (("03", "torch"), ("05", "jax"), ("02", "tyro"), ("02", "rich"))
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_something_is_imported_is_no_traceback(program, tmp_path):
    """The framework is one that presses Ctrl-C while it is imported."""
    arguments, framework = PROGRAMS[program]
    top = framework.split(".")[0]
    (tmp_path / f"{top}.py").write_text(INTERRUPTING)
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path / "work", capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode in (-signal.SIGINT, 130)
    assert done.stderr == ""
