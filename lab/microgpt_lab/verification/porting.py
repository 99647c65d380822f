"""`microgpt port new`: a program to start a port from, copied from `spec/ports/`.

Each folder there is the template of one language. Its README names its files. If these
include `bridge.py`, a copy of the bridge is written too: then the language has no JSON library
in its standard library.
"""

import os
import shutil
from pathlib import Path

from microgpt import InputError

from microgpt_lab.base import files, options
from microgpt_lab.base.versions import ROOT

TEMPLATES = ROOT / "spec" / "ports"
BRIDGE = TEMPLATES / "bridge.py"
OTHER_NAMES = {"c++": "cpp", "js": "javascript", "node": "javascript", "golang": "go"}


def languages() -> list[str]:
    """The languages that have a template."""
    return sorted(path.parent.name for path in TEMPLATES.glob("*/README.md"))


def template_of(language: str) -> Path:
    """The folder of a language's template. Raises InputError if there is none."""
    name = language.lower()
    name = OTHER_NAMES.get(name, name)
    known = languages()
    if name not in known:
        raise InputError(f"port new: no template for {language!r}{options.hint(name, known)}")
    return TEMPLATES / name


def template_files(folder: Path) -> list[Path]:
    """The files that a template's README names, itself first."""
    readme = folder / "README.md"
    text = readme.read_text("utf-8")
    named = [path for path in (*sorted(folder.iterdir()), BRIDGE) if f"`{path.name}`" in text]
    return [readme, *named]


def create(language: str, out: Path | None = None) -> list[Path]:
    """Write a new folder, port-LANGUAGE or `out`, with the template -> its files. The folder
    is there whole or not at all. Raises InputError if it exists or cannot be written."""
    template = template_of(language)
    folder = out or Path(f"port-{template.name}")
    sources = template_files(template)
    if folder.exists() or folder.is_symlink():
        raise InputError(f"--out {str(folder)!r} exists: choose another folder")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with files.failing_plainly(folder):
        try:
            part.mkdir()
            for source in sources:
                shutil.copyfile(source, part / source.name)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return [folder / source.name for source in sources]


def commands(readme: str) -> list[str]:
    """The commands of a template's README that build and verify it: its first code block."""
    _, block, *_ = readme.split("```")
    return block.strip().splitlines()
