"""The versions in the tree: found by their folders, loaded as modules.

A version is a folder `NN_name` with a `pyproject.toml`, whose table `[tool.microgpt]` describes it,
and a program with the functions of SPEC.md, S14. Nothing else in the repository names it. A mistake
in a version's folder is an InputError of one line. It is raised when that version is asked for, or
all are, and so stops no command that needs only others.
"""

import difflib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import microgpt
from microgpt import InputError

from microgpt_lab.base import version_table

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (PACKAGE / "tree").is_dir()  # a wheel has versions, vectors and data inside
ROOT = PACKAGE / "tree" if INSTALLED else PACKAGE.parents[1]
# the command that installs a framework
INSTALLS = 'pip install "microgpt-beyond[{}]"' if INSTALLED else "uv sync --all-packages"
REFERENCE = "01_pure_python"
GUIDE = "docs/adding-a-version.md"


@dataclass(frozen=True)
class Version:
    """A version as its `[tool.microgpt]` table describes it."""

    name: str  # its folder
    title: str
    dtypes: tuple[str, ...]
    framework: str = ""  # the module without which it cannot run
    devices: tuple[str, ...] = ("cpu",)
    batched: bool = False
    recipe: str = "seed"
    program: str = "main.py"
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)  # name: options of create()
    variables: dict[str, str] = field(default_factory=dict)  # environment variables

    @property
    def path(self) -> Path:
        return ROOT / self.name / self.program

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, with the command that installs what is missing; None if it
        can run."""
        if self.framework and not installed(self.framework):
            return f"{self.framework} is not installed: {INSTALLS.format(self.framework)}"
        return None

    def device_named(self, word: str) -> str | None:
        """What this version calls the device that a person means: PyTorch says cuda where JAX and
        MLX say gpu. None if it has no such device."""
        synonyms = {"cuda": ("cuda", "gpu"), "gpu": ("gpu", "cuda")}.get(word, (word,))
        return next((name for name in synonyms if name in self.devices), None)

    @property
    def environment(self) -> dict[str, str]:
        """The environment for a process of this version. It has its own temporary folder, so that
        a framework that caches compiled code never reads a file that another process, or another
        person, is writing."""
        own = {"TMPDIR": str(microgpt.private_folder(self.name))}
        if INSTALLED:  # its program imports 01
            paths = [str(ROOT / REFERENCE), os.environ.get("PYTHONPATH", "")]
            own["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return os.environ | own

    @property
    def with_variables(self) -> dict[str, str]:
        """The same with the version's own variables, in which {cache} is that folder; for a process
        that is not timed."""
        own = self.environment
        return {
            name: text.format(cache=own["TMPDIR"]) for name, text in self.variables.items()
        } | own

    def load(self) -> Any:
        """Its module; for 01 the module that all others import. Raises InputError if the program
        raises while it is imported."""
        if self.name == REFERENCE:
            return microgpt
        if self.missing:
            raise InputError(f"{self.name}: {self.missing}")
        try:
            return load_source(f"version_{self.name}", self.path)
        except InputError:
            raise
        except (Exception, SystemExit) as e:
            where = f"{self.name}/{self.program}"
            raise InputError(f"{where} cannot be imported: {one_line(e, self.path)}") from e


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package of a dotted name is not there
        return False


def one_line(error: BaseException, path: Path) -> str:
    """Type and text of an exception, and the line of the file at `path` that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).parent == path.parent]
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    return f"{text} (line {lines[-1]})" if lines else text


def load_source(
    name: str,
    path: Path,
    source: str | None = None,
    shared: ModuleType | None = None,
) -> ModuleType:
    """Run a program's text as a module of that name and return it.

    `source` replaces the file's text. `shared` is the module that the program's `import microgpt`
    gets. The program can import modules that stand beside its file.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise InputError(f"{path} is not a Python program")
    module = importlib.util.module_from_spec(spec)
    code = compile(path.read_text("utf-8") if source is None else source, str(path), "exec")
    before = {key: sys.modules.get(key) for key in ("microgpt", name)}
    sys.modules[name] = module
    if shared is not None:
        sys.modules["microgpt"] = shared
    sys.path.insert(0, str(path.parent))
    try:
        exec(code, module.__dict__)
    finally:
        sys.path.remove(str(path.parent))
        if shared is not None and before["microgpt"] is not None:
            sys.modules["microgpt"] = before["microgpt"]
    return module


def edited(source: str, edits: list[dict[str, str]], where: str) -> str:
    """A text after find-and-replace edits. Raises InputError unless each `find` stands in it
    exactly once."""
    for edit in edits:
        if (places := source.count(edit["find"])) != 1:
            raise InputError(f"{where}: its line stands {places} times: {edit['find']!r}")
        source = source.replace(edit["find"], edit["replace"])
    return source


def shared_by(module: Any) -> Any:
    """The copy of 01 that a version's module uses: 01 itself, or what the module imported."""
    return getattr(module, "microgpt", module)


