"""Make a failing random case smaller, and say which of its choices the failure needs.

Each choice is moved to its default as long as the case still fails. What cannot be moved is
what matters: "fails at n_layer ≥ 3; everything else may be default".
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from microgpt import InputError

from microgpt_lab.verification import random_cases
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.random_cases import Sketch
from microgpt_lab.verification.sensitivity import PREFIX, is_steady

DEFAULT = Sketch()
NAMES = [f.name for f in fields(Sketch)]
# Does a program fail this case? Asked for a case that a right program passes.
Fails = Callable[[Case], bool]


@dataclass(frozen=True)
class Shrunk:
    """The smallest failing case that was found."""

    case: Case
    says: str  # what the failure needs
    complete: bool  # whether the search came to its end in time

    def sentence(self, seconds: float) -> str:
        bounded = f" (the search ended after {seconds:g} s: a smaller case may fail too)"
        return f"a random case {self.says}{'' if self.complete else bounded}"

    @property
    def file(self) -> str:
        return f"failing-case-{self.case['id'].removeprefix(PREFIX + '-')}.json"


class Shrinker:
    """A search from one failing sketch. `current` is the smallest that failed so far."""

    def __init__(self, sketch: Sketch, key: str, dtype: str, fails: Fails, seconds: float):
        self.current, self.key, self.dtype, self.fails = sketch, key, dtype, fails
        self.until = time.monotonic() + seconds
        self.tried: dict[Sketch, bool] = {}

    @property
    def in_time(self) -> bool:
        return time.monotonic() < self.until

    def failing(self, sketch: Sketch) -> bool:
        """Whether the program fails this sketch, and a right program passes it."""
        if sketch not in self.tried:
            if not self.in_time:
                return False
            try:
                case = random_cases.case_of(sketch, self.key)
                failed = self.fails(case) and is_steady(case, self.dtype)
            except (InputError, ValueError):  # these choices do not fit together
                failed = False
            self.tried[sketch] = failed
        return self.tried[sketch]

    def accept(self, **choices: Any) -> bool:
        """Make these choices, if the case then still fails."""
        smaller = replace(self.current, **choices)
        if smaller != self.current and not self.failing(smaller):
            return False
        self.current = smaller
        return True

    @property
    def unusual(self) -> list[str]:
        """The choices that are not the default; not the seed, which is no size."""
        return [
            name
            for name in NAMES
            if name != "seed" and getattr(self.current, name) != getattr(DEFAULT, name)
        ]

    # ------------------------------------------------------------ The search

    def run(self) -> None:
        """Move choices to their defaults until none can be moved."""
        self.keep_one()
        before = None
        while before != self.current and self.in_time:
            before = self.current
            self.reset_groups()
            for name in self.unusual:
                self.approach(name)
        self.accept(seed=DEFAULT.seed)

    def keep_one(self) -> None:
        """Often one choice is enough: try the default case with one unusual choice."""
        for name in ("", *self.unusual):
            kept = {name: getattr(self.current, name)} if name else {}
            alone = replace(DEFAULT, **kept)
            if self.failing(alone):
                self.current = alone
                return

    def reset_groups(self) -> None:
        """Set many choices to their defaults at once, then half as many, down to one."""
        size = len(self.unusual)
        while size:
            for names in groups(self.unusual, size):
                self.accept(**{name: getattr(DEFAULT, name) for name in names})
            size //= 2

    def approach(self, name: str) -> None:
        """Move one choice as near to its default as it goes."""
        value, default = getattr(self.current, name), getattr(DEFAULT, name)
        if name == "documents":
            self.nearest(lambda n: {name: value[:n]}, 0, len(value))
            value = self.current.documents
            self.nearest(lambda n: {name: cut(value, n)}, 0, max(map(len, value)))
            for letters in (1, 2):  # all letters equal, or two in turn
                plain = [tuple(i % letters for i in range(len(d))) for d in self.current.documents]
                if self.accept(documents=tuple(plain)):
                    break
        elif name == "prompt":
            self.nearest(lambda n: {name: value[:n]}, 0, len(value))
        elif isinstance(value, float):
            for digits in range(3):
                if self.accept(**{name: float(f"{value:.{digits}e}")}):
                    break
        elif isinstance(value, int) and not isinstance(value, bool):
            self.nearest(lambda n: {name: n}, default, value)

    def nearest(self, choices: Callable[[int], dict[str, Any]], passes: int, fails: int) -> None:
        """Between a number that passes and one that fails, find the failing one that is
        nearest to the first, by halving the interval."""
        while abs(fails - passes) > 1:
            middle = (passes + fails) // 2
            if self.accept(**choices(middle)):
                fails = middle
            else:
                passes = middle

    # ------------------------------------------------------------ In words

    def sentence(self) -> str:
        """What the failure needs."""
        needed = [self.describe(name) for name in self.unusual]
        if not needed:
            return "fails with every choice at its default"
        return f"fails at {', '.join(needed)}; everything else may be default"

    def describe(self, name: str) -> str:
        """One choice in words, with ≥ or ≤ if it fails beyond this value too."""
        value, default = getattr(self.current, name), getattr(DEFAULT, name)
        if name == "documents":
            return describe_documents(value)
        if name == "head_dim" and self.current.n_head == 1:
            name_in_words = "n_embd"
        else:
            name_in_words = WORDS.get(name, name)
        if isinstance(value, bool):
            return f"{name_in_words} = {'yes' if value else 'no'}"
        if isinstance(value, int):
            beyond: dict[str, Any] = {name: value + (1 if value > default else -1)}
            further = replace(self.current, **beyond)
            sign = "=" if not self.failing(further) else "≥" if value > default else "≤"
            return f"{name_in_words} {sign} {value}"
        if isinstance(value, float):
            return f"{name_in_words} = {value:g} (not at {default:g})"
        if name == "prompt":
            return f"a prompt of {len(value)} letters"
        return f"{name_in_words} = {value}"


# A choice's name in a sentence, where it is not a field of Config.
WORDS = {
    "stream": "shuffle and initial weights asked for",
    "names": "count",
    "extremes": "uniforms of 0 and 1 - 2^-53",
    "start_step": "start.step",
    "moments": "the size of the moments",
    "steps_taken": "steps taken",
    "steps_left": "steps left in the schedule",
    "alphabet": "letters",
    "vocabulary": "number of letters",
    "head_dim": "n_embd / n_head",
    "scale": "weights times",
}


def groups(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def cut(documents: random_cases.Documents, length: int) -> random_cases.Documents:
    """Each document's first letters, `length` at most."""
    return tuple(document[:length] for document in documents)


def describe_documents(documents: random_cases.Documents) -> str:
    """The documents in words: how many, and how long the longest is."""
    longest = max(map(len, documents))
    letters = "1 letter" if longest == 1 else f"{longest} letters"
    if len(documents) == 1:
        return f"a document of {letters}"
    return f"{len(documents)} documents of {letters} {'at most' if longest > 1 else 'each'}"


def shrink(number: int, seed: int, dtype: str, fails: Fails, seconds: float) -> Shrunk:
    """The smallest failing case that is found within that time, from the random case with
    that number of a seed."""
    sketch, _ = random_cases.draw(seed, number)
    key = random_cases.key_of(seed, number)
    search = Shrinker(sketch, key, dtype, fails, seconds)
    search.run()
    complete = search.in_time
    says = search.sentence()
    return Shrunk(random_cases.case_of(search.current, key, says), says, complete)
