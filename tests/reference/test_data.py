"""Documents: read as S1.1 says, downloaded whole or not at all, kept only if right."""

import functools
import gzip
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import microgpt
from microgpt import InputError, load_documents

import pytest

NAMES, DOCS = b"ann\nbob\ncy\n", ["ann", "bob", "cy"]
DATA = Path(__file__).parents[2] / "data"

# ---------------------------------------------------------------- Text


@pytest.mark.parametrize(
    "raw",
    {
        "final newline": b"ann\nbob\ncy\n",
        "no final newline": b"ann\nbob\ncy",
        "Windows": b"ann\r\nbob\r\ncy\r\n",
        "byte order mark": b"\xef\xbb\xbfann\nbob\ncy",
        "white space and empty lines": b"\n\n ann\n\t\n\nbob \t\n  cy\n\n",
    }.items(),
    ids=lambda item: item[0],
)
def test_the_same_documents_are_read_whatever_surrounds_them(raw, tmp_path):
    path = tmp_path / "docs"
    path.write_bytes(raw[1])
    docs = load_documents(str(path))
    assert docs == DOCS
    assert microgpt.digest(docs) == hashlib.sha256(NAMES).hexdigest()


def test_documents_keep_their_order_repeats_inner_spaces_and_letters():
    raw = "zoé ann\nåsa\n山田\nzoé ann\n"
    assert microgpt.parse(raw.encode(), "x") == ["zoé ann", "åsa", "山田", "zoé ann"]


REFUSED = {  # what a file may hold, and what the refusal must say
    b"": "0 document",
    b"\n \n\n": "0 document",
    b"ann\n": "1 document",
    b"a\na\naa\n": "1 different letter",
    b"ann\nb\0b\n": "binary",
    b"ann\nzo\xe9\n": "not UTF-8 text: byte 6 is 0xe9, in Windows-1252 'é'",
    "ann\nbob\n".encode("utf-16"): "UTF-16: save it as UTF-8",
    "ann\nbob\n".encode("utf-16-be"): "binary, or UTF-16",
    b"ann\rbob\rcy": "carriage returns and no newline",
    gzip.compress(b"ann\nbob\n", mtime=0): "compressed by gzip",
    b"PAR1\x15\x04": "Parquet",
    b"PK\x03\x04ann\nbob": "zip archive",
    b"\n<!DOCTYPE html>\n<title>Sign in</title>\n": "web page",
    b"<HTML>\n<title>Sign in</title>\n": "web page",
}


@pytest.mark.parametrize(("raw", "reason"), REFUSED.items())
def test_data_from_which_nothing_can_be_learned_are_refused(raw, reason, tmp_path):
    path = tmp_path / "docs"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}.*{reason}"):
        load_documents(str(path))


def test_the_embedded_names_are_what_their_readme_says():
    raw, said = (DATA / "names.txt").read_bytes(), (DATA / "README.md").read_text("utf-8")
    docs = load_documents()
    assert "".join(f"{doc}\n" for doc in docs).encode() == raw
    assert hashlib.sha256(raw).hexdigest() == microgpt.SHA256["names"]
    assert (len(docs), len(set(docs))) == (32246, 29685)
    assert all(re.fullmatch("[a-z]{2,15}", doc) for doc in docs)
    for fact in ("32,246", "29,685", "2,561", "[a-z]{2,15}", microgpt.SHA256["names"]):
        assert fact in said
    assert microgpt.MAKEMORE.split("/")[-2] in said


def test_embedded_names_that_someone_changed_are_refused(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "names.txt").write_bytes(NAMES)
    monkeypatch.setattr(microgpt, "ROOT", tmp_path)
    with pytest.raises(InputError, match=f"SHA-256 .*{microgpt.SHA256['names']}"):
        load_documents()


# ---------------------------------------------------------------- Downloads


