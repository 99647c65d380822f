"""Folders that do not take what is written: a disk that is full, and a folder of another user.

Everything runs in namespaces of Linux, in which a folder is a disk of some kilobytes, or the user
is nobody: root may write anywhere, so a test as root shows nothing.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from lab_helpers import SMALL

# Every command that writes a file or a folder and is quick: {there} is the hard place.
COMMANDS = {
    "train": [
        "train", "02", *SMALL, "--data", "{data}", "--steps", "40", "--save-every", "10",
        "--out", "{there}/run",
    ],
    "export": ["export", "{run}", "{there}/x.json"],
    "show": ["show", "{run}", "emma", "--out", "{there}/x.svg"],
    "show --embeddings": ["show", "{run}", "--embeddings", "--out", "{there}/x.svg"],
    "port": ["port", "new", "c", "--out", "{there}/port"],
    "verify --json": ["verify", "02", "--case", "first-steps", "--json", "{there}/x.json"],
    "verify --report": [
        "verify", "--program", "{echo}", "--case", "first-steps", "--report", "{there}/x.md",
    ],
    "compare": [
        "compare", "02", "--data", "{data}", "--steps", "5", "--samples", "1",
        "--out", "{there}/pictures",
    ],
    "resume": ["resume", "{there}/begun"],
}  # fmt: skip
# The room on the disk in kilobytes: at 0 nothing can be written, at 64 a run saves something.
FULL, FILLS_UP = 0, 64
ROOM = [(name, FULL) for name in COMMANDS] + [("train", FILLS_UP), ("resume", FILLS_UP)]

# Runs each command in turn in this process, so that the imports are paid for once.
DRIVER = """
import contextlib, hashlib, io, json, os, pathlib, shutil, subprocess, sys
from microgpt_lab.commands import main
from microgpt_lab.runs import checkpoints

asked = json.load(sys.stdin)
there, found = pathlib.Path(asked["there"]), []

def contents():
    files = sorted(path for path in there.rglob("*") if path.is_file())
    return {str(p.relative_to(there)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

def run(arguments):
    sys.argv, out, err = ["microgpt", *arguments], io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(x, "utf-8", write_through=True) for x in (out, err))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main.main()
        except SystemExit as ended:
            status = ended.code
    return {"status": status or 0, **{name: stream.buffer.getvalue().decode()
            for name, stream in (("out", out), ("err", err))}}

for name, arguments, size in asked["runs"]:
    if size is not None:
        sizes = [p.stat().st_size for p in pathlib.Path(asked["begun"]).rglob("*") if p.is_file()]
        used = sum(-(-size // 4096) * 4 for size in sizes)
        room = f"size={size + used + 4}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", room, "disk", there], check=True)
        shutil.copytree(asked["begun"], there / "begun")
        (there / "other").write_text("x" * 4096)
    before = contents()
    told = run(arguments) | {"before": before, "after": contents(), "name": name, "size": size}
    for path in there.rglob("*.safetensors"):
        checkpoints.read_checkpoint(path)  # whole, or it is an InputError
    if size is not None:
        subprocess.run(["umount", there], check=True)
    found.append(told)
print(json.dumps(found))
"""


def works(*namespaces):
    """Whether this system gives a user such namespaces; many containers do not."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", *namespaces, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def begun(run, tmp_path_factory):
    """A run of which half is left."""
    folder = tmp_path_factory.mktemp("begun") / "begun"
    shutil.copytree(run, folder)
    for path in sorted((folder / "checkpoints").iterdir())[4:]:
        path.unlink()
    return folder


def drive(namespaces, folder, run, begun, runs, **environment):
    """The answers to (name, size of the disk) in such namespaces."""
    there = folder / "there"
    places = {"there": there, "run": run, "data": run.parent / "names.txt", "echo": "cat"}
    asked = [
        (name, [text.format(**places) for text in COMMANDS[name]], size) for name, size in runs
    ]
    done = subprocess.run(
        ["unshare", *namespaces, sys.executable, "-c", DRIVER],
        input=json.dumps({"there": str(there), "begun": str(begun), "runs": asked}),
        capture_output=True, text=True, timeout=900, cwd=folder,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {(one["name"], one["size"]): one for one in json.loads(done.stdout)}


# ---------------------------------------------------------------- A disk that is full

full_disk = pytest.mark.skipif(not works("-Urm"), reason="no namespace for a small disk here")


@pytest.fixture(scope="module")
def on_a_small_disk(run, begun, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "there").mkdir()
    return drive(["-Urm"], folder, run, begun, ROOM)


@full_disk
@pytest.mark.tried("a disk that is full, or fills up, for every command that writes")
@pytest.mark.parametrize(("name", "room"), ROOM)
def test_a_full_disk_is_one_line_and_nothing_half_written(on_a_small_disk, name, room):
    told = on_a_small_disk[name, room]
    assert told["status"] == 2, told
    assert_one_line(told, "No space left on device")
    new = [path for path in told["after"] if path not in told["before"]]
    assert bool([path for path in new if path.endswith(".safetensors")]) == (room == FILLS_UP)
    assert_old_files_stay(told)
    assert not [path for path in told["after"] if path.endswith(".part")], told["after"]


def assert_one_line(told, says):
    assert told["err"].startswith("error: "), told
    assert told["err"].count("\n") == 1, told
    assert re.search(says, told["err"]), told


def assert_old_files_stay(told):
    """Checkpoints and other files keep every byte; a run that continues adds to its log."""
    for path, digest in told["before"].items():
        if path not in ("begun/log.jsonl", "begun/lock"):
            assert told["after"].get(path) == digest, path


# ---------------------------------------------------------------- A folder of another user

nobody = pytest.mark.skipif(not works("-U"), reason="no namespace for a user who is not root here")


@pytest.fixture(scope="module")
def as_nobody(run, begun, tmp_path_factory):
    """Everything can be read and nothing written, not even at home."""
    folder = tmp_path_factory.mktemp("nobody")
    shutil.copytree(begun, folder / "there" / "begun")
    for path in [folder / "there", *(folder / "there").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    runs = [(name, None) for name in COMMANDS]
    return drive(["-U"], folder, run, begun, runs, HOME=str(folder / "there"))


@nobody
@pytest.mark.tried("a folder that this user may not write, for every command that writes")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_of_another_user_is_refused_and_left(as_nobody, name):
    told = as_nobody[name, None]
    assert told["status"] == 2, told
    assert_one_line(told, "Permission denied|is read-only")
    assert told["after"] == told["before"]
