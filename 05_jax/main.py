"""microGPT in JAX. Same model as 03. New here: every function is pure. Its result
depends on its arguments alone, and it returns new arrays instead of changing old ones.
So JAX can take a function's gradient, compile it, and run many steps in one call
(SPEC.md: S3 to S9)."""

import math
import os
import sys
from contextlib import suppress
from functools import partial
from itertools import islice
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents, S steps in a call
# in einsum t, c, h and d are T, C, H and D, and n = 3 is q, k and v

# by default a GPU multiplies float32 numbers with fewer bits
jax.config.update("jax_default_matmul_precision", "highest")
# at this size a second thread costs more than it saves
os.environ.setdefault("PJRT_NPROC", "1")

# ---------------------------------------------------------------- Parameters

# What training carries is a snapshot: weights, two moments, the number of steps. The
# matrices are kept as one vector: JAX passes one array with less overhead than nine.
# JAX calls a nest of tuples, dicts and arrays, such as a snapshot, a pytree. A compiled
# function takes pytrees and returns pytrees.


def from_rows(matrices, dtype, device):
    """{name: rows} (S3.1) -> one vector of all the numbers, on that device, and the
    function `unravel`, which makes {name: matrix} from such a vector again."""
    arrays = {name: np.array(rows, dtype) for name, rows in matrices.items()}
    return ravel_pytree(jax.device_put(arrays, device))


def to_rows(unravel, vector):
    """The vector -> {name: rows}, as plain NumPy arrays."""
    return jax.tree.map(np.array, jax.jit(unravel)(vector))


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). (T, C) -> (T, C)"""
    return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def attention(q, k, v):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). (H, T, D) each -> (H, T, D)"""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (H, T, T)
    causal_mask = jnp.tri(q.shape[1], dtype=bool)  # (T, T), true where key <= query
    return jax.nn.softmax(jnp.where(causal_mask, scores, -jnp.inf)) @ v  # (H, T, D)


