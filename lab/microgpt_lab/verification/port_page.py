"""The report on a port as a page in Markdown, to keep beside the port."""

from collections.abc import Iterable, Iterator
from datetime import date

from microgpt import visible

from microgpt_lab.verification.port_report import Report
from microgpt_lab.verification.port_verdict import cases, values_in_words


def page(report: Report) -> str:
    """The verdict, each level, what was declined, the recipes that were tried, and what failed.
    Text from outside stands in code blocks, where it is no Markdown."""
    verdict = report.verdict
    lines = [
        "# microGPT: " + ("not verified" if verdict.status else "verified"),
        "",
        f"By `microgpt verify` on {date.today().isoformat()}, with {cases(len(report.replies))}:",
        *block([verdict.line]),
        "",
        "| level | |",
        "|---|---|",
    ]
    for level in verdict.levels:
        title, _, said = level.line.partition(": ")
        said = visible(said).replace("|", "\\|")  # the name of a case may come from a file
        lines.append(f"| {title} | {said} |")
    if verdict.declined:
        lines += ["", "## Declined"]
        lines += block(f"{', '.join(ids)}: {why}" for why, ids in verdict.declined.items())
    if verdict.recipes:
        lines += ["", "## The recipes that were tried and passed", "", "| | |", "|---|---|"]
        for name, values in verdict.recipes.items():
            lines.append(f"| `{name}` | {values_in_words(values)} |")
    if any(reply.failed for reply in report.replies):
        lines += ["", "## What failed", *block([*failures(report), *report.diagnosis])]
    return "\n".join(lines) + "\n"


def failures(report: Report) -> Iterator[str]:
    """The first failure of each case, and what its program wrote to standard error."""
    for reply in report.replies:
        failed = [finding for finding in reply.findings if not finding.passed]
        yield from (finding.line() for finding in failed[:1])
        yield from (f"  | {line}" for line in reply.errors if reply.error)


def block(texts: Iterable[str]) -> list[str]:
    """An empty line, then each text as a line of a code block."""
    return ["", *(f"    {visible(text)}" for text in texts)]
