"""microGPT in NumPy. Same numbers as 01. New here: no autograd, you are it.

The forward pass takes a document's tokens all at once and keeps what its gradient will
need. The backward pass is the forward pass from its last line to its first, and above
each gradient stands the line that it is the gradient of. All weights are views of one
flat buffer, which Adam moves as a whole (SPEC S3 to S9)."""

import os
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

# arrays this small are done before a second thread has woken up
THREADS = os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", THREADS)

try:
    import microgpt

    import numpy as np
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    hint = "`uv run python main.py` brings it"
    print(f"error: {missing.name} is missing: {hint}", file=sys.stderr)
    sys.exit(2)

# T tokens, C n_embd, H heads, D head_dim, V vocabulary

# ---------------------------------------------------------------- Parameters


@dataclass
class Weight:
    """A matrix and its gradient, each a view of a flat buffer. (out, in) both"""

    data: np.ndarray
    grad: np.ndarray


def matrices(flat, shapes):
    """Views of the matrices that lie in a flat buffer one after the other (S3.1)."""
    views, start = {}, 0
    for name, (rows, columns, _) in shapes.items():
        size = rows * columns
        views[name] = flat[start : start + size].reshape(rows, columns)
        if name.endswith("attn_wq"):  # wk and wv follow: one product for q, k and v
            views[f"{name}kv"] = flat[start : start + 3 * size].reshape(-1, columns)
        start += size
    return views


# ---------------------------------------------------------------- Forward


def linear(x, w):
    """Each row of w times each row of x. (T, in), (out, in) -> (T, out)"""
    return x.dot(w.data.T)  # x @ w.data.T does the same and takes longer to begin


def rmsnorm(x):
    """Scale each row to unit mean square (S5). (T, C) -> (T, C), (T, 1)"""
    scale = (np.vecdot(x, x, keepdims=True) / x.shape[1] + 1e-5) ** -0.5
    y = x * scale
    return y, scale


def softmax(x):
    # softmax is shift-invariant: subtracting the maximum only prevents overflow
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(qkv, H, mask):
    """What each head reads from the tokens so far (S6). (T, 3C) -> (T, C), kept"""
    T, D = len(qkv), qkv.shape[1] // (3 * H)
    q, k, v = qkv.reshape(T, 3, H, D).transpose(1, 2, 0, 3)  # (H, T, D) each
    scale = D**-0.5
    qk = q @ k.mT  # (H, T, T)
    scores = qk * scale
    p = softmax(scores + mask[:T, :T])
    heads = p @ v
    joined = heads.swapaxes(0, 1).reshape(T, H * D)
    return joined, (q, k, v, p, scale)


def forward(state, tokens):
    """The logits of what follows each token, and a pile of what the backward pass will
    need, the last thing on top. (T,) -> (T, V), kept"""
    config, w = state.config, state.w
    x = w["wte"].data[tokens] + w["wpe"].data[: len(tokens)]
    x, scale = rmsnorm(x)  # S4.2: here too, but not before lm_head
    kept = [(tokens, x, scale)]
    for i in range(config.n_layer):
        h, scale = rmsnorm(x)
        qkv = linear(h, w[f"layer{i}.attn_wqkv"])
        joined, inside = attention(qkv, config.n_head, state.mask)
        x = x + linear(joined, w[f"layer{i}.attn_wo"])  # += would change a kept x
        kept.append((h, scale, inside, joined))
        h, scale = rmsnorm(x)
        a = linear(h, w[f"layer{i}.mlp_fc1"])
        r = np.maximum(a, 0)
        b = r**config.relu_power
        x = x + linear(b, w[f"layer{i}.mlp_fc2"])
        kept.append((h, scale, r, b))
    kept.append(x)
    return linear(x, w["lm_head"]), kept


# ---------------------------------------------------------------- Backward

# dx is d loss / d x: of the shape of x, and a sum over all that x went into


def backward(state, dlogits, kept):
    """The chain rule, from the logits to every weight's grad. Uses the pile up."""
    config, w = state.config, state.w
    x = kept.pop()
    # forward was  linear(x, w["lm_head"]),  so:
    dx = linear_backward(dlogits, x, w["lm_head"])
    for i in reversed(range(config.n_layer)):
        h, scale, r, b = kept.pop()
        # forward was  x = x + linear(b, w[f"layer{i}.mlp_fc2"]),  so:
        db = linear_backward(dx, b, w[f"layer{i}.mlp_fc2"])
        # forward was  b = r**config.relu_power,  so:
        dr = db * config.relu_power * r ** (config.relu_power - 1)
        # forward was  r = np.maximum(a, 0),  so:
        da = dr * (r > 0)
        # forward was  a = linear(h, w[f"layer{i}.mlp_fc1"]),  so:
        dh = linear_backward(da, h, w[f"layer{i}.mlp_fc1"])
        # forward was  h, scale = rmsnorm(x),  and x went on past the MLP too,  so:
        dx += rmsnorm_backward(dh, h, scale)

        h, scale, inside, joined = kept.pop()
        # forward was  x = x + linear(joined, w[f"layer{i}.attn_wo"]),  so:
        djoined = linear_backward(dx, joined, w[f"layer{i}.attn_wo"])
        # forward was  joined, inside = attention(qkv, config.n_head, state.mask),  so:
        dqkv = attention_backward(djoined, *inside)
        # forward was  qkv = linear(h, w[f"layer{i}.attn_wqkv"]),  so:
        dh = linear_backward(dqkv, h, w[f"layer{i}.attn_wqkv"])
        # forward was  h, scale = rmsnorm(x),  and x went on past attention too,  so:
        dx += rmsnorm_backward(dh, h, scale)
    tokens, x, scale = kept.pop()
    # forward was  x, scale = rmsnorm(x),  so:
    dx = rmsnorm_backward(dx, x, scale)
    # forward was  x = w["wte"].data[tokens] + w["wpe"].data[: len(tokens)],  so:
    w["wpe"].grad[: len(tokens)] += dx
    np.add.at(w["wte"].grad, tokens, dx)  # grad[tokens] += dx adds a repeat only once


