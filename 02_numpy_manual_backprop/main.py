"""microGPT in NumPy. Same model as 01. New here: no autograd, gradients by hand.

The forward pass takes all tokens of a document at once, and keeps the values that the
backward pass will need. The backward pass goes through the lines of the forward pass
from the last to the first: above each gradient stands the line that it belongs to. All
weights are views of one flat buffer, and Adam updates them at once (SPEC.md: S3 to
S9)."""

import os
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

# Before NumPy is imported, which reads this: one thread, unless the environment has a
# number. For arrays this small, starting a second thread takes longer than the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

import numpy as np

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

# ---------------------------------------------------------------- Parameters


@dataclass
class Weight:
    """A matrix and its gradient. Both are (out, in), and views of a flat buffer."""

    data: np.ndarray
    grad: np.ndarray


def matrices(flat, shapes):
    """Views of the matrices that lie in a flat buffer, one after the other (S3.1)."""
    views, start = {}, 0
    for name, (rows, columns, _) in shapes.items():
        size = rows * columns
        views[name] = flat[start : start + size].reshape(rows, columns)
        if name.endswith("attn_wq"):
            # wk and wv follow wq in memory: one view of all three, (3C, C), so that one
            # product computes q, k and v
            views[f"{name}kv"] = flat[start : start + 3 * size].reshape(-1, columns)
        start += size
    return views


# ---------------------------------------------------------------- Forward


def linear(x, w):
    """Each row of x times each row of w. (T, in), (out, in) -> (T, out)"""
    return x.dot(w.data.T)  # x @ w.data.T is the same; .dot has less overhead per call


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). (T, C) -> (T, C), (T, 1)"""
    scale = (np.vecdot(x, x, keepdims=True) / x.shape[1] + 1e-5) ** -0.5  # (T, 1)
    y = x * scale
    return y, scale


def softmax(x):
    """Scores to probabilities, along the last axis (S6.5). The shape stays the same."""
    # softmax is shift-invariant: subtracting the maximum only prevents overflow
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(qkv, H, causal_mask):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). (T, 3C) -> (T, C), and what the backward pass needs"""
    T, D = len(qkv), qkv.shape[1] // (3 * H)
    q, k, v = qkv.reshape(T, 3, H, D).transpose(1, 2, 0, 3)  # (H, T, D) each
    scale = D**-0.5
    qk = q @ k.mT  # (H, T, T): one row for each query, one column for each key
    scores = qk * scale
    # the mask adds -inf where the key comes later than the query, and exp(-inf) is 0
    p = softmax(scores + causal_mask[:T, :T])
    heads = p @ v  # (H, T, D)
    joined = heads.swapaxes(0, 1).reshape(T, H * D)  # (T, C)
    return joined, (q, k, v, p, scale)


def forward(state, tokens):
    """The logits of the next token after each position, and a stack of the values that
    the backward pass will pop. (T,) -> (T, V), kept"""
    config, w = state.config, state.w
    x = w["wte"].data[tokens] + w["wpe"].data[: len(tokens)]  # (T, C)
    x, scale = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
    kept = [(tokens, x, scale)]
    for i in range(config.n_layer):
        h, scale = rmsnorm(x)
        qkv = linear(h, w[f"layer{i}.attn_wqkv"])  # (T, 3C)
        joined, inside = attention(qkv, config.n_head, state.causal_mask)
        # not +=, which would change the x that is kept
        x = x + linear(joined, w[f"layer{i}.attn_wo"])
        kept.append((h, scale, inside, joined))
        h, scale = rmsnorm(x)
        a = linear(h, w[f"layer{i}.mlp_fc1"])  # (T, 4C)
        r = np.maximum(a, 0)
        b = r**config.relu_power
        x = x + linear(b, w[f"layer{i}.mlp_fc2"])  # (T, C)
        kept.append((h, scale, r, b))
    kept.append(x)
    return linear(x, w["lm_head"]), kept  # (T, V)


# ---------------------------------------------------------------- Backward

# dx is d loss / d x, and has the shape of x. Where x was used twice, each use gives a
# gradient, and dx is their sum. So a residual connection,  x = x + f(x),  gives two: dx
# itself, because the slope of a sum is 1 in each of its terms, and the gradient that
# comes back through f.


