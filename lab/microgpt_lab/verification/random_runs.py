"""What `microgpt verify` does with random cases: ask a port, say what was drawn, and write the
smallest failing case into a file that --case runs again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from microgpt_lab.base import files
from microgpt_lab.verification import output, ports, vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.ports import Reply
from microgpt_lab.verification.random_cases import RandomCases
from microgpt_lab.verification.sensitivity import DTYPES
from microgpt_lab.verification.shrinking import Shrunk, shrink

SHRINKING = 60.0  # seconds to make a failing random case of a port smaller
PATIENCE = 10.0  # seconds that a port may take for a case meanwhile


def show_drawn(drawn: RandomCases, console: Console) -> None:
    """Which random cases the run had, how to draw them again, and which were left out."""
    if not drawn.wanted:
        return
    again = f"--random {drawn.wanted} --seed {drawn.seed} draws them again"
    output.print_explanation(console, f"random cases: {drawn.wanted} in each precision; {again}")
    for dtype in DTYPES:
        if left_out := drawn.left_out(dtype):
            said = f"{left_out} of {len(drawn.drawn)} drawn cases left out in {dtype}: there "
            output.print_explanation(console, said + "rounding alone may exceed a tolerance")


def write_cases(found: Mapping[str, Shrunk], console: Console, asked: str = "") -> None:
    """Write the smallest failing cases, by version, into files in the current folder. `asked`:
    the arguments of verify, if these are not the version."""
    written: dict[str, Shrunk] = {}
    for version, shrunk in found.items():
        name = shrunk.file
        if name in written and written[name].case != shrunk.case:
            name = name.replace(".json", f"-{version[:2]}.json")
        written[name] = shrunk
        files.write(Path(name), vectors.text(shrunk.case))
        command = f"microgpt verify {asked or version[:2]} --case {name}"
        output.print_explanation(console, f"written to {name}: {command} runs it again")


def ask_port(
    command: str, golden: Sequence[Reply], drawn: RandomCases, timeout: float
) -> list[Reply]:
    """A port's replies to the random cases, in the precision of its other answers."""
    dtype = next((r.dtype for r in golden if r.dtype in DTYPES), "")
    cases = [one.case for one in drawn.of(dtype)]
    return ports.run_program(command, cases, timeout) if cases else []


def show_port(
    command: str, replies: Sequence[Reply], drawn: RandomCases, timeout: float, console: Console
) -> None:
    """Which random cases a port had; the smallest that it fails, if it fails one."""
    show_drawn(drawn, console)
    numbers = {one.case["id"]: one.number for one in drawn.drawn}
    failed = [r for r in replies if r.failed and r.case["id"] in numbers]
    if not failed:
        return

    def fails_again(case: Case) -> bool:
        return ports.run_program(command, [case], min(timeout, PATIENCE))[0].failed

    dtype = next((r.dtype for r in replies if r.dtype in DTYPES), "")
    small = shrink(numbers[failed[0].case["id"]], drawn.seed, dtype, fails_again, SHRINKING)
    output.print_explanation(console, small.sentence(SHRINKING))
    write_cases({"": small}, console, "--program …")
