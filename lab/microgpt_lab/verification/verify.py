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

from microgpt_lab.base.machine import processor
from microgpt_lab.base.versions import ROOT, Version, pick
from microgpt_lab.verification import answers, checks, diagnosis, vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import COLUMNS


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
        answered: dict[str, Case] = {}
        replies = []
        asked = json.loads(Path(cases).read_text()) if cases else vectors.read_for(row.variant)
        for case in asked:
            findings = []
            for finding in answers.run_checks(module, case, row.dtype, options, answered):
                findings.append(finding)
                worst = finding.worst if math.isfinite(finding.worst) else None
                print(json.dumps([index, finding.record() | {"worst": worst}]), flush=True)
            answer = diagnosis.plain(answered.get(case["id"], {}))
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


def record(rows: Sequence[Row]) -> dict[str, Any]:
    """The whole run for machines."""
    return {
        "format": "microgpt-verify/1",
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.processor()}",
        "processor": processor(),
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


if __name__ == "__main__":
    child(*sys.argv[1:])
