"""The command for those who write a port in another language."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError

from tyro.conf import Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import flag


@dataclass
class Port:
    """Write a program to start a port from: microgpt port new LANGUAGE."""

    action: Annotated[Positional[str], flag("new")] = "new"
    """Write a new folder."""
    language: Annotated[Positional[str], flag("LANGUAGE")] = ""
    """Such as c, rust or python; docs/porting.md lists all."""
    out: Annotated[Path | None, flag("FOLDER", "port-LANGUAGE")] = None
    """The folder to write, which must not exist."""

    def run(self) -> int:
        from microgpt_lab.base.versions import INSTALLED, ensure_tree
        from microgpt_lab.verification import porting

        ensure_tree()
        if self.action != "new":
            raise InputError(f"port {self.action!r}: it must be port new LANGUAGE")
        if not self.language:
            raise InputError(f"port new: which language? {', '.join(porting.languages())}")
        written = porting.create(self.language, self.out)
        folder = written[0].parent
        lines = [
            f"{folder}: {', '.join(path.name for path in written)}",
            "Build and verify it, then fill it in (docs/porting.md):\n",
            f"    cd {folder}",
        ]
        for line in porting.commands((folder / "README.md").read_text("utf-8")):
            lines.append(f"    {line.removeprefix('uv run ') if INSTALLED else line}")
        plain_console().print("\n".join(lines), soft_wrap=True)
        return 0


COMMANDS: dict[str, Any] = {"port": Port}
