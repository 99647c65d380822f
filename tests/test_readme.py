"""What README.md shows and claims is so."""

import re
import subprocess
import sys

import microgpt

import pytest
from microgpt_lab.base import versions
from microgpt_lab.base.versions import ROOT
from microgpt_lab.commands.main import COMMANDS

README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "runs" for part in path.relative_to(ROOT).parts)
)
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
NUMBERS += ["twelve", "thirteen", "fourteen", "fifteen", "sixteen"]


def test_the_code_it_shows_is_that_of_the_reference():
    source = versions.find()[versions.REFERENCE].path.read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert block in source


def test_the_names_it_shows_are_those_that_the_program_prints():
    shown = re.findall(r"^ +\d+  .*$", README, re.MULTILINE)
    command = [sys.executable, microgpt.__file__, "--samples", str(len(shown))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-len(shown) :] == shown
    assert len(shown) == 5


def test_its_table_has_every_version_once_in_order():
    rows = re.findall(r"^\| (\d\d) \| \[.*?\]\((.*?)\)", README, re.MULTILINE)
    assert [folder for _, folder in rows] == list(versions.find())
    assert [number for number, _ in rows] == [name[:2] for name in versions.find()]
    assert f"written out {NUMBERS[len(rows) - 2]} times" in README


def test_its_commands_exist():
    shown = re.findall(r"^uv run microgpt (\w+)", README, re.MULTILINE)
    assert shown
    assert set(shown) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
