"""The versions in the tree: found by their folders, loaded as modules, each on its own.

A version is a folder `NN_name` with a `pyproject.toml` whose table `[tool.microgpt]` says what
it is. Nothing else in the repository names it.
"""

import difflib
import importlib.util
import os
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import microgpt

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = "01_pure_python"


@dataclass(frozen=True)
class Version:
    """What a version's `[tool.microgpt]` table says of it."""

    name: str  # its folder
    title: str
    dtypes: tuple[str, ...]
    framework: str = ""  # the module without which it cannot run
    devices: tuple[str, ...] = ("cpu",)
    batched: bool = False
    recipe: str = "seed"
    program: str = "main.py"
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return ROOT / self.name / self.program

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, with the command that mends it; None if it can."""
        if self.framework and importlib.util.find_spec(self.framework) is None:
            return f"{self.framework} is not installed: uv sync --all-packages"
        return None

    @property
    def environment(self) -> dict[str, str]:
        """For a process of its own: a temporary folder of its own too, in which a framework
        may cache what it compiles without meeting another's half-written file."""
        folder = Path(tempfile.gettempdir()) / f"microgpt-{self.name}"
        folder.mkdir(exist_ok=True)
        return os.environ | {"TMPDIR": str(folder)}

    @property
    def with_variables(self) -> dict[str, str]:
        """The same for a process that checks, and is not timed: with the variables that the
        version asks for, where {cache} is that folder."""
        own = self.environment
        return {
            name: text.format(cache=own["TMPDIR"]) for name, text in self.variables.items()
        } | own

    def load(self) -> Any:
        """Its module. The reference is the one that all others import."""
        if self.name == REFERENCE:
            return microgpt
        return load_source(f"version_{self.name}", self.path)


def load_source(
    name: str,
    path: Path,
    source: str | None = None,
    shared: ModuleType | None = None,
) -> ModuleType:
    """Run a program's text as a module of that name and return it.

    `source` replaces the file's text; `shared` is what `import microgpt` gives it. Modules
    that stand beside the file can be imported by it.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise microgpt.InputError(f"{path} is not a Python program")
    module = importlib.util.module_from_spec(spec)
    code = compile(path.read_text() if source is None else source, str(path), "exec")
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
    """A text after find-and-replace edits, each of which must fit in exactly one place."""
    for edit in edits:
        if (places := source.count(edit["find"])) != 1:
            raise microgpt.InputError(f"{where}: its line stands {places} times: {edit['find']!r}")
        source = source.replace(edit["find"], edit["replace"])
    return source


def shared_by(module: Any) -> Any:
    """The copy of 01 that a version's module uses: 01 itself, or what it imported."""
    return getattr(module, "microgpt", module)


def find() -> dict[str, Version]:
    """All versions of the tree by folder name, in order."""
    found = {}
    for path in sorted(ROOT.glob("[0-9][0-9]_*/pyproject.toml")):
        table = tomllib.loads(path.read_text()).get("tool", {}).get("microgpt")
        if table is None:
            raise microgpt.InputError(f"{path} has no table [tool.microgpt]")
        table |= {key: tuple(table[key]) for key in ("dtypes", "devices")}
        found[path.parent.name] = Version(name=path.parent.name, **table)
    return found


def pick(names: Sequence[str]) -> list[Version]:
    """Versions by name, folder number or unique beginning; all of them for no names."""
    found = find()
    if not names:
        return list(found.values())
    picked = []
    for name in names:
        fits = [v for key, v in found.items() if key == name or key.startswith(name)]
        fits = fits or [v for key, v in found.items() if key[3:].startswith(name)]
        if len(fits) != 1:
            words = {word: key for key in found for word in (*key.split("_"), key[3:], key)}
            near = difflib.get_close_matches(name, words, 1)
            hint = f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(found)}"
            raise microgpt.InputError(f"no version {name!r}: {hint}")
        picked.append(fits[0])
    return picked