def attention_backward(djoined, q, k, v, p, scale):
    H, T, D = q.shape
    # forward was  joined = heads.swapaxes(0, 1).reshape(T, H * D),  so:
    dheads = djoined.reshape(T, H, D).swapaxes(0, 1)
    # forward was  heads = p @ v,  so:
    dp = dheads @ v.mT
    dv = p.mT @ dheads
    # forward was  p = softmax(scores + mask[:T, :T]),  so:
    dscores = softmax_backward(dp, p)
    # forward was  scores = qk * scale,  so:
    dqk = dscores * scale
    # forward was  qk = q @ k.mT,  so:
    dq = dqk @ k
    dk = dqk.mT @ q
    # forward was  q, k, v = qkv.reshape(T, 3, H, D).transpose(1, 2, 0, 3),  so:
    return np.array([dq, dk, dv]).transpose(2, 0, 1, 3).reshape(T, 3 * H * D)


def softmax_backward(dp, p):
    # forward was  e / e.sum(axis=-1, keepdims=True),  each e a part of every sum,  so:
    return p * (dp - np.vecdot(p, dp, keepdims=True))


def rmsnorm_backward(dy, y, scale):
    # forward was  y = x * scale,  and scale is made of x too: d scale / d x is
    # -scale**3 * x / C,  in which x * scale is y again,  so:
    along = np.vecdot(y, dy, keepdims=True) / y.shape[1]
    return scale * (dy - y * along)


def linear_backward(dy, x, w):
    """Adds w's gradient to w.grad and returns x's. (T, out), (T, in) -> (T, in)"""
    # forward was  x.dot(w.data.T),  so:
    w.grad += dy.T.dot(x)
    return dy.dot(w.data)


# ---------------------------------------------------------------- Loss and training


def cross_entropy(logits, targets):
    """-log softmax(logits)[target] of each row (S8.1), and the gradient of their sum:
    what was predicted less what is true. (T, V), (T,) -> (T,), (T, V)"""
    at_target = np.arange(len(targets)), targets
    z = logits - logits.max(axis=-1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=-1, keepdims=True)
    losses = np.log(total[:, 0]) - z[at_target]
    dlogits = e / total
    dlogits[at_target] -= 1
    return losses, dlogits


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8). Leaves its gradient in the weights' grads."""
    n, loss = sum(len(tokens) - 1 for tokens in batch), 0.0
    state.grads.fill(0)
    for tokens in map(np.array, batch):
        logits, kept = forward(state, tokens[:-1])
        losses, dlogits = cross_entropy(logits, tokens[1:])
        backward(state, dlogits / n, kept)
        loss += float(losses.sum()) / n
    return loss


def adam(state, learning_rate):
    """Adam with bias correction, eps outside the root, on all weights at once (S9)."""
    state.step += 1
    g, m, v = state.grads, state.first_moment, state.second_moment
    beta1, beta2 = state.config.beta1, state.config.beta2
    correct1, correct2 = 1 - beta1**state.step, 1 - beta2**state.step
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g**2
    state.weights -= learning_rate / correct1 * m / (np.sqrt(v / correct2) + 1e-8)


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss."""
    for batch, learning_rate in batches:
        loss = loss_and_backward(state, batch)
        adam(state, learning_rate)
        yield loss


# ---------------------------------------------------------------- For whoever drives it


def create(config, snapshot, dtype: Literal["float32", "float64"] = "float32"):
    """A state, which goes on where the snapshot stood, whichever version made that."""
    shapes = microgpt.shapes(config, len(snapshot.weights["wte"]))
    weights, first_moment, second_moment = (
        np.concatenate([np.ravel(rows[name]) for name in shapes], dtype=dtype)
        for rows in snapshot[:3]
    )
    grads = np.zeros_like(weights)
    pairs = matrices(weights, shapes), matrices(grads, shapes)
    past = np.tri(config.block_size, dtype=bool)
    return SimpleNamespace(
        config=config, shapes=shapes, step=snapshot.step, weights=weights, grads=grads,
        first_moment=first_moment, second_moment=second_moment,
        w={name: Weight(*(views[name] for views in pairs)) for name in pairs[0]},
        mask=np.where(past, 0, -np.inf).astype(dtype),
    )  # fmt: skip


def read(state, flat):
    """A flat buffer's matrices, as arrays of their own. -> {name: (out, in)}"""
    views = matrices(flat, state.shapes)
    return {name: views[name].copy() for name in state.shapes}


def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, V)"""
    return forward(state, np.array(tokens))[0]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    return loss_and_backward(state, batch), read(state, state.grads)


def export(state):
    """All that training carries, as arrays of their own."""
    flats = state.weights, state.first_moment, state.second_moment
    return microgpt.Snapshot(*(read(state, flat) for flat in flats), state.step)


def about(state):
    """What computes, and in what precision."""
    threads = f"{THREADS} thread" + "s" * (THREADS != "1")
    return f"NumPy {np.__version__} on cpu, {state.weights.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
