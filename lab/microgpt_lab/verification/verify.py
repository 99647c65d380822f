"""`microgpt verify`: every version, or any port, held against the golden vectors."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from microgpt_lab.base import files
from microgpt_lab.base.versions import ROOT, Version, pick
from microgpt_lab.verification import checks, diagnosis, vectors

VERIFIED = ROOT / "VERIFIED.md"
# The checks that a version answers; a port may answer all of checks.CHECKS.
COLUMNS = [c for c in checks.CHECKS if not c.startswith("intermediate")]


@dataclass
class Row:
    """One version in one dtype: the worst finding of each check, or why it did not run."""

    version: str
    dtype: str
    variant: str = ""
    about: str = ""
    reason: str = ""
    diagnosis: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.version} {self.variant}".strip()

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [f for f in self.findings if not f["passed"]]

    def worst(self, check: str) -> dict[str, Any] | None:
        """Of that check: the first failure if there is one, else the largest difference."""
        mine = [f for f in self.findings if f["check"] == check]
        failed = [f for f in mine if not f["passed"]]
        return failed[0] if failed else max(mine, key=lambda f: f["worst"], default=None)

    def status(self, check: str) -> str:
        finding = self.worst(check)
        if finding is None:
            return "not run"
        if not finding["passed"]:
            return "FAIL"
        return "exact" if finding["worst"] == 0 else "pass"


# ---------------------------------------------------------------- Running


def rows_of(version: Version) -> list[Row]:
    """What is to be run of a version: all it has, in all its precisions."""
    return [
        Row(version.name, dtype, variant, reason=version.missing or "")
        for variant in ("", *version.variants)
        for dtype in version.dtypes
    ]


def run_version(version: Version, cases: str = "") -> list[Row]:
    """Climb the ladder in a process of the version's own, so that frameworks do not meet."""
    rows = rows_of(version)
    if version.missing:
        return rows
    command = [sys.executable, "-m", "microgpt_lab.verification.verify", version.name, cases]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=version.with_variables
    )
    for line in done.stdout.splitlines():
        index, record = json.loads(line)
        row = rows[index]
        if "about" in record:
            row.about, row.diagnosis = record["about"], record["diagnosis"]
        else:
            record["worst"] = math.inf if record["worst"] is None else record["worst"]
            row.findings.append(record)
    for row in rows:
        if not row.about:  # what its process says last of a row
            last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            broken = checks.Finding("-", "error", False, math.inf, 0.0, "its process", last)
            row.findings.append(broken.record())
    return rows


def run_all(names: Sequence[str], jobs: int, cases: str = "") -> Iterator[Row]:
    """Rows of all versions, variants and dtypes, in order, `jobs` versions at a time. `cases`:
    a file with cases to take instead of the golden vectors."""
    picked = pick(names)
    with ThreadPoolExecutor(jobs) as pool:
        most_first = sorted(picked, key=lambda version: -len(rows_of(version)))
        done = {version.name: pool.submit(run_version, version, cases) for version in most_first}
        for version in picked:
            yield from done[version.name].result()


@np.errstate(all="ignore")  # what is not finite is a finding, not a warning
def child(name: str, cases: str = "") -> None:
    """What the process of one version does: a JSON line for each finding, and a last one for
    each row, with what it thinks of them; before each the row's number."""
    (version,) = pick([name])
    module = version.load()
    for index, row in enumerate(rows_of(version)):
        options = version.variants.get(row.variant, {})
        answers: dict[str, vectors.Case] = {}
        replies = []
        asked = json.loads(Path(cases).read_text()) if cases else vectors.read_for(row.variant)
        for case in asked:
            findings = []
            for finding in checks.climb(module, case, row.dtype, options, answers):
                findings.append(finding)
                worst = finding.worst if math.isfinite(finding.worst) else None
                print(json.dumps([index, finding.record() | {"worst": worst}]), flush=True)
            answer = diagnosis.plain(answers.get(case["id"], {}))
            replies.append(diagnosis.Answered(case, answer, findings, row.dtype))
        config, start = vectors.question(replies[0].case)
        about = module.about(module.create(config, start, dtype=row.dtype, **options))
        last = {"about": about, "diagnosis": diagnosis.diagnose(replies, name)}
        print(json.dumps([index, last]), flush=True)


# ---------------------------------------------------------------- Showing


def show(rows: Sequence[Row], console: Console) -> None:
    """A row a version and dtype: the worst relative difference of each check."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("version", no_wrap=True, max_width=20)
    for check in COLUMNS:
        table.add_column(checks.HEADS.get(check, check), justify="right", no_wrap=True)
    for dtype in checks.TOLERANCES:
        mine = [row for row in rows if row.dtype == dtype]
        if not mine:
            continue
        limits = [f"{checks.TOLERANCES[dtype][check]:.0e}" for check in COLUMNS]
        table.add_row(f"[bold]{dtype}[/]  at most", *[f"[dim]{x}[/]" for x in limits])
        for row in mine:
            if row.reason:
                table.add_row(row.name, f"not run: {row.reason}")
            else:
                table.add_row(f"  {row.name}", *[cell(row, check) for check in COLUMNS])
    console.print(table)
    for row in rows:
        for finding in row.failures[:3]:
            text = f"{row.name} {row.dtype}: {finding['check']}: "
            text += checks.Finding(**finding).line()
            console.print(f"[red]✗[/] {text}", highlight=False, soft_wrap=True)
        for line in row.diagnosis:
            console.print(f"[bold]→[/] {line}", highlight=False, soft_wrap=True)


def cell(row: Row, check: str) -> str:
    finding = row.worst(check)
    if finding is None:
        return "[yellow]–[/]"
    if not finding["passed"]:
        return "[red]✗[/]"
    return "[green]=[/]" if finding["worst"] == 0 else f"[green]{finding['worst']:.0e}[/]"


# ---------------------------------------------------------------- Records


def machine() -> str:
    """The processor's name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def record(rows: Sequence[Row]) -> dict[str, Any]:
    """The whole run for machines."""
    return {
        "format": "microgpt-verify/1",
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": machine(),
        "cores": os.cpu_count(),
        "tolerances": checks.TOLERANCES,
        "rows": [
            {
                "version": row.version,
                "variant": row.variant,
                "dtype": row.dtype,
                "about": row.about,
                "reason": row.reason,
                "checks": {
                    check: {"status": row.status(check)} | (row.worst(check) or {})
                    for check in COLUMNS
                },
                "failures": row.failures,
                "diagnosis": row.diagnosis,
            }
            for row in rows
        ],
    }


def to_json(value: Any) -> str:
    """JSON that every reader takes: what is infinite is null."""

    def clean(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: clean(v) for k, v in x.items()}
        if isinstance(x, list):
            return [clean(v) for v in x]
        return None if isinstance(x, float) and not math.isfinite(x) else x

    return json.dumps(clean(value), indent=1) + "\n"


# ---------------------------------------------------------------- VERIFIED.md


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


if __name__ == "__main__":
    child(*sys.argv[1:])
