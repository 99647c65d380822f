"""spec/MUTANTS.md: a section for each version, made from the verdicts of `microgpt mutants`.

A run of some versions replaces their sections and leaves the others as they are.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from microgpt_lab.base import files
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification.mutants import Verdict

PAGE = ROOT / "spec" / "MUTANTS.md"
HEAD = """# Mutants

Wrong programs, each one small edit of a version's own source, and the check that catches each \
first. The checks must fail every one of them and pass every harmless rewrite: `microgpt mutants` \
tests that and makes this page, and `.ci/run` fails if a wrong program survives or a harmless one \
does not pass. It tries those of 02, and leaves the others to a nightly run. Try one yourself: \
make the edit, then run `microgpt verify` with the version's number.

{wrong} wrong programs, {harmless} harmless rewrites.
"""


def markdown(sections: dict[str, str]) -> str:
    """The page of these sections, in the order of the versions."""
    text = "".join(f"\n{sections[name]}" for name in sorted(sections))
    wrong = len(re.findall(r"^\| `", text, re.MULTILINE))
    harmless = len(re.findall(r"^- `", text, re.MULTILINE))
    return HEAD.format(wrong=wrong, harmless=harmless) + text


def sections_of(page: str) -> dict[str, str]:
    """A page -> its sections by version, each from its title to its last line."""
    _, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    return {part.split("\n")[0].strip(): f"## {part.strip()}\n" for part in parts}


def sections_from(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Verdicts -> a section for each of their versions."""
    names = dict.fromkeys(v.mutant.version for v in verdicts)
    return {name: section(name, verdicts) for name in names}


def section(name: str, verdicts: Sequence[Verdict]) -> str:
    """One version's section: its wrong programs in a table, its harmless rewrites in a list."""
    mine = [v for v in verdicts if v.mutant.version == name]
    lines = [f"## {name}", "", "| mutant | rule | why one would write it | killed by |"]
    lines.append("|---|---|---|---|")
    for v in mine:
        if not v.mutant.harmless:
            fate = v.fate if v.killed else f"**{v.fate}**"
            lines.append(f"| `{v.mutant.id}` | {v.mutant.rule} | {v.mutant.why} | {fate} |")
    harmless = [v for v in mine if v.mutant.harmless]
    if harmless:
        lines += ["", "Harmless rewrites, which pass:", ""]
        for v in harmless:
            passed = "" if v.right else f" **{v.fate}**"
            lines.append(f"- `{v.mutant.id}`: {v.mutant.why}{passed}")
    return "\n".join(lines) + "\n"


def merged(
    page: str, verdicts: Sequence[Verdict], in_tree: Collection[str]
) -> tuple[str, list[str]]:
    """The page after a run, and a line for each section that was removed or not replaced.

    A version that did not run keeps its section. A version that is not in the tree any more
    loses it.
    """
    sections, notes = sections_of(page), []
    for name in [name for name in sections if name not in in_tree]:
        del sections[name]
        notes.append(f"{name} is not in the tree any more: its section is removed")
    for name, text in sections_from(verdicts).items():
        reason = not_run(name, verdicts)
        if reason and name in sections:
            notes.append(f"{name} did not run ({reason}): its section stays as it was")
        else:
            sections[name] = text
    return markdown(sections), notes


def not_run(name: str, verdicts: Sequence[Verdict]) -> str:
    """Why a version's mutants, or some of them, did not run; "" if all did."""
    return next((v.reason for v in verdicts if v.mutant.version == name and v.reason), "")


def write_page(
    verdicts: Sequence[Verdict], in_tree: Collection[str], path: Path = PAGE
) -> list[str]:
    """Write the page after a run -> the lines of `merged`."""
    before = path.read_text("utf-8") if path.exists() else ""
    page, notes = merged(before, verdicts, in_tree)
    files.write(path, page)
    return notes


def outdated(
    verdicts: Sequence[Verdict], in_tree: Collection[str], whole: bool, path: Path = PAGE
) -> list[str]:
    """A line for each section of the page that differs from what these verdicts make. `whole`:
    the run was of all versions, so the whole page must be what the run makes."""
    page = path.read_text("utf-8") if path.exists() else ""
    old, lines = sections_of(page), []
    for name, text in sections_from(verdicts).items():
        if not not_run(name, verdicts) and old.get(name) != text:
            command = f"microgpt mutants {name[:2]} --write"
            lines.append(
                f"spec/MUTANTS.md: the section of {name} is not what this run makes: {command}"
            )
    if whole and not lines and merged(page, verdicts, in_tree)[0] != page:
        lines.append("spec/MUTANTS.md is not what this run makes: microgpt mutants --write")
    return lines
