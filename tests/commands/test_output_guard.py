"""Nothing that standard output cannot take stops a command or hides what it found."""

import functools
import io
import os
import sys
import warnings

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from microgpt_lab.base import plots, terminal
from microgpt_lab.commands import main
from microgpt_lab.verification import random_cases, verify

import lab_helpers
from lab_helpers import SMALL, losses_of

ENCODINGS = ["cp1252", "cp932", "gbk", "cp437", "latin-1", "ascii", "utf-8"]
# Every command that prints and is quick; {run} is a finished run, {here} an empty folder.
COMMANDS = {
    "train": ["train", "02", "--out", "{here}/new", "--data", "{data}", *SMALL, "--steps", "12"],
    "resume": ["resume", "{run}"],
    "sample": ["sample", "{run}"],
    "sample --json": ["sample", "{run}", "--json"],
    "show": ["show", "{run}", "emma"],
    "show --embeddings": ["show", "{run}", "--embeddings"],
    "export": ["export", "{run}", "{here}/x.json"],
    "verify": ["verify", "02", "--case", "first-steps"],
    "verify --program": ["verify", "--program", "false", "--case", "first-steps"],
    "scale": ["scale", "--operations", "1"],
    "lines": ["lines"],
    "port": ["port", "new", "c", "--out", "{here}/port"],
    "help": ["--help"],
    "help of a command": ["train", "--help"],
}
RUN_CASE = verify.run_case
FAILS = {"verify --program": 1}  # the status of a command that finds something wrong


@pytest.fixture
def command(run, tmp_path, monkeypatch):
    """command(name, stdout) -> (exit status, what it printed to standard error)"""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(lab_helpers.options, "runnable", lab_helpers.runnable)
    monkeypatch.setattr(verify, "run_case", lambda *_: verified())
    places = {"run": run, "here": tmp_path, "data": run.parent / "names.txt"}

    def start(name, stdout):
        arguments = [text.format(**places) for text in COMMANDS[name]]
        monkeypatch.setattr(sys, "argv", ["microgpt", *arguments])
        error = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", error)
            with pytest.raises(SystemExit) as ended:
                main.main()
        error.flush()
        return ended.value.code or 0, error.buffer.getvalue().decode()

    return start


@functools.cache
def verified():
    """The results of one case, computed once."""
    return RUN_CASE(random_cases.find_case("first-steps"), ["02"], 1)


def encoded(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding)


@pytest.mark.tried("a command that prints in another encoding")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_encoding_takes_every_command(command, name, encoding):
    out = encoded(encoding)
    assert command(name, out) == (FAILS.get(name, 0), "")
    out.flush()
    text = out.buffer.getvalue().decode(encoding)
    assert text.strip()
    if encoding == "utf-8":
        assert "\\u" not in text


def nobody_reads():
    """A pipe whose reader has ended, as `| head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def full():
    return open("/dev/full", "w")


def to_read():
    return open(os.open(os.devnull, os.O_RDONLY), "w")


# what stands in for standard output -> (how it is made, status, what is said)
BROKEN = {
    "a full device": (full, 2, os.strerror(28)),
    "a reader that ended": (nobody_reads, 0, ""),
    "a closed descriptor": (lambda: None, 0, ""),
    "a descriptor to read": (to_read, 2, "Bad file"),
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.tried("a command whose output nobody can take")
@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_its_work_when_nobody_can_be_told(command, name, broken, tmp_path):
    make, status, says = BROKEN[broken]
    ended, said = command(name, make())
    assert ended == (FAILS.get(name) or status)
    if says:
        assert said == f"error: cannot write to standard output: {os_words(said)}\n"
        assert says in said
    else:
        assert said == ""
    if name == "train":
        assert len(losses_of(tmp_path / "new")) == 12
        assert (tmp_path / "new" / "names.txt").exists()


def os_words(line):
    return line.removeprefix("error: cannot write to standard output: ").removesuffix("\n")


def test_a_first_failure_throws_the_rest_away():
    """Later writes do not fail again, and what was in the buffer does not come back."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    out = terminal.Output(full())
    out.write("x")
    out.flush()
    first = out.failure
    out.write("y")
    out.flush()
    assert first is not None
    assert out.failure is first
    out.stream.close()  # what is left in its buffer would raise here


# ---------------------------------------------------------------- The width


