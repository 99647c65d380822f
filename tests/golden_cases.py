"""What the tests of the verification share: the cases, and answers to them."""

import io

import numpy as np
from microgpt_lab.base import versions
from microgpt_lab.verification import answers, diagnosis, vectors
from rich.console import Console

CASES = {case["id"]: case for case in vectors.read_vectors()}
TINY = [case for case in CASES.values() if diagnosis.count_numbers(case) <= diagnosis.SMALL]
NUMPY = versions.find()[diagnosis.GENERIC]
PATIENCE = 3600.0  # seconds to look for two mistakes: no test depends on the machine's speed

# What a program from outside may print: rich's markup, and a terminal's control code.
ODD = "[tokens] [/foo] \x1b[31mred"
ODD_PRINTED = "[tokens] [/foo] \\x1b[31mred"


@np.errstate(all="ignore")  # a wrong program may divide by zero
def answer_of(module, case):
    """A version's answer to a case, in the form of a port's answer."""
    *_, (_, answer) = answers.ask(module, case, "float64", {})
    levels = ["forward", "gradients", "training", "sampling"]
    return {"id": case["id"], "dtype": "float64", "levels": levels} | diagnosis.plain(answer)


def printed(show, *arguments, width=80):
    """What a function prints to a console that is no terminal."""
    text = io.StringIO()
    show(*arguments, Console(file=text, width=width, markup=False, emoji=False, highlight=False))
    return text.getvalue()