def backward(state, dlogits, kept):
    """The chain rule, from the logits to the embeddings. Adds to the gradient of each
    weight, and pops everything from kept. dlogits: (T, V)"""
    config, w = state.config, state.w
    x = kept.pop()
    # forward was  linear(x, w["lm_head"]),  so:
    dx = linear_backward(dlogits, x, w["lm_head"])  # (T, C)
    for i in reversed(range(config.n_layer)):
        h, scale, r, b = kept.pop()
        # forward was  x = x + linear(b, w[f"layer{i}.mlp_fc2"]),  so:
        db = linear_backward(dx, b, w[f"layer{i}.mlp_fc2"])  # (T, 4C)
        # forward was  b = r**config.relu_power,  and d r^p / d r = p r^(p - 1),  so:
        dr = db * config.relu_power * r ** (config.relu_power - 1)
        # forward was  r = np.maximum(a, 0),  with slope 1 above 0, else 0 (S7.3),  so:
        da = dr * (r > 0)
        # forward was  a = linear(h, w[f"layer{i}.mlp_fc1"]),  so:
        dh = linear_backward(da, h, w[f"layer{i}.mlp_fc1"])  # (T, C)
        # forward was  h, scale = rmsnorm(x),  and x also goes around the MLP (residual
        # connection), so the gradients of both uses are added:
        dx += rmsnorm_backward(dh, h, scale)

        h, scale, inside, joined = kept.pop()
        # forward was  x = x + linear(joined, w[f"layer{i}.attn_wo"]),  so:
        djoined = linear_backward(dx, joined, w[f"layer{i}.attn_wo"])  # (T, C)
        # forward was  joined, inside = attention(qkv, config.n_head, state.causal_mask)
        # so:
        dqkv = attention_backward(djoined, *inside)  # (T, 3C)
        # forward was  qkv = linear(h, w[f"layer{i}.attn_wqkv"]),  so:
        dh = linear_backward(dqkv, h, w[f"layer{i}.attn_wqkv"])  # (T, C)
        # forward was  h, scale = rmsnorm(x),  and x also goes around attention
        # (residual connection), so the gradients of both uses are added:
        dx += rmsnorm_backward(dh, h, scale)
    tokens, x, scale = kept.pop()
    # forward was  x, scale = rmsnorm(x),  so:
    dx = rmsnorm_backward(dx, x, scale)
    # forward was  x = w["wte"].data[tokens] + w["wpe"].data[: len(tokens)],  a sum, and
    # each of its two terms gets all of dx,  so:
    w["wpe"].grad[: len(tokens)] += dx
    np.add.at(w["wte"].grad, tokens, dx)  # grad[tokens] += dx adds a repeat only once


def attention_backward(djoined, q, k, v, p, scale):
    """The gradient of q, k and v, side by side. (T, C) -> (T, 3C)"""
    H, T, D = q.shape
    # forward was  joined = heads.swapaxes(0, 1).reshape(T, H * D),  so:
    dheads = djoined.reshape(T, H, D).swapaxes(0, 1)  # (H, T, D)
    # forward was  heads = p @ v,  so, as in linear_backward below:
    dp = dheads @ v.mT  # (H, T, T)
    dv = p.mT @ dheads  # (H, T, D); the transpose sums over all queries that read v
    # forward was  p = softmax(scores + causal_mask[:T, :T]),  so:
    dscores = softmax_backward(dp, p)  # where the mask is -inf, p is 0, and so is this
    # forward was  scores = qk * scale,  so:
    dqk = dscores * scale
    # forward was  qk = q @ k.mT,  so:
    dq = dqk @ k  # (H, T, D)
    dk = dqk.mT @ q  # (H, T, D); summed over all queries that asked for k
    # forward was  q, k, v = qkv.reshape(T, 3, H, D).transpose(1, 2, 0, 3),  so:
    return np.array([dq, dk, dv]).transpose(2, 0, 1, 3).reshape(T, 3 * H * D)


def softmax_backward(dp, p):
    """(H, T, T), (H, T, T) -> (H, T, T)"""
    # forward was  p = e / e.sum(axis=-1, keepdims=True),  e = np.exp(x).  Each x_i acts
    # on the loss in two ways, which add up:
    # - through its own p_i:                     p_i dp_i
    # - through the sum, which divides all p_j: -p_i (sum over j of p_j dp_j),  so:
    return p * (dp - np.vecdot(p, dp, keepdims=True))


def rmsnorm_backward(dy, y, scale):
    """(T, C), (T, C), (T, 1) -> (T, C)"""
    # forward was  y = x * scale,  scale = (mean(x²) + eps)^(-1/2).  Each x_i acts on
    # the loss in two ways, which add up:
    # - directly:           scale dy_i
    # - through the scale:  d scale / d x_i = -scale³ x_i / C = -scale² y_i / C,
    #   times  dscale = sum(x·dy) = sum(y·dy) / scale,  is  -scale y_i mean(y·dy),  so:
    mean_y_dy = np.vecdot(y, dy, keepdims=True) / y.shape[1]  # (T, 1)
    return scale * (dy - y * mean_y_dy)


