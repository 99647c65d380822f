"""Optimizers: SGD with momentum, Adam and Muon; and five changes of the model.

Starts from 07 (JAX, batched). New here: the step is one of three. SGD follows the
average gradient. Adam divides each number of it by that number's usual size (S9). Muon
treats a matrix as a whole: it keeps the directions of the average gradient and makes
all of them equally long. Beside the optimizers stand five changes of the model, each of
which is one field of a Variant. Everything is compared with the same seeds, and each
with the best learning rate of the same grid.

    uv run python main.py          trains with the three optimizers in a few seconds
"""

import argparse
import random
from dataclasses import dataclass, replace
from functools import partial

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents, S steps

batched = pick(["07_jax_batched"])[0].load()
rmsnorm, attention, PAD = batched.rmsnorm, batched.attention, batched.PAD
jax.config.update("jax_enable_x64", True)  # the equalities are checked in float64

SGD, ADAM, MUON = OPTIMIZERS = ("sgd", "adam", "muon")
CONFIG = microgpt.Config(n_embd=32, n_layer=2, block_size=16, batch_size=32, steps=400)

# ---------------------------------------------------------------- Variants


@dataclass(frozen=True)
class Variant:
    """The model of SPEC.md, and what can be changed in it."""

    tied: bool = False  # lm_head is wte: one matrix for what goes in and what comes out
    qk_norm: bool = False  # each query and key is scaled to a mean square of 1
    relu_power: int = 2
    n_head: int = 4
    n_layer: int = 2


VARIANTS = {
    "tied weights": Variant(tied=True),
    "QK-norm": Variant(qk_norm=True),
    "plain ReLU": Variant(relu_power=1),
    "one head": Variant(n_head=1),
    "one layer": Variant(n_layer=1),
}


def shape_of(config, variant):
    """The configuration of a variant."""
    return replace(
        config, relu_power=variant.relu_power, n_head=variant.n_head,
        n_layer=variant.n_layer,
    )  # fmt: skip


# ---------------------------------------------------------------- Forward


