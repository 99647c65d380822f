"""What `verify` does not reach, as the part *Not verified* of VERIFIED.md.

The record is `spec/reach.json`: {version: {"lines", "branches", "program", "missed"}}, see `reach`.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from microgpt import InputError

from microgpt_lab.base.versions import ROOT

RECORD = "spec/reach.json"
# What no machine without an accelerator can run, whatever the lines say.
NEVER = (
    "The lines were counted on a CPU. On another device nothing is verified but what a part *On "
    "another device* lists. `--mixed`, TF32, TPUs, Apple's MPS and a run on several machines are "
    "not verified. Machine code, that of 09 and of compiled steps, has no lines to count. Its "
    "branches depend on sizes, and a test demands cases with sizes on both sides of each limit."
)


def read_record(root: Path = ROOT) -> dict[str, Any]:
    """The record; empty if there is none. Raises InputError."""
    path = root / RECORD
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
    except (OSError, ValueError) as e:
        raise InputError(f"{RECORD} cannot be read: {e}: microgpt proof --lines --write") from None


def markdown(record: dict[str, Any]) -> list[str]:
    """The lines of the page's part."""
    lines = ["", "## Not verified", "", NEVER, ""]
    lines += ["| | lines | branches |", "|---|---|---|"]
    lines += [
        f"| {name} | {entry['lines']} % | {entry['branches']} % |" for name, entry in record.items()
    ]
    lines += ["", "What was not reached, by reason:", ""]
    for name, entry in record.items():
        by_reason = sorted(entry["missed"], key=lambda line: line["reason"])
        for reason, missed in groupby(by_reason, key=lambda line: line["reason"]):
            # a statement that is named in a record may have moved: only its words are shown
            words = [f"`{line['words'].replace('`', '').replace('|', '/')}`" for line in missed]
            more = f" and {len(words) - 3} more" if len(words) > 3 else ""
            lines.append(f"- {name}: {reason or '**a gap**'}: {', '.join(words[:3])}{more}")
    return lines if record else []
