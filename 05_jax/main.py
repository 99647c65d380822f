"""microGPT in JAX. Same numbers as 03. New here: functions are pure. What training
carries goes into a step and comes out of it as new arrays, nothing is written over; so
JAX can take a gradient as a function, compile it, and walk many steps in one call
(SPEC S4-S9)."""

import math
import os
import sys
from functools import partial
from itertools import islice
from types import SimpleNamespace
from typing import Literal

try:
    import jax
    import jax.numpy as jnp
    import microgpt
    import numpy as np
    from jax import lax
    from jax.flatten_util import ravel_pytree
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    hint = "`uv run python main.py` brings it"
    print(f"error: {missing.name} is missing: {hint}", file=sys.stderr)
    sys.exit(2)

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

jax.config.update("jax_default_matmul_precision", "highest")  # else a GPU drops digits
os.environ.setdefault("PJRT_NPROC", "1")  # threads: arrays this small are no work for 2

# ---------------------------------------------------------------- Parameters

# The parameters are a dict of arrays, and all that training carries is a snapshot: two
# more such dicts, the moments, and a number. JAX calls any such nest a pytree; what it
# compiles takes one and gives one back.


def flatten(snapshot):
    """Each dict as one vector, which is quicker to move than many small arrays, and the
    function that makes a dict of such a vector again."""
    vectors, unravels = zip(*map(ravel_pytree, snapshot[:3]))
    return microgpt.Snapshot(*vectors, snapshot.step), unravels[0]


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    """Scale each row to unit mean square. (T, C) -> (T, C)"""
    return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def attention(q, k, v):
    """What each head reads from the tokens so far (S6). (H, T, D) each -> (H, T, D)"""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (H, T, T)
    seen = jnp.tri(q.shape[1], dtype=bool)
    return jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ v


