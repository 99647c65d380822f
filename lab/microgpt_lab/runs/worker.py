"""One version of a comparison, in a process of its own, so that time and memory are its own.

Started by `compare` with a JSON request as its only argument; prints a JSON line for each
piece of news, the last one the result.
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

WARM_UP = 0.2  # the share of the steps that are not timed
WINDOW = 10  # steps, at the least, that are timed as one


@dataclass(frozen=True)
class Request:
    """What to train, and how it is to be measured."""

    version: str
    config: dict[str, Any]
    seed: int
    data: str
    held_out: float
    evaluate: int
    samples: int
    options: dict[str, Any]
    started: float  # time.time() at which the process was asked for

    def line(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Result:
    """What came of it. Times are seconds, memory bytes."""

    about: str
    losses: list[float]
    names: list[str]
    held_out: float | None
    start: float  # to the end of the first step: imports, weights, compilation
    step: float  # median after the warm-up
    first_name: float  # from the start of the process to the first name
    total: float  # the same to the end of training
    memory: int  # the process's peak


def main() -> None:
    """Do what the request says; what cannot work is one line of news and status 2."""
    try:
        request = Request(**json.loads(sys.argv[1]))
        print(json.dumps({"result": asdict(measure(request))}), flush=True)
    except InputError as e:
        print(json.dumps({"error": str(e)}), flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@np.errstate(all="ignore")  # a loss that is not finite shows as what it is
def measure(request: Request) -> Result:
    """Train, make up names, look at what is held out."""
    _, module = options.runnable(request.version)
    config = Config(**request.config)
    docs = documents.prepare(config, request.data, request.seed, request.held_out)
    snapshot = microgpt.initial(config, docs.tokenizer.vocab_size, docs.rng)
    state = module.create(config, snapshot, **request.options)
    todo = microgpt.batches(config, docs.tokenizer, docs.train)
    losses, windows, first = timed(module, state, todo)
    total = time.time() - request.started
    draw = functools.partial(module.logits, state)
    names = microgpt.generate(draw, config, docs.tokenizer.bos, docs.rng.random)
    made, first_name = [], math.nan
    for name in islice(names, request.samples):
        made.append(docs.tokenizer.decode(name))
        if len(made) == 1:
            first_name = time.time() - request.started
    memory = peak_memory()
    held_out = docs.held_out[: request.evaluate or None]
    lost = None
    if held_out:
        lost = documents.nats_a_character(module, state, config, docs.tokenizer, held_out)
    return Result(
        module.about(state), losses, made, lost, first - request.started,
        pace(windows, config.steps), first_name, total, memory,
    )  # fmt: skip


def timed(
    module: Any, state: Any, batches: Iterator[Any]
) -> tuple[list[float], list[tuple[int, float]], float]:
    """(losses, windows as (steps so far, seconds), the time at which the first step was done).

    The first step is taken alone, as it compiles what there is to compile. After it a version
    may take many steps in one call and hand out their losses then: a window ends where it asks
    for more batches, and waits for the last loss that it has handed out.
    """
    losses = [float(loss) for loss in module.train(state, islice(batches, 1))]
    first = time.time()
    windows = [(1, time.perf_counter())]

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


def pace(windows: list[tuple[int, float]], steps: int) -> float:
    """Median seconds a step over the windows after the warm-up; over all where a
    version's windows are too long for that; NaN where there was but one step."""
    spans = [
        (start, (after - before) / (end - start))
        for (start, before), (end, after) in pairwise(windows)
        if end > start
    ]
    warm = [span for start, span in spans if start >= WARM_UP * steps]
    return statistics.median(warm or [span for _, span in spans] or [math.nan])


if __name__ == "__main__":
    main()
