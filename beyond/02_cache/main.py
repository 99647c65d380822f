"""Cache: what attention has to keep of the past, and four ways to keep less.

Starts from 02 (NumPy), with the forward pass alone. New here: `step` reads one token,
and finds in a cache what it needs of the earlier ones. `forward` computes that again.
With GQA several heads share keys and values, a sliding window forgets what is far away,
and MLA keeps one short vector a token, from which keys and values could be computed.

    uv run python main.py       the size of each cache, the largest difference from
                                computing everything again, and the time of a token
"""

import argparse
import math
import random
import time
from dataclasses import dataclass

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
from microgpt_lab.base.versions import pick

# T tokens, S tokens in the cache, C n_embd, H heads, D head_dim, G groups, L latent

numpy_version = pick(["02_numpy_manual_backprop"])[0].load()
softmax = numpy_version.softmax


def rmsnorm(x):
    """(T, C) -> (T, C)"""
    return numpy_version.rmsnorm(x)[0]


@dataclass(frozen=True)
class Kind:
    """What attention keeps. The default is the model of SPEC.md: multi-head attention,
    MHA."""

    groups: int = 4  # of heads that share keys and values; 1 is multi-query attention
    window: int = 0  # a token sees so many, itself among them; 0: all before it
    latent: int = 0  # MLA: numbers kept for a token; 0: its keys and values are kept


CONFIG = microgpt.Config(
    n_embd=64, n_layer=2, block_size=256, init_std=0.3, zero_init=False
)
KINDS = {
    "MHA": Kind(),
    "GQA": Kind(groups=2),
    "MQA": Kind(groups=1),
    "window": Kind(window=32),
    "GQA and window": Kind(groups=2, window=32),
    "MLA": Kind(latent=16),
}

# ---------------------------------------------------------------- Parameters


def convert(config, kind, matrices):
    """The weights of 01 (rows), as arrays of a kind. GQA: the mean of the heads of each
    group. MLA: the best L directions of keys and values together."""
    w = {name: np.array(rows, float) for name, rows in matrices.items()}
    for i in range(config.n_layer):
        wk, wv = w.pop(f"layer{i}.attn_wk"), w.pop(f"layer{i}.attn_wv")  # (C, C) each
        if kind.latent:
            down, up_k, up_v = factors(wk, wv, kind.latent)
            w[f"layer{i}.down"] = down  # (L, C)
            w[f"layer{i}.up_k"] = up_k.reshape(config.n_head, -1, kind.latent)
            w[f"layer{i}.up_v"] = up_v.reshape(config.n_head, -1, kind.latent)
        else:
            shape = kind.groups, -1, config.n_embd // config.n_head, config.n_embd
            w[f"layer{i}.wk"] = wk.reshape(shape).mean(axis=1)  # (G, D, C)
            w[f"layer{i}.wv"] = wv.reshape(shape).mean(axis=1)
    return w


def factors(wk, wv, L):
    """down (L, C), up_k (C, L), up_v (C, L): up_k @ down is near wk, up_v @ down near
    wv, as near as L numbers allow (singular value decomposition)."""
    u, s, vt = np.linalg.svd(np.vstack([wk, wv]), full_matrices=False)
    up = u[:, :L] * s[:L]
    return vt[:L], up[: len(wk)], up[len(wk) :]


# ---------------------------------------------------------------- Attention


def attend(q, k, v, mask=0):
    """Each head reads the keys and values of its group: heads 0 and 1 those of group 0,
    and so on. (H, T, D), (G, S, D), (G, S, D) -> (H, T, D)"""
    heads_a_group = len(q) // len(k)
    k, v = (np.repeat(x, heads_a_group, axis=0) for x in (k, v))  # (H, S, D)
    return softmax(q @ k.mT / math.sqrt(q.shape[-1]) + mask) @ v


def attend_to_latents(q, c, up_k, up_v):
    """MLA without ever computing a key or a value ("absorbed"). A score is
    q · (up_k c) = (up_kᵀ q) · c,  so the query goes into the space of the latents, and
    the sum of the values is  up_v (sum of p c).  (H, D), (S, L) -> (H, D)"""
    into = np.einsum("hd,hdl->hl", q, up_k)  # (H, L)
    p = softmax(into @ c.T / math.sqrt(q.shape[1]))  # (H, S)
    return np.einsum("hl,hdl->hd", p @ c, up_v)


def keys_values(kind, w, i, h):
    """(T, C) -> (G, T, D) twice"""
    if kind.latent:
        c = h @ w[f"layer{i}.down"].T  # (T, L)
        return c @ w[f"layer{i}.up_k"].mT, c @ w[f"layer{i}.up_v"].mT
    return h @ w[f"layer{i}.wk"].mT, h @ w[f"layer{i}.wv"].mT


# ---------------------------------------------------------------- Without a cache


def mlp(config, w, i, x):
    """(T, C) -> (T, C)"""
    h = np.maximum(rmsnorm(x) @ w[f"layer{i}.mlp_fc1"].T, 0) ** config.relu_power
    return h @ w[f"layer{i}.mlp_fc2"].T


