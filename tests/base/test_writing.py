"""One function writes every file: whole or not at all, and never in place of what is no file."""

import ast
import errno
import os
import re
import stat
import sys
import threading
from pathlib import Path

from microgpt import InputError

import pytest
from microgpt_lab.base import files
from microgpt_lab.base.versions import ROOT

POSIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
FULL = Path("/dev/full")


@pytest.mark.tried("a symbolic link as the file to write")
@pytest.mark.parametrize("there", [True, False], ids=["to-a-file", "to-nothing"])
def test_a_link_stays_a_link_and_its_file_is_written(tmp_path, there):
    (tmp_path / "far").mkdir()
    target, link, second = tmp_path / "far" / "x", tmp_path / "link", tmp_path / "second"
    if there:
        target.write_text("old")
    link.symlink_to("far/x")
    second.symlink_to(link)
    files.write(second, "new")
    assert target.read_text() == "new"
    assert second.readlink() == link
    assert link.readlink() == Path("far/x")
    assert not list(tmp_path.rglob("*.part"))


@POSIX
@pytest.mark.tried("a FIFO as the file to write")
@pytest.mark.parametrize("by_link", [False, True])
def test_a_fifo_is_written_through(tmp_path, by_link):
    fifo, given, got = tmp_path / "fifo", tmp_path / "link", []
    os.mkfifo(fifo)
    given.symlink_to(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    raw = b"x" * 300_000  # more than a pipe holds
    files.write(given if by_link else fifo, raw)
    reader.join(60)
    assert got == [raw]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.tried("a device as the file to write")
@pytest.mark.skipif(not Path(os.devnull).is_char_device(), reason="needs devices")
def test_a_device_stays_a_device():
    before = os.stat(os.devnull)
    files.write(Path(os.devnull), "x")
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode)
    assert after.st_ino == before.st_ino


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_device_is_one_line():
    with pytest.raises(InputError, match="cannot write '/dev/full': No space left on device"):
        files.write(FULL, "x")


def test_what_is_no_regular_file_is_written_through(tmp_path):
    (tmp_path / "x").write_text("x")
    assert files.is_written_through(Path(os.devnull))
    assert not files.is_written_through(tmp_path / "x")
    assert not files.is_written_through(tmp_path / "none")


@POSIX
def test_own_output_is_not_replaced(tmp_path):
    """As in `microgpt verify --json x > x`: both texts are there."""
    path = tmp_path / "x"
    code = (
        "import sys; from pathlib import Path; from microgpt_lab.base import files\n"
        "print('said', flush=True); files.write(Path(sys.argv[1]), 'written\\n')\n"
        "print('after')"
    )
    for given in (path, Path("/dev/stdout")):
        with open(path, "a") as out:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", code, str(given)],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)],
            )
            assert os.waitpid(pid, 0)[1] == 0
        assert path.read_text() == "said\nwritten\nafter\n"
        path.unlink()


def test_the_permissions_stay(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o640)
    files.write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_several_files_change_together_or_not_at_all(tmp_path, monkeypatch, fails_at):
    """A disk that is full at any of them leaves all as they were."""
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("old")
    calls, sync = [], os.fsync

    def fsync(file):
        calls.append(file)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match="No space left on device"):
        files.write_together(dict.fromkeys(paths, "new"))
    assert [path.read_text() for path in paths] == ["old"] * 3
    assert sorted(tmp_path.iterdir()) == paths
    monkeypatch.undo()
    files.write_together(dict.fromkeys(paths, "new"))
    assert [path.read_text() for path in paths] == ["new"] * 3


UNWRITABLE = {
    "": "it is a folder",
    ".": "it is a folder",
    "/": "it is a folder",
    "folder": "it is a folder",
    "to-a-folder": "it is a folder",
    "none/x": "there is no folder",
    "file/x": "Not a directory",
    "loop": "Too many levels of symbolic links",
    "a\0b": "null",
    "n" * 300: "File name too long",
}


@pytest.mark.tried("a path that cannot be written")
@pytest.mark.parametrize("check", [files.ensure_writable, lambda path: files.write(path, "x")])
@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_is_refused_and_left(tmp_path, monkeypatch, name, check):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("mine")
    Path("to-a-folder").symlink_to("folder")
    Path("loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=UNWRITABLE[name]):
        check(Path(name))
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("file").read_text() == "mine"


@POSIX
def test_asking_whether_it_can_be_written_changes_nothing(tmp_path):
    """Above all it does not open a FIFO, which would end its reader."""
    path, fifo = tmp_path / "x", tmp_path / "fifo"
    path.write_text("mine")
    os.mkfifo(fifo)
    for one in (path, fifo, tmp_path / "new"):
        files.ensure_writable(one)
    assert path.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [fifo, path]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("emma", "emma"),
        ("AC/DC", "AC_DC"),
        ("../x", "_x"),
        ("..", "_"),
        ("a\x1b[31m\nb", "a_[31m_b"),
        ("ö" * 200, "ö" * 100),
    ],
)
def test_text_becomes_a_file_name(tmp_path, text, name):
    assert files.name_from(text) == name
    (tmp_path / f"show-{name}.svg").write_text("x")


# ---------------------------------------------------------------- All places

LAB = ROOT / "lab" / "microgpt_lab"
# Modules that write without files.write, and what they write
OTHERS = {
    "base/files.py": "the function itself",
    "runs/run_folder.py": "a log that grows line by line, and the lock",
    "verification/answers.py": "a temporary folder",
    "verification/lab_mutants.py": "a temporary folder",
    "verification/random_cases.py": "a temporary folder",
    "verification/verify.py": "a temporary folder",
    "benchmark/ablation.py": "a temporary folder",
}
TO_WRITE = re.compile("[wax+]")


def writes(source):
    """The lines of a module that open a file to write, without files.write."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if is_text(a)]
        if name in ("write_text", "write_bytes") or (
            name == "open" and any(len(t) <= 3 and TO_WRITE.search(t) for t in given)
        ):
            found.append(node.lineno)
    return found


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_no_other_module_of_the_lab_writes_files():
    paths = {path.relative_to(LAB).as_posix(): path for path in LAB.glob("*/*.py")}
    found = {name for name, path in paths.items() if writes(path.read_text("utf-8"))}
    assert found == OTHERS.keys()


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.write_text(x)", [1]),
        ("open(path, 'w')", [1]),
        ("\nopen(path, mode='ab')", [2]),
        ("path.open('x')", [1]),
        ("open(path)", []),
        ("open(path, 'rb')", []),
        ("files.write(path, x)", []),
    ],
)
def test_what_writes_is_recognised(source, lines):
    assert writes(source) == lines
