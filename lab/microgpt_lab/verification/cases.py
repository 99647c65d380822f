"""The golden cases before 01 has computed them. Each is chosen by a mistake that it catches."""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import microgpt
from microgpt import Config

Case = dict[str, Any]


@dataclass(frozen=True)
class CasePlan:
    """A case without its numbers: the recipe, the documents and what they are to show."""

    id: str
    why: str
    rules: str
    docs: str | tuple[str, ...]  # "": the embedded names; a text: its words
    config: Config
    seed: int = 1
    trained: int = 0  # steps that 01 trains before the case starts, on a schedule of its own
    start: int = 0  # the number of steps that the case says have been taken
    prompt: str = ""
    names: int = 20
    steps: int = 20  # losses to record
    stream: bool = False  # whether shuffle and initial weights are part of the question
    zeros: str = ""  # ends of the names of weights whose gradient is zero here: they prove nothing
    compact: bool = False  # no values inside the forward pass; large tensors as projections
    weights: str = ""  # "flat", "underflow" or "row-of-zeros": weights made by `vectors`
    uniforms: tuple[float, ...] = ()  # else the stream's

    @property
    def documents(self) -> list[str]:
        """The documents before the shuffle."""
        if isinstance(self.docs, tuple):
            return list(self.docs)
        return self.docs.split() or list(microgpt.load_documents())


SCALED_STEPS = 2  # 01 takes 4 seconds for each

# Small enough to follow by hand, large enough that no two numbers are equal by chance.
TINY = Config(
    n_embd=4, n_head=2, block_size=6, init_std=0.3, zero_init=False, steps=20, temperature=1.0
)  # fmt: skip
NAMES = "anna bea nan abe ebba ann en"
LETTERS = ("e\u0301E", "Ee\u0301", "EeE", "e\u2028E", "e\u0301\u2028e", "ee", "\u0301e")
# Most cases share sizes and letters, because some frameworks compile again for each size.
GIST = replace(TINY, relu_power=1, beta1=0.85, beta2=0.99)