def forward(config, variant, w, tokens):
    """The logits after each token of one document. (T,) -> (T, V)"""
    T, C, H = len(tokens), config.n_embd, config.n_head
    one_hot = jax.nn.one_hot(tokens, len(w["wte"]), dtype=w["wte"].dtype)  # (T, V)
    x = rmsnorm(one_hot @ w["wte"] + w["wpe"][:T])
    for i in range(config.n_layer):
        h = rmsnorm(x)
        q, k, v = (
            (h @ w[f"layer{i}.attn_w{name}"].T).reshape(T, H, C // H).swapaxes(0, 1)
            for name in "qkv"
        )  # (H, T, D) each
        if variant.qk_norm:
            q, k = rmsnorm(q), rmsnorm(k)
        h = attention(q, k, v).swapaxes(0, 1).reshape(T, C)  # (T, C)
        x = x + h @ w[f"layer{i}.attn_wo"].T
        h = jax.nn.relu(rmsnorm(x) @ w[f"layer{i}.mlp_fc1"].T) ** config.relu_power
        x = x + h @ w[f"layer{i}.mlp_fc2"].T
    return x @ w["wte" if variant.tied else "lm_head"].T


def loss_sum(config, variant, w, document):
    """The sum of the losses of a document's targets. (T + 1,) -> ()"""
    log_p = jax.nn.log_softmax(forward(config, variant, w, document[:-1]))  # (T, V)
    one_hot = jax.nn.one_hot(document[1:], log_p.shape[-1], dtype=log_p.dtype)
    return -jnp.sum(one_hot * log_p)  # the row of a PAD is all zeros


def mean_loss(config, variant, w, documents):
    """(B, T + 1) -> ()"""
    one = partial(loss_sum, config, variant, w)
    return jnp.sum(jax.vmap(one)(documents)) / jnp.sum(documents[:, 1:] != PAD)


# ---------------------------------------------------------------- Optimizers


def is_hidden(name):
    """Muon is for matrices from vector to vector. A row of wte, wpe or lm_head belongs
    to one token or place: Adam keeps those."""
    return name.startswith("layer")


def orthogonalized(g):
    """The nearest matrix with all singular values 1: with g = U S V^T, this is U V^T.
    Found with matrix products alone (Newton-Schulz): an odd polynomial of a matrix acts
    on each singular value by itself, and these polynomials move all of them to 1.
    (out, in) -> (out, in)"""
    x = g / (jnp.linalg.norm(g) + 1e-20)  # no singular value is above 1
    x = x if len(g) <= len(g[0]) else x.T
    # first a steep polynomial, which lifts small values, then a flat one near 1
    for a, b, c in [(3.4445, -4.7750, 2.0315)] * 12 + [(1.875, -1.25, 0.375)] * 2:
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x if len(g) <= len(g[0]) else x.T


def adam_direction(config, m, v, g, step):
    """As S9 has it. -> (direction, the new m, the new v)"""
    m = config.beta1 * m + (1 - config.beta1) * g
    v = config.beta2 * v + (1 - config.beta2) * g * g
    m_hat, v_hat = m / (1 - config.beta1**step), v / (1 - config.beta2**step)
    return m_hat / (jnp.sqrt(v_hat) + 1e-8), m, v


def sgd_direction(m, g):
    """The sum of the past gradients, of which each step leaves 0.9."""
    m = 0.9 * m + g
    return m, m


def muon_direction(m, g):
    """-> (direction, the new m). A matrix with more rows than columns has a longer
    output than input: its step is longer by the root of that ratio."""
    m = 0.95 * m + g
    rows, columns = g.shape
    # Nesterov: the average as it will be if the next gradient is like this one
    update = orthogonalized(0.95 * m + g)
    return update * max(1, rows / columns) ** 0.5, m


def optimizer_step(config, optimizer, snapshot, grads, learning_rate):
    """The snapshot after one step of the optimizer."""
    weights, first, second, step = snapshot
    step = step + 1
    k = step.astype(learning_rate.dtype)
    new = {}
    for name, w in weights.items():
        m, v, g = first[name], second[name], grads[name]
        if optimizer == SGD:
            direction, m = sgd_direction(m, g)
        elif optimizer == MUON and is_hidden(name):
            direction, m = muon_direction(m, g)
        else:
            direction, m, v = adam_direction(config, m, v, g, k)
        new[name] = w - learning_rate * direction, m, v
    parts = ({name: values[i] for name, values in new.items()} for i in range(3))
    return microgpt.Snapshot(*parts, step)


# ---------------------------------------------------------------- Training


@partial(jax.jit, static_argnames=("config", "variant", "optimizer"))
def take_steps(config, variant, optimizer, snapshot, documents, learning_rates):
    """One step for each batch. documents: (S, B, T + 1)"""
    loss = partial(mean_loss, config, variant)

    def step(snapshot, batch):
        documents, learning_rate = batch
        found, grads = jax.value_and_grad(loss)(snapshot.weights, documents)
        return optimizer_step(config, optimizer, snapshot, grads, learning_rate), found

    return lax.scan(step, snapshot, (documents, learning_rates))


def pad(documents, T):
    """Lists of tokens -> (B, T + 1), cut to T inputs, filled up with PAD"""
    rows = np.full((len(documents), T + 1), PAD, np.int32)
    for row, tokens in zip(rows, documents):
        row[: len(tokens)] = tokens[: T + 1]
    return rows


def to_arrays(snapshot, dtype):
    """The snapshot with arrays in place of lists."""
    parts = (
        {name: jnp.array(rows, dtype) for name, rows in matrices.items()}
        for matrices in snapshot[:3]
    )
    return microgpt.Snapshot(*parts, np.int32(snapshot.step))


def train(config, optimizer, tokenizer, docs, seed, variant=None):
    """-> (the snapshot after the last step, the losses)"""
    variant = variant or Variant()
    config, rng = shape_of(config, variant), random.Random(seed)
    docs = rng.sample(docs, len(docs))
    snapshot = microgpt.initial(config, tokenizer.vocab_size, rng)
    drawn, rates = zip(*microgpt.batches(config, tokenizer, docs))
    documents = np.stack([pad(batch, config.block_size) for batch in drawn])
    # the rate is in `rates`: with another one the compiled program is the same
    config, rates = replace(config, learning_rate=1), np.array(rates, np.float32)
    start = to_arrays(snapshot, jnp.float32)
    return take_steps(config, variant, optimizer, start, documents, rates)


@partial(jax.jit, static_argnames=("config", "variant"))
def held_out_loss(config, variant, w, documents):
    """Nats a letter. (B, T + 1) -> ()"""
    return mean_loss(shape_of(config, variant), variant, w, documents)


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
    print("nats a letter       loss after 100       200       400  held out")
    for optimizer, rate in ((SGD, 0.08), (ADAM, 0.01), (MUON, 0.02)):
        config = replace(CONFIG, learning_rate=rate)
        snapshot, losses = train(config, optimizer, tokenizer, train_docs, seed)
        shown = [float(losses[n - 50 : n].mean()) for n in (100, 200, 400)]
        loss = held_out_loss(CONFIG, Variant(), snapshot.weights, documents)
        shown = "".join(f"{x:10.3f}" for x in (*shown, float(loss)))
        print(f"{optimizer:6} rate {rate:<12}{shown}", flush=True)


if __name__ == "__main__":
    main()
