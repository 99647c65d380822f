"""`microgpt speedrun`: the race, its records and their repetition."""

from dataclasses import dataclass
from typing import Annotated, Any

from microgpt import InputError

from tyro.conf import Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, flag


@dataclass
class Speedrun:
    """Race: the lowest held-out loss after one second of training, and after ten."""

    entries: Annotated[Positional[tuple[str, ...]], flag("[ENTRY ...]", "all")] = ()
    """Entries by name, such as one_second/01_adam."""
    seeds: int = 10
    """Seeds; with --check 2 are enough to see a record that is not true."""
    write: bool = False
    """Keep the result as the entry's record, if it is one, and write the page anew."""
    check: bool = False
    """Run the records again: the mean losses must be those of the records."""

    def run(self) -> int:
        from microgpt_lab.speedrun import entries, page

        at_least(2, seeds=self.seeds)
        if self.seeds > 20:
            raise InputError(f"seeds is {self.seeds}: it must lie in 2 … 20")
        if self.write and self.check:
            raise InputError("--write and --check contradict each other: give one of them")
        chosen = entries.find(self.entries)
        status = 0
        for entry in chosen:
            status = max(status, self.repeat(entry) if self.check else self.attempt(entry))
        if self.write:
            page.write()
        return status

    def attempt(self, entry: Any) -> int:
        """Run an entry in turns with the record's holder, and say what came out."""
        import msgspec

        from microgpt_lab.base import files
        from microgpt_lab.speedrun import race

        record, problem = race.attempt(entry, self.seeds, self.say)
        console = plain_console()
        mean, took = race.mean_loss(record.runs), race.seconds(record.runs)
        against = f", p = {record.rival.p:.4f} against {record.rival.entry}" if record.rival else ""
        console.print(f"{entry.name}: {mean:.4f} in {took:.2f} s{against}", soft_wrap=True)
        if problem:
            console.print(f"no record: {problem}", soft_wrap=True)
            return 1
        if self.write:
            raw = msgspec.json.format(msgspec.json.encode(record), indent=1)
            files.write(entry.record_path, raw + b"\n")
            console.print(f"wrote {entry.record_path.name}", soft_wrap=True)
        return 0

    def repeat(self, entry: Any) -> int:
        """Run a record again. -> 1 if it is not what it says"""
        from microgpt_lab.speedrun import race

        record, console = entry.record, plain_console()
        if record is None:
            raise InputError(f"{entry.name} has no record: microgpt speedrun {entry.name} --write")
        seeds = [run.seed for run in record.runs][: self.seeds]
        now = race.in_turns([entry], seeds, self.say)[entry.name]
        problem = race.repeated(record, now)
        same = sum(a.loss == b.loss for a, b in zip(now, record.runs))
        console.print(
            f"{'✗' if problem else '✓'} {entry.name}: {race.mean_loss(now):.4f} in "
            f"{race.seconds(now):.2f} s here (record {race.mean_loss(record.runs):.4f} in "
            f"{race.seconds(record.runs):.2f} s); {same} of {len(now)} losses equal to the digit",
            soft_wrap=True,
        )
        if problem:
            console.print(f"  {problem}", soft_wrap=True)
        return 1 if problem else 0

    def say(self, entry: Any, run: Any) -> None:
        plain_console().print(
            f"  {entry.name}  seed {run.seed:2}  {run.loss:.4f}  {run.seconds:.2f} s",
            soft_wrap=True,
        )


COMMANDS: dict[str, Any] = {"speedrun": Speedrun}
