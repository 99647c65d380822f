"""Run entries in turns, seed by seed, and decide whether one is better than another."""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product
from typing import Any

from microgpt import InputError

from microgpt_lab.base import machine, processes
from microgpt_lab.benchmark import lower_bound
from microgpt_lab.speedrun.entries import LEVEL, SEEDS, Entry, Record, Rival, Run, holder

TOLERANCE = 3.0  # standard errors by which a repeated mean may differ


class Racer:
    """A process of `microgpt_lab.speedrun.worker`."""

    def __init__(self, entry: Entry, stack: ExitStack) -> None:
        self.entry = entry
        err = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the stack closes it
        self.err = stack.enter_context(err)
        environment = dict(os.environ) | dict.fromkeys(lower_bound.THREAD_VARIABLES, "1")
        command = [sys.executable, "-m", "microgpt_lab.speedrun.worker", entry.name]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.err}
        self.process = stack.enter_context(
            processes.started(command, **pipes, text=True, env=environment)
        )

    def run(self, seed: int) -> Run:
        """Train once. Raises InputError if the entry cannot."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": self.last_words()}
        if "error" in answer:
            raise InputError(f"{self.entry.name}: {answer['error']}")
        return Run(**answer)

    def last_words(self) -> str:
        self.process.wait()
        self.err.seek(0)
        said = self.err.read().strip().splitlines() or [f"status {self.process.returncode}"]
        return f"it ended with: {said[-1]}"


def in_turns(
    entries: Sequence[Entry], seeds: Sequence[int], say: Callable[[Entry, Run], None]
) -> dict[str, list[Run]]:
    """Run each entry once for each seed, all of them in turn. -> {name: runs}"""
    runs: dict[str, list[Run]] = {entry.name: [] for entry in entries}
    with ExitStack() as stack:
        racers = [Racer(entry, stack) for entry in entries]
        for seed in seeds:
            for racer in racers:
                run = racer.run(seed)
                runs[racer.entry.name].append(run)
                say(racer.entry, run)
    return runs


# ---------------------------------------------------------------- Comparing


def deviation(runs: Sequence[Run]) -> float:
    """The standard deviation of the losses."""
    return statistics.stdev(run.loss for run in runs)


def mean_loss(runs: Sequence[Run]) -> float:
    return statistics.fmean(run.loss for run in runs)


def seconds(runs: Sequence[Run]) -> float:
    """The median of the training times."""
    return statistics.median(run.seconds for run in runs)


def probability(new: Sequence[Run], old: Sequence[Run]) -> float:
    """How likely a mean as low as that of the new losses would be if both entries were equally
    good: the share of all ways to swap the two losses of some seeds which give a mean at least as
    low (a sign-flip test, exact, one-sided, of paired losses)."""
    differences = [a.loss - b.loss for a, b in zip(new, old, strict=True)]
    found, total = sum(differences), 0
    for signs in product((1, -1), repeat=len(differences)):
        total += sum(s * d for s, d in zip(signs, differences)) <= found + 1e-12
    return float(total / 2 ** len(differences))


def verdict(entry: Entry, runs: list[Run], rival: Rival | None) -> str:
    """Why an entry is no record; empty if it is one."""
    if len(runs) < SEEDS:
        return f"{len(runs)} seeds: a record takes {SEEDS} or more"
    if seconds(runs) > entry.limit:
        return f"training took {seconds(runs):.2f} s: the limit is {entry.limit:g} s"
    if rival and seconds(rival.runs) > entry.limit:
        return f"{rival.entry} took {seconds(rival.runs):.2f} s here: this machine is too slow now"
    if rival and rival.p >= LEVEL:
        return f"p = {rival.p:.3f} against {rival.entry}: it must be below {LEVEL}"
    return ""


def attempt(entry: Entry, seeds: int, say: Callable[[Entry, Run], None]) -> tuple[Record, str]:
    """Run an entry in turns with the holder of the record. -> its record, and why it is none"""
    before = holder(entry)
    both = [entry] if before is None else [before, entry]
    runs = in_turns(both, range(1, seeds + 1), say)
    rival = None
    if before:
        p = probability(runs[entry.name], runs[before.name])
        rival = Rival(entry=before.name, runs=runs[before.name], p=p)
    here = machine.description()
    text = f"{here['processor']}, one core, {here['system']}, Python {here['python']}"
    record = Record(
        command=f"microgpt speedrun {entry.name} --seeds {seeds}",
        date=datetime.date.today().isoformat(),
        machine=text,
        runs=runs[entry.name],
        rival=rival,
    )
    return record, verdict(entry, record.runs, rival)


# ---------------------------------------------------------------- Repeating


def repeated(record: Record, now: Sequence[Run]) -> str:
    """Why repeated runs contradict a record; empty if they do not. Another processor rounds
    differently, and training amplifies that: so means are compared, not single losses."""
    error = deviation(record.runs) * (1 / len(now) + 1 / len(record.runs)) ** 0.5
    off = mean_loss(now) - mean_loss(record.runs)
    if not abs(off) <= TOLERANCE * error:
        return (
            f"the mean loss is {mean_loss(now):.4f}, the record's {mean_loss(record.runs):.4f}: "
            f"they may differ by {TOLERANCE * error:.4f}"
        )
    return ""
