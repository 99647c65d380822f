"""docs/adding-a-version.md says what is so."""

import re

from microgpt_lab.base import versions
from microgpt_lab.base.version_table import FUNCTIONS, KEYS
from microgpt_lab.commands.main import COMMANDS

GUIDE = (versions.ROOT / versions.GUIDE).read_text("utf-8")


def test_it_names_every_key_of_the_table_in_order():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", GUIDE, re.MULTILINE)
    keys = {key: KEYS[key] for key, _ in rows if key in KEYS}
    assert set(keys) == set(KEYS)
    needed = {key for key, default in rows if default == "needed"}
    assert needed == {key for key, rule in KEYS.items() if rule.needed}


def test_it_names_every_function_of_the_interface():
    assert set(FUNCTIONS) <= set(re.findall(r"`(\w+)`", GUIDE))


def test_its_commands_exist():
    used = re.findall(r"^uv run microgpt (\w+)", GUIDE, re.MULTILINE)
    assert used
    assert set(used) <= set(COMMANDS)


def test_the_line_that_each_program_imports_01_by_stands_in_it():
    template = versions.ROOT / "lab/microgpt_lab/commands/new_version_files/main.py.txt"
    line = re.search("^import microgpt .*$", template.read_text("utf-8"), re.MULTILINE)
    assert line
    assert f"`{line[0]}`" in GUIDE
