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


def answer_on(levels, case):
    """The right answer of a port that has only these levels; `losses` as printed with 4 digits."""
    numbers = {level: fields_of(level, case["answer"]) for level in levels}
    answer = {"id": case["id"], "dtype": "float64", "levels": list(levels)}
    for fields in numbers.values():
        answer |= fields
    return answer


def fields_of(level, right):
    """The fields of one level in the right answer of a case."""
    if level == "losses":
        losses = {"losses": [round(x, 4) for x in right["losses"]]} if "losses" in right else {}
        return {"digits": 4} | losses
    keys = {
        "forward": ("logits", "loss"),
        "gradients": ("gradients",),
        "training": ("losses", "after"),
        "sampling": ("names",),
    }
    return {key: right[key] for key in keys[level] if key in right}


def printed(show, *arguments, width=80):
    """What a function prints to a console that is no terminal."""
    text = io.StringIO()
    show(*arguments, Console(file=text, width=width, markup=False, emoji=False, highlight=False))
    return text.getvalue()
