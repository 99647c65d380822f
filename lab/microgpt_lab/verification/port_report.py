"""The report on a port: on the terminal, as JSON for programs, and as a badge."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.sax.saxutils import escape

from microgpt import visible

from rich.console import Console

from microgpt_lab.verification import checks, output, ports
from microgpt_lab.verification.port_replies import Reply
from microgpt_lab.verification.port_verdict import (
    Verdict,
    cases,
    values_in_words,
    verdict_of,
)

WIDTH = 15  # of the table's first column: all columns together have 80


@dataclass(frozen=True)
class Report:
    """A port's replies, the verdict on them, and what is wrong with the port, in words."""

    replies: Sequence[Reply]
    verdict: Verdict
    diagnosis: Sequence[str]
    left: int = 0  # cases that were not tried, because an earlier one failed


def make(replies: Sequence[Reply], left: int = 0) -> Report:
    """The report on replies that were judged; it searches for the mistake if one failed."""
    return Report(replies, verdict_of(replies), ports.diagnose(replies), left)


# ---------------------------------------------------------------- On the terminal


def show(report: Report, console: Console) -> None:
    """A row for each case that was not declined, a column for each check. Below the table: the
    first failure of each case, the diagnosis, and the verdict."""
    show_table([r for r in report.replies if r.findings], console)
    show_failures(report.replies, console)
    for line in report.diagnosis:
        output.print_explanation(console, line)
    if report.left:
        output.print_explanation(console, f"--first: {cases(report.left)} not tried")
    show_verdict(report.verdict, len(report.replies), console)


def show_table(replies: Sequence[Reply], console: Console) -> None:
    """The findings of all cases; nothing if there are none."""
    asked = [c for c in checks.CHECKS if any(f.check == c for r in replies for f in r.findings)]
    if not asked:
        return
    table = output.table_of_checks("case", WIDTH, asked)
    for reply in replies:
        cells = {finding.check: output.cell(finding) for finding in reply.findings}
        empty = reply.findings[0] if reply.error else None  # without an answer: all FAIL
        row = [cells.get(check, output.cell(empty)) for check in asked]
        table.add_row(visible(reply.case["id"]), *row)
    console.print(table)


def show_failures(replies: Sequence[Reply], console: Console) -> None:
    """The first failure of each case. A message that several cases have is printed once, with
    the last lines of the program's standard error below it."""
    same: dict[tuple[str, tuple[str, ...]], list[Reply]] = {}
    for reply in replies:
        failed = [f for f in reply.findings if not f.passed]
        if reply.error:
            same.setdefault((reply.error, reply.errors), []).append(reply)
        elif failed:
            output.print_failure(console, failed[0].line())
    for (error, lines), group in same.items():
        more = f" (and {cases(len(group) - 1)} more)" if len(group) > 1 else ""
        output.print_failure(console, f"{group[0].case['id']}{more}: {error}")
        for line in lines:
            output.print_line(console, "  |", "dim", line)


def show_verdict(verdict: Verdict, count: int, console: Console) -> None:
    """A line for each level, what was declined, the recipes that are left, and the last word."""
    for level in verdict.levels:
        mark, style = ("✓", "green") if level.certified else ("✗", "red")
        if not (level.asked or level.declined):
            mark, style = "–", "yellow"
        output.print_line(console, mark, style, level.line)
    for reason, declined in verdict.declined.items():
        output.print_line(
            console, "–", "yellow", f"declined {len(declined)} of {cases(count)}: {reason}"
        )
    if verdict.declined and not verdict.status:
        values = (f"{name} {values_in_words(seen)}" for name, seen in verdict.recipes.items())
        output.print_explanation(console, f"tried with no other recipe than: {', '.join(values)}")
    if verdict.status:
        output.print_failure(console, verdict.line)
    else:
        output.print_line(console, "✓", "bold green", verdict.line)


# ---------------------------------------------------------------- For programs


def record(report: Report) -> dict[str, Any]:
    """The whole report as plain data, for --json."""
    verdict = report.verdict
    return {
        "format": "microgpt-verify-port/2",
        "passed": verdict.status == 0,
        "verdict": {
            "status": verdict.status,
            "line": verdict.line,
            "scope": verdict.scope,
            "certified": verdict.certified,
            "dtypes": list(verdict.dtypes),
            "levels": [asdict(v) | {"certified": v.certified} for v in verdict.levels],
            "declined": verdict.declined,
            "recipes": verdict.recipes,
            "not_tried": report.left,
        },
        "cases": [
            {
                "id": r.case["id"],
                "declined": r.declined,
                "error": r.error,
                "stderr": list(r.errors),
                "findings": [f.fields() for f in r.findings],
            }
            for r in report.replies
        ],
        "diagnosis": list(report.diagnosis),
    }


# ---------------------------------------------------------------- A badge

GREEN, RED, GREY = "#2f7d46", "#b3362b", "#4a4a4a"
MARGIN = 8  # on both sides of a text


def badge_texts(verdict: Verdict) -> tuple[str, str]:
    """The two halves of the badge."""
    if verdict.status:
        return "microGPT", "not verified"
    scope = verdict.scope.removeprefix("the ").removesuffix(" recipe")
    return "microGPT", visible(f"{scope}: {', '.join(verdict.certified)}")


def badge(verdict: Verdict) -> str:
    """An SVG picture of one line: what was verified, or "not verified"."""
    left, right = badge_texts(verdict)
    colour = RED if verdict.status else GREEN
    first, second = (width_of(text) + 2 * MARGIN for text in (left, right))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{first + second}" height="20" role="img">',
        f"<title>{escape(left)}: {escape(right)}</title>",
        '<clipPath id="round">',
        f'<rect width="{first + second}" height="20" rx="3"/>',
        "</clipPath>",
        '<g clip-path="url(#round)">',
        f'<rect width="{first}" height="20" fill="{GREY}"/>',
        f'<rect x="{first}" width="{second}" height="20" fill="{colour}"/>',
        "</g>",
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">',
        text_at(left, MARGIN),
        text_at(right, first + MARGIN),
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def width_of(text: str) -> int:
    """About how wide a text is, in pixels, in letters of 11 pixels."""
    widths = dict.fromkeys(" .,:;'|!()[]fijlrtI", 4.0) | dict.fromkeys("mwMW", 9.5)
    return round(sum(widths.get(c, 7.5 if c.isupper() else 6.6) for c in text))


def text_at(text: str, x: int) -> str:
    """A text of just this width, whatever font there is."""
    return f'<text x="{x}" y="14" textLength="{width_of(text)}">{escape(text)}</text>'
