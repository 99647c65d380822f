"""`microgpt verify --program`: its options, its files and its exit status."""

import json
import os
import signal
import subprocess
import sys

import pytest
from microgpt_lab.verification import port_replies, port_watch, ports, vectors

from golden_cases import CASES, TINY, answer_on
from lab_helpers import Lab

VERIFY = [sys.executable, "-m", "microgpt_lab.commands.main", "verify"]


@pytest.fixture
def few(monkeypatch):
    """Only three golden cases."""
    monkeypatch.setattr(vectors, "read_vectors", lambda: TINY[:3])
    return TINY[:3]


def results(tmp_path, answers):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(answers))
    return path


@pytest.mark.parametrize(
    ("change", "status", "badge"),
    [
        ({}, 0, "all 3 cases: forward"),
        ({"loss": 0.0}, 1, "not verified"),
        ({"declined": "later", "levels": []}, 0, "2 of 3 cases: forward"),
    ],
)
def test_status_report_and_badge_agree(few, tmp_path, monkeypatch, capsys, change, status, badge):
    answers = [answer_on(["forward"], case) for case in few]
    answers[0] |= change
    report, picture, page = (tmp_path / name for name in ("x.json", "x.svg", "x.md"))
    run = Lab(monkeypatch, capsys)
    arguments = ["--results", results(tmp_path, answers), "--json", report, "--badge", picture]
    arguments += ["--report", page]
    assert run("verify", *arguments) == status
    assert f"<title>microGPT: {badge}</title>" in picture.read_text()
    text = page.read_text()
    assert text.startswith(f"# microGPT: {'not ' * (status != 0)}verified\n")
    assert f"\n    {'not ' * (status != 0)}certified: " in text
    record = json.loads(report.read_text())
    assert record["passed"] == (status == 0)
    assert record["verdict"]["status"] == status
    assert record["verdict"]["line"] in run.out


def test_all_declined_is_status_2(few, tmp_path, monkeypatch, capsys):
    answers = [{"id": case["id"], "declined": "not written yet"} for case in few]
    run = Lab(monkeypatch, capsys)
    assert run("verify", "--results", results(tmp_path, answers)) == 2
    assert "not certified: every case was declined: not written yet" in run.out


def test_first_stops_at_the_first_failure(few, tmp_path, monkeypatch, capsys):
    path = tmp_path / "port.py"
    path.write_text("import sys\nsys.exit(3)\n")
    run = Lab(monkeypatch, capsys)
    assert run("verify", "--program", f"{sys.executable} {path}", "--first") == 1
    assert "--first: 2 cases not tried" in run.out
    assert f"{few[0]['id']}: it ended with status 3" in run.out
    replies = ports.run_program(f"{sys.executable} {path}", few, 600)
    assert len(replies) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--badge", "x.svg"],
        ["--report", "x.md"],
        ["--first"],
        ["--watch"],
        ["--recipe", "gist"],
        ["--results", "x.json", "--first"],
        ["--results", "x.json", "--watch"],
        ["--results", "x.json", "--write"],
        ["--program", "true", "--check"],
        ["--program", "true", "--results", "x.json"],
        ["--program", "true", "02"],
    ],
)
def test_options_that_mean_nothing_together_are_refused(monkeypatch, capsys, arguments):
    Lab(monkeypatch, capsys).refuses("verify", *arguments)


def test_an_unknown_recipe_is_refused(monkeypatch, capsys):
    said = Lab(monkeypatch, capsys).refuses("verify", "--program", "true", "--recipe", "big")
    assert "there are seed, gist, scaled" in said


# ---------------------------------------------------------------- --watch


def test_the_files_of_a_command_are_the_program_and_its_arguments(tmp_path):
    script = tmp_path / "port.py"
    script.write_text("")
    files = port_watch.files_of(f"{sys.executable} {script} --fast no-such-file")
    assert [str(path) for path in files] == [sys.executable, str(script)]
    assert port_watch.files_of("'") == []


def test_a_change_is_seen_when_the_file_is_complete(tmp_path):
    path = tmp_path / "port"
    path.write_text("one")
    looks = iter(
        [
            lambda: None,
            path.unlink,
            lambda: None,
            lambda: path.write_text("part"),
            lambda: path.write_text("the whole"),
            lambda: None,
        ]
    )
    seen = port_watch.changes([path], port_watch.state_of([path]), lambda: next(looks)())
    assert next(seen) == [path]
    assert path.read_text() == "the whole"
    assert next(looks, None) is None


def test_watch_runs_again_and_ctrl_c_ends_it(tmp_path):
    port = tmp_path / "port.py"
    port.write_text("import sys\nsys.exit(3)\n")
    command = [*VERIFY, "--program", f"{sys.executable} {port}", "--watch"]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )

    def until(text):
        assert run.stdout
        for line in run.stdout:
            if text in line:
                return
        raise AssertionError(f"it ended before it said {text!r}")

    until("it ended with status 3")
    until("Ctrl-C ends")
    port.write_text("import sys\nsys.exit(44)\n")
    until("changed: ")
    until("it ended with status 44")
    until("not certified")
    run.send_signal(signal.SIGINT)
    run.communicate()
    assert run.returncode == 130


def test_cases_exist_that_ask_for_every_level():
    asked = set().union(*(port_replies.asked_levels(case) for case in CASES.values()))
    assert asked == {"forward", "gradients", "training", "losses", "sampling", "stream"}
