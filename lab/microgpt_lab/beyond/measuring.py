"""Measure claims and their controls. Each idea runs in a process of its own, which loads only what
that idea needs."""

import contextlib
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import microgpt
from microgpt import InputError

from microgpt_lab.base import processes, schema
from microgpt_lab.base.versions import ROOT, load_source, one_line
from microgpt_lab.beyond import ideas
from microgpt_lab.beyond.ideas import Claim, Idea, Value


class Measured(schema.Schema, frozen=True):
    """What was measured: of the right program, and of each control in their order. `error` is what
    a measurement raised, "" if none did."""

    claim: str
    value: Value
    controls: list[Value]
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured."""

    idea: Idea
    claim: Claim
    measured: Measured

    @property
    def failures(self) -> list[str]:
        """Why the claim is not shown, in words; empty if it is."""
        if self.measured.error:
            return [self.measured.error]
        found = []
        if not self.claim.accepts(self.measured.value):
            found.append("the threshold is not kept")
        for control, value in zip(self.claim.control, self.measured.controls):
            if self.claim.accepts(value):
                found.append(f"a wrong program was not rejected: {control.says}")
        return found


# ---------------------------------------------------------------- In the process of an idea


def module_of(path: Path, name: str) -> Any:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def plain(value: Any) -> Value:
    """What a measurement returned, as JSON has it: NumPy's numbers become Python's; None if one is
    not finite."""
    named = value if isinstance(value, Mapping) else {"": value}
    found = {str(key): float(x) for key, x in named.items()}
    if not all(map(math.isfinite, found.values())):
        return None
    return found if isinstance(value, Mapping) else found[""]


def measure_claims(idea: Idea, claims: Sequence[Claim]) -> Iterator[Measured]:
    """Measure claims one after the other. Controls with the same edit share a module, and so what
    its measurements keep."""
    measures = module_of(idea.folder / "claims.py", "claims")
    modules: dict[str, Any] = {}
    for claim in claims:
        value: Value = None
        controls: list[Value] = []
        error, start, says = "", time.perf_counter(), ""
        measure = getattr(measures, claim.measure)
        try:
            value = plain(measure(module_with(idea, idea.source, modules)))
            for control in claim.control:
                says = f"the wrong program ({control.says}) ended: "
                controls.append(plain(measure(module_with(idea, idea.edited(control), modules))))
        except Exception as e:
            error = says + one_line(e, idea.folder / "main.py")
        yield Measured(claim.name, value, controls, time.perf_counter() - start, error)


def module_with(idea: Idea, source: str, modules: dict[str, Any]) -> Any:
    """main.py with this source, loaded once."""
    if source not in modules:
        name = f"idea_{idea.name}_{len(modules)}"
        modules[source] = load_source(name, idea.folder / "main.py", source)
    return modules[source]


def serve(request: dict[str, Any]) -> Iterator[Any]:
    """Answer a request: the claims to measure, or the picture to draw from the figures."""
    idea = ideas.read(Path(request["folder"]))
    if request["picture"]:
        main = load_source(f"idea_{idea.name}", idea.folder / "main.py")
        claims = module_of(idea.folder / "claims.py", "claims")
        claims.picture(main, request["figures"], Path(request["picture"]))
    chosen = [claim for claim in idea.claims if claim.name in request["claims"]]
    for measured in measure_claims(idea, chosen):
        fields: tuple[str, ...] = measured.__struct_fields__
        yield {name: getattr(measured, name) for name in fields}


# ---------------------------------------------------------------- In the lab


def ask(idea: Idea, **request: Any) -> tuple[list[dict[str, Any]], str]:
    """Send a request to a new process of the idea -> (its answers, its last words if it failed)."""
    request = {"claims": [], "picture": "", "figures": {}} | request
    request["folder"] = str(idea.folder.resolve())
    command = [sys.executable, "-m", __name__, json.dumps(request)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    cache = {"NUMBA_CACHE_DIR": str(microgpt.private_folder("beyond"))}
    done = processes.run(command, cwd=ROOT, env=cache | os.environ | one_thread)
    errors = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    answers = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    return answers, errors[-1] if done.returncode else ""


def measure(idea: Idea, claims: Sequence[Claim]) -> list[Verdict]:
    """Measure claims of an idea. A claim without an answer has the process's last words."""
    names = [claim.name for claim in claims]
    answers, words = ask(idea, claims=names) if names else ([], "")
    found = {answer["claim"]: Measured(**answer) for answer in answers}
    nothing = {name: Measured(name, None, [], 0.0, words or "no answer") for name in names}
    return [Verdict(idea, claim, (nothing | found)[claim.name]) for claim in claims]


def measure_all(
    picked: Sequence[tuple[Idea, list[Claim]]], jobs: int, seconds: Mapping[str, float]
) -> Iterator[list[Verdict]]:
    """The verdicts of each idea, in order; `jobs` ideas at a time. Those that took the longest
    before start first."""
    with ThreadPoolExecutor(jobs) as pool:
        by_length = sorted(picked, key=lambda one: -seconds.get(one[0].name, 0.0))
        started = {idea.name: pool.submit(measure, idea, claims) for idea, claims in by_length}
        for idea, _ in picked:
            yield started[idea.name].result()


def draw(idea: Idea, figures: Mapping[str, Value], path: Path) -> None:
    """Have an idea draw its picture. Raises InputError if it fails."""
    _, words = ask(idea, picture=str(path), figures=dict(figures))
    if words:
        raise InputError(f"beyond/{idea.name}/claims.py: picture: {words}")


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)  # what a program prints is no answer
        with contextlib.suppress(KeyboardInterrupt):
            for answer in serve(json.loads(sys.argv[1])):
                print(json.dumps(answer), file=output, flush=True)
