"""`microgpt lines`: the lines of code of 01 by part, beside those of the published program."""

import ast
import re
from pathlib import Path

from microgpt import InputError

from rich.console import Console
from rich.table import Table

from microgpt_lab.base import files
from microgpt_lab.base.lines import code_line_numbers, lines_of
from microgpt_lab.base.versions import REFERENCE, ROOT

PROGRAM = ROOT / REFERENCE / "microgpt.py"
README = ROOT / REFERENCE / "README.md"
START, END = "<!-- lines -->", "<!-- /lines -->"

ALGORITHM = "algorithm: tokens to sampling"
INTERFACE = "interface of a version"
DATA = "data: recipes, documents"
COMMAND_LINE = "command line"
CHECKS = "checks that only refuse"
IMPORTS = "imports"
PARTS = (ALGORITHM, INTERFACE, DATA, COMMAND_LINE, CHECKS, IMPORTS)

# The part of each section of the program, by the title in its ruler; "" is what stands above the
# first ruler.
SECTIONS = {
    "": IMPORTS,
    "Tokens": ALGORITHM,
    "Autograd": ALGORITHM,
    "Parameters": ALGORITHM,
    "Forward": ALGORITHM,
    "Loss and training": ALGORITHM,
    "Sampling": ALGORITHM,
    "Interface": INTERFACE,
    "Data and command line": DATA,
    "Recipes": DATA,
    "Documents": DATA,
    "Command line": COMMAND_LINE,
}
# What only refuses, wherever it stands. Functions that do something else too are not among these,
# such as parse(), which reads documents and refuses some.
REFUSING = (
    "version_info", "InputError", "Config.__post_init__", "refuse_misfits", "Parser",
    "some_text", "refuse_overwriting",
)  # fmt: skip

# The later of the two programs that were published (recipe gist), 200 lines in all, counted by the
# same rule on 2026-11-25 in a copy of https://gist.github.com/karpathy/8627fe009c40f57531cb18360106ce95
# Its imports are three and the line that seeds the random generator; its data are the download, the
# reading and the shuffle. Everything else is its algorithm, the numbers of the recipe and the lines
# that print its progress included.
PUBLISHED = {ALGORITHM: 143, DATA: 7, IMPORTS: 4}


def count_parts(source: str) -> dict[str, int]:
    """{part: lines of code}. Raises InputError for a section that belongs to no part."""
    part_of = sections(source) | refusing(source)
    counts = dict.fromkeys(PARTS, 0)
    for line in code_line_numbers(source):
        counts[part_of[line]] += 1
    return counts


def sections(source: str) -> dict[int, str]:
    """{line number: the part to which its section belongs}."""
    found, title = {}, ""
    for number, line in enumerate(source.splitlines(), 1):
        if ruler := re.match(r"# -{32,} (.+)$", line):
            title = ruler[1]
            if title not in SECTIONS:
                where = f"{REFERENCE}/{PROGRAM.name}, line {number}"
                raise InputError(f"{where}: section {title!r} belongs to no part of the table")
        found[number] = SECTIONS[title]
    return found


def refusing(source: str) -> dict[int, str]:
    """{line number: CHECKS} for the lines of what only refuses."""
    found: dict[int, str] = {}
    names = set()
    for node in ast.parse(source).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for name, statement in [
            (name_of(node), node),
            *((f"{name_of(node)}.{name_of(member)}", member) for member in members),
        ]:
            if name in REFUSING:
                names.add(name)
                found |= dict.fromkeys(lines_of(statement), CHECKS)
    if missing := set(REFUSING) - names:
        raise InputError(f"{REFERENCE}/{PROGRAM.name} has no {', '.join(sorted(missing))}")
    return found


def name_of(node: ast.stmt) -> str:
    """The name of a function or class; "version_info" for the check of Python's version."""
    if isinstance(node, ast.If) and "version_info" in ast.unparse(node.test):
        return "version_info"
    return str(getattr(node, "name", ""))


# ---------------------------------------------------------------- Showing


def show_lines(counts: dict[str, int], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("lines of code")
    table.add_column("01", justify="right")
    table.add_column("published", justify="right")
    for name, mine, published in table_rows(counts):
        table.add_row(name, mine, published)
    console.print(table)


def table_rows(counts: dict[str, int]) -> list[tuple[str, str, str]]:
    """(part, lines of 01, lines of the published program), with the sums at last."""
    rows = [(part, str(n), str(PUBLISHED.get(part, "–"))) for part, n in counts.items()]
    return [*rows, ("all", str(sum(counts.values())), str(sum(PUBLISHED.values())))]


def markdown(counts: dict[str, int]) -> str:
    """The table for 01's README."""
    lines = ["| lines of code | 01 | published |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table_rows(counts))])


def write_lines(counts: dict[str, int], readme: Path = README) -> None:
    """Put the table between the markers of 01's README. Raises InputError without markers."""
    text = readme.read_text("utf-8")
    if text.count(START) != 1 or text.count(END) != 1:
        raise InputError(f"{readme.name} needs the lines {START} and {END}, once each")
    before, rest = text.split(START)
    files.write(readme, f"{before}{START}\n{markdown(counts)}\n{END}{rest.split(END)[1]}")
