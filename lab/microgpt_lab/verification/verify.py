"""`microgpt verify`: run all checks of versions against the golden vectors."""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from microgpt import InputError

import numpy as np
from rich.console import Console
from rich.text import Text

from microgpt_lab.base import machine
from microgpt_lab.base.versions import ROOT, Version, pick
from microgpt_lab.verification import (
    answers,
    as_run,
    checks,
    child,
    compiled,
    diagnosis,
    output,
    vectors,
)
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.checks import COLUMNS, Finding

WIDTH = 21  # of the table's first column: all columns together have 80


@dataclass
class VersionResult:
    """The findings of one version, or of one of its variants, in one dtype."""

    version: str
    dtype: str
    variant: str = ""
    about: str = ""
    reason: str = ""  # why it did not run
    diagnosis: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.version} {self.variant}".strip()

    @property
    def failures(self) -> list[Finding]:
        return [f for f in self.findings if not f.passed]

    def worst(self, check: str) -> Finding | None:
        """Of that check: the first failure if there is one, else the largest difference."""
        mine = [f for f in self.findings if f.check == check]
        failed = [f for f in mine if not f.passed]
        return failed[0] if failed else max(mine, key=lambda f: f.worst, default=None)

    def status(self, check: str) -> str:
        """exact, pass, FAIL or "not run"."""
        finding = self.worst(check)
        if finding is None:  # a version that raised before this check has failed it
            return "FAIL" if any(f.check == "error" for f in self.findings) else "not run"
        if not finding.passed:
            return "FAIL"
        return "exact" if finding.worst == 0 else "pass"


# ---------------------------------------------------------------- Running


def results_of(version: Version) -> list[VersionResult]:
    """One empty result for each variant of a version in each of its dtypes."""
    return [
        VersionResult(version.name, dtype, variant, reason=version.missing or "")
        for variant in ("", *version.variants)
        for dtype in version.dtypes
    ]


def cases_for(variant: str, path: str = "") -> list[Case]:
    """The cases from a file, or the golden vectors. Raises InputError if there is none."""
    cases: list[Case] = json.loads(Path(path).read_text()) if path else vectors.vectors_for(variant)
    if not cases:
        raise InputError("there is no case to verify with: microgpt vectors makes them")
    return cases


def run_version(version: Version, cases: str = "") -> list[VersionResult]:
    """All results of one version, made in a process of its own."""
    results = results_of(version)
    if version.missing:
        return results
    values, last_words = child.run_module(version, "microgpt_lab.verification.verify", cases)
    for index, fields in values:
        result = results[index]
        if "about" in fields:
            result.about, result.diagnosis = fields["about"], fields["diagnosis"]
        else:
            worst = math.inf if fields["worst"] is None else fields["worst"]
            result.findings.append(Finding(**fields | {"worst": worst}))
    for result in results:
        if not result.about:  # its process ended before this result was complete
            result.findings.append(checks.failure("-", "error", "its process", last_words))
    if not cases:
        results[0].findings += as_run.findings(version)
    return results


def run_all(names: Sequence[str], jobs: int, cases: str = "") -> Iterator[VersionResult]:
    """The results of the named versions (none: all), in order, `jobs` versions at a time.

    `cases`: a file with cases to take instead of the golden vectors. Raises InputError if
    there is no version or no case.
    """
    picked = pick(names)
    if not picked:
        raise InputError(f"there is no version in {str(ROOT)!r}: nothing to verify")
    cases_for("", cases)
    with ThreadPoolExecutor(jobs) as pool:
        most_first = sorted(picked, key=lambda version: -len(results_of(version)))
        done = {version.name: pool.submit(run_version, version, cases) for version in most_first}
        for version in picked:
            yield from done[version.name].result()


@np.errstate(all="ignore")  # what is not finite is a finding, not a warning
def serve_version(name: str, cases: str = "") -> Iterator[Any]:
    """In the process of one version: yields (number of the result, a finding's fields), and
    for each result at last (number, what the version says of itself and the diagnosis)."""
    (version,) = pick([name])
    module = version.load()
    for index, result in enumerate(results_of(version)):
        options = version.variants.get(result.variant, {})
        answered: dict[str, Case] = {}
        replies = []
        for case in cases_for(result.variant, cases):
            findings = []
            for finding in answers.run_checks(module, case, result.dtype, options, answered):
                findings.append(finding)
                worst = finding.worst if math.isfinite(finding.worst) else None
                yield index, finding.fields() | {"worst": worst}
            answer = diagnosis.plain(answered.get(case["id"], {}))
            replies.append(diagnosis.Answered(case, answer, findings, result.dtype))
        config, start = vectors.question(replies[0].case)
        state = module.create(config, start, dtype=result.dtype, **options)
        about = module.about(state)
        says = compiled.claimed(version.framework, options, about)
        for finding in compiled.failures(module, state, replies[0].case, says):
            yield index, finding.fields() | {"worst": None}
        yield index, {"about": about, "diagnosis": diagnosis.diagnose(replies, name)}


# ---------------------------------------------------------------- Showing


def show_results(results: Sequence[VersionResult], console: Console) -> None:
    """A row for each result: the worst relative difference of each check. Below the table: the
    first failures with their diagnosis, and why a version did not run."""
    table = output.table_of_checks("version", WIDTH, COLUMNS)
    for dtype, tolerances in checks.TOLERANCES.items():
        mine = [result for result in results if result.dtype == dtype]
        if mine:
            limits = [Text(f"{tolerances[check]:.0e}", "dim") for check in COLUMNS]
            table.add_row(Text.assemble((dtype, "bold"), "  at most"), *limits)
        for result in mine:
            name = f"    {result.variant}" if result.variant else f"  {result.version}"
            table.add_row(
                output.printable(name), *[output.cell(result.worst(check)) for check in COLUMNS]
            )
    console.print(table)
    for result in results:
        where = f"{result.name} {result.dtype}"
        if result.reason:
            output.print_line(console, "–", "yellow", f"{where}: not run: {result.reason}")
        for finding in result.failures[:3]:
            output.print_failure(console, f"{where}: {finding.check}: {finding.line()}")
        for line in result.diagnosis:
            output.print_explanation(console, line)


# ---------------------------------------------------------------- For machines


def run_record(results: Sequence[VersionResult]) -> dict[str, Any]:
    """The whole run as plain data, for --json and for VERIFIED.md."""
    return {
        "format": "microgpt-verify/1",
        "date": date.today().isoformat(),
        **machine.description(),
        "tolerances": checks.TOLERANCES,
        "rows": [
            {
                "version": result.version,
                "variant": result.variant,
                "dtype": result.dtype,
                "about": result.about,
                "reason": result.reason,
                "checks": {check: check_record(result, check) for check in COLUMNS},
                "failures": [f.fields() for f in result.failures],
                "diagnosis": result.diagnosis,
            }
            for result in results
        ],
    }


def check_record(result: VersionResult, check: str) -> dict[str, Any]:
    """The status of one check, with the fields of its worst finding."""
    worst = result.worst(check)
    return {"status": result.status(check)} | (worst.fields() if worst else {})


if __name__ == "__main__":
    child.serve(serve_version)
