"""What is certified of a port: level by level, and for which recipes.

A level is certified if it was answered and passed in every case that asks for it and was not
declined, and if there is such a case. A port is certified if each level that it declares is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from microgpt import RECIPES, Config

from microgpt_lab.verification.port_replies import (
    CHECKS_OF,
    Reply,
    asked_levels,
    in_order,
    levels_of,
)

# A recipe in any number of steps, in batches of any size and at any temperature is that recipe.
FREE = ("steps", "batch_size", "temperature")


@dataclass(frozen=True)
class LevelVerdict:
    """One level that a port declares, in the cases that ask for it."""

    level: str
    asked: int  # cases that ask for it and were not declined
    answered: int
    passed: int
    declined: int
    first_missing: str = ""  # a case without an answer on this level
    digits: int = 0  # of `losses`: the fewest digits that were printed

    @property
    def certified(self) -> bool:
        return self.asked == self.passed > 0

    @property
    def title(self) -> str:
        """Its name, with its precision if that is limited."""
        return f"{self.level} to {self.digits} digits" if self.digits else self.level

    @property
    def line(self) -> str:
        """What was found, in words."""
        less = f" ({self.declined} declined)" if self.declined else ""
        if not self.asked:
            why = f"declined in {all_of(self.declined)}" if self.declined else "no case asks for it"
            return f"{self.title}: not tried: {why}"
        if self.certified:
            return f"{self.title}: passed in {all_of(self.asked)}{less}"
        if self.answered < self.asked:
            return (
                f"{self.title}: answered in {self.answered} of the {self.asked} cases that ask for "
                f"it{less}: answer or decline each of the others, such as {self.first_missing}"
            )
        return f"{self.title}: failed in {self.asked - self.passed} of {self.asked} cases{less}"


@dataclass(frozen=True)
class Verdict:
    """The whole verdict. `status` is that of the command: 0 certified, 1 not, 2 nothing tried."""

    status: int
    reason: str  # why the status is not 0
    levels: Sequence[LevelVerdict]
    scope: str  # what was tried: "the gist recipe", "all 21 cases" or "4 of 21 cases"
    dtypes: Sequence[str]
    declined: dict[str, list[str]]  # reason -> the cases
    recipes: dict[str, list[Any]]  # field of Config -> its values in the cases that passed

    @property
    def certified(self) -> list[str]:
        """The levels that are certified; none if anything failed."""
        return [v.title for v in self.levels if v.certified] if self.status == 0 else []

    @property
    def line(self) -> str:
        """The last line of the report."""
        if self.status:
            return f"not certified: {self.reason}"
        return f"certified: {self.scope}: {', '.join(self.certified)} ({' and '.join(self.dtypes)})"


def verdict_of(replies: Sequence[Reply]) -> Verdict:
    """The verdict on replies that were judged."""
    declared = in_order(level for reply in replies for level in levels_of(reply))
    levels = [judge_level(level, replies) for level in declared]
    status, reason = outcome(replies, levels)
    declined: dict[str, list[str]] = {}
    for reply in replies:
        if reply.declined:
            declined.setdefault(reply.declined, []).append(reply.case["id"])
    good = [reply for reply in replies if reply.findings and not reply.failed]
    return Verdict(
        status,
        reason,
        levels,
        scope_of(good, replies),
        sorted({reply.dtype for reply in good}),
        declined,
        covered(reply.case["config"] for reply in good),
    )


def judge_level(level: str, replies: Sequence[Reply]) -> LevelVerdict:
    """In how many cases a level was asked for, answered and passed."""
    asking = [r for r in replies if level in asked_levels(r.case)]
    asked = [r for r in asking if not r.declined]
    answered = [r for r in asked if level in levels_of(r)]
    missing = [r.case["id"] for r in asked if level not in levels_of(r)]
    return LevelVerdict(
        level,
        len(asked),
        len(answered),
        sum(passed_level(level, r) for r in answered),
        len(asking) - len(asked),
        missing[0] if missing else "",
        min((r.answer["digits"] for r in answered), default=0) if level == "losses" else 0,
    )


def passed_level(level: str, reply: Reply) -> bool:
    """Whether there is a finding of this level, and every one of them passed."""
    findings = [f for f in reply.findings if f.check in CHECKS_OF[level]]
    return bool(findings) and all(f.passed for f in findings)


def outcome(replies: Sequence[Reply], levels: Sequence[LevelVerdict]) -> tuple[int, str]:
    """The exit status, and the reason if it is not 0."""
    failed = [reply.case["id"] for reply in replies if reply.failed]
    tried = [level for level in levels if level.asked]
    if failed:
        more = f" and {len(failed) - 1} more of {len(replies)} cases" if failed[1:] else ""
        return 1, f"{failed[0]}{more} failed"
    if replies and all(reply.declined for reply in replies):
        return 2, f"every case was declined: {replies[0].declined}"
    if not tried:
        names = ", ".join(level.level for level in levels)
        return 2, f"no case asks for the levels of this port: {names}"
    for level in levels:
        if not level.certified and (level.asked or level.declined):
            return 1, level.line
    return 0, ""


# ---------------------------------------------------------------- What was tried


def scope_of(good: Sequence[Reply], replies: Sequence[Reply]) -> str:
    """What the cases that passed have in common: a recipe, if it is one."""
    configs = [Config(**reply.case["config"]) for reply in good]
    for name in RECIPES:
        if configs and all(is_recipe(name, config) for config in configs):
            return f"the {name} recipe"
    if len(replies) == 1:
        return f"case {replies[0].case['id']}"
    tried = sum(not reply.declined for reply in replies)
    return f"all {tried} cases" if tried == len(replies) else f"{tried} of {len(replies)} cases"


def is_recipe(name: str, config: Config) -> bool:
    """Whether a config has the numbers of a recipe, except those that are free."""
    free = {key: getattr(config, key) for key in FREE}
    return bool(replace(RECIPES[name], **free) == config)


def covered(configs: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """For each field of Config, its values in these recipes, in order."""
    seen = list(configs)
    if not seen:
        return {}
    return {f.name: sorted({config[f.name] for config in seen}) for f in fields(Config)}


def values_in_words(values: Sequence[Any]) -> str:
    """A few values, or the range of many."""
    texts = [("no", "yes")[v] if isinstance(v, bool) else f"{v}" for v in values]
    if len(texts) > 4:
        return f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
    return " or ".join(texts)


def cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def all_of(count: int) -> str:
    return "the 1 case that asks for it" if count == 1 else f"all {count} cases that ask for it"