def linear_backward(dy, x, w):
    """Adds to the gradient of w, and returns that of x. (T, out), (T, in) -> (T, in)"""
    # forward was  x.dot(w.data.T),  that is  y[t, o] = sum over i of x[t, i] w[o, i],
    # so:
    w.grad += dy.T.dot(x)  # dw[o, i] = sum over t of dy[t, o] x[t, i]
    return dy.dot(w.data)  # dx[t, i] = sum over o of dy[t, o] w[o, i]


# ---------------------------------------------------------------- Loss and training


def cross_entropy(logits, targets):
    """-log softmax(logits)[target] of each row (S8.1), and the gradient of their sum.
    (T, V), (T,) -> (T,), (T, V)"""
    at_target = np.arange(len(targets)), targets
    z = logits - logits.max(axis=-1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=-1, keepdims=True)  # (T, 1)
    losses = np.log(total[:, 0]) - z[at_target]  # (T,)
    # the gradient: predicted probabilities minus the one-hot target
    dlogits = e / total
    dlogits[at_target] -= 1
    return losses, dlogits


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8). Adds its gradient to the weights'
    gradients."""
    n, loss = sum(len(tokens) - 1 for tokens in batch), 0.0
    state.grads.fill(0)  # the gradient of this batch alone (S8.3)
    for tokens in map(np.array, batch):
        # at each position the target is the token that follows
        logits, kept = forward(state, tokens[:-1])
        losses, dlogits = cross_entropy(logits, tokens[1:])
        # loss = sum(losses) / n,  so each gradient is divided by n too
        backward(state, dlogits / n, kept)
        loss += float(losses.sum()) / n
    return loss


def adam(state, learning_rate):
    """Adam with bias correction, on all weights at once; eps is added outside the root
    (S9)."""
    state.step += 1
    g, m, v = state.grads, state.first_moment, state.second_moment
    beta1, beta2 = state.config.beta1, state.config.beta2
    correct1, correct2 = 1 - beta1**state.step, 1 - beta2**state.step
    # S9.1 and S9.2: running averages of g and g²; *= and += change the state's arrays
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g**2
    # S9.3 and S9.4: the averages start at zero; dividing by 1 - beta^k corrects that
    state.weights -= learning_rate / correct1 * m / (np.sqrt(v / correct2) + 1e-8)


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss."""
    for batch, learning_rate in batches:
        loss = loss_and_backward(state, batch)
        adam(state, learning_rate)
        yield loss


# ---------------------------------------------------------------- Interface


def create(config, snapshot, dtype: Literal["float32", "float64"] = "float32"):
    """A state that continues from the snapshot, whichever version the snapshot came
    from."""
    shapes = microgpt.shapes(config, len(snapshot.weights["wte"]))
    weights, first_moment, second_moment = (
        from_rows(rows, shapes, dtype) for rows in snapshot[:3]
    )
    grads = np.zeros_like(weights)
    pairs = matrices(weights, shapes), matrices(grads, shapes)
    past = np.tri(config.block_size, dtype=bool)  # [t, u]: does t see u?  u <= t (S6.4)
    return SimpleNamespace(
        config=config, shapes=shapes, step=snapshot.step, weights=weights, grads=grads,
        first_moment=first_moment, second_moment=second_moment,
        w={name: Weight(*(views[name] for views in pairs)) for name in pairs[0]},
        causal_mask=np.where(past, 0, -np.inf).astype(dtype),
    )  # fmt: skip


def from_rows(rows, shapes, dtype):
    """{name: rows} -> one flat buffer of all matrices, in the order of their names."""
    return np.concatenate([np.ravel(rows[name]) for name in shapes], dtype=dtype)


def to_rows(state, flat):
    """The matrices of a flat buffer, copied. -> {name: (out, in)}"""
    views = matrices(flat, state.shapes)
    return {name: views[name].copy() for name in state.shapes}


def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    return forward(state, np.array(tokens))[0]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight. Changes nothing in the
    state."""
    return loss_and_backward(state, batch), to_rows(state, state.grads)


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    flats = state.weights, state.first_moment, state.second_moment
    return microgpt.Snapshot(*(to_rows(state, flat) for flat in flats), state.step)


def about(state):
    """Library, version, device, precision and threads: the first line of the output."""
    n = os.environ["OMP_NUM_THREADS"]
    threads = f"{n} thread" + "s" * (n != "1")
    return f"NumPy {np.__version__} on cpu, {state.weights.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
