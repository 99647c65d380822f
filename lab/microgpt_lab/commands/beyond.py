"""`microgpt beyond`: the ideas under beyond/, each with claims that can fail."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from microgpt_lab.base import files, json_text
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import at_least, ensure_outputs, flag


@dataclass
class Beyond:
    """Measure the claims of beyond/ and their wrong programs; status 1 on a failure."""

    names: Annotated[Positional[tuple[str, ...]], flag("[IDEA or IDEA.CLAIM ...]", "all")] = ()
    """By folder name or number; 02.bytes is one claim."""
    long: bool = False
    """Also measure claims that take minutes."""
    write: bool = False
    """Measure those too, and write figures, pages and pictures. Other figures stay."""
    check: bool = False
    """Fail also if a page is not what the figures make."""
    json: Annotated[Path | None, flag("PATH", "none")] = None
    """Write the run to this file, for programs to read."""
    jobs: int = 2
    """How many ideas to measure at the same time."""

    def run(self) -> int:
        from microgpt_lab.beyond import ideas, measuring, pages, record

        at_least(1, jobs=self.jobs)
        ensure_outputs({"--json": self.json}, {})
        root, console = ideas.FOLDER, plain_console()
        picked, old = ideas.pick(self.names, root), record.read(root)
        in_tree = [ideas.read(folder) for folder in ideas.folders(root).values()]
        everything = self.long or self.write
        todo = [(i, [c for c in claims if everything or not c.recorded]) for i, claims in picked]
        found = []
        with console.status("measuring: all ideas take some minutes"):
            for (idea, asked), verdicts in zip(
                picked, measuring.measure_all(todo, self.jobs, record.seconds_of(old))
            ):
                now = {v.claim.name: v for v in verdicts}
                for claim in asked:
                    entry = old.get(idea.name, {}).get(claim.name)
                    kept = now.get(claim.name) or record.as_verdict(idea, claim, entry)
                    found.append((kept, claim.name in now))
                    show(*found[-1], console)
        right = [not verdict.failures for verdict, _ in found]
        controls = sum(len(v.measured.controls) for v, _ in found)
        said = f"{sum(right)} of {len(right)} claims hold; {controls} wrong programs were tried"
        console.print(said)
        if self.json:
            files.write(self.json, json_text.to_json([fields(*one) for one in found]))
        new = old
        if self.write:
            new = record.merged(old, [v for v, _ in found], in_tree)
            record.write(root, new)
            pages.draw_pictures(root, [idea for idea, _ in picked], new)
            pages.write(root, in_tree, new)
        lines = pages.outdated(root, in_tree, new) if self.check else []
        for line in lines:
            console.print(Text.assemble(("✗", "red"), " ", line), soft_wrap=True)
        return 0 if all(right) and not lines else 1


def show(verdict: Any, measured_now: bool, console: Console) -> None:
    """A line for a claim; below it one for each failure."""
    from microgpt_lab.beyond import pages

    claim, failures = verdict.claim, verdict.failures
    mark, style = ("✗", "red") if failures else ("✓", "green")
    value = pages.text_of(verdict.measured.value, claim.key)
    unit = f" {claim.unit}" if claim.unit else ""
    recorded = "" if measured_now else " (recorded)"
    line = f"{verdict.idea.name}.{claim.name}: {value}{unit}, must be {pages.threshold_of(claim)}"
    console.print(Text.assemble((mark, style), f" {line}{recorded}"), soft_wrap=True)
    for failure in failures:
        console.print(f"   {failure}", soft_wrap=True)


def fields(verdict: Any, measured_now: bool) -> dict[str, Any]:
    """A claim's verdict for --json."""
    claim, measured = verdict.claim, verdict.measured
    controls = [
        {"says": control.says, "value": value, "rejected": not claim.accepts(value)}
        for control, value in zip(claim.control, measured.controls)
    ]
    return {
        "idea": verdict.idea.name, "claim": claim.name, "says": claim.says,
        "value": measured.value, **claim.threshold, "holds": not verdict.failures,
        "failures": verdict.failures, "controls": controls, "seconds": measured.seconds,
        "measured_now": measured_now,
    }  # fmt: skip


COMMANDS: dict[str, Any] = {"beyond": Beyond}
