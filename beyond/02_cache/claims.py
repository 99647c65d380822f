"""What 02_cache claims, each as a number. `idea` is main.py as a module. The weights
are random: an equality of two ways to compute holds for any."""

import dataclasses
import random
import statistics
import time

import microgpt

import numpy as np
from matplotlib.figure import Figure
from microgpt_lab.base import plots

SMALL = microgpt.Config(
    n_embd=24, n_layer=2, block_size=23, init_std=0.2, zero_init=False
)
VOCABULARY = 27
LENGTHS = (16, 64, 128, 256)
REPEATS = 7


def weights(config=SMALL):
    """Matrices as rows, drawn anew for each call."""
    return microgpt.initial(config, VOCABULARY, random.Random(5)).weights


def prompts(config=SMALL, count=4):
    """Random tokens that fill the block."""
    rng = random.Random(6)
    return [
        [rng.randrange(VOCABULARY) for _ in range(config.block_size)]
        for _ in range(count)
    ]


def small_kinds(idea):
    """Windows that are passed several times within the block, and a latent of 5."""
    for kind in idea.KINDS.values():
        latent, window = kind.latent and 5, kind.window and 4
        yield dataclasses.replace(kind, latent=latent, window=window)
    yield idea.Kind(window=1)
    yield idea.Kind(latent=7, window=5)


# ---------------------------------------------------------------- Equalities


def same_model(idea):
    """As many groups as heads, no window, no latent: the logits of 01."""
    snapshot = microgpt.initial(SMALL, VOCABULARY, random.Random(5))
    reference = microgpt.create(SMALL, snapshot)
    w = idea.convert(SMALL, idea.Kind(), weights())
    return max(
        np.abs(
            idea.forward(SMALL, idea.Kind(), w, tokens)
            - np.array(microgpt.logits(reference, tokens))
        ).max()
        for tokens in prompts(count=2)
    )


def every_prefix(idea):
    """With the cache against each prefix computed from its start, all kinds."""
    worst = 0.0
    for kind in small_kinds(idea):
        w = idea.convert(SMALL, kind, weights())
        for tokens in prompts():
            for t, got in enumerate(idea.read(SMALL, kind, w, tokens), 1):
                want = idea.forward(SMALL, kind, w, tokens[:t])[-1]
                worst = max(worst, np.abs(got - want).max())
    return worst


def beyond_the_window(idea):
    """One layer, window 4: the logits after a token do not change when the token four
    places before it is another one."""
    config = dataclasses.replace(SMALL, n_layer=1)
    kind = idea.Kind(window=4)
    w = idea.convert(config, kind, weights(config))
    tokens = prompts()[0]
    logits = list(idea.read(config, kind, w, tokens))
    worst = 0.0
    for t in range(4, len(tokens)):
        other = [*tokens]
        other[t - 4] = (other[t - 4] + 1) % VOCABULARY
        got = list(idea.read(config, kind, w, other))[t]
        worst = max(worst, np.abs(got - logits[t]).max())
    return worst


def repeated_heads(idea):
    """GQA against MHA in which each head has its own copy of the group's matrices."""
    worst = 0.0
    for groups in (1, 2):
        w = idea.convert(SMALL, idea.Kind(groups=groups), weights())
        copied = dict(w)
        for i in range(SMALL.n_layer):
            for name in (f"layer{i}.wk", f"layer{i}.wv"):
                rows = [w[name][h * groups // 4] for h in range(4)]  # (D, C) each
                copied[name] = np.stack(rows)
        for tokens in prompts():
            one = idea.forward(SMALL, idea.Kind(groups=groups), w, tokens)
            two = idea.forward(SMALL, idea.Kind(), copied, tokens)
            worst = max(worst, np.abs(one - two).max())
    return worst


def full_latent(idea):
    """A latent as wide as the model loses nothing: MLA is then MHA."""
    kind = idea.Kind(latent=SMALL.n_embd)
    w, full = (idea.convert(SMALL, k, weights()) for k in (kind, idea.Kind()))
    return max(
        np.abs(
            np.array(list(idea.read(SMALL, kind, w, tokens)))
            - idea.forward(SMALL, idea.Kind(), full, tokens)
        ).max()
        for tokens in prompts()
    )


# ---------------------------------------------------------------- Bytes


def cache_after(idea, config, kind, dtype=np.float32):
    """A cache that has read as many tokens as the block has."""
    cache = idea.Cache(config, kind, dtype)
    w = idea.convert(config, kind, weights(config))
    for token in prompts(config, 1)[0]:
        idea.step(config, kind, w, cache, token)
    return cache


def bytes_off(idea):
    """The bytes of the arrays against the formula: the largest difference."""
    return max(
        abs(
            cache_after(idea, SMALL, kind, dtype).rows.nbytes
            - idea.cache_bytes(SMALL, kind, np.dtype(dtype).itemsize)
        )
        for kind in small_kinds(idea)
        for dtype in (np.float32, np.float64)
    )


def shares(idea):
    """The bytes of each kind, divided by those of MHA, after 256 tokens."""
    size = {
        name: cache_after(idea, idea.CONFIG, kind).rows.nbytes
        for name, kind in idea.KINDS.items()
    }
    return {name: size[name] / size["MHA"] for name in size if name != "MHA"}


# ---------------------------------------------------------------- Time


def seconds_a_token(idea, kind, cached, matrices, tokens):
    """{length: seconds of the token that makes the text so long}, medians."""
    w = idea.convert(idea.CONFIG, kind, matrices)
    taken = {length: [] for length in LENGTHS}
    for _ in range(REPEATS):
        before = time.perf_counter()
        for t, _ in enumerate(idea.read(idea.CONFIG, kind, w, tokens, cached), 1):
            now = time.perf_counter()
            # the token at a length, and three before it
            for length in LENGTHS:
                if length - 4 < t <= length:
                    taken[length].append(now - before)
            before = now
    return {length: statistics.median(times) for length, times in taken.items()}


def times(idea):
    """Microseconds of one more token, with and without the cache, and their ratio."""
    matrices, tokens = idea.joined_names(1, idea.CONFIG.block_size)
    found = {}
    for name, cached in (("with", True), ("without", False)):
        measured = seconds_a_token(idea, idea.Kind(), cached, matrices, tokens)
        found |= {f"{name} {n}": 1e6 * seconds for n, seconds in measured.items()}
    for n in (LENGTHS[0], LENGTHS[-1]):
        found[f"ratio {n}"] = found[f"without {n}"] / found[f"with {n}"]
    return found


# ---------------------------------------------------------------- Picture


def picture(idea, figures, path):
    """Left the bytes of each kind, right the time of one more token."""
    figure = Figure(figsize=(7.2, 3.2))
    left, right = figure.subplots(1, 2)
    found = {"MHA": 1.0, **figures["shares"]}
    left.barh(list(found), list(found.values()), color=plots.COLOURS[0])
    left.invert_yaxis()
    left.set_xlabel("bytes after 256 tokens; MHA = 1")
    measured = figures["times"]
    for i, name in enumerate(("with", "without")):
        values = [measured[f"{name} {n}"] for n in LENGTHS]
        label = f"{name} a cache"
        right.plot(LENGTHS, values, "o-", color=plots.COLOURS[i], label=label)
    right.set(xlabel="tokens so far", ylabel="microseconds a token", yscale="log")
    right.legend()
    plots.save(figure, path)
