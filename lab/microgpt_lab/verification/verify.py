"""`microgpt verify`: run all checks of versions against the golden vectors."""

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from microgpt import InputError, visible

import numpy as np
from rich.console import Console
from rich.text import Text

from microgpt_lab.base import machine
from microgpt_lab.base.versions import REFERENCE, Version, pick, with_device
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
from microgpt_lab.verification.random_cases import RandomCases
from microgpt_lab.verification.sensitivity import tolerates
from microgpt_lab.verification.shrinking import Shrunk, shrink

SHRINKING = 20.0  # seconds to make a failing random case smaller
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
    random_findings: list[Finding] = field(default_factory=list)
    shrunk: Shrunk | None = None  # the smallest random case that it fails

    @property
    def name(self) -> str:
        return f"{self.version} {self.variant}".strip()

    @property
    def failures(self) -> list[Finding]:
        return [f for f in (*self.findings, *self.random_findings) if not f.passed]

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


def cases_for(variant: str, path: str = "", dtype: str = "") -> list[Case]:
    """The cases from a file, or the golden vectors. Raises InputError if there is none."""
    cases: list[Case] = (
        json.loads(Path(path).read_text("utf-8")) if path else vectors.vectors_for(variant, dtype)
    )
    if not cases:
        raise InputError("there is no case to verify with: microgpt vectors makes them")
    return cases


def run_version(
    version: Version, cases: str = "", drawn: str = "", device: str = ""
) -> list[VersionResult]:
    """All results of one version, made in a process of its own."""
    results = results_of(version)
    if version.missing:
        return results
    module = "microgpt_lab.verification.verify"
    values, last_words = child.run_module(version, module, cases, drawn, device)
    for index, kind, value in values:
        result = results[index]
        if kind == "end":
            result.about, result.reason, result.diagnosis = value
        elif kind == "shrunk":
            result.shrunk = Shrunk(**value)
        else:
            worst = math.inf if value["worst"] is None else value["worst"]
            finding = Finding(**value | {"worst": worst})
            (result.random_findings if kind == "random" else result.findings).append(finding)
    for result in results:
        if not (result.about or result.reason):  # its process ended before it was complete
            result.findings.append(checks.failure("-", "error", "its process", last_words))
        elif not (result.findings or result.reason):  # an empty set of checks is no success
            result.findings.append(checks.failure("-", "error", "it", "no check was run"))
    if not (cases or device) and results[0].about:
        results[0].findings += as_run.findings(version)
    return results


def run_all(
    names: Sequence[str],
    jobs: int,
    cases: str = "",
    drawn: RandomCases | None = None,
    device: str = "",
) -> Iterator[VersionResult]:
    """The results of the named versions (none: all), in order, `jobs` versions at a time.

    `cases`: a file with cases to take instead of the golden vectors; `drawn`: random cases
    to take too; `device`: where to compute instead of on the CPU, for which no names are all
    versions that have it. Raises InputError if there is no version or no case.
    """
    picked = with_device(names, device)
    cases_for("", cases)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        path = str(Path(folder) / "random.json") if drawn and drawn.drawn else ""
        if drawn and path:
            drawn.write(path)
        # those that take longest begin: 01, then those with most variants
        most_first = sorted(picked, key=lambda v: (v.name != REFERENCE, -len(results_of(v))))
        done = {v.name: pool.submit(run_version, v, cases, path, device) for v in most_first}
        for version in picked:
            yield from done[version.name].result()