class Site(http.server.BaseHTTPRequestHandler):
    """A web site with a page for each way in which a download can go."""

    def do_GET(self):
        self.server.hits.append(self.path)
        getattr(self, self.path.strip("/"))()

    def log_message(self, *_):
        pass

    def send(self, body=b"", status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self):
        self.send(NAMES, Content_Length=len(NAMES))

    def of_unknown_length(self):
        self.send(NAMES)

    def in_chunks(self):
        self.send(b"4\r\nann\n\r\n7\r\nbob\ncy\n\r\n0\r\n\r\n", Transfer_Encoding="chunked")

    def moved(self):
        self.send(status=302, Location="/good")

    def at_once(self):
        self.server.crowd.wait(20)  # all ask before the first has its reply
        self.good()

    def stalled(self):
        self.send(b"ann\nbob", Content_Length=100)
        self.server.closing.wait(20)

    def silent(self):
        self.server.closing.wait(20)

    def dripping(self):
        self.send(Content_Length=10**6)
        for _ in range(120):
            self.wfile.write(b"a\n")
            self.server.closing.wait(0.05)

    def dripping_headers(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"x")

    def login(self):
        self.send(b"<!doctype html>\n<title>Sign in</title>\n<p>Sign in\n")

    def too_large(self):
        self.send(b"ab\n" * 400_000)

    def cut_off(self):
        self.send(NAMES, Content_Length=len(NAMES) + 1)

    def cut_off_in_a_chunk(self):
        self.send(b"99\r\nann\nbob", Transfer_Encoding="chunked")

    def missing(self):
        self.send(status=404)

    def moved_round_and_round(self):
        self.send(status=302, Location=self.path)

    def moved_to_a_file(self):
        self.send(status=302, Location=(DATA / "names.txt").as_uri())

    def not_http(self):
        self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")

    def no_reply(self):
        pass

    def of_no_length(self):
        self.send(NAMES, Content_Length="much")

    def one_document(self):
        self.send(b"ann\n")

    def picture(self):
        self.send(b"\x89PNG\r\n\x1a\n\0\0")


