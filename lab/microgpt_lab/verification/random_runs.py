"""What `microgpt verify` does with random cases: ask a port, say what was drawn, and write the
smallest failing case into a file that --case runs again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from microgpt_lab.base import files
from microgpt_lab.base.terminal import plain_console
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


def check_port(command: str, golden: Sequence[Reply], drawn: RandomCases, timeout: float) -> bool:
    """Ask a port for the random cases, in the precision of its other answers, and show the
    result; whether all passed."""
    console = plain_console()
    dtype = next((r.dtype for r in golden if r.dtype in DTYPES), "")
    cases = [one.case for one in drawn.of(dtype)]
    if not cases:
        return True
    replies = ports.run_program(command, cases, timeout)
    show_drawn(drawn, console)
    failed = [reply for reply in replies if fails(reply)]
    for reply in failed:
        first = next(f for f in reply.findings if not f.passed)
        output.print_failure(console, f"{first.check}: {first.line()}")
    if not failed:
        tried = sum(bool(reply.findings) for reply in replies)
        output.print_line(console, "passed", "green", f"{tried} random case{'s' * (tried != 1)}")
        return True

    def fails_again(case: Case) -> bool:
        return fails(ports.run_program(command, [case], min(timeout, PATIENCE))[0])

    numbers = {one.case["id"]: one.number for one in drawn.drawn}
    number = numbers[failed[0].case["id"]]
    small = shrink(number, drawn.seed, dtype, fails_again, SHRINKING)
    output.print_explanation(console, small.sentence(SHRINKING))
    write_cases({"": small}, console, "--program …")
    return False


def fails(reply: Reply) -> bool:
    return any(not finding.passed for finding in reply.findings)
