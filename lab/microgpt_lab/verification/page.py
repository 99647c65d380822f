"""VERIFIED.md and the tables of the versions' READMEs, made from one run of `verify`."""

from collections.abc import Sequence
from typing import Any

from microgpt_lab.base import files
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification import checks
from microgpt_lab.verification.checks import COLUMNS
from microgpt_lab.verification.verify import Row

VERIFIED = ROOT / "VERIFIED.md"


def markdown(run: dict[str, Any]) -> str:
    """The page that says what is verified, how far: from one run and from nothing else."""
    lines = [
        "# Verified",
        "",
        "Made by `microgpt verify --write` from one run; `.ci/run` repeats the run and fails if "
        "this page claims more. The cases are in [spec/vectors](spec/vectors), the rules in "
        "[SPEC.md](SPEC.md).",
        "",
        f"{run['date']}, Python {run['python']}, {run['system']}, {run['processor']}, "
        f"{run['cores']} cores.",
        "",
        "A cell is the greatest relative difference ‖got − want‖ / ‖want‖ of any tensor of any "
        "case. **exact**: not one bit of float64 differs from 01, or every name is equal.",
    ]
    for dtype, tolerances in run["tolerances"].items():
        rows = [row for row in run["rows"] if row["dtype"] == dtype]
        if not rows:
            continue
        lines += ["", f"## {dtype}", "", "| | " + " | ".join(COLUMNS) + " |"]
        lines += ["|---|" + "---|" * len(COLUMNS)]
        for row in rows:
            name = f"{row['version']} {row['variant']}".strip()
            cells = [claim(row["checks"][check]) for check in COLUMNS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        noise = [
            max((row["checks"][c].get("worst") or 0.0 for row in rows), default=0.0)
            for c in COLUMNS
        ]
        lines.append("| *measured noise* | " + " | ".join(f"{x:.0e}" for x in noise) + " |")
        lines.append(
            "| *tolerance* | " + " | ".join(f"{tolerances[c]:.0e}" for c in COLUMNS) + " |"
        )
    lines += ["", "## What ran", ""]
    told: dict[str, str] = {}
    for row in run["rows"]:
        name = f"{row['version']} {row['variant']}".strip()
        text = row["about"].replace(f", {row['dtype']}", "") or f"not run: {row['reason']}"
        told.setdefault(name, text)
    lines += [f"- {name}: {about}" for name, about in told.items()]
    lines += ["", "## The checks", ""]
    lines += [f"- **{check}**: {checks.CHECKS[check][1]}" for check in COLUMNS]
    return "\n".join(lines) + "\n"


def claim(check: dict[str, Any]) -> str:
    """What one cell says."""
    status = str(check["status"])
    if status == "pass":
        return f"{check['worst']:.0e}"
    return {"exact": "**exact**", "FAIL": "**FAIL**"}.get(status, status)


def claims(page: str) -> dict[tuple[str, str, str], str]:
    """(dtype, version, check) -> the status that a page claims."""
    found, dtype, checks = {}, "", []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            dtype = line[3:]
        elif line.startswith("| | "):
            checks = cells[1:]
        elif line.startswith("| ") and not line.startswith("| *"):
            for check, text in zip(checks, cells[1:]):
                status = text.strip("*")
                number = status not in ("exact", "FAIL", "not run")
                found[dtype, cells[0], check] = "pass" if number else status
    return found


def overclaims(page: str, run: dict[str, Any]) -> list[str]:
    """What a page claims and a run did not show, a line each; a run shows at least as much
    where it is as good: exact beats pass, pass beats not run."""
    rank = {"FAIL": 0, "not run": 0, "pass": 1, "exact": 2}
    shown = claims(markdown(run))
    lines = []
    for key, status in claims(page).items():
        if rank[shown.get(key, "not run")] < rank[status]:
            dtype, version, check = key
            seen = shown.get(key, "not run")
            lines.append(f"{version} {dtype}: {check}: claimed {status}, the run shows {seen}")
    if not claims(page):
        lines.append("the page makes no claim at all")
    return lines


def shortfalls(rows: Sequence[Row], run: dict[str, Any]) -> list[str]:
    """What VERIFIED.md claims too much, and what did not run, a line each."""
    page = VERIFIED.read_text() if VERIFIED.exists() else ""
    return overclaims(page, run) + [f"{r.name} {r.dtype}: {r.reason}" for r in rows if r.reason]


def into_readmes(run: dict[str, Any]) -> None:
    """Put each version's own lines between the markers of its README."""
    for name in {row["version"] for row in run["rows"]}:
        readme = ROOT / name / "README.md"
        start, end = "<!-- verified -->", "<!-- /verified -->"
        text = readme.read_text() if readme.exists() else ""
        if start not in text or end not in text:
            continue
        rows = [row for row in run["rows"] if row["version"] == name]
        lines = [
            "",
            "| | " + " | ".join(COLUMNS) + " |",
            "|---|" + "---|" * len(COLUMNS),
        ]
        for row in rows:
            cells = [claim(row["checks"][check]) for check in COLUMNS]
            head = f"{row['dtype']} {row['variant']}".strip()
            lines.append(f"| {head} | " + " | ".join(cells) + " |")
        before, rest = text.split(start)
        files.write(readme, before + start + "\n".join(lines) + "\n" + end + rest.split(end)[1])
