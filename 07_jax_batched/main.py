"""microGPT in JAX, by the batch. Same numbers as 05, whose model stands here line by
line: it is written for one document still. New here: jax.vmap runs it for all documents
of a batch at once, and a sharding deals them out to several devices (SPEC S8)."""

import math
import os
import sys
from functools import partial
from types import SimpleNamespace
from typing import Literal

try:
    import jax
    import jax.numpy as jnp
    import microgpt
    import numpy as np
    from jax import lax
    from jax.flatten_util import ravel_pytree
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P
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

# What training carries is a snapshot, as in 05, but of vectors, each dict in one. Each
# step is a call here, and with four arrays to pass it begins sooner than with many.


def flatten(snapshot):
    """Each dict as one vector, and the function that makes a dict of a vector again."""
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
    documents: (B, T + 1)"""

    def loss(weights):
        one = partial(document_loss, config, unravel(weights))
        return jnp.sum(jax.vmap(one)(documents)) / jnp.sum(documents[:, 1:] != PAD)

    return jax.value_and_grad(loss)(weights)


def adam(config, snapshot, grad, learning_rate):
    """What comes after the snapshot: bias correction, eps outside the root (S9)."""
    beta1, beta2, step = config.beta1, config.beta2, snapshot.step + 1
    k = step.astype(grad.dtype)
    m = beta1 * snapshot.first_moment + (1 - beta1) * grad
    v = beta2 * snapshot.second_moment + (1 - beta2) * grad * grad
    m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
    weights = snapshot.weights - learning_rate * m_hat / (jnp.sqrt(v_hat) + 1e-8)
    return microgpt.Snapshot(weights, m, v, step)


@partial(jax.jit, static_argnames=("config", "unravel"), donate_argnames="snapshot")
def step(config, unravel, snapshot, documents, learning_rate):
    """The next snapshot, and the loss. How many devices share the documents, this does
    not know: JAX reads it off the arrays, and adds up what each device found."""
    loss, grad = loss_and_grad(config, unravel, snapshot.weights, documents)
    return adam(config, snapshot, grad, learning_rate), loss


def padded(state, batch):
    """The documents as one array, a share of it on each device. -> (B, T + 1)"""
    config, devices = state.config, state.mesh.size
    room = config.batch_size
    while room < len(batch):
        room *= 2  # each shape costs a compilation, so there are few
    longest, unit = max(map(len, batch)) - 1, max(12, config.block_size // 4)
    T = min(config.block_size, round_up(longest, unit))
    documents = np.full((round_up(room, devices), T + 1), PAD, np.int32)
    for row, tokens in zip(documents, batch):
        row[: len(tokens)] = tokens
    return jax.device_put(documents, NamedSharding(state.mesh, P("devices")))


def round_up(n, unit):
    return -(-n // unit) * unit


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss."""
    for batch, learning_rate in batches:
        state.snapshot, loss = step(
            state.config, state.unravel, state.snapshot, padded(state, batch),
            np.asarray(learning_rate, state.dtype),
        )  # fmt: skip
        # wait: devices split off one CPU share its threads, and two steps at once, each
        # of whose parts waits for the others, could wait for ever
        yield float(loss)


# ---------------------------------------------------------------- For whoever drives it


def find(device, devices):
    """That many devices of that kind, or of the kind that JAX prefers."""
    try:
        found = jax.devices(None if device == "auto" else device)
    except RuntimeError:
        kinds = ", ".join(sorted({"cpu", jax.default_backend()}))
        raise microgpt.InputError(f"device is {device}: JAX has {kinds} here") from None
    if not 1 <= devices <= len(found):
        message = f"devices is {devices}: JAX has 1 … {len(found)} to give here"
        if found[0].platform == "cpu" and devices > 1:
            message += f" (JAX_NUM_CPU_DEVICES={devices} splits the CPU into so many)"
        raise microgpt.InputError(message)
    return found[:devices]


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto",
    devices: int = 1,
):
    """A state, which goes on where the snapshot stood, whichever version made that."""
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)  # else JAX makes float32 of it
    mesh = Mesh(find(device, devices), ("devices",))
    # only what the compiled code depends on, so that states which agree there share it
    numbers = "n_embd n_head n_layer block_size relu_power beta1 beta2 batch_size"
    config = microgpt.Config(
        **{name: getattr(config, name) for name in numbers.split()}
    )
    arrays = []
    for rows_of in snapshot[:3]:
        arrays.append({name: np.array(rows, dtype) for name, rows in rows_of.items()})
    snapshot, unravel = flatten(microgpt.Snapshot(*arrays, np.int32(snapshot.step)))
    snapshot = jax.device_put(snapshot, NamedSharding(mesh, P()))
    return SimpleNamespace(
        config=config, unravel=unravel, snapshot=snapshot, dtype=dtype, mesh=mesh
    )


@partial(jax.jit, static_argnames=("config", "unravel"))
def compiled_logits(config, unravel, weights, tokens):
    return forward(config, unravel(weights), tokens)


def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    block = np.full(
        state.config.block_size, PAD, np.int32
    )  # no token sees what follows
    block[: len(tokens)] = tokens
    rows = compiled_logits(state.config, state.unravel, state.snapshot.weights, block)
    return np.asarray(rows)[: len(tokens)]


compiled_loss_and_grad = jax.jit(loss_and_grad, static_argnames=("config", "unravel"))


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    documents = padded(state, batch)
    loss, grad = compiled_loss_and_grad(
        state.config, state.unravel, state.snapshot.weights, documents
    )
    return float(loss), named(state, grad)


def named(state, vector):
    """{name: NumPy array (out, in)} of what lies in one vector."""
    return jax.tree.map(np.array, state.unravel(vector))


def export(state):
    """All that training carries, as NumPy arrays."""
    *vectors, step = state.snapshot
    return microgpt.Snapshot(*(named(state, x) for x in vectors), int(step))


def about(state):
    """What computes, where, in what precision, with how many threads."""
    threads = os.environ["PJRT_NPROC"]
    threads += " thread" if threads == "1" else " threads"
    kind, n = state.mesh.devices.flat[0].device_kind, state.mesh.size
    where = kind if n == 1 else f"{n} x {kind}"
    return f"JAX {jax.__version__} on {where}, {state.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__], recipe="scaled")
