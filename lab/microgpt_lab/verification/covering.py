"""The golden cases that cover all pairs of levels: a plan for each row of `factors`."""

import random
import string
from dataclasses import fields
from itertools import chain

from microgpt import Config

from microgpt_lab.verification import factors
from microgpt_lab.verification.cases import CasePlan

# Accents, Greek, Cyrillic, Chinese, full-width and, beyond the BMP, emoji: 198 letters, of which
# the last two kinds have another order in UTF-16 than by code point (S2.1).
MANY = (
    range(0x61, 0x7B), range(0xC0, 0xD7), range(0xD8, 0xF7), range(0xF8, 0x100),
    range(0x3B1, 0x3CA), range(0x430, 0x450), range(0x4E00, 0x4E10), range(0xFF21, 0xFF2B),
    range(0x1F600, 0x1F61B),
)  # fmt: skip
LETTERS = {
    "two": "ab",
    "alphabet": string.ascii_lowercase,
    "many": "".join(map(chr, chain(*MANY))),
}


def plans() -> list[CasePlan]:
    """A plan for each row, `pairs-01` and on."""
    return [plan(i, why, row) for i, (why, row) in enumerate(factors.rows(), 1)]


def plan(number: int, why: str, row: factors.Row) -> CasePlan:
    """A row's recipe, documents, history and prompt."""
    config = Config(**{field.name: row[field.name] for field in fields(Config)})
    start = {"first step": 0, "half way": config.steps // 2, "last step": config.steps - 1}
    docs = documents(row, random.Random(number))
    zeros = "attn_wq attn_wk attn_wv mlp_fc1" if config.zero_init else ""
    return CasePlan(
        f"pairs-{number:02}",
        f"Every level of every factor meets every other: {why or 'one of many rows'}.",
        "S12",
        tuple(docs),
        config,
        seed=row["seed"],
        start=start[row["progress"]],
        prompt=docs[0][: row["prompt"]],
        names=max(1, 30 // config.block_size),  # 01 computes each letter from the start
        # a high power soon amplifies rounding, and so does a high learning rate
        steps=3 if config.relu_power < 3 and config.learning_rate < 0.03 else 1,
        stream=True,
        zeros=zeros,
        compact=True,
    )


# Of the chosen cases, those with sizes of their own, which some frameworks compile anew, or with
# much to compute: one precision is enough. All others are asked in both.
IN_ONE = {
    "hot": "float64",
    "four-heads": "float64",
    "wide": "float32",
    "two-layers": "float64",
    "one-head": "float32",
    "block-of-one": "float64",
    "relu": "float32",
    "linear-schedule": "float32",
    "thousand-names": "float32",
    "scaled": "float64",
    "ragged-batch": "float64",
    "unlike-recipes": "float64",
    "past-all-levels": "float64",
}


def dtype_of(key: str) -> str:
    """The precision in which a version that has both is put to a case of this id; "": both."""
    head, _, number = key.rpartition("-")
    return ("float32", "float64")[int(number) % 2] if head == "pairs" else IN_ONE.get(key, "")


def documents(row: factors.Row, rng: random.Random) -> list[str]:
    """Documents of the row's kind in which every letter occurs, and at least two more than a
    step takes, so that a step begins where the last one ended and not at the first document."""
    letters, block = LETTERS[row["letters"]], row["block_size"]
    shortest, longest = {
        "one letter": (1, 1),
        "ragged": (1, 8),
        "at the block": (max(1, block - 1), block),
        "past the block": (block + 1, block + 3),
        "repeated": (2, 6),
    }[row["documents"]]
    unused, docs = rng.sample(letters, len(letters)), list[str]()
    while unused or len(docs) < row["batch_size"] + 2:
        n = rng.randint(shortest, longest) if docs else longest
        distinct = 1 if row["documents"] == "repeated" else n
        some, unused = unused[:distinct], unused[distinct:]
        some += [rng.choice(letters) for _ in range(distinct - len(some))]
        docs.append("".join(some) * (n // distinct))
    return docs


def coverage_table() -> str:
    """Every factor and its levels, as the table in spec/README.md."""
    lines = ["| varies | levels |", "|---|---|"]
    for factor, levels in factors.FACTORS.items():
        shown = ", ".join("yes" if x is True else "no" if x is False else str(x) for x in levels)
        lines.append(f"| `{factor}` | {shown} |")
    count = len(factors.rows())
    text = f"{count} cases cover all {len(factors.all_pairs()):,} pairs of these levels"
    triples = "; ".join(why for why, _ in factors.TRIPLES)
    return "\n".join([f"{text}:", "", *lines, "", f"Three levels at once, by name: {triples}."])
