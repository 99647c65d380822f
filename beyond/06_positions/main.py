"""Positions: four ways to tell a model where a token stands.

Starts from 07 (JAX, batched). New here: `positions` is one of LEARNED, ROPE, ALIBI and
NONE. LEARNED is the model of SPEC.md: it adds a trained vector for each position. RoPE
rotates queries and keys by an angle that grows with the position. ALiBi subtracts from
each score a number that grows with the distance. With NONE only the causal mask is
left. All four start from the same weights and read the same batches.

    uv run python main.py          trains the four for a few seconds, then shows what
                                   each letter costs, place by place
"""

import argparse
import math
import random
from dataclasses import replace
from functools import partial

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents, S steps

batched = pick(["07_jax_batched"])[0].load()
rmsnorm, adam, PAD = batched.rmsnorm, batched.adam, batched.PAD
jax.config.update("jax_enable_x64", True)  # the equalities are checked in float64

LEARNED, ROPE, ALIBI, NONE = KINDS = ("learned", "rope", "alibi", "none")
RELATIVE = (ROPE, ALIBI, NONE)  # scores depend on the distance of two tokens only

# ---------------------------------------------------------------- Parameters

CONFIG = microgpt.Config(n_embd=32, n_layer=2, block_size=16, batch_size=32, steps=600)


def start(config, tokenizer, docs, seed, positions):
    """(the documents in the order of training, the snapshot before the first step). The
    stream of a seed is the same for all kinds, so their shared weights are equal."""
    rng = random.Random(seed)
    docs = rng.sample(docs, len(docs))
    # wpe is drawn for every kind, and used by LEARNED alone
    return docs, microgpt.initial(config, tokenizer.vocab_size, rng)


def from_rows(matrices, dtype):
    """{name: rows} -> {name: array}"""
    return {name: jnp.array(rows, dtype) for name, rows in matrices.items()}


# ---------------------------------------------------------------- Forward


def rotate(x, places):
    """RoPE: turn each pair of numbers by an angle. Pair i turns by
    place / 10000^(2i/D): the first pairs turn fast, the last ones slowly. A rotation
    keeps lengths, and the product of two rotated vectors depends on the difference of
    their angles alone.
    (H, T, D), (T,) -> (H, T, D)"""
    D = x.shape[-1]
    angles = places[:, None] / 10000 ** (jnp.arange(0, D, 2) / D)  # (T, D/2)
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]  # (H, T, D/2): the two numbers of each pair
    turned = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return turned.reshape(x.shape)


def distance_cost(H, places):
    """ALiBi: what each head subtracts from a score for each step of distance. The
    slopes of the heads are 2^(-8/H), 2^(-16/H) … 2^-8. (T,) -> (H, T, T)"""
    slopes = 2.0 ** (-8 * jnp.arange(1, H + 1) / H)  # (H,)
    distance = places[:, None] - places[None, :]  # (T, T), query minus key
    return slopes[:, None, None] * distance


def scores(positions, q, k, places):
    """How well each query matches each key, before the mask. (H, T, D) -> (H, T, T)"""
    if positions == ROPE:
        q, k = rotate(q, places), rotate(k, places)
    s = q @ k.mT / math.sqrt(q.shape[-1])
    if positions == ALIBI:
        s = s - distance_cost(len(q), places).astype(s.dtype)
    return s


def embed(positions, w, tokens, places):
    """(T,), (T,) -> (T, C)"""
    one_hot = jax.nn.one_hot(tokens, len(w["wte"]), dtype=w["wte"].dtype)  # (T, V)
    x = one_hot @ w["wte"]
    if positions == LEARNED:
        x = x + w["wpe"][places]
    return rmsnorm(x)


def queries_keys_values(config, w, i, h):
    """(T, C) -> three of (H, T, D)"""
    T, H = len(h), config.n_head
    for name in "qkv":
        yield (h @ w[f"layer{i}.attn_w{name}"].T).reshape(T, H, -1).swapaxes(0, 1)


def forward(config, positions, w, tokens, first=0):
    """The logits after each token of a document whose first token stands at place
    `first`. (T,) -> (T, V)"""
    places, mask = first + jnp.arange(len(tokens)), jnp.tri(len(tokens), dtype=bool)
    x = embed(positions, w, tokens, places)
    for i in range(config.n_layer):
        q, k, v = queries_keys_values(config, w, i, rmsnorm(x))
        s = jnp.where(mask, scores(positions, q, k, places), -jnp.inf)  # (H, T, T)
        h = (jax.nn.softmax(s) @ v).swapaxes(0, 1).reshape(x.shape)  # (T, C)
        x = x + h @ w[f"layer{i}.attn_wo"].T
        h = jax.nn.relu(rmsnorm(x) @ w[f"layer{i}.mlp_fc1"].T) ** config.relu_power
        x = x + h @ w[f"layer{i}.mlp_fc2"].T
    return x @ w["lm_head"].T