@pytest.fixture
def site(monkeypatch, tmp_path):
    """The site, on the loopback, and an empty cache; a patient person's 60 s are 1."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads, server.handle_error = True, lambda *_: None
    server.hits, server.closing, server.crowd = [], threading.Event(), None
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(microgpt, "__file__", str(tmp_path / "microgpt.py"))
    hasty = functools.partial(microgpt.fetch, seconds=1, limit=10**6)
    monkeypatch.setattr(microgpt, "fetch", hasty)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_refused(source, reason, folder):
    """At once, in one line that names the source, with nothing left behind."""
    before, start = files(folder), time.monotonic()
    with pytest.raises(InputError) as refusal:
        load_documents(source, say=lambda _: None)
    assert time.monotonic() - start < 5
    line = str(refusal.value)
    assert line.isprintable(), line
    assert source in line
    assert re.search(reason, line), line
    assert files(folder) == before


@pytest.mark.parametrize("page", ["good", "of_unknown_length", "in_chunks", "moved"])
def test_a_download_is_said_and_kept_so_that_the_next_run_needs_none(page, site, tmp_path):
    said, url = [], f"{site.url}/{page}"
    assert load_documents(url, said.append) == DOCS
    assert said == [f"downloading {url}"]
    (kept,) = files(tmp_path)
    assert kept.parent.name == ".cache"
    assert kept.read_bytes() == NAMES
    asked = len(site.hits)
    assert load_documents(url, said.append) == DOCS
    assert (len(site.hits), len(said)) == (asked, 1)


def test_each_address_is_kept_by_itself(site, tmp_path):
    for page in ("good", "moved"):
        load_documents(f"{site.url}/{page}", say=lambda _: None)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("page", "reason"),
    {
        "stalled": "timed out",
        "silent": "timed out",
        "dripping": "1 seconds",
        "dripping_headers": "over 1 seconds",
        "login": "web page",
        "too_large": "1,000,000 bytes",
        "cut_off": "cut off after 11 bytes",
        "cut_off_in_a_chunk": "IncompleteRead",
        "missing": "404",
        "moved_round_and_round": "302",
        "moved_to_a_file": "302",
        "not_http": "SSH-2.0-OpenSSH_9.9",
        "no_reply": "closed connection without response",
        "of_no_length": "'much'",
        "one_document": "1 document",
        "picture": "UTF-8",
    }.items(),
)
def test_a_download_that_fails_says_why_and_leaves_nothing(page, reason, site, tmp_path):
    assert_refused(f"{site.url}/{page}", reason, tmp_path)
    assert site.hits


@pytest.mark.parametrize("where", ["port", "name", "bracket"])
def test_an_address_where_nobody_answers_is_refused(where, site, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, reason = {
        "port": (f"http://127.0.0.1:{port}/", "refused"),
        "name": ("http://a..b/", "label"),
        "bracket": ("http://[::1/", "IPv6"),
    }[where]
    assert_refused(url, reason, tmp_path)


def test_processes_that_download_at_once_all_succeed(site, tmp_path):
    site.crowd = threading.Barrier(2)
    program = (
        "import microgpt, sys; microgpt.__file__ = sys.argv[1];"
        "print(microgpt.load_documents(sys.argv[2], say=id))"
    )
    command = [sys.executable, "-c", program, microgpt.__file__, f"{site.url}/at_once"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    crowd = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in crowd:
        assert process.communicate(timeout=30) == (f"{DOCS}\n", "")
    (kept,) = files(tmp_path)
    assert kept.read_bytes() == NAMES


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_file_is_saved_whole_or_not_at_all(failure, tmp_path, monkeypatch):
    path, seen = tmp_path / "folder" / "names.txt", []
    microgpt.save(path, b"old")

    def fail(part, target):
        seen.append((part.read_bytes(), target.read_bytes()))
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(failure):
            microgpt.save(path, b"new")
    assert seen == [(b"new", b"old")]
    assert files(tmp_path) == [path]
    assert path.read_bytes() == b"old"


def test_a_file_may_be_saved_by_another_process_meanwhile(tmp_path, monkeypatch):
    path, rename = tmp_path / "names.txt", Path.replace
    other = "import microgpt, pathlib, sys; microgpt.save(pathlib.Path(sys.argv[1]), b'other')"

    def meanwhile(part, target):
        subprocess.run([sys.executable, "-c", other, target], check=True)
        assert target.read_bytes() == b"other"
        return rename(part, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    microgpt.save(path, b"ours")
    assert files(tmp_path) == [path]
    assert path.read_bytes() == b"ours"


# ---------------------------------------------------------------- Makemore


@pytest.fixture
def makemore(site, monkeypatch):
    """The site has the names of makemore, which are then DOCS."""
    monkeypatch.setattr(microgpt, "MAKEMORE", f"{site.url}/good")
    right = {**microgpt.SHA256, "makemore": microgpt.digest(DOCS)}
    monkeypatch.setattr(microgpt, "SHA256", right)


def test_makemore_is_a_download_like_another(makemore, site, tmp_path):
    assert load_documents("makemore") == load_documents("makemore") == DOCS
    assert site.hits == ["/good"]


def test_without_the_embedded_names_makemores_are_taken_and_that_is_said(
    makemore, site, tmp_path, monkeypatch
):
    monkeypatch.setattr(microgpt, "ROOT", tmp_path)
    said = []
    assert load_documents("names", said.append) == DOCS
    there_is_no, downloading = said
    assert str(tmp_path / "data" / "names.txt") in there_is_no
    assert "makemore" in there_is_no
    assert site.url in downloading


def test_other_names_than_makemores_are_refused_and_not_kept(site, tmp_path, monkeypatch):
    monkeypatch.setattr(microgpt, "MAKEMORE", f"{site.url}/good")
    want, got = microgpt.SHA256["makemore"], microgpt.digest(DOCS)
    assert_refused("makemore", f"SHA-256 {got}, not {want}", tmp_path)


@pytest.mark.parametrize("damage", [b"ann\nbob\n", b"", b"\0\1", None])
def test_a_damaged_cache_is_said_and_downloaded_again(damage, makemore, site, tmp_path):
    load_documents("makemore")
    (kept,) = files(tmp_path)
    if damage is None:  # a folder in its place cannot be read, nor be replaced
        kept.unlink()
        kept.mkdir()
    else:
        kept.write_bytes(damage)
    said = []
    assert load_documents("makemore", said.append) == DOCS
    assert str(kept) in said[0]
    assert "again" in said[0]
    assert site.hits == ["/good"] * 2
    if damage is None:
        assert f"not kept: cannot write {kept}" in said[1]
    else:
        assert kept.read_bytes() == NAMES


def test_where_nothing_can_be_kept_documents_are_downloaded_each_time(site, tmp_path):
    (tmp_path / ".cache").write_text("a file where the folder should be")
    said, url = [], f"{site.url}/good"
    for _ in range(2):
        assert load_documents(url, said.append) == DOCS
    assert [text.split(":")[0] for text in said].count("not kept") == 2


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no /dev/zero")
def test_a_path_that_never_ends_is_refused():
    with pytest.raises(InputError, match=r"cannot read data '/dev/zero' .over 268,435,456 bytes"):
        load_documents("/dev/zero")
