"""`microgpt site` builds the page, serves it on loopback only, and says what it lacks in a line."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading

import pytest
from microgpt_lab.commands import site
from microgpt_lab.verification import deception


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A connection to a server of a small page."""
    (tmp_path / "index.html").write_text("<p>page</p>")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "a.js").write_text("export {};")
    monkeypatch.setattr(site, "DIST", tmp_path)
    server = site.listen(0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    yield connection
    connection.close()
    server.shutdown()
    thread.join()
    server.server_close()


def get(connection, path):
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply, reply.read()


def test_a_page_is_sent_with_the_security_policy(served):
    reply, body = get(served, "/")
    assert (reply.status, body) == (200, b"<p>page</p>")
    policy = reply.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert reply.getheader("X-Content-Type-Options") == "nosniff"


def test_a_script_has_a_type_that_browsers_run(served):
    reply, _ = get(served, "/assets/a.js")
    assert reply.getheader("Content-Type") == "text/javascript"


@pytest.mark.parametrize("path", ["/nothing.html", "/assets/", "/../pyproject.toml"])
def test_what_is_not_in_the_page_is_not_sent(served, path):
    assert get(served, path)[0].status == 404


def test_it_listens_on_loopback_only():
    server = site.listen(0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_a_port_that_is_taken_is_named(lab):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} cannot be used" in lab.refuses("site", "--port", str(port))


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_out_of_range_is_refused(lab, port):
    assert f"port is {port}: it must lie in 0 … 65535" in lab.refuses("site", "--port", port)


def test_without_node_it_says_how_to_get_it(lab, monkeypatch):
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None)
    assert "uv sync --group site" in lab.refuses("site", "--build-only")


def test_what_npm_says_is_shown_in_one_line(lab, monkeypatch, tmp_path):
    """In a folder without scripts `npm run build` fails."""
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1.0.0"}')
    (tmp_path / "package-lock.json").write_text("{}")
    monkeypatch.setattr(site, "SITE", tmp_path)
    monkeypatch.setattr(site, "installed", lambda: True)
    said = lab.refuses("site", "--build-only")
    assert "npm run build failed" in said
    assert "Missing script" in said


def test_packages_are_installed_again_when_the_lock_is_newer(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "SITE", tmp_path)
    lock, done = tmp_path / "package-lock.json", tmp_path / "node_modules" / ".package-lock.json"
    lock.write_text("{}")
    assert not site.installed()
    done.parent.mkdir()
    done.write_text("{}")
    os.utime(lock, (1, 1))
    assert site.installed()
    os.utime(done, (0, 0))
    assert not site.installed()


def test_the_lock_is_exact_and_names_no_host():
    lock = json.loads((site.SITE / "package-lock.json").read_text("utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 100
    for name, package in packages.items():
        assert package["integrity"], name
        assert "resolved" not in package, name
    wanted = json.loads((site.SITE / "package.json").read_text("utf-8"))
    versions = wanted["dependencies"] | wanted["devDependencies"]
    assert all(version[0].isdigit() for version in versions.values())


CHECKPOINT = """
import { readFileSync, writeFileSync } from "node:fs";
import { runOf } from "SITE/src/engine/training.ts";
const plan = { recipe: "seed", numbers: { n_embd: 8, steps: 20 }, seed: 42, heldOut: 0.1, own: "" };
const run = runOf(plan, readFileSync("SITE/../data/names.txt", "utf8"));
run.advance(12, Infinity);
writeFileSync("page.safetensors", run.checkpoint(12));
"""


def test_the_lab_continues_what_the_page_has_trained(lab, tmp_path, monkeypatch):
    """The checkpoint of the page's engine is that of a run of the lab, in its file's form too."""
    source = CHECKPOINT.replace("SITE", site.SITE.as_uri().removeprefix("file://"))
    program = tmp_path / "train.ts"
    program.write_text(source)
    node = site.node_folder() / ("node.exe" if sys.platform == "win32" else "bin/node")
    subprocess.run([node, program], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    numbers = ["--n-embd", "8", "--steps", "20", "--until", "12"]
    assert lab("train", "02", "--dtype", "float64", *numbers, "--out", "run") == 0
    names = []
    for source in ("page.safetensors", "run"):
        assert lab("sample", source, "--json", "--with", "02") == 0
        names.append(json.loads(lab.out)["names"])
    words = [[name["name"] for name in found] for found in names]
    assert words[0] == words[1]
    assert {name["known"] for name in names[0]} == {name["known"] for name in names[1]}


def test_the_numbers_that_the_page_shows_are_01s():
    """Recipes, weights, losses and names, as 01 computes them now."""
    done = subprocess.run(
        [sys.executable, site.SITE / "tools" / "record.py", "--check"], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


# ---------------------------------------------------------------- The deception


@pytest.fixture(scope="module")
def measured():
    return deception.measure()


def recorded():
    return json.loads(deception.FILE.read_text("utf-8"))


def test_the_wrong_programs_of_the_page_are_those_of_today(measured):
    """Their edits, losses and verdicts are what `microgpt site --record` would write now."""
    assert deception.differs(measured, recorded()) == ""
    programs = measured["programs"]
    assert {one["id"] for one in programs if one["id"]} == set(deception.WRONG)
    assert all(check["passed"] for check in measured["right"])
    assert all(not one["first"]["passed"] for one in programs if one["id"])


def change(name, value):
    def changed(made):
        wrong = next(one for one in made["programs"] if one["id"])
        wrong[name] = value(wrong[name])

    return changed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (change("replace", lambda text: text + " "), "replace"),
        (change("seed", lambda seed: seed + 1), "seed"),
        (change("losses", lambda losses: [losses[0] + 0.01, *losses[1:]]), "losses"),
        (change("losses", lambda losses: [float("nan"), *losses[1:]]), "losses"),
        (change("checks", lambda checks: [one | {"passed": True} for one in checks]), "verdict"),
        (change("first", lambda first: first | {"check": "names"}), "verdict"),
        (lambda made: made["programs"].pop(), "number of programs"),
        (lambda made: made["reference"]["losses"].reverse(), "losses"),
    ],
)
def test_a_recording_that_is_not_what_was_measured_is_noticed(wrong, said):
    made = recorded()
    assert deception.differs(made, recorded()) == ""
    wrong(made)
    assert said in deception.differs(recorded(), made)


def test_a_recording_that_is_up_to_date_keeps_its_date(measured, monkeypatch, lab):
    monkeypatch.setattr(deception, "measure", lambda: measured)
    assert lab("site", "--record") == 0
    assert lab.out == f"site/src/recorded/deception.json is as recorded on {recorded()['date']}\n"
    monkeypatch.undo()
    monkeypatch.setattr(deception, "WRONG", ("no-such-mutant",))
    assert lab("site", "--record") == 2
    assert "has no 'no-such-mutant', which the page shows" in lab.err
    assert lab("site", "--record", "--build-only") == 2
    assert "leave --build-only out" in lab.err
