"""Commands for those who write versions."""

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import flag


@dataclass
class New:
    """Write the folder of a new version, to be filled in: docs/adding-a-version.md."""

    name: Annotated[Positional[str], flag("NAME")]
    """Lower-case words joined by _, such as pytorch_autograd; the number is added."""
    framework: str = "numpy"
    """The module that it computes with, such as torch; it must be installed."""
    title: Annotated[str, flag("TEXT", "the name's words")] = ""
    """What tables and pictures call it, such as "PyTorch, autograd"."""

    def run(self) -> int:
        from microgpt_lab.base.versions import GUIDE, ROOT, ensure_checkout, ensure_tree
        from microgpt_lab.commands import new_version

        ensure_tree()
        ensure_checkout("microgpt new")
        folder, mutants = new_version.write_version(self.name, self.framework, self.title)
        console = plain_console()
        for path in (*sorted(folder.iterdir()), mutants):
            console.print(f"wrote {path.relative_to(ROOT)}", soft_wrap=True)
        console.print(
            f"\nNext: microgpt verify {folder.name[:2]} says what is still to be written; "
            f"{GUIDE} says how.",
            soft_wrap=True,
        )
        return 0


@dataclass
class Lines:
    """Count the lines of code of 01 by part, beside those of the published program."""

    write: bool = False
    """Write the table into 01's README."""

    def run(self) -> int:
        from microgpt_lab.base.versions import ensure_tree
        from microgpt_lab.commands import reference_lines

        ensure_tree()
        counts = reference_lines.count_parts(reference_lines.PROGRAM.read_text("utf-8"))
        reference_lines.show_lines(counts, plain_console())
        if self.write:
            reference_lines.write_lines(counts)
        return 0


COMMANDS: dict[str, Any] = {"new": New, "lines": Lines}
