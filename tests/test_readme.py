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
    if not any(
        part.startswith(".") or part in ("runs", "node_modules")
        for part in path.relative_to(ROOT).parts
    )
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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    for name in re.findall(
        r"`((?:tests|lab|spec|docs|data)/[\w./-]+\.\w+)`", page.read_text("utf-8")
    ):
        if "/12_" not in name:  # an example of a version that does not exist yet
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_numbers_of_tokens_that_pages_mention():
    """Recipe `scaled`: 228 tokens a batch, 338 places in 04, a third of them padding; 12 or 16 in
    07; 7 targets in a name."""
    config = microgpt.RECIPES["scaled"]
    run = microgpt.prepare(config, say=lambda _: None)
    lengths = [
        [len(tokens) - 1 for tokens in batch]
        for batch, _ in microgpt.batches(config, run.tokenizer, run.docs)
    ]
    tokens = sum(map(sum, lengths)) / len(lengths)
    places = sum(max(batch) * len(batch) for batch in lengths) / len(lengths)
    text = {page.parent.name: page.read_text("utf-8") for page in PAGES if page.name == "README.md"}
    assert f"A batch has {tokens:.0f} tokens" in text["11_pytorch_packed"]
    assert f"the grid of 04 has {places:.0f} places" in text["11_pytorch_packed"]
    assert 0.31 < 1 - tokens / places < 0.35
    assert "A third of all places are still padding" in text["04_pytorch_batched"]
    shares = re.search(r"(\d+) of the\s+(\d+) or (\d+) tokens", text["07_jax_batched"])
    assert shares
    assert {32 * (12 if max(batch) <= 12 else 16) for batch in lengths} == {
        int(shares[2]),
        int(shares[3]),
    }
    assert f"{tokens:.0f}" == shares[1]
    assert f"32 documents with {tokens:.0f} targets" in (ROOT / "docs/scale.md").read_text("utf-8")


def test_how_many_documents_pages_say_are_cut():
    said = []
    microgpt.prepare(microgpt.RECIPES["seed"], say=said.append)
    for version in versions.find().values():
        text = (version.path.parent / "README.md").read_text("utf-8")
        cut = re.findall(r"^.* do not fit the block and are cut$", text, re.MULTILINE)
        assert set(cut) <= set(said), version.name
