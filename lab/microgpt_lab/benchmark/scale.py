"""What many workers cost, by formula: memory, communication, and the time of a step.

Two ways to share a batch: *replicated* (DDP), where each worker holds all weights and the
gradients are averaged in a ring; and *sharded* (FSDP), where each holds a part of every weight
and gathers the others' parts when a layer needs them. Formulas count numbers; `size` is the
bytes of one. Rates and networks are measured, or assumed and then said to be.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from microgpt import Config, shapes

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from microgpt_lab.base.terminal import duration
from microgpt_lab.benchmark import lower_bound

STATES = 4  # weight, gradient and two moments: numbers that a worker holds for each weight
BUCKET = 25 * 2**20  # bytes of gradient that DDP sends at once (its default)


@dataclass(frozen=True)
class Cluster:
    """What the workers are and what is between them."""

    operations: float  # a second, of one worker, in this program: not its peak
    bandwidth: float  # bytes a second that a worker sends while it receives as many
    latency: float  # seconds for a message of no length
    overhead: float = 0.0  # seconds of each step that more workers do not share


@dataclass(frozen=True)
class Step:
    """One step as one worker sees it."""

    compute: float  # seconds
    exchange: float  # seconds
    sent: float  # bytes
    memory: int  # bytes of weights, gradients and moments

    @property
    def efficiency(self) -> float:
        """The share of the time that computes, if nothing overlaps."""
        return self.compute / (self.compute + self.exchange)


# ---------------------------------------------------------------- Counting


def held(config: Config, vocab_size: int, workers: int, sharded: bool) -> int:
    """Weights that the first worker holds between steps, of each of the four kinds.

    Sharded: of each matrix the first of `workers` equal runs of rows, rounded up, as FSDP2
    deals them out (`torch.chunk` on axis 0): the first worker has the most.
    """
    parts = workers if sharded else 1
    table = shapes(config, vocab_size).values()
    return int(sum(-(-rows // parts) * columns for rows, columns, _ in table))


def memory(config: Config, vocab_size: int, workers: int, sharded: bool, size: int = 4) -> int:
    """Bytes of weights, gradients and both moments in the first worker, between backward and
    the optimizer's step. Activations come on top, and with sharding the one layer that is
    gathered at a time."""
    return STATES * size * held(config, vocab_size, workers, sharded)


def messages(config: Config, vocab_size: int, workers: int, sharded: bool, size: int = 4) -> int:
    """Messages of a step that must follow one another.

    A ring of N passes a bucket on 2 (N - 1) times to average it, N - 1 times to gather or to
    scatter it. Replicated: a bucket for each 25 MiB of gradient. Sharded: each layer, and all
    the rest as one, is gathered before forward and before backward and its gradient scattered.
    """
    if sharded:
        return 3 * (workers - 1) * (int(config.n_layer) + 1)
    total = held(config, vocab_size, 1, False) * size
    return 2 * (workers - 1) * -(-total // BUCKET)


def sent(config: Config, vocab_size: int, workers: int, sharded: bool, size: int = 4) -> float:
    """Bytes that a worker sends in a step: (N - 1) / N of all weights for each gathering or
    scattering; replicated, 2 of these (an average is a scatter and a gather), sharded, 3."""
    times = 3 if sharded else 2
    return times * (workers - 1) / workers * held(config, vocab_size, 1, False) * size


def step(
    config: Config, vocab_size: int, lengths: list[int], workers: int, sharded: bool, c: Cluster
) -> Step:
    """A step of `workers` on documents of so many targets, dealt out in turn; the worker with
    the most to do is waited for."""
    most = max((lengths[rank::workers] for rank in range(workers)), key=sum)
    todo = lower_bound.work(config, vocab_size, most)
    given = (config, vocab_size, workers, sharded)
    bytes_sent = sent(*given)
    wait = messages(*given) * c.latency + bytes_sent / c.bandwidth
    compute = c.overhead + todo.operations / c.operations
    return Step(compute, wait, bytes_sent, memory(*given))


# ---------------------------------------------------------------- Showing


def widened(config: Config, width: int) -> Config:
    """The same model at another width, with heads of the same width or one head."""
    head = min(width, config.n_embd // config.n_head)
    return replace(config, n_embd=width, n_head=width // head)


def rows(
    config: Config, vocab_size: int, length: int, widths: list[int], workers: list[int], c: Cluster
) -> Iterator[tuple[int, int, bool, Step, float]]:
    """(width, workers, sharded, its step with `batch_size` documents a worker, speed-up of a
    fixed batch of that many over one worker) of each combination."""
    for width in widths:
        wide = widened(config, width)
        alone = step(wide, vocab_size, [length] * config.batch_size, 1, False, c)
        for n in workers:
            for sharded in (False, True) if n > 1 else (False,):
                weak = step(wide, vocab_size, [length] * config.batch_size * n, n, sharded, c)
                strong = step(wide, vocab_size, [length] * config.batch_size, n, sharded, c)
                gain = alone.compute / (strong.compute + strong.exchange)
                yield width, n, sharded, weak, gain


def show(
    config: Config, vocab_size: int, length: int, widths: list[int], workers: list[int],
    c: Cluster, console: Console,
) -> None:  # fmt: skip
    """The table, and what it stands on."""
    console.print(
        f"{config.batch_size} documents of {length} targets a worker, {config.n_layer} layers\n"
        f"{c.operations / 1e9:,.3g} GFLOP/s in a worker, and {duration(c.overhead)} a step; "
        f"{c.bandwidth / 1e9:,.3g} GB/s and {duration(c.latency)} a message\n"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("width", "workers", "", "memory", "sent", "computes", "waits", "weak", "strong"):
        table.add_column(head, justify="left" if not head else "right", no_wrap=True)
    before = 0
    for width, n, sharded, one, gain in rows(config, vocab_size, length, widths, workers, c):
        table.add_row(
            f"{width:,}" if width != before else "",
            f"{n:,}",
            "sharded" if sharded else "",
            decimal(one.memory),
            decimal(round(one.sent)),
            duration(one.compute),
            duration(one.exchange) if n > 1 else "–",
            f"{one.efficiency:.0%}",
            f"× {gain:.2g}",
        )
        before = width
    console.print(table)
    console.print(
        "\nmemory: weights, gradients and moments of a worker; sent: by a worker in a step; "
        "weak: the share of the time that computes, with as much work a worker as one has "
        "alone; strong: how many times one worker's speed, on one worker's batch",
        style="dim",
    )