def forward(config, w, tokens):
    """The logits of the next token after each position of one document.
    (T,) -> (T, V)"""
    T, C, H = len(tokens), config.n_embd, config.n_head
    # one_hot @ wte equals wte[tokens]. Its gradient is a matrix product; the gradient
    # of wte[tokens] is a scatter-add, which a CPU does one row at a time
    one_hot = jax.nn.one_hot(tokens, len(w["wte"]), dtype=w["wte"].dtype)  # (T, V)
    x = one_hot @ w["wte"] + w["wpe"][:T]  # (T, C)
    x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
    for i in range(config.n_layer):
        h = rmsnorm(x)
        # q, k and v of all heads in one product: fewer operations to start
        w_qkv = jnp.stack([w[f"layer{i}.attn_w{name}"] for name in "qkv"])  # (3, C, C)
        w_qkv = w_qkv.reshape(3, H, C // H, C)  # (3, H, D, C)
        q, k, v = jnp.einsum("tc,nhdc->nhtd", h, w_qkv)  # (H, T, D) each
        h = attention(q, k, v)  # (H, T, D)
        h = h.swapaxes(0, 1).reshape(T, C)  # (T, C): the heads side by side (S6.6)
        x = x + h @ w[f"layer{i}.attn_wo"].T
        h = rmsnorm(x)
        h = h @ w[f"layer{i}.mlp_fc1"].T  # (T, 4C)
        h = jax.nn.relu(h) ** config.relu_power
        x = x + h @ w[f"layer{i}.mlp_fc2"].T  # (T, C)
    return x @ w["lm_head"].T  # (T, V)


# ---------------------------------------------------------------- Loss and training

# JAX compiles a function again for each new shape of its arguments. PAD fills documents
# up to the same length, so that there are few shapes.
PAD = -1  # not a token: jax.nn.one_hot makes a row of zeros from it


def document_loss(config, w, document):
    """The sum of the losses of a document's targets (S8.1). (T + 1,) -> ()"""
    logits = forward(config, w, document[:-1])  # (T, V)
    # the row of a PAD is all zeros, so padded positions add neither loss nor gradient
    one_hot = jax.nn.one_hot(document[1:], len(w["wte"]), dtype=logits.dtype)  # (T, V)
    return -jnp.sum(one_hot * jax.nn.log_softmax(logits))


def loss_and_grad(config, unravel, weights, documents):
    """The mean loss of all targets (S8) and its gradient, a vector like the weights.
    One document after the other, so that a large batch takes no more memory.
    documents: (B, T + 1)"""

    def loss(weights, document):
        return document_loss(config, unravel(weights), document)

    def add(sums, document):
        found = jax.value_and_grad(loss)(weights, document)
        return jax.tree.map(jnp.add, sums, found), None

    zeros = jnp.zeros((), weights.dtype), jnp.zeros_like(weights)
    sums, _ = lax.scan(add, zeros, documents)  # a loop inside the compiled program
    # the mean over the real targets, not over all places of the array (S8.2)
    n = jnp.sum(documents[:, 1:] != PAD)
    return jax.tree.map(lambda x: x / n, sums)


def adam(config, snapshot, grad, learning_rate):
    """The snapshot after one step of Adam, with bias correction and with eps outside
    the root (S9)."""
    beta1, beta2, step = config.beta1, config.beta2, snapshot.step + 1
    k = step.astype(grad.dtype)  # so that beta**k has the precision of the weights
    m = beta1 * snapshot.first_moment + (1 - beta1) * grad  # S9.1
    v = beta2 * snapshot.second_moment + (1 - beta2) * grad * grad  # S9.2
    # the moments start at zero, so the first ones are too small; S9.3 corrects this
    m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
    weights = snapshot.weights - learning_rate * m_hat / (jnp.sqrt(v_hat) + 1e-8)
    return microgpt.Snapshot(weights, m, v, step)


def step(config, unravel, snapshot, documents, learning_rate):
    """The next snapshot, and the loss. documents: (B, T + 1)"""
    loss, grad = loss_and_grad(config, unravel, snapshot.weights, documents)
    return adam(config, snapshot, grad, learning_rate), loss


@partial(jax.jit, static_argnames=("config", "unravel"))
def take_steps(config, unravel, snapshot, documents, learning_rates):
    """One step for each batch: the snapshot after the last step, and all losses. A
    batch of only PAD is skipped: the last call is filled up with these, so that one
    compilation serves any number of steps. documents: (S, B, T + 1)"""

    def skip(snapshot, documents, learning_rate):
        return snapshot, jnp.zeros_like(learning_rate)

    def body(snapshot, batch):
        documents, learning_rate = batch
        take = partial(step, config, unravel)
        has_targets = jnp.any(documents != PAD)
        return lax.cond(has_targets, take, skip, snapshot, documents, learning_rate)

    return lax.scan(body, snapshot, (documents, learning_rates))


def pad(config, batches, S):
    """The documents of up to S batches as one array. -> (S, B, T + 1)"""
    B = config.batch_size
    while max(map(len, batches)) > B:
        B *= 2  # instead of the exact number: fewer shapes, fewer compilations
    documents = np.full((S, B, config.block_size + 1), PAD, np.int32)
    for rows, batch in zip(documents, batches):
        for row, tokens in zip(rows, batch):
            row[: len(tokens)] = tokens
    return documents


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss. One call takes
    the steps of about 128 documents. Their losses are yielded after it."""
    batches, S = iter(batches), max(1, 128 // state.config.batch_size)
    while chunk := list(islice(batches, S)):
        drawn, learning_rates = zip(*chunk)
        documents = pad(state.config, drawn, S)
        learning_rates = np.resize(learning_rates, S).astype(state.dtype)  # (S,)
        state.snapshot, losses = take_steps(
            state.config, state.unravel, state.snapshot, documents, learning_rates
        )
        yield from np.asarray(losses).tolist()[: len(chunk)]


# ---------------------------------------------------------------- Interface


def devices_of(kind):
    """All devices of a kind. "auto" is the kind that JAX prefers: an accelerator, if
    there is one."""
    found = {}
    for name in ("auto", "cpu", "gpu", "tpu"):
        with suppress(RuntimeError, AssertionError):  # JAX has no device of that name
            found[name] = jax.devices(None if name == "auto" else name)
    if kind not in found:
        here = ", ".join(name for name in found if name != "auto") or "none"
        raise microgpt.InputError(f"device is {kind}: JAX has {here} here")
    return found[kind]


def choose_device(device):
    """The first device of that kind."""
    return devices_of(device)[0]


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "gpu", "tpu"] = "cpu",
):
    """A state that continues from the snapshot, whichever version the snapshot came
    from."""
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)  # else JAX makes float32 of it
    # states with equal configs share compiled code: keep only the numbers that it needs
    names = "n_embd n_head n_layer block_size relu_power beta1 beta2 batch_size"
    config = microgpt.Config(**{name: getattr(config, name) for name in names.split()})
    device = choose_device(device)
    pairs = [from_rows(matrices, dtype, device) for matrices in snapshot[:3]]
    vectors, unravels = zip(*pairs)
    snapshot = microgpt.Snapshot(*vectors, np.int32(snapshot.step))
    # JAX computes where its arguments are, so this decides where everything runs
    snapshot = jax.device_put(snapshot, device)
    # the state only holds the newest snapshot; all computing is done by pure functions
    return SimpleNamespace(
        config=config, unravel=unravels[0], snapshot=snapshot, dtype=dtype,
        device=device,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("config", "unravel"))
def compiled_logits(config, unravel, weights, tokens):
    return forward(config, unravel(weights), tokens)


def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    # no position sees a later one, so the PAD at the end changes none of these logits
    block = np.full(state.config.block_size, PAD, np.int32)
    block[: len(tokens)] = tokens
    rows = compiled_logits(state.config, state.unravel, state.snapshot.weights, block)
    return np.asarray(rows)[: len(tokens)]


compiled_loss_and_grad = jax.jit(loss_and_grad, static_argnames=("config", "unravel"))


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight. Changes nothing in the
    state."""
    documents = pad(state.config, [batch], 1)[0]
    loss, grad = compiled_loss_and_grad(
        state.config, state.unravel, state.snapshot.weights, documents
    )
    return float(loss), to_rows(state.unravel, grad)


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    *vectors, step = state.snapshot
    matrices = [to_rows(state.unravel, vector) for vector in vectors]
    return microgpt.Snapshot(*matrices, int(step))


def about(state):
    """Library, version, device, precision and threads: the first line of the output."""
    threads = os.environ["PJRT_NPROC"]
    threads += " thread" if threads == "1" else " threads"
    where = state.device.device_kind
    return f"JAX {jax.__version__} on {where}, {state.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
