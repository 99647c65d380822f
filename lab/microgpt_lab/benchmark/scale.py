"""What many workers cost, by formulas: memory, communication, and the time of a step.

There are two ways to share a batch. *Replicated* (DDP): each worker holds all weights, and the
gradients are averaged in a ring. *Sharded* (FSDP): each worker holds a part of every weight, and
gathers the other parts when a layer needs them. The formulas count numbers; `size` is the bytes
of one number. The rates are arguments: measured or assumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from microgpt import Config, shapes

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from microgpt_lab.base.terminal import duration
from microgpt_lab.benchmark import lower_bound

STATES = 4  # numbers that a worker holds for each weight: weight, gradient and two moments
BUCKET = 25 * 2**20  # bytes of gradients that DDP sends in one message (its default)


@dataclass(frozen=True)
class Cluster:
    """The speed of the workers and of the network between them."""

    operations: float  # a second, in one worker, as this program reaches them: not the peak
    bandwidth: float  # bytes a second that a worker sends while it receives as many
    latency: float  # seconds of a message without content
    overhead: float = 0.0  # seconds of each step, the same for any number of workers


@dataclass(frozen=True)
class WorkerStep:
    """One training step of one worker."""

    compute: float  # seconds
    exchange: float  # seconds
    sent: float  # bytes
    memory: int  # bytes of weights, gradients and moments

    @property
    def efficiency(self) -> float:
        """The share of the step that is computing, if nothing overlaps."""
        return self.compute / (self.compute + self.exchange)


# ---------------------------------------------------------------- Formulas


def held(config: Config, vocab_size: int, workers: int, sharded: bool) -> int:
    """The number of weights that the first worker holds between steps.

    Sharded: each matrix is split by rows into `workers` parts of equal size, rounded up, as FSDP2
    does (`torch.chunk` on axis 0). The first worker has the most.
    """
    parts = workers if sharded else 1
    table = shapes(config, vocab_size).values()
    return int(sum(-(-rows // parts) * columns for rows, columns, _ in table))


def memory(config: Config, vocab_size: int, workers: int, sharded: bool, size: int = 4) -> int:
    """Bytes of weights, gradients and both moments in the first worker, after the backward pass.
    Activations are not counted; nor, if sharded, the layer that is gathered at the time."""
    return STATES * size * held(config, vocab_size, workers, sharded)


def messages(config: Config, vocab_size: int, workers: int, sharded: bool, size: int = 4) -> int:
    """The number of messages in a step that must follow one another.

    In a ring of N workers an average takes 2 (N - 1) messages, a gather or a scatter N - 1.
    Replicated: an average for each 25 MiB of gradients. Sharded: each layer, and all other
    weights together, is gathered before the forward and before the backward pass, and its
    gradient is scattered.
    """
    if sharded:
        return 3 * (workers - 1) * (int(config.n_layer) + 1)
    total = held(config, vocab_size, 1, False) * size
    return 2 * (workers - 1) * -(-total // BUCKET)


def sent(config: Config, vocab_size: int, workers: int, sharded: bool, size: int = 4) -> float:
    """Bytes that a worker sends in a step of N workers: (N - 1) / N of all weights for each
    gather or scatter. Replicated it is 2 of these (an average is a scatter and a gather),
    sharded 3."""
    times = 3 if sharded else 2
    return times * (workers - 1) / workers * held(config, vocab_size, 1, False) * size


def step(
    config: Config, vocab_size: int, lengths: list[int], workers: int, sharded: bool, c: Cluster
) -> WorkerStep:
    """A step on documents with these numbers of targets, shared out among the workers in turn.
    It takes as long as the worker with the most targets needs."""
    most = max((lengths[rank::workers] for rank in range(workers)), key=sum)
    work = lower_bound.count(config, vocab_size, most)
    given = (config, vocab_size, workers, sharded)
    bytes_sent = sent(*given)
    wait = messages(*given) * c.latency + bytes_sent / c.bandwidth
    compute = c.overhead + work.operations / c.operations
    return WorkerStep(compute, wait, bytes_sent, memory(*given))


# ---------------------------------------------------------------- Table


def widened(config: Config, width: int) -> Config:
    """The same model at another width, with heads of the same width; one head if it is narrower."""
    head = min(width, config.n_embd // config.n_head)
    return replace(config, n_embd=width, n_head=width // head)


def combinations(
    config: Config, vocab_size: int, length: int, widths: list[int], workers: list[int], c: Cluster
) -> Iterator[tuple[int, int, bool, WorkerStep, float]]:
    """(width, workers, sharded, step, speed-up) of each combination.

    The step is one with `batch_size` documents for each worker (weak scaling). The speed-up over
    one worker is that of a batch of `batch_size` documents in all (strong scaling).
    """
    for width in widths:
        wide = widened(config, width)
        alone = step(wide, vocab_size, [length] * config.batch_size, 1, False, c)
        for n in workers:
            for sharded in (False, True) if n > 1 else (False,):
                weak = step(wide, vocab_size, [length] * config.batch_size * n, n, sharded, c)
                strong = step(wide, vocab_size, [length] * config.batch_size, n, sharded, c)
                gain = alone.compute / (strong.compute + strong.exchange)
                yield width, n, sharded, weak, gain


def show_costs(
    config: Config, vocab_size: int, length: int, widths: list[int], workers: list[int],
    c: Cluster, console: Console,
) -> None:  # fmt: skip
    """Print the assumptions, then the table."""
    console.print(
        f"{config.batch_size} documents of {length} targets a worker, {config.n_layer} layers\n"
        f"a worker: {c.operations / 1e9:,.3g} GFLOP/s, {duration(c.overhead)} of overhead a step\n"
        f"the network: {c.bandwidth / 1e9:,.3g} GB/s, {duration(c.latency)} a message\n"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("width", "workers", "", "memory", "sent", "compute", "wait", "weak", "strong"):
        table.add_column(head, justify="left" if not head else "right", no_wrap=True)
    before = 0
    for width, n, sharded, one, gain in combinations(
        config, vocab_size, length, widths, workers, c
    ):
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
        "weak: the share of the step that is computing, when every worker has a whole batch; "
        "strong: the speed-up over one worker, when all workers share one batch",
        style="dim",
    )