@pytest.mark.tried("a width that no layout fits")
@pytest.mark.parametrize("columns", ["0", "1", "2", "-3", "abc", "²", "", "9" * 30])
@pytest.mark.parametrize("name", ["sample", "show", "show --embeddings", "scale", "help"])
def test_any_width_is_taken(command, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", columns)
    out = encoded("utf-8")
    assert command(name, out) == (0, "")
    out.flush()
    lines = out.buffer.getvalue().decode().splitlines()
    assert lines
    assert max(map(len, lines)) <= terminal.WIDEST


# ---------------------------------------------------------------- Text from outside

ODD = ["a\x1b[31mb", "[bold]c", ":smile:", "d\x07e", "f\x9b2Jg", "h\u202eij", "[/red]", "k\u2028l"]


@pytest.fixture
def odd(lab, tmp_path):
    """A run on documents with escape sequences, markup and control letters."""
    (tmp_path / "odd.txt").write_text("\n".join(ODD * 5), "utf-8")
    run = tmp_path / "odd"
    options = ["--data", tmp_path / "odd.txt", *SMALL, "--steps", 5, "--save-every", 5]
    assert lab("train", "02", *options, "--out", run, "--held-out", 0) == 0
    return run


@pytest.mark.tried("text from data that a terminal would obey")
@pytest.mark.parametrize("name", ["train", "sample", "show", "show --embeddings", "export"])
def test_text_from_data_is_shown_as_text(lab, odd, tmp_path, name):
    arguments = {
        "train": ["resume", odd],
        "sample": ["sample", odd, "--samples", 60],
        "show": ["show", odd, "a\x1b[31mb"],
        "show --embeddings": ["show", odd, "--embeddings"],
        "export": ["export", odd, tmp_path / "a\x1b[31mb.json"],
    }[name]
    assert lab(*arguments) == 0
    assert all(c.isprintable() or c == "\n" for c in lab.out + lab.err)


def test_an_error_is_one_visible_line(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = lab.refuses("train", "02\x1b[31m\nx")
    assert r"02\x1b[31m\nx" in said
    assert said[:-1].isprintable()


@pytest.mark.parametrize(
    ("text", "file"),
    [("AC/DC", "show-AC_DC.svg"), ("../x", "show-_x.svg"), ("y" * 300, f"show-{'y' * 200}.svg")],
)
def test_a_name_never_leads_out_of_the_run_s_folder(lab, tmp_path, text, file):
    (tmp_path / "docs.txt").write_text(f"{text}\nab\n")
    run = tmp_path / "run"
    options = ["--data", tmp_path / "docs.txt", "--steps", 2, "--held-out", 0, *SMALL]
    assert lab("train", "02", *options, "--out", run) == 0
    before = {*tmp_path.rglob("*")}
    assert lab("show", run, text) == 0
    assert {*tmp_path.rglob("*")} - before == {run / file}


@pytest.fixture
def strange(lab, tmp_path):
    """A run on thirty letters that no font has: they are private ones."""
    letters = [chr(0xE000 + i) for i in range(30)]
    (tmp_path / "docs.txt").write_text("\n".join(letters), "utf-8")
    options = ["--data", tmp_path / "docs.txt", "--steps", 2, "--held-out", 0, *SMALL]
    assert lab("train", "02", *options, "--out", tmp_path / "run") == 0
    return tmp_path / "run"


@pytest.mark.parametrize("what", ["--embeddings", "\ue000"])
def test_letters_without_a_font_are_one_line(lab, strange, monkeypatch, what):
    monkeypatch.setattr(plots, "letters_of", lambda font: frozenset(map(chr, range(0x2FFF))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lab("show", strange, what) == 0
    assert lab.err.startswith("warning: no installed font has 30 of the picture's letters (")
    assert lab.err.count("\n") == 1


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    other = next(f for f in font_manager.fontManager.ttflist if "Sans" not in f.name)
    default = font_manager.findfont("DejaVu Sans")
    has = {default: frozenset("abc "), other.fname: frozenset("ab\u3042\u3044")}
    monkeypatch.setattr(plots, "letters_of", lambda font: has.get(font, frozenset()))
    figure = Figure()
    figure.text(0, 0, "a\u3042")
    with plots.without_warnings(figure):
        assert figure.findobj(Text)[0].get_fontfamily()[-1] == other.name
    assert plots.fonts_with({"\u3042", "\u3044", "x"}) == ([other.name], {"x"})
