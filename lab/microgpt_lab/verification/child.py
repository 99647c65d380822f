"""Run the checks of one version in a process of its own, so that it loads only one framework.

The process writes one JSON value a line to standard output. What the version itself prints
goes to standard error.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from microgpt import InputError

from microgpt_lab.base import processes
from microgpt_lab.base.versions import ROOT, Version

# JAX compiles for each size anew, and the checks have many sizes: it is asked to compile quickly,
# not for speed. The check "as a user runs it" (as_run.py) does without this.
QUICKLY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def run_module(version: Version, module: str, *arguments: str) -> tuple[list[Any], str]:
    """Run a module of the lab for one version -> (its JSON values, the last line of its
    errors or else its status)."""
    command = [sys.executable, "-m", module, version.name, *arguments]
    done = processes.run(command, cwd=ROOT, env=version.with_variables | QUICKLY)
    whole_lines = done.stdout.split("\n")[:-1]  # a process that was killed may end inside one
    errors = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    return [json.loads(line) for line in whole_lines], errors[-1]


def serve(values: Callable[..., Iterator[Any]]) -> None:
    """In the process itself: write what `values(*arguments)` yields, a JSON value a line."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        try:
            for value in values(*sys.argv[1:]):
                print(json.dumps(value), file=output, flush=True)
        except InputError as e:
            sys.exit(f"error: {e}")
