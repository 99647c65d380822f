"""What a wheel holds beside the lab: versions, vectors, data, ideas, and the page.

They stand in microgpt_lab/tree, in the same places as in the repository. The lab finds
them there (microgpt_lab.base.versions.ROOT). An editable installation uses the
repository itself.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TREE = "microgpt_lab/tree"
PARTS = [
    "[0-9][0-9]_*",
    "beyond",
    "data",
    "docs",
    "spec",
    "speedrun",
    "*.md",
    "LICENSE",
]
# `microgpt site --build-only` makes site/dist
PAGE = ["site/dist", "site/security.json", "site/port"]
LEFT_OUT = {"__pycache__", ".cache", ".ruff_cache", "node_modules"}


class Tree(BuildHookInterface):
    """Adds the tree to a standard wheel."""

    def initialize(self, version, build_data):
        if version != "standard":
            return
        root = Path(self.root)
        for path in (path for part in PARTS + PAGE for path in sorted(root.glob(part))):
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                place = file.relative_to(root)
                if file.is_file() and not LEFT_OUT & set(place.parts):
                    there = f"{TREE}/{place.as_posix()}"
                    build_data["force_include"][str(file)] = there