def forward(config, w, tokens):
    """The logits of what follows each token of one document. (T,) -> (T, V)"""
    T, C, H = len(tokens), config.n_embd, config.n_head
    # a product's gradient is a product; the gradient of w["wte"][tokens] is a scatter,
    # which a CPU does one row at a time
    one_hot = jax.nn.one_hot(tokens, len(w["wte"]), dtype=w["wte"].dtype)
    x = one_hot @ w["wte"] + w["wpe"][:T]
    x = rmsnorm(x)  # S4.2: here too, but not before lm_head
    for i in range(config.n_layer):
        h = rmsnorm(x)
        w_qkv = jnp.stack([w[f"layer{i}.attn_w{name}"] for name in "qkv"])
        w_qkv = w_qkv.reshape(3, H, C // H, C)
        h = attention(*jnp.einsum("tc,nhdc->nhtd", h, w_qkv))
        h = h.swapaxes(0, 1).reshape(T, C)
        x = x + h @ w[f"layer{i}.attn_wo"].T
        h = rmsnorm(x)
        h = jax.nn.relu(h @ w[f"layer{i}.mlp_fc1"].T) ** config.relu_power
        x = x + h @ w[f"layer{i}.mlp_fc2"].T
    return x @ w["lm_head"].T


# ---------------------------------------------------------------- Loss and training

PAD = -1  # fills documents up to one length, as each shape costs a compilation


def document_loss(config, w, document):
    """The sum of the losses of a document's targets. (T + 1,) -> ()"""
    logits = forward(config, w, document[:-1])
    # of a PAD, one_hot makes a row of zeros: it has no loss and no gradient
    one_hot = jax.nn.one_hot(document[1:], len(w["wte"]), dtype=logits.dtype)
    return -jnp.sum(one_hot * jax.nn.log_softmax(logits))


def loss_and_grad(config, unravel, weights, documents):
    """The mean loss of all targets (S8) and its gradient, a vector as the weights are.
    One document at a time, so that memory stays flat. documents: (B, T + 1)"""

    def loss(weights, document):
        return document_loss(config, unravel(weights), document)

    def add(sums, document):
        found = jax.value_and_grad(loss)(weights, document)
        return jax.tree.map(jnp.add, sums, found), None

    zeros = jnp.zeros((), weights.dtype), jnp.zeros_like(weights)
    sums, _ = lax.scan(add, zeros, documents)
    n = jnp.sum(documents[:, 1:] != PAD)
    return jax.tree.map(lambda x: x / n, sums)


def adam(config, snapshot, grad, learning_rate):
    """What comes after the snapshot: bias correction, eps outside the root (S9)."""
    beta1, beta2, step = config.beta1, config.beta2, snapshot.step + 1
    k = step.astype(grad.dtype)
    m = beta1 * snapshot.first_moment + (1 - beta1) * grad
    v = beta2 * snapshot.second_moment + (1 - beta2) * grad * grad
    m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
    weights = snapshot.weights - learning_rate * m_hat / (jnp.sqrt(v_hat) + 1e-8)
    return microgpt.Snapshot(weights, m, v, step)


@partial(jax.jit, static_argnames="config")
def take_steps(config, snapshot, documents, learning_rates):
    """A step for each batch: the snapshot after them, and the losses. A batch of PAD
    alone takes none, so that this is compiled for one number of steps, not for each."""
    flat, unravel = flatten(snapshot)

    def step(flat, documents, learning_rate):
        loss, grad = loss_and_grad(config, unravel, flat.weights, documents)
        return adam(config, flat, grad, learning_rate), loss

    def skip(flat, documents, learning_rate):
        return flat, jnp.zeros_like(learning_rate)

    def body(flat, batch):
        return lax.cond(jnp.any(batch[0] != PAD), step, skip, flat, *batch)

    flat, losses = lax.scan(body, flat, (documents, learning_rates))
    return microgpt.Snapshot(*map(unravel, flat[:3]), flat.step), losses


def padded(config, batches, size):
    """The documents of that many batches as one array. -> (size, B, T + 1)"""
    room = config.batch_size
    while room < max(map(len, batches)):
        room *= 2  # not just what it takes: few shapes, few compilations
    documents = np.full((size, room, config.block_size + 1), PAD, np.int32)
    for rows, batch in zip(documents, batches):
        for row, tokens in zip(rows, batch):
            row[: len(tokens)] = tokens
    return documents


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss. One call takes
    the steps of about 128 documents; their losses are yielded after it."""
    batches, size = iter(batches), max(1, 128 // state.config.batch_size)
    while chunk := list(islice(batches, size)):
        drawn, learning_rates = zip(*chunk)
        documents = padded(state.config, drawn, size)
        learning_rates = np.resize(learning_rates, size).astype(state.dtype)
        state.snapshot, losses = take_steps(
            state.config, state.snapshot, documents, learning_rates
        )
        yield from np.asarray(losses).tolist()[: len(chunk)]


# ---------------------------------------------------------------- For whoever drives it


def find(device):
    """The first device of that kind, or the one that JAX prefers."""
    try:
        return jax.devices(None if device == "auto" else device)[0]
    except RuntimeError:
        found = ", ".join(sorted({"cpu", jax.default_backend()}))
        raise microgpt.InputError(f"device is {device}: JAX has {found} here") from None


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto",
):
    """A state, which goes on where the snapshot stood, whichever version made that. It
    is a box for the newest snapshot: all that is computed stays a function."""
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)  # else JAX makes float32 of it
    # only what the compiled code depends on, so that states which agree there share it
    numbers = "n_embd n_head n_layer block_size relu_power beta1 beta2 batch_size"
    config = microgpt.Config(
        **{name: getattr(config, name) for name in numbers.split()}
    )
    device, arrays = find(device), []
    for rows_of in snapshot[:3]:
        arrays.append({name: np.array(rows, dtype) for name, rows in rows_of.items()})
    snapshot = microgpt.Snapshot(*arrays, np.int32(snapshot.step))
    snapshot = jax.device_put(snapshot, device)
    return SimpleNamespace(config=config, snapshot=snapshot, dtype=dtype, device=device)


compiled_forward = jax.jit(forward, static_argnames="config")


def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    block = np.full(
        state.config.block_size, PAD, np.int32
    )  # no token sees what follows
    block[: len(tokens)] = tokens
    rows = compiled_forward(state.config, state.snapshot.weights, block)
    return np.asarray(rows)[: len(tokens)]


@partial(jax.jit, static_argnames="config")
def compiled_loss_and_grads(config, snapshot, documents):
    flat, unravel = flatten(snapshot)
    loss, grad = loss_and_grad(config, unravel, flat.weights, documents)
    return loss, unravel(grad)


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    documents = padded(state.config, [batch], 1)[0]
    loss, grads = compiled_loss_and_grads(state.config, state.snapshot, documents)
    return float(loss), jax.tree.map(np.array, grads)


def export(state):
    """All that training carries, as NumPy arrays."""
    arrays = jax.tree.map(np.array, state.snapshot)
    return arrays._replace(step=int(arrays.step))


def about(state):
    """What computes, where, in what precision, with how many threads."""
    threads = os.environ["PJRT_NPROC"]
    threads += " thread" if threads == "1" else " threads"
    where = state.device.device_kind
    return f"JAX {jax.__version__} on {where}, {state.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
