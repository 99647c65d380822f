"""Print findings. A name or an answer from outside is printed as it is: never as markup for
`rich`, and never as control codes for the terminal."""

from microgpt import visible

from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgpt_lab.verification.checks import Finding


def print_line(console: Console, mark: str, style: str, text: str) -> None:
    """One line, not broken at the terminal's width: a coloured mark, then the text."""
    line = Text.assemble((mark, style), " ", visible(text))
    console.print(line, soft_wrap=True)


def print_failure(console: Console, text: str) -> None:
    print_line(console, "✗", "red", text)


def print_explanation(console: Console, text: str) -> None:
    print_line(console, "→", "bold", text)


def table_of_checks(first: str, width: int, checks: list[str]) -> Table:
    """A table without rows: the first column, cut at `width`, then a column for each check."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True, max_width=width, vertical="bottom")
    for check in checks:
        head = check.replace(" ", "\n")
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    return table


def cell(finding: Finding | None) -> Text:
    """One check in a table: FAIL, exact, or the greatest relative difference."""
    if finding is None:
        return Text("–", "dim")
    if not finding.passed:
        return Text("FAIL", "red")
    return Text("exact" if finding.worst == 0 else f"{finding.worst:.0e}", "green")