PLANS = [
    CasePlan(
        "first-steps",
        "What everyone runs first: attn_wo and mlp_fc2 start at zero, so in the first step most "
        "gradients are zero and most mistakes do not show. They show from the second step on.",
        "S3.3 S9.3 S10.3",
        NAMES,
        replace(TINY, init_std=0.02, zero_init=True),
        stream=True,
        zeros="attn_wq attn_wk attn_wv mlp_fc1",
    ),
    CasePlan(
        "nothing-zero",
        "Small weights, none of them zero: every gradient counts from the first step on.",
        "S4.1 S5.1 S5.2 S6.1 S7.1 S8.3",
        NAMES,
        replace(TINY, init_std=0.02),
    ),
    CasePlan(
        "hot",
        "Large weights: attention far from uniform, ReLU inputs far from zero. A wrong scale, "
        "mask or epsilon shows in the first digits.",
        "S5.1 S5.2 S6.3 S6.4 S6.5 S7.2",
        NAMES,
        replace(TINY, n_embd=8, n_head=4),
        seed=2,
    ),
    CasePlan(
        "faint",
        "Weights so small that in the first norm the epsilon is larger than the mean square.",
        "S5.1 S5.2",
        NAMES,
        replace(TINY, init_std=0.002),
        seed=3,
    ),
    CasePlan(
        "repeated-letters",
        "A repeated letter: its embedding's gradient is the sum over all its positions.",
        "S4.1 S8.3",
        "aaaa abab baab enne",
        TINY,
        seed=4,
    ),
    CasePlan(
        "ragged-batch",
        "Documents of different lengths in one step: the loss is the mean over all targets, not "
        "the mean of the documents' means, and padding does not count.",
        "S8.2 S8.3 S1.4",
        "a enna bab ananab ea",
        replace(TINY, batch_size=3),
        seed=5,
    ),
    CasePlan(
        "cut-at-block",
        "A document longer than the block: cut after block_size targets, no BOS at its end.",
        "S2.3 S11.4",
        "annabeanna ab bananabean",
        TINY,
        seed=6,
    ),
    CasePlan(
        "one-letter",
        "Documents of a single letter: two targets, the shortest document possible.",
        "S2.2 S2.3 S6.4",
        "a b a n e",
        TINY,
        seed=7,
    ),
    CasePlan(
        "code-points",
        "Letters are code points: a capital is another letter than its small one, a combining "
        "accent is a letter of its own, and a line separator inside a document ends no line.",
        "S1.1 S2.1 S2.2",
        LETTERS,
        TINY,
        seed=19,
        steps=4,
        stream=True,
    ),
    CasePlan(
        "block-of-one",
        "A block of one token: the only input is BOS, and it attends to itself alone.",
        "S2.3 S6.4 S11.4",
        "ab ba a",
        replace(TINY, block_size=1),
        seed=8,
        zeros="attn_wq attn_wk",
    ),
    CasePlan(
        "two-layers",
        "Two layers: gradients pass through a whole layer, and each layer has its own weights.",
        "S3.1 S4.3 S6.7 S7.4",
        NAMES,
        replace(TINY, n_layer=2),
        seed=9,
    ),
    CasePlan(
        "one-head",
        "One head: head_dim is the whole width, so 1/sqrt(D) and 1/sqrt(C) are equal. In all "
        "other cases they differ.",
        "S6.2 S6.3",
        NAMES,
        replace(TINY, n_head=1),
        seed=10,
    ),
    CasePlan(
        "four-heads",
        "Four heads of width 2: joined in another order they give other numbers.",
        "S6.2 S6.6",
        NAMES,
        replace(TINY, n_embd=8, n_head=4),
        seed=11,
    ),
    CasePlan(
        "wide",
        "Width 24, heads of width 12: not powers of two. Code that works in blocks of 4, 8 or 16 "
        "numbers must handle the rest correctly too.",
        "S3.1 S6.2 S6.3",
        NAMES,
        replace(TINY, n_embd=24, init_std=0.1),
        seed=17,
        steps=2,
    ),
    CasePlan(
        "relu",
        "Power 1: plain ReLU, whose slope is 1 for positive inputs. The betas are those of "
        "the recipe `gist`.",
        "S7.2 S7.3 S9.1 S9.2",
        NAMES,
        GIST,
        seed=12,
    ),
    CasePlan(
        "relu-at-zero",
        "A row of mlp_fc1 is zero, so a ReLU's input is exactly 0, where its slope is 0, not 1 "
        "or a half: the row has no gradient, and stays zero.",
        "S7.3",
        NAMES,
        GIST,
        seed=18,
        steps=4,
        weights="row-of-zeros",
    ),
    CasePlan(
        "linear-schedule",
        "The learning rate falls linearly, as in the recipe `gist`.",
        "S10.2 S10.3 S9.1 S9.2",
        NAMES,
        replace(GIST, schedule="linear"),
        seed=13,
    ),
    CasePlan(
        "last-step",
        "A run that continues at its last step: the moments and their bias correction come from "
        "the steps before, and the last learning rate is not zero.",
        "S9.3 S10.1 S10.3 S13.1",
        NAMES,
        TINY,
        seed=14,
        trained=19,
        start=19,
    ),
    CasePlan(
        "trained",
        "Trained weights: large moments, and distributions with clear favourites to sample from.",
        "S11.2 S11.3 S11.4 S11.5 S13.1",
        NAMES,
        replace(TINY, temperature=0.5),
        seed=15,
        trained=200,
    ),
    CasePlan(
        "unlike-recipes",
        "Every number of the recipe differs from those of the published recipes. For a variant of "
        "a version, which is checked with few cases.",
        "S12",
        NAMES,
        replace(
            TINY,
            n_embd=8,
            n_head=1,
            n_layer=3,
            block_size=5,
            relu_power=4,
            init_std=0.1,
            learning_rate=0.02,
            beta1=0.97,
            beta2=0.999,
            schedule="linear",
            steps=30,
            batch_size=4,
            temperature=0.7,
        ),
        seed=13,
        steps=4,
        compact=True,
    ),
    CasePlan(
        "past-all-levels",
        "More of everything than the cases that cover all pairs: layers, heads, tokens in a block, "
        "documents in a batch. A limit above their largest level shows here.",
        "S12",
        ("ab" * 19, *"ab" * 36),
        replace(
            TINY,
            n_embd=8,
            n_head=8,
            n_layer=4,
            block_size=36,
            relu_power=1,
            batch_size=71,
            learning_rate=0.05,
            temperature=5.0,
        ),
        seed=20,
        steps=1,
        names=1,
        compact=True,
    ),
    CasePlan(
        "prompt",
        "Names that start with given letters: these letters use no uniforms.",
        "S11.1 S11.5",
        NAMES,
        replace(TINY, temperature=2.0),
        seed=16,
        trained=100,
        prompt="an",
    ),
    CasePlan(
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
    CasePlan(
        "gist",
        "The whole recipe `gist` on real names: all its 1000 steps.",
        "S12",
        "",
        microgpt.RECIPES["gist"],
        seed=42,
        steps=1000,
        stream=True,
    ),
    CasePlan(
        "thousand-names",
        "A thousand names from the trained weights of recipe `seed`.",
        "S11",
        "",
        microgpt.RECIPES["seed"],
        seed=42,
        trained=500,
        names=1000,
        steps=0,
    ),
    CasePlan(
        "scaled",
        "Recipe `scaled` on real names. It is chaotic, so only its first steps can be compared.",
        "S12",
        "",
        microgpt.RECIPES["scaled"],
        seed=42,
        steps=SCALED_STEPS,
        names=1,
        stream=True,
        zeros="attn_wq attn_wk attn_wv mlp_fc1",
        compact=True,
    ),
    CasePlan(
        "uniforms-on-steps",
        "All letters are equally likely, so the cumulative probabilities are exact quarters, and "
        "the uniforms lie on these, just below, at 0 and at the last number below 1.",
        "S11.3",
        "abc cab ba",
        replace(TINY, block_size=3),
        steps=0,
        names=12,
        weights="flat",
        uniforms=(0.0, 0.25, 0.5, 0.75, 0.75 - 2**-53, 0.5 - 2**-54, 0.25 - 2**-54, 1 - 2**-53) * 6,
    ),
    CasePlan(
        "uniforms-on-sums",
        "Ten equally likely tokens: the cumulative sums of a tenth end below 1. A uniform that is "
        "one of these sums draws another token if it is not scaled by the last sum.",
        "S11.3",
        "abc def ghi abcdefghi",
        replace(TINY, block_size=3),
        steps=0,
        names=9,
        weights="flat",
        uniforms=tuple(list(accumulate([0.1] * 10))[:9]) * 4,
    ),
    CasePlan(
        "uniforms-underflow",
        "BOS is so unlikely that its probability is 0 in floating point, and the others are a "
        "tenth each: these sum to less than 1, so that a uniform must be scaled by the sum.",
        "S11.2 S11.3",
        "abcdefghij jihgfedcba",
        replace(TINY, block_size=5, temperature=0.001, zero_init=True),
        steps=0,
        names=10,
        weights="underflow",
        uniforms=(1 - 2**-53, 0.0, 0.9999, 0.1, 1 - 2**-52, 2**-1074) * 10,
    ),
]
