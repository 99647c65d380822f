"""`microgpt new`: write the folder of a new version, to be filled in.

What is written fails with a line for each function that is still to be written.
"""

import os
import re
import shutil
from importlib import metadata
from pathlib import Path

from microgpt import InputError

from microgpt_lab.base import files, versions

TEMPLATES = Path(__file__).with_name("new_version_files")
NAME = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")
LAST = 99  # the greatest number that a folder can have
LONGEST = 50  # characters of a name or a title


def write_version(name: str, framework: str, title: str) -> tuple[Path, Path]:
    """Write all files of a new version, or none -> (its folder, its file of mutants).
    Raises InputError for a name that is wrong or taken, and for a framework that is not there."""
    number = next_number(name)
    folder = versions.ROOT / f"{number:02}_{name}"
    mutants = versions.ROOT / "spec" / "mutants" / f"{folder.name}.toml"
    if mutants.exists():
        raise InputError(f"spec/mutants/{mutants.name} exists: it belongs to no version, delete it")
    words = {
        "folder": folder.name,
        "number": f"{number:02}",
        "title": checked_title(title or name.replace("_", " ")),
        "framework": framework,
        "dashed": name.replace("_", "-"),
        "dependencies": dependencies(framework),
    }
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with files.failing_plainly(folder, "make"):
        try:
            part.mkdir()
            for template in ("main.py", "pyproject.toml", "README.md"):
                files.write(part / template, filled(template, words))
            files.write(mutants, filled("mutants.toml", words))
            part.rename(folder)  # at last: before this the version does not exist
        except BaseException:
            mutants.unlink(missing_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            raise
    return folder, mutants


def next_number(name: str) -> int:
    """The number after the highest. Raises InputError for a name that cannot be a new version's."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise InputError(
            f"name is {name!r}: it must be lower-case words joined by _, such as pytorch_autograd, "
            f"at most {LONGEST} characters; its number is added"
        )
    taken = [path.name for path in versions.ROOT.glob("[0-9][0-9]_*") if path.is_dir()]
    for folder in taken:
        if folder[3:] == name:
            raise InputError(f"name is {name!r}: {folder} has this name already")
    number = max((int(folder[:2]) for folder in taken), default=0) + 1
    if number > LAST:
        raise InputError(f"the highest number is {LAST}: a folder has two digits")
    return number


def checked_title(title: str) -> str:
    """Raises InputError for a title that is no single line of text, or would need quoting."""
    well = title.strip() and title.isprintable() and not set(title) & set('"\\{}')
    if not well or len(title) > LONGEST:
        raise InputError(
            f"title is {title!r}: it must be a line of at most {LONGEST} characters, "
            "without quotes, braces and backslashes"
        )
    return title


def dependencies(framework: str) -> str:
    """The packages of the version's pyproject.toml. Raises InputError for a framework that is no
    installed module."""
    module = framework.split(".")[0]
    if not re.fullmatch(r"\w+(\.\w+)*", framework) or not versions.installed(framework):
        raise InputError(
            f"framework is {framework!r}: no module of that name is installed; install its package "
            "first, with uv pip install"
        )
    package = metadata.packages_distributions().get(module, [module])[0]
    names = dict.fromkeys(["microgpt-beyond-reference", "numpy", package.lower()])
    return ", ".join(f'"{name}"' for name in names)


def filled(template: str, words: dict[str, str]) -> str:
    """A template's text, with each {{word}} replaced."""
    text = (TEMPLATES / f"{template}.txt").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], text)
