"""Where the programs run: folders that cannot be written, odd names, another user's folder, odd
environment variables. A cache is never a condition."""

import ast
import os
import subprocess
import sys
from collections import Counter

import microgpt
from microgpt import InputError

import pytest
from microgpt_lab.base import versions

import lab_helpers

ROOT = versions.ROOT
TRAIN = ["--steps", "2", "--samples", "1", "--recipe", "seed"]


def run(version, tmp_path, **environment):
    """One short run of a version's program -> (status, what it printed, its errors)."""
    done = subprocess.run(
        [sys.executable, str(version.path), *TRAIN], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | environment, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- Temporary folders


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(microgpt.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_private_folder_is_the_same_each_time_and_nobody_elses(temporary):
    path = microgpt.private_folder("x")
    assert path == microgpt.private_folder("x")
    assert path.parent == temporary
    assert path != microgpt.private_folder("y")
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o700
        assert str(os.getuid()) in path.name


def spoil(path, how):
    if how == "open to others":
        path.chmod(0o755)
    elif how == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to(path.with_name("elsewhere"))
    else:
        path.rmdir()
        path.write_text("a file")


@pytest.mark.skipif(os.name != "posix", reason="Windows has a temporary folder for each user")
@pytest.mark.parametrize("how", ["open to others", "a link", "a file"])
def test_a_folder_that_someone_else_may_have_made_is_not_used(how, temporary):
    path = microgpt.private_folder("x")
    spoil(path, how)
    other = microgpt.private_folder("x")
    assert other != path
    assert other.is_dir()
    assert not other.is_symlink()
    assert other.stat().st_mode & 0o777 == 0o700


def test_without_any_temporary_folder_the_error_says_what_to_set(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(microgpt.tempfile, "gettempdir", none)
    with pytest.raises(InputError, match="set TMPDIR"):
        microgpt.private_folder("x")


def reads(version, framework):
    return version.framework.split(".")[0] == framework


# Only MLX and Numba keep compiled code in the temporary folder. One that is missing is tried with a
# program of each framework.
FRAMEWORKS = {version.framework: version for version in reversed(lab_helpers.HERE)}
FOLDERS = [
    pytest.param(version, name, id=f"{version.name}-{name}")
    for version in lab_helpers.HERE
    for name in ("a space", 'a"quote')
    if reads(version, "mlx") or reads(version, "numba")
] + [pytest.param(version, "missing", id=version.name) for version in FRAMEWORKS.values()]


@pytest.mark.parametrize(("version", "name"), FOLDERS)
def test_a_program_runs_whatever_the_temporary_folder_is_called(version, name, tmp_path):
    folder = tmp_path / name
    if name != "missing":
        folder.mkdir()
    status, printed, errors = run(version, tmp_path, TMPDIR=str(folder))
    assert (status, errors) == (0, "")
    assert "  1  " in printed


# ---------------------------------------------------------------- Caches


@pytest.mark.parametrize("name", [name for name in versions.find() if "numba" in name])
def test_numba_runs_where_nothing_beside_it_can_be_written(name, tmp_path):
    """The folder of the cache is one below a file: nobody can make it, not even root."""
    (tmp_path / "file").write_text("")
    version = versions.find()[name]
    if version.missing:
        pytest.skip(version.missing)
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache")}
    status, printed, errors = run(version, tmp_path, HOME="", **environment)
    assert (status, errors) == (0, "")
    assert "  1  " in printed
    assert not (tmp_path / "~").exists()


# ---------------------------------------------------------------- Environment variables

ODD = [
    ("JAX_PLATFORMS", "cuda", "device"),
    ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT"),
    ("NUMBA_NUM_THREADS", "0", "NUMBA_"),
    ("NUMBA_NUM_THREADS", "-3", "NUMBA_"),
]
READ = [
    pytest.param(version, *odd, id=f"{version.name}-{odd[0]}-{odd[1]}")
    for version in lab_helpers.HERE
    for odd in ODD
    if reads(version, odd[0].split("_")[0].lower())
]


@pytest.mark.parametrize(("version", "variable", "value", "says"), READ)
def test_an_odd_variable_is_one_line_in_the_versions_that_read_it(
    version, variable, value, says, tmp_path
):
    status, _, errors = run(version, tmp_path, **{variable: value})
    assert status == 2
    assert errors.count("\n") == 1
    assert errors.startswith("error: ")
    assert says in errors


# ---------------------------------------------------------------- Windows


def test_no_text_is_read_or_written_in_the_systems_own_encoding():
    """Windows has another encoding than UTF-8, unless the program says which."""
    wrong, seen = [], 0
    for path in [*ROOT.glob("lab/**/*.py"), *ROOT.glob("[0-9][0-9]_*/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (said := missing_encoding(node)):
                seen += 1
                if said == "missing":
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert seen > 20
    assert not wrong


def missing_encoding(call):
    """ "missing" for a call that opens a text without an encoding, "there" for one with it."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name not in ("open", "fdopen", "read_text", "write_text", "TemporaryFile"):
        return ""
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    modes = [text for text in texts if set(text) <= set("rwab+x")]
    if name in ("open", "fdopen", "TemporaryFile") and any("b" in mode for mode in modes):
        return ""
    if name == "TemporaryFile" and not modes:
        return ""  # binary by default
    if ast.unparse(call.func) in ("os.open", "files.read_text"):
        return ""  # no text, or UTF-8 always
    named = any(keyword.arg == "encoding" for keyword in call.keywords)
    return "there" if named or {"utf-8", "ascii"} & set(texts) else "missing"


# What Python has on Unix alone, as its documentation says: of os, of signal, and whole modules.
UNIX_NAMES = """
chown chroot fchmod fchown fork forkpty geteuid getgid getgroups getloadavg getpgid getpgrp
getpriority getresuid getsid getuid initgroups killpg lchown lockf major minor mkfifo mknod
nice openpty pathconf pipe2 posix_spawn pread preadv prctl pwrite pwritev register_at_fork
sched_getaffinity sched_setaffinity sendfile setegid seteuid setgid setpgid setpriority
setsid setuid statvfs sync sysconf tcgetpgrp ttyname umount uname wait wait3 wait4 waitid
SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt
"""
UNIX = set(UNIX_NAMES.split())
MODULES = {"curses", "fcntl", "grp", "nis", "pty", "pwd", "resource", "syslog", "termios", "tty"}
ASKS = ("os.name", "hasattr", "sys.platform", "LIBC", "marked(", "AttributeError")
FOLDERS_OF_SOURCES = ("lab/**", "[0-9][0-9]_*", "beyond/*", "speedrun")


def sources():
    """Every program of the tree but one: lab_mutants asks for fork before it starts lab_driver."""
    paths = [path for folder in FOLDERS_OF_SOURCES for path in ROOT.glob(f"{folder}/*.py")]
    return [path for path in paths if path.name != "lab_driver.py"]


def only_unix(source):
    """(line, name) of what Windows lacks, where the function or the try around it does not ask."""
    tree, found = ast.parse(source), []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        name = name_of(node)
        if not name:
            continue
        around = []
        while node := parents.get(node):
            around += [ast.unparse(node)] * isinstance(node, (ast.FunctionDef, ast.Try))
        asks = (*ASKS, "ImportError") if name in MODULES else ASKS
        if not any(word in text for text in around for word in asks):
            found.append(name)
    return found


def name_of(node):
    """What Windows lacks, if this node is a use of it."""
    if isinstance(node, ast.Attribute) and node.attr in UNIX:
        return node.attr if ast.unparse(node.value) in ("os", "signal") else ""
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if alias.name in MODULES), "")
    if isinstance(node, ast.ImportFrom):
        return node.module if node.module in MODULES else ""
    if isinstance(node, ast.keyword) and node.arg in ("preexec_fn", "start_new_session"):
        given = ast.unparse(node.value)  # a function may ask, and answer None
        return "" if given in ("None", "False") or given.startswith("dying_with(") else node.arg
    return ""


def test_what_windows_lacks_is_asked_for_first():
    """Each use stands in a function that looks at the system, in a try, or in a getattr."""
    wrong = {p.name: found for p in sources() if (found := only_unix(p.read_text("utf-8")))}
    assert not wrong


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", []),
        ("def f():\n    os.killpg(1, signal.SIGKILL)", ["killpg", "SIGKILL"]),
        ("def f():\n    if os.name == 'posix':\n        os.killpg(1, 9)", []),
        ("signal.signal(signal.SIGHUP, stop)", ["SIGHUP"]),
        ("Popen(x, preexec_fn=f)", ["preexec_fn"]),
    ],
)
def test_the_check_finds_what_windows_lacks(source, found):
    assert sorted(only_unix(source)) == sorted(found)


# ---------------------------------------------------------------- Clocks


def test_no_duration_is_measured_by_a_clock_that_can_be_set():
    """time.time() jumps when somebody sets the clock, and a duration may become negative."""
    uses = Counter()
    for path in sources():
        uses.update(clocks_in(path.read_text("utf-8"), path.name))
    assert sum(count for (_, name), count in uses.items() if name == "perf_counter") > 10
    assert not [where for where, name in uses if name in ("time", "now", "utcnow")]
    assert clocks_in("import time\nbefore = time.time()", "x") == [("x", "time")]


def clocks_in(source, where):
    """(where, name) of each function of the modules time and datetime that is called."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        (where, f.attr)
        for f in calls
        if isinstance(f, ast.Attribute) and ast.unparse(f.value) in ("time", "datetime")
    ]