def first_scores(config, positions, w, tokens, first):
    """The scores of layer 0 for a document that begins at place `first`. (H, T, T)"""
    places = first + jnp.arange(len(tokens))
    x = embed(positions, w, tokens, places)
    q, k, _ = queries_keys_values(config, w, 0, rmsnorm(x))
    return scores(positions, q, k, places)


# ---------------------------------------------------------------- Loss and training


def token_losses(config, positions, w, documents):
    """The loss of each target, 0 for a PAD. (B, T + 1) -> (B, T)"""
    run = partial(forward, config, positions, w)
    log_p = jax.nn.log_softmax(jax.vmap(run)(documents[:, :-1]))  # (B, T, V)
    targets = jax.nn.one_hot(documents[:, 1:], log_p.shape[-1], dtype=log_p.dtype)
    return -jnp.sum(targets * log_p, axis=-1)


@partial(jax.jit, static_argnames=("config", "positions", "unravel"))
def take_steps(config, positions, unravel, snapshot, documents, learning_rates):
    """One step of Adam for each batch. documents: (S, B, T + 1)"""

    def step(snapshot, batch):
        documents, learning_rate = batch

        def loss(weights):
            losses = token_losses(config, positions, unravel(weights), documents)
            return jnp.sum(losses) / jnp.sum(documents[:, 1:] != PAD)

        found, grad = jax.value_and_grad(loss)(snapshot.weights)
        return adam(config, snapshot, grad, learning_rate), found

    return lax.scan(step, snapshot, (documents, learning_rates))


def pad(documents, T):
    """Lists of tokens -> (B, T + 1), cut to T inputs, filled up with PAD"""
    rows = np.full((len(documents), T + 1), PAD, np.int32)
    for row, tokens in zip(rows, documents):
        row[: len(tokens)] = tokens[: T + 1]
    return rows


def train(config, positions, tokenizer, docs, seed, length=None):
    """Train on documents that are cut to `length` tokens (all of the block if None).
    -> {name: array}"""
    docs, snapshot = start(config, tokenizer, docs, seed, positions)
    drawn, rates = zip(*microgpt.batches(config, tokenizer, docs))
    length = length or config.block_size
    documents = np.stack([pad([t[: length + 1] for t in b], length) for b in drawn])
    vectors = [ravel_pytree(from_rows(rows, jnp.float32)) for rows in snapshot[:3]]
    unravel = vectors[0][1]
    state = microgpt.Snapshot(*(v for v, _ in vectors), np.int32(0))
    rates = np.array(rates, np.float32)
    config = replace(config, learning_rate=1)  # it is in rates: compile once for all
    state, _ = take_steps(config, positions, unravel, state, documents, rates)
    return unravel(state.weights)


@partial(jax.jit, static_argnames=("config", "positions"))
def by_place(config, positions, w, documents):
    """(the sum of the losses at each place, the number of targets there). (T,), (T,)"""
    losses = token_losses(config, positions, w, documents)
    return jnp.sum(losses, axis=0), jnp.sum(documents[:, 1:] != PAD, axis=0)


# ---------------------------------------------------------------- Running it


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    seed = parser.parse_args().seed
    docs = microgpt.load_documents()
    tokenizer, (train_docs, held_out) = microgpt.Tokenizer(docs), split(docs, 0.1)
    documents = pad([tokenizer.encode(doc) for doc in held_out], CONFIG.block_size)
    print("nats a letter of held-out names, trained on 8 letters, read on 16")
    print("            place 1   place 4   place 8  place 10  place 12     all")
    for positions in KINDS:
        w = train(CONFIG, positions, tokenizer, train_docs, seed, length=8)
        sums, counts = by_place(CONFIG, positions, w, documents)
        shown = [float(sums[i - 1] / counts[i - 1]) for i in (1, 4, 8, 10, 12)]
        shown.append(float(sums.sum() / counts.sum()))
        print(f"{positions:8}" + "".join(f"{loss:10.3f}" for loss in shown), flush=True)


if __name__ == "__main__":
    main()