def forward(config, kind, w, tokens):
    """The logits after each token, everything computed from the start. -> (T, V)"""
    T, H = len(tokens), config.n_head
    x = rmsnorm(w["wte"][tokens] + w["wpe"][:T])  # (T, C)
    distance = np.arange(T)[:, None] - np.arange(T)  # (T, T), query minus key
    seen = (distance >= 0) & (distance < (kind.window or T))
    mask = np.where(seen, 0, -np.inf)
    for i in range(config.n_layer):
        h = rmsnorm(x)
        q = (h @ w[f"layer{i}.attn_wq"].T).reshape(T, H, -1).swapaxes(0, 1)
        heads = attend(q, *keys_values(kind, w, i, h), mask)  # (H, T, D)
        x = x + heads.swapaxes(0, 1).reshape(T, -1) @ w[f"layer{i}.attn_wo"].T
        x = x + mlp(config, w, i, x)
    return x @ w["lm_head"].T


# ---------------------------------------------------------------- With a cache


class Cache:
    """A row for each token that can still be seen, in each layer. With a window it is a
    ring: a new token takes the row of the one that nobody sees any more. The rows are
    then in no order, and need none: attention is a sum, and the position is in x."""

    def __init__(self, config, kind, dtype=float):
        self.slots = kind.window or config.block_size
        width = kind.latent or 2 * kind.groups * config.n_embd // config.n_head
        self.rows = np.zeros((config.n_layer, self.slots, width), dtype)
        self.length = 0  # tokens read so far

    def add(self, i, row):
        """Keep the newest token's row. -> (S, width), the rows that it sees"""
        self.rows[i, self.length % self.slots] = row
        return self.rows[i, : min(self.length + 1, self.slots)]


def step(config, kind, w, cache, token):
    """The logits after one more token. -> (V,)"""
    H, D = config.n_head, config.n_embd // config.n_head
    x = rmsnorm(w["wte"][[token]] + w["wpe"][cache.length])  # (1, C)
    for i in range(config.n_layer):
        h = rmsnorm(x)
        q = (w[f"layer{i}.attn_wq"] @ h[0]).reshape(H, D)
        if kind.latent:
            c = cache.add(i, w[f"layer{i}.down"] @ h[0])  # (S, L)
            up = w[f"layer{i}.up_k"], w[f"layer{i}.up_v"]
            heads = attend_to_latents(q, c, *up)  # (H, D)
        else:
            rows = cache.add(i, np.ravel(keys_values(kind, w, i, h)))  # (S, 2 G D)
            k, v = rows.reshape(-1, 2, kind.groups, D).transpose(1, 2, 0, 3)
            heads = attend(q[:, None], k, v)  # (H, 1, D)
        x = x + heads.reshape(1, -1) @ w[f"layer{i}.attn_wo"].T
        x = x + mlp(config, w, i, x)
    cache.length += 1
    return (x @ w["lm_head"].T)[0]


def cache_bytes(config, kind, itemsize):
    """Two vectors of D numbers for each group, or L numbers, for each token that is
    seen, in each layer."""
    D = config.n_embd // config.n_head
    numbers = kind.latent or 2 * kind.groups * D
    return config.n_layer * (kind.window or config.block_size) * numbers * itemsize


def read(config, kind, w, tokens, cached=True):
    """Read one token after the other. Yields the logits after each, (V,)"""
    cache = Cache(config, kind)
    for t, token in enumerate(tokens, 1):
        if cached:
            yield step(config, kind, w, cache, token)
        else:
            yield forward(config, kind, w, tokens[:t])[-1]


# ---------------------------------------------------------------- Running it


def joined_names(seed, length):
    """(weights as rows, tokens): names one after the other, until there are enough."""
    docs, rng = microgpt.load_documents(say=lambda _: None), random.Random(seed)
    tokenizer = microgpt.Tokenizer(docs)
    tokens = []
    while len(tokens) < length:
        tokens += tokenizer.encode(rng.choice(docs))[:-1]  # BOS and the letters
    weights = microgpt.initial(CONFIG, tokenizer.vocab_size, rng).weights
    return weights, tokens[:length]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    matrices, tokens = joined_names(parser.parse_args().seed, CONFIG.block_size)
    print("                 bytes of   largest    time of token 256, µs")
    print("                the cache   difference   with   without it")
    for name, kind in KINDS.items():
        w = convert(CONFIG, kind, matrices)
        start = time.perf_counter()
        got = list(read(CONFIG, kind, w, tokens))
        cached = (time.perf_counter() - start) / len(tokens)
        start = time.perf_counter()
        want = forward(CONFIG, kind, w, tokens)
        again = time.perf_counter() - start
        size, off = cache_bytes(CONFIG, kind, 8), np.abs(got - want).max()
        print(f"{name:15}{size:10,}{off:13.0e}{cached * 1e6:7.0f}{again * 1e6:13.0f}")


if __name__ == "__main__":
    main()