# ---------------------------------------------------------------- Finding versions


class Versions(Mapping[str, Version]):
    """All versions of the tree by folder name, in order. Each is read when it is taken out, which
    raises InputError if its table has a mistake."""

    def __init__(self) -> None:
        self.names = folders()

    def __getitem__(self, name: str) -> Version:
        if name not in self.names:
            raise KeyError(name)
        return read_version(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def folders() -> list[str]:
    """The names of the versions' folders, in order. A folder without a pyproject.toml and without
    a Python file is none: only caches are left in it."""
    return sorted(
        path.name
        for path in ROOT.glob("[0-9][0-9]_*")
        if (path / "pyproject.toml").exists() or any(path.glob("*.py"))
    )


def read_version(name: str) -> Version:
    """The version in a folder. Raises InputError that names the folder and the key."""
    return Version(name=name, **version_table.read_table(ROOT / name / "pyproject.toml"))


def find() -> Versions:
    """All versions of the tree, none of them read yet."""
    return Versions()


def readable() -> list[Version]:
    """All versions without those whose table has a mistake: for a command that needs no one version
    in particular, but what all have."""
    found = []
    for name in folders():
        try:
            found.append(read_version(name))
        except InputError:
            continue
    return found


def ensure_checkout(what: str) -> None:
    """Raises InputError in an installed package, whose files are not the user's to change."""
    if INSTALLED:
        raise InputError(f"{what} works in a checkout of the repository, not in a package")


def ensure_tree() -> None:
    """Raises InputError where there is no version, such as in an installed package."""
    if not folders():
        raise InputError(
            f"there is no version in {str(ROOT)!r}: microgpt works in a checkout of its repository"
        )


def pick(names: Sequence[str]) -> list[Version]:
    """Versions by folder name, number or unique beginning of the name; all of them for no names.
    Raises InputError for a name that fits none or several, and for a version with a mistake in its
    table or program. Programs are read for that, but not run."""
    ensure_tree()
    known = folders()
    if names:
        chosen = [folder_of(name, known) for name in names]
        if twice := [name for name in chosen if chosen.count(name) > 1]:
            raise InputError(f"{twice[0]} is named twice: name each version once")
    else:
        for one, other in pairwise(known):
            if one[:2] == other[:2]:
                raise InputError(same_number(one, other))
        chosen = known
    picked = [read_version(name) for name in chosen]
    for version in picked:
        version_table.check_program(version.path, version.variants)
    return picked


def with_device(names: Sequence[str], device: str) -> list[Version]:
    """The versions of `pick` that have a device ("": any). Raises InputError if there is none, or
    if a version that was named lacks it."""
    picked = pick(names)
    having = [version for version in picked if not device or version.device_named(device)]
    lacking = [version for version in picked if version not in having]
    if names and lacking:
        has = ", ".join(lacking[0].devices)
        raise InputError(f"--device is {device!r}: {lacking[0].name} has {has}")
    if not having:
        has = ", ".join(sorted({name for version in picked for name in version.devices}))
        raise InputError(f"--device is {device!r}: the versions have {has}")
    return having


def folder_of(name: str, known: Sequence[str]) -> str:
    """The folder that a person means by a name. Raises InputError if there is not exactly one."""
    if name in known:
        return name
    fits = [key for key in known if key.startswith(name)]
    fits = fits or [key for key in known if key[3:].startswith(name)]
    if not fits:
        words = {word: key for key in known for word in (*key.split("_"), key[3:], key)}
        near = difflib.get_close_matches(name, words, 1)
        hint = f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(known)}"
        raise InputError(f"no version {name!r}: {hint}")
    if len(fits) > 1:
        if re.fullmatch("[0-9][0-9]_?", name):
            raise InputError(same_number(*fits[:2]))
        raise InputError(f"version {name!r} can be {' or '.join(fits)}: write more of its name")
    return fits[0]


def same_number(one: str, other: str) -> str:
    return f"{one} and {other} have the same number: give one of the folders another"