def run_case(case: Case, names: Sequence[str], jobs: int) -> list[VersionResult]:
    """The results of the named versions (none: all) in this case alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.json"
        path.write_text(json.dumps([case]), "utf-8")
        return list(run_all(names, jobs, str(path)))


@np.errstate(all="ignore")  # what is not finite is a finding, not a warning
def serve_version(name: str, cases: str = "", drawn: str = "", device: str = "") -> Iterator[Any]:
    """In the process of one version: yields (number of the result, kind, value). The kinds
    are "golden" and "random" with a finding's fields, "shrunk" with a case, and at last for
    each result "end" with what the version says of itself, why it did not run, and the
    diagnosis."""
    (version,) = pick([name])
    module, shrunk = version.load(), False
    for index, result in enumerate(results_of(version)):
        options = options_of(version, result.variant, device)
        ask = partial(answer_of, module, result.dtype, options)
        if device and (reason := unavailable(module, result.dtype, options)):
            yield index, "end", ("", reason, [])
            continue
        replies = []
        only = result.dtype if len(version.dtypes) > 1 else ""
        for case in cases_for(result.variant, cases, only):
            if not cases or tolerates(case, result.dtype):
                replies.append(ask(case))
                yield from ((index, "golden", plain(f)) for f in replies[-1].findings)
        if not replies:
            reason = f"the case is too sensitive to rounding for {result.dtype}"
            yield index, "end", ("", reason, [])
            continue
        smaller = not shrunk and not any_failed(replies)
        for kind, value, reply in serve_random(result, ask, drawn, smaller):
            shrunk = shrunk or kind == "shrunk"
            replies += [reply] if reply else []
            yield index, kind, value
        config, start = vectors.question(replies[0].case)
        state = module.create(config, start, dtype=result.dtype, **options)
        about = module.about(state)
        says = compiled.claimed(version.framework, options, about)
        failed = compiled.failures(module, state, replies[0].case, says)
        yield from ((index, "golden", plain(finding)) for finding in failed)
        yield index, "end", (about, "", diagnosis.diagnose(replies, name))


def answer_of(module: Any, dtype: str, options: dict[str, Any], case: Case) -> diagnosis.Answered:
    """A case with what a version answered, and what the checks found."""
    answered: dict[str, Case] = {}
    findings = list(answers.run_checks(module, case, dtype, options, answered))
    answer = diagnosis.plain(answered.get(case["id"], {}))
    return diagnosis.Answered(case, answer, findings, dtype)


def options_of(version: Version, variant: str, device: str = "") -> dict[str, Any]:
    """The options for `create` of a variant, with the device if one is named."""
    options = version.variants.get(variant, {})
    return {**options, "device": version.device_named(device)} if device else {**options}


def unavailable(module: Any, dtype: str, options: dict[str, Any]) -> str:
    """Why a version cannot compute with these options here; "" if it can."""
    config, start = vectors.question(vectors.vectors_for("", dtype)[0])
    try:
        module.create(config, start, dtype=dtype, **options)
    except InputError as e:
        return str(e)
    return ""


Ask = Callable[[Case], diagnosis.Answered]


def serve_random(
    result: VersionResult, ask: Ask, path: str, smaller: bool
) -> Iterator[tuple[str, Any, diagnosis.Answered | None]]:
    """Yields (kind, value, reply for the diagnosis) of the random cases. `smaller`: whether
    to look for the smallest case that fails. 01 made the answers, so it is not asked."""
    if not path or result.version == REFERENCE:
        return
    drawn, failing = RandomCases.read(path), None
    if result.variant and not drawn.explicit:
        return
    for one in drawn.of(result.dtype):
        reply = ask(one.case)
        yield from (("random", plain(f), None) for f in reply.findings)
        if reply.failed and failing is None:
            failing = one.number
    if failing is not None and smaller:
        small = shrink(failing, drawn.seed, result.dtype, lambda c: ask(c).failed, SHRINKING)
        yield "shrunk", vars(small), ask(small.case)


def any_failed(replies: Sequence[diagnosis.Answered]) -> bool:
    return any(reply.failed for reply in replies)


def plain(finding: Finding) -> dict[str, Any]:
    """A finding's fields for JSON, which has no infinity: null instead."""
    worst = finding.worst if math.isfinite(finding.worst) else None
    return finding.fields() | {"worst": worst}


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
            table.add_row(visible(name), *[output.cell(result.worst(check)) for check in COLUMNS])
    console.print(table)
    for result in results:
        where = f"{result.name} {result.dtype}"
        if result.reason:
            output.print_line(console, "–", "yellow", f"{where}: not run: {result.reason}")
        golden = [f for f in result.failures if f in result.findings]
        for finding in golden[:3] or result.failures[:1]:
            output.print_failure(console, f"{where}: {finding.check}: {finding.line()}")
        if result.shrunk:
            output.print_explanation(console, result.shrunk.sentence(SHRINKING))
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
                "random_cases": len({f.case for f in result.random_findings}),
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
