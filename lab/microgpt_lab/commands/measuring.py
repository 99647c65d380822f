"""The command that thinks about many workers."""

from dataclasses import dataclass
from typing import Annotated, Any

from microgpt import InputError

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.running import flag

VOCABULARY = 27  # of the embedded names


@dataclass
class Scale:
    """What many workers would cost: memory, communication, time of a step."""

    recipe: str = "scaled"
    """seed, gist or scaled: its layers, head width and documents a worker."""
    widths: str = "16,64,256"
    """Widths of the model."""
    workers: str = "1,2,4,8"
    """Numbers of workers."""
    length: int = 7
    """Targets of a document; the embedded names have 7.1 on average."""
    operations: Annotated[float | None, flag("GFLOP/S", "what one core here reaches")] = None
    """What a worker computes in a second, in this program."""
    bandwidth: float = 1.25
    """GB/s between workers; 1.25 is an Ethernet of 10 Gbit/s."""
    latency: float = 50.0
    """Microseconds of a message."""
    overhead: float = 0.0
    """Microseconds of each step that more workers do not share: the framework's."""

    def run(self) -> int:
        from microgpt_lab.base import options
        from microgpt_lab.benchmark import lower_bound, scale

        config = options.recipe(self.recipe, {})
        widths, workers = positive("widths", self.widths), positive("workers", self.workers)
        for name in ("length", "bandwidth", "latency", "operations"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}: it must be above 0")
        if not self.overhead >= 0:
            raise InputError(f"overhead is {self.overhead}: it must be 0 or more")
        rate = self.operations
        if rate is None:
            rate = lower_bound.rates()["operations"]["float32"] / 1e9
        cluster = scale.Cluster(
            rate * 1e9, self.bandwidth * 1e9, self.latency * 1e-6, self.overhead * 1e-6
        )
        length = min(self.length, config.block_size)
        scale.show(config, VOCABULARY, length, widths, workers, cluster, plain_console())
        return 0


def positive(name: str, text: str) -> list[int]:
    """Numbers from 1 on, separated by commas. Raises InputError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"{name} is {text!r}: it must be whole numbers from 1 on, as in 1,2,4")
    return found


COMMANDS: dict[str, Any] = {"scale": Scale}
