"""`microgpt doctor`: what is here, what is missing, and the command that installs it.

Each version is asked itself, in a process of its own, on each of its devices: what answers
computes.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import microgpt
from microgpt import Config, InputError

from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgpt_lab.base import machine, options
from microgpt_lab.base.versions import ROOT, Version, pick

LIBRARIES = ("numpy", "rich", "tyro", "safetensors", "matplotlib")
PATIENCE = 120  # seconds for one version to answer


@dataclass
class Answer:
    """What one version said: of each device either what computes or why it does not."""

    version: Version
    found: dict[str, str]
    wrong: dict[str, str]

    @property
    def healthy(self) -> bool:
        return bool(self.found)


def ask(version: Version) -> Answer:
    """Let a version say what it runs on."""
    if version.missing:
        return Answer(version, {}, {"": version.missing})
    command = [sys.executable, "-m", "microgpt_lab.commands.doctor", version.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        found, wrong = json.loads(done.stdout.splitlines()[-1])
        return Answer(version, found, wrong)
    except subprocess.TimeoutExpired:
        return Answer(version, {}, {"": f"no answer in {PATIENCE} s"})
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Answer(version, {}, {"": last})


def child(name: str) -> None:
    """In a version's own process: make a small state on each device, and say what computes."""
    version, module = options.runnable(name)
    config = Config(n_embd=4, n_head=2)
    docs = ["ab", "ba"]
    snapshot = microgpt.initial(config, microgpt.Tokenizer(docs).vocab_size, microgpt.random)
    chooses = "device" in options.parameters(module)
    found, wrong = {}, {}
    for device in version.devices if chooses else version.devices[:1]:
        given = {"device": device} if chooses else {}
        try:
            state = module.create(config, snapshot, **given)
            module.logits(state, [0])
            found[device] = module.about(state)
        except InputError as e:
            wrong[device] = str(e)
        except Exception as e:  # whatever a framework raises, the next device may do
            first = (str(e).splitlines() or [""])[0]
            wrong[device] = f"{type(e).__name__}: {first}"
    print(json.dumps([found, wrong]))


def answers() -> Iterator[Answer]:
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(ask, pick([]))


# ---------------------------------------------------------------- What else there is


def installed(name: str) -> str:
    """Version of a distribution, or ""."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return f", {size / 2**30:.0f} GiB of memory"
    except (AttributeError, ValueError, OSError):
        return ""


def surroundings() -> list[tuple[str, str, bool]]:
    """(what, what is there, whether that is well) beside the versions."""
    python = f"{platform.python_version()} ({platform.python_implementation()}), {sys.prefix}"
    cores = f"{machine.processor()}, {os.cpu_count()} cores{memory()}"
    threads = [f"{k}={v}" for k, v in os.environ.items() if k.endswith("_NUM_THREADS")]
    lines = [
        ("Python", python, sys.version_info >= (3, 11)),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}", True),
        ("processor", cores, True),
        ("threads", ", ".join(threads) or "each version's own choice", True),
    ]
    for name in LIBRARIES:
        version = installed(name)
        lines.append((name, version or "missing: uv sync", bool(version)))
    lines.append(data())
    return lines


def data() -> tuple[str, str, bool]:
    """The embedded names, if they are what 01 says that they are."""
    path = ROOT / "data" / "names.txt"
    try:
        docs = microgpt.load_documents(say=lambda text: None)
    except InputError as e:
        return "data", str(e), False
    here = path.relative_to(ROOT) if path.exists() else Path("makemore's names")
    return "data", f"{here}: {len(docs):,} lines, SHA-256 {microgpt.digest(docs)[:16]}…", True


# ---------------------------------------------------------------- Showing


def show(about: Sequence[tuple[str, str, bool]], asked: Iterator[Answer], console: Console) -> bool:
    """A line for each; True if nothing is missing."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("", overflow="fold")
    for what, text, well in about:
        table.add_row(sign(well), what, text)
    healthy = all(well for _, _, well in about)
    with console.status("asking each version …"):
        for answer in asked:
            healthy &= answer.healthy
            for row in rows(answer):
                table.add_row(*row)
    console.print(table)
    return healthy


def rows(answer: Answer) -> Iterator[tuple[Text, str, str]]:
    name = answer.version.name
    for text in dict.fromkeys(answer.found.values()):
        yield sign(True), name, text
        name = ""
    for device, why in answer.wrong.items():
        mark = Text("–", "dim") if answer.healthy else sign(False)
        yield mark, name, f"{device}: {why}" if device else why
        name = ""


def sign(well: bool) -> Text:
    return Text("✓", "green") if well else Text("✗", "red")


def check(console: Console) -> int:
    """-> 0 if all is there, 1 otherwise."""
    if show(surroundings(), answers(), console):
        console.print("\nAll is there.")
        return 0
    console.print("\nSomething is missing: uv sync --all-packages brings every framework.")
    return 1


if __name__ == "__main__":
    child(sys.argv[1])
