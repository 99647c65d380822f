"""`microgpt doctor`: what is installed, what is missing, and the command that installs it.

Each version is tried in a process of its own, on each of its devices: it creates a small model and
computes with it.
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

from microgpt_lab.base import machine, options, processes, versions
from microgpt_lab.base.versions import ROOT, Version, pick

LIBRARIES = ("numpy", "rich", "tyro", "safetensors", "matplotlib")
TIMEOUT = 120  # seconds for one version to answer


@dataclass
class VersionReport:
    """What works in one version."""

    version: Version
    works: dict[str, str]  # {device: about() of a state on it}
    fails: dict[str, str]  # {device: why it does not work}; "" for the whole version

    @property
    def healthy(self) -> bool:
        return bool(self.works)


def try_version(version: Version) -> VersionReport:
    """Try a version in a process of its own."""
    if version.missing:
        return VersionReport(version, {}, {"": version.missing})
    command = [sys.executable, "-m", "microgpt_lab.commands.doctor", version.name]
    try:
        done = processes.run(command, timeout=TIMEOUT, env=version.environment)
        works, fails = json.loads(done.stdout.splitlines()[-1])
        return VersionReport(version, works, fails)
    except subprocess.TimeoutExpired:
        return VersionReport(version, {}, {"": f"no answer in {TIMEOUT} s"})
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return VersionReport(version, {}, {"": last})


def try_devices(name: str) -> None:
    """In the process of one version: create a small model on each device, and print what works and
    what fails as JSON."""
    version, module = options.runnable(name)
    config = Config(n_embd=4, n_head=2)
    docs = ["ab", "ba"]
    snapshot = microgpt.initial(config, microgpt.Tokenizer(docs).vocab_size, microgpt.random)
    chooses = "device" in options.parameters(module)
    works, fails = {}, {}
    for device in version.devices if chooses else version.devices[:1]:
        given = {"device": device} if chooses else {}
        try:
            state = module.create(config, snapshot, **given)
            module.logits(state, [0])
            works[device] = module.about(state)
        except InputError as e:
            fails[device] = str(e)
        except Exception as e:  # a framework may raise anything; the next device may work
            first = (str(e).splitlines() or [""])[0]
            fails[device] = f"{type(e).__name__}: {first}"
    print(json.dumps([works, fails]))


def try_all() -> Iterator[VersionReport]:
    """A report of each version, in order, two tried at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(try_version, pick([]))


# ---------------------------------------------------------------- Python, machine, libraries


def installed(name: str) -> str:
    """The installed version of a package, or ""."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def memory() -> str:
    """The machine's memory as text, or "" where the system does not say."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return f", {size / 2**30:.0f} GiB of memory"
    except (AttributeError, ValueError, OSError):
        return ""


def surroundings() -> list[tuple[str, str, bool]]:
    """(name, what was found, whether it is all right) for all that is not a version."""
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
    here = len(versions.folders())
    lines.append(("versions", f"{here} in {ROOT}", here > 0))
    return lines


def data() -> tuple[str, str, bool]:
    """The same for the embedded names: their number and their SHA-256."""
    path = ROOT / "data" / "names.txt"
    try:
        docs = microgpt.load_documents(say=lambda text: None)
    except InputError as e:
        return "data", str(e), False
    here = path.relative_to(ROOT) if path.exists() else Path("makemore's names")
    return "data", f"{here}: {len(docs):,} lines, SHA-256 {microgpt.digest(docs)[:16]}…", True


# ---------------------------------------------------------------- Showing


def show_report(
    about: Sequence[tuple[str, str, bool]], tried: Iterator[VersionReport], console: Console
) -> bool:
    """Print a line for each; returns whether nothing is missing."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("", overflow="fold")
    for what, text, well in about:
        table.add_row(sign(well), what, text)
    healthy = all(well for _, _, well in about)
    with console.status("trying each version …"):
        for report in tried:
            healthy &= report.healthy
            for row in report_rows(report):
                table.add_row(*row)
    console.print(table)
    return healthy


def report_rows(report: VersionReport) -> Iterator[tuple[Text, str, str]]:
    """(sign, name, text) for each device; the name only in the first row."""
    name = report.version.name
    for text in dict.fromkeys(report.works.values()):
        yield sign(True), name, text
        name = ""
    for device, why in report.fails.items():
        mark = Text("–", "dim") if report.healthy else sign(False)
        yield mark, name, f"{device}: {why}" if device else why
        name = ""


def sign(well: bool) -> Text:
    return Text("✓", "green") if well else Text("✗", "red")


def check(console: Console) -> int:
    """Print the whole report. -> exit status, 1 if something is missing"""
    tried = try_all() if versions.folders() else iter(())
    if show_report(surroundings(), tried, console):
        console.print("\nEverything is installed and works.")
        return 0
    how = versions.INSTALLS.format("jax,mlx,numba,torch")
    console.print(f"\nSomething is missing: {how} brings every framework.")
    return 1


if __name__ == "__main__":
    try_devices(sys.argv[1])
