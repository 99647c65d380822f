"""Train one version of a comparison, in a process of its own, so that its time and memory can be
measured.

`compare` starts it with a JSON request as its only argument. It prints one JSON message a line:
{"step": …} on the way, and {"result": …} or {"error": …} at the end.
"""

import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from typing import Any

import microgpt
from microgpt import Config, InputError

import numpy as np

from microgpt_lab.base import options
from microgpt_lab.base.machine import peak_memory
from microgpt_lab.runs import documents

WARM_UP = 0.2  # the share of the steps, at the start, that are not timed
WINDOW = 10  # time is taken after at least this many steps


@dataclass(frozen=True)
class Request:
    """What to train, and what to measure it on."""

    version: str
    config: dict[str, Any]
    seed: int
    data: str
    held_out: float
    evaluate: int
    samples: int
    options: dict[str, Any]
    started: float  # perf_counter(), one clock for all processes, just before the start

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Result:
    """What was measured. Times are in seconds, memory in bytes."""

    about: str
    losses: list[float]
    names: list[str]
    held_out: float | None
    start: float  # from `started` to the end of the first step: imports, weights, compilation
    step: float  # one step: median after the warm-up
    first_name: float  # from `started` to the first name
    total: float  # from `started` to the end of training
    memory: int  # peak of the process


def main() -> None:
    """Answer the request in sys.argv[1]; an InputError is a message and exit status 2."""
    try:
        request = Request(**json.loads(sys.argv[1]))
        print(json.dumps({"result": asdict(train_and_measure(request))}), flush=True)
    except InputError as e:
        print(json.dumps({"error": str(e)}), flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@np.errstate(all="ignore")  # no warnings: a loss that is not finite is in the result as it is
def train_and_measure(request: Request) -> Result:
    """Train a version, generate names, compute the held-out loss."""
    _, module = options.runnable(request.version)
    config = Config(**request.config)
    docs = documents.prepare(config, request.data, request.seed, request.held_out)
    snapshot = microgpt.initial(config, docs.tokenizer.vocab_size, docs.rng)
    state = module.create(config, snapshot, **request.options)
    todo = microgpt.batches(config, docs.tokenizer, docs.train)
    losses, windows, first = train_timed(module, state, todo)
    total = time.perf_counter() - request.started
    draw = functools.partial(module.logits, state)
    names = microgpt.generate(draw, config, docs.tokenizer.bos, docs.rng.random)
    made, first_name = [], math.nan
    for name in islice(names, request.samples):
        made.append(docs.tokenizer.decode(name))
        if len(made) == 1:
            first_name = time.perf_counter() - request.started
    memory = peak_memory()
    evaluated, held_out = docs.held_out[: request.evaluate or None], None
    if evaluated:
        held_out = documents.nats_a_character(module, state, config, docs.tokenizer, evaluated)
    return Result(
        module.about(state), losses, made, held_out, first - request.started,
        seconds_a_step(windows, config.steps), first_name, total, memory,
    )  # fmt: skip


def train_timed(
    module: Any, state: Any, batches: Iterator[Any]
) -> tuple[list[float], list[tuple[int, float]], float]:
    """(losses, windows as (steps so far, clock in seconds), the clock after the first step).

    The first step is a call of its own, because it may compile the program. After it a version may
    take many steps at once and yield their losses later. So a window ends only when the version
    asks for a further batch, and it waits for the last loss that was yielded.
    """
    losses = [float(loss) for loss in module.train(state, islice(batches, 1))]
    first = time.perf_counter()
    windows = [(1, first)]

    def end_window() -> None:
        float(losses[-1])
        windows.append((len(losses), time.perf_counter()))
        print(json.dumps({"step": len(losses)}), flush=True)

    def hand_out() -> Iterator[Any]:
        for item in batches:
            if len(losses) - windows[-1][0] >= WINDOW:
                end_window()
            yield item

    for loss in module.train(state, hand_out()):
        losses.append(loss)
    end_window()
    return [float(loss) for loss in losses], windows, first


def seconds_a_step(windows: list[tuple[int, float]], steps: int) -> float:
    """Median seconds a step over the windows after the warm-up; over all windows if none begins
    after it; NaN for a run of one step."""
    spans = [
        (start, (after - before) / (end - start))
        for (start, before), (end, after) in pairwise(windows)
        if end > start
    ]
    warm = [span for start, span in spans if start >= WARM_UP * steps]
    return statistics.median(warm or [span for _, span in spans] or [math.nan])


if __name__ == "__main__":
    main()
