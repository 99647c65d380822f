"""The plans of the golden cases, each chosen by the mistake that it catches."""

from dataclasses import dataclass, replace
from typing import Any

import microgpt
from microgpt import Config

Case = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a case is before 01 has computed it."""

    id: str
    why: str
    rules: str
    docs: str
    config: Config
    seed: int = 1
    trained: int = 0  # steps that the weights have behind them already, on another schedule
    start: int = 0  # the step from which training goes on
    prompt: str = ""
    names: int = 20
    steps: int = 20  # losses to record
    stream: bool = False  # shuffle and draws are part of the question
    zeros: str = ""  # endings of the weights whose gradient is zero here, and no evidence


# Tiny enough to follow by hand, wide enough that no two numbers agree by chance.
TINY = Config(
    n_embd=4, n_head=2, block_size=6, init_std=0.3, zero_init=False, steps=20, temperature=1.0
)  # fmt: skip
NAMES = "anna bea nan abe ebba ann en"
# Cases share sizes and letters where their mistakes allow: a framework that compiles does so
# anew for each size.
GIST = replace(TINY, relu_power=1, beta1=0.85, beta2=0.99)

PLANS = [
    Plan(
        "first-steps",
        "What everyone runs first: attn_wo and mlp_fc2 start at zero, so that at first most "
        "gradients are zero and most mistakes do not show. They do from the second step on.",
        "S3.3 S9.3 S10.3",
        NAMES,
        replace(TINY, init_std=0.02, zero_init=True),
        stream=True,
        zeros="attn_wq attn_wk attn_wv mlp_fc1",
    ),
    Plan(
        "nothing-zero",
        "Small weights with nothing zero: every gradient is alive in the first step.",
        "S4.1 S5.1 S5.2 S6.1 S7.1 S8.3",
        NAMES,
        replace(TINY, init_std=0.02),
    ),
    Plan(
        "hot",
        "Large weights: scores far from uniform, ReLUs well off or on, a norm that bends. "
        "A wrong scale, mask or epsilon shows in the first digits.",
        "S5.1 S5.2 S6.3 S6.4 S6.5 S7.2",
        NAMES,
        replace(TINY, n_embd=8, n_head=4),
        seed=2,
    ),
    Plan(
        "faint",
        "Weights so small that the epsilon inside the norm's root is most of it.",
        "S5.1 S5.2",
        NAMES,
        replace(TINY, init_std=0.002),
        seed=3,
    ),
    Plan(
        "repeated-letters",
        "A letter that comes again: its embedding's gradient is a sum over its places.",
        "S4.1 S8.3",
        "aaaa abab baab enne",
        TINY,
        seed=4,
    ),
    Plan(
        "ragged-batch",
        "Documents of unlike length in one step: the loss is the mean over all targets, not "
        "the mean of the documents' means, and pads count for nothing.",
        "S8.2 S8.3 S1.4",
        "a enna bab ananab ea",
        replace(TINY, batch_size=3),
        seed=5,
    ),
    Plan(
        "cut-at-block",
        "A document longer than the block: cut after block_size targets, no BOS at its end.",
        "S2.3 S11.4",
        "annabeanna ab bananabean",
        TINY,
        seed=6,
    ),
    Plan(
        "one-letter",
        "Documents of a single letter: two targets, the shortest that there is.",
        "S2.2 S2.3 S6.4",
        "a b a n e",
        TINY,
        seed=7,
    ),
    Plan(
        "block-of-one",
        "A block of one token: after the cut the only input is BOS, and attention sees itself.",
        "S2.3 S6.4 S11.4",
        "ab ba a",
        replace(TINY, block_size=1),
        seed=8,
        zeros="attn_wq attn_wk",
    ),
    Plan(
        "two-layers",
        "Two layers: gradients pass through a whole layer, and weights of one layer are not "
        "those of the other.",
        "S3.1 S4.3 S6.7 S7.4",
        NAMES,
        replace(TINY, n_layer=2),
        seed=9,
    ),
    Plan(
        "one-head",
        "One head: head_dim is the whole width, so that 1/sqrt(D) and 1/sqrt(C) agree here "
        "and only here.",
        "S6.2 S6.3",
        NAMES,
        replace(TINY, n_head=1),
        seed=10,
    ),
    Plan(
        "four-heads",
        "Four heads of width 2: joined in any other order they give other numbers.",
        "S6.2 S6.6",
        NAMES,
        replace(TINY, n_embd=8, n_head=4),
        seed=11,
    ),
    Plan(
        "wide",
        "Wider than sixteen, heads of width 12: no sizes are powers of two, so that what fits "
        "lanes and tiles of those does not hide what is wrong beyond them.",
        "S3.1 S6.2 S6.3",
        NAMES,
        replace(TINY, n_embd=24, init_std=0.1),
        seed=17,
        steps=2,
    ),
    Plan(
        "relu",
        "The first power: plain ReLU, whose slope is 1 where it is on. The betas are those of "
        "the recipe `gist`.",
        "S7.2 S7.3 S9.1 S9.2",
        NAMES,
        GIST,
        seed=12,
    ),
    Plan(
        "linear-schedule",
        "The learning rate falls on a line, as in the recipe `gist`.",
        "S10.2 S10.3 S9.1 S9.2",
        NAMES,
        replace(GIST, schedule="linear"),
        seed=13,
    ),
    Plan(
        "last-step",
        "A run taken up at its last step: moments and their correction come from before, and "
        "the last learning rate is not zero.",
        "S9.3 S10.1 S10.3 S13.1",
        NAMES,
        TINY,
        seed=14,
        trained=19,
        start=19,
    ),
    Plan(
        "trained",
        "Weights that have learned: large moments, sharp distributions, names to sample.",
        "S11.2 S11.3 S11.4 S11.5 S13.1",
        NAMES,
        replace(TINY, temperature=0.5),
        seed=15,
        trained=200,
    ),
    Plan(
        "prompt",
        "Names that start with given letters: these draw no uniforms.",
        "S11.1 S11.5",
        NAMES,
        replace(TINY, temperature=2.0),
        seed=16,
        trained=100,
        prompt="an",
    ),
    Plan(
        "seed",
        "The whole recipe `seed` on real names: 500 steps.",
        "S12",
        "",
        microgpt.RECIPES["seed"],
        seed=42,
        steps=500,
        stream=True,
        zeros="attn_wq attn_wk attn_wv mlp_fc1",
    ),
    Plan(
        "gist",
        "The whole recipe `gist` on real names: the first 500 of its 1000 steps.",
        "S12",
        "",
        microgpt.RECIPES["gist"],
        seed=42,
        steps=500,
        stream=True,
    ),
    Plan(
        "thousand-names",
        "A thousand names from the weights that recipe `seed` ends with.",
        "S11",
        "",
        microgpt.RECIPES["seed"],
        seed=42,
        trained=500,
        names=1000,
        steps=0,
    ),
]
