"""microGPT in Numba. Same model as 02. New here: Python that LLVM compiles.

The gradients are 02's, written as loops over rows of sixteen numbers. A row is a type
that rows.py teaches the compiler; it becomes vector instructions. One compiled call
trains many steps, and allocates no memory. Sizes are arguments, not constants, so one
compilation for each precision serves every recipe. Several threads can share a batch:
each makes the same compiled call for its part of the documents (SPEC.md: S3 to S9)."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

try:
    import numba
except ValueError as e:  # such as NUMBA_NUM_THREADS=0
    raise microgpt.InputError(f"Numba's variables NUMBA_…: {e}") from None
if numba.config.DISABLE_JIT:
    raise microgpt.InputError(
        "NUMBA_DISABLE_JIT is set: this version is compiled or nothing"
    )
import numpy as np
import rows

from rows import (  # isort: skip
    LANES, barrier, column, exp, full, group, is_positive, max_lanes, maximum, outer,
    put_tile, sqrt, sum_head, sum_lanes, tile, transpose,
)  # fmt: skip

rows.set_cache_folder(sys._getframe())
compiled = numba.njit(error_model="numpy")  # 1 / 0 is infinite, not an exception
inlined = numba.njit(error_model="numpy", forceinline=True)
called_by_python = numba.njit(error_model="numpy", cache=True, nogil=True)

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents, N tokens of all
# documents. In memory a line of numbers, such as the C channels of one token, is cut
# into rows of 16 lanes: x[t, c] is row c of line t, and x.width rows make a line. The
# last row is filled up with zeros; those lanes are called padding.

# ---------------------------------------------------------------- Parameters

# A step computes in buffers, which are allocated once: (name, width of a line). Widths:
# C channels, A all heads, F the 4C numbers inside the MLP, V logits, or 1 row; G is the
# number of groups of heads in attention. Buffers lie in memory in this order, and
# compiled code unpacks them so. All have a line for each token; padding_mask has one.
FORWARD_BUFFERS = [
    ("padding_mask", "V"), ("logits", "V"), ("x", "C"), ("x0", "C"), ("scale0", "1"),
    ("p", "1"),
]  # fmt: skip
BACKWARD_BUFFERS = [
    ("ds", "1"), ("dx", "C"), ("dh", "C"), ("dq", "A"), ("dk", "A"), ("dv", "A"),
    ("djoined", "A"),
]  # fmt: skip
LAYER_BUFFERS = [  # a set of these for each layer: its gradient needs them
    ("h", "C"), ("scale", "1"), ("q", "A"), ("k", "A"), ("v", "A"), ("tops", "G"),
    ("sums", "G"), ("joined", "A"), ("h2", "C"), ("scale2", "1"), ("a", "F"),
    ("b", "F"), ("slope", "F"),
]  # fmt: skip
LOGITS = FORWARD_BUFFERS.index(("logits", "V"))

# The weights, in the order of S3.2: (name, axes out, axes in).
SHARED_WEIGHTS = [
    ("wte", "vocabulary", "channels"), ("wpe", "positions", "channels"),
    ("lm_head", "vocabulary", "channels"),
]  # fmt: skip
LAYER_WEIGHTS = [
    ("attn_wq", "heads", "channels"), ("attn_wk", "heads", "channels"),
    ("attn_wv", "heads", "channels"), ("attn_wo", "channels", "heads"),
    ("mlp_fc1", "hidden", "channels"), ("mlp_fc2", "channels", "hidden"),
]  # fmt: skip

# Rows of state.memory; each further row is the gradient of one more thread.
WEIGHTS, FIRST_MOMENT, SECOND_MOMENT, GRADS = range(4)

# Called with (flat array, layout, i), each gives the matrices of its table as a tuple.
# The tables of a layer have one set for each layer, and i is the layer; else i is 0.
forward_buffers = group([], FORWARD_BUFFERS)
backward_buffers = group([FORWARD_BUFFERS], BACKWARD_BUFFERS)
layer_buffers = group([FORWARD_BUFFERS, BACKWARD_BUFFERS], LAYER_BUFFERS)
shared_weights = group([], SHARED_WEIGHTS)
layer_weights = group([SHARED_WEIGHTS], LAYER_WEIGHTS)


def round_up(n):
    """The next multiple of 16."""
    return -(-n // LANES) * LANES


def head_lanes(config):
    """How many lanes a head takes: a power of two below 16, or whole rows."""
    D = config.n_embd // config.n_head
    return 1 << (D - 1).bit_length() if D < LANES else round_up(D)


def weight_axes(config, vocab_size):
    """{name: (out, in)} of the weights (S3). `out` and `in` are lists of axes, and an
    axis is (size, size in memory). The padding between the two is zero. Its gradient is
    zero too, so it stays zero."""
    C, H, lanes = config.n_embd, config.n_head, head_lanes(config)
    axes = {
        "vocabulary": [(vocab_size, round_up(vocab_size))],
        "positions": [(config.block_size, config.block_size)],
        "channels": [(C, round_up(C))],
        "hidden": [(4 * C, round_up(4 * C))],
        "heads": [(H, round_up(H * lanes) // lanes), (C // H, lanes)],
    }
    layers = [
        (f"layer{i}.{name}", out, into)
        for i in range(config.n_layer)
        for name, out, into in LAYER_WEIGHTS
    ]
    table = SHARED_WEIGHTS + layers
    return {name: (axes[out], axes[into]) for name, out, into in table}


def buffer_sizes(config, vocab_size, max_tokens):
    """[(lines, width in rows)] of the buffers: a line for each token."""
    C, lanes = config.n_embd, head_lanes(config)
    numbers = {"C": C, "A": config.n_head * lanes, "F": 4 * C, "V": vocab_size, "1": 1}
    width = {letter: round_up(n) // LANES for letter, n in numbers.items()}
    # heads that fit into one row share it, and their softmaxes are computed together
    width["G"] = width["A"] if lanes < LANES else config.n_head
    table = FORWARD_BUFFERS + BACKWARD_BUFFERS + config.n_layer * LAYER_BUFFERS
    return [
        (1 if name == "padding_mask" else max_tokens, width[letter])
        for name, letter in table
    ]


def layout(sizes):
    """(start, width) of matrices that follow one another, and the end: all in rows."""
    lines, width = np.transpose(sizes)
    ends = np.cumsum(lines * width)
    return np.stack([ends - lines * width, width], axis=1), int(ends[-1])


# ---------------------------------------------------------------- Forward


@compiled
def fill(x, n, number):
    for t in range(n):
        for c in range(x.width):
            x[t, c] = full(x, number)


@compiled
def copy(y, x, n):
    for t in range(n):
        for c in range(x.width):
            y[t, c] = x[t, c]


@compiled
def rmsnorm(y, scale, x, n, n_embd):
    """Scale each token's line to a mean square of 1 (S5)."""
    for t in range(n):
        squares = full(x, 0)
        for c in range(x.width):
            squares += x[t, c] * x[t, c]
        # the padding is zero, so the sum is right; the mean is over n_embd numbers
        scale[t, 0] = full(x, 1 / math.sqrt(sum_lanes(squares) / n_embd + 1e-5))
        for c in range(x.width):
            y[t, c] = x[t, c] * scale[t, 0]


@compiled
def linear(y, w, x, n):
    """y += x @ w.T: load each 16 × 16 tile of w once, transpose it, and use it for all
    tokens."""
    for o in range(y.width):
        for i in range(x.width):
            transposed = transpose(tile(w, o, i))
            for t in range(n):
                y[t, o] += x[t, i] @ transposed


@inlined
def dot(q, t, k, u, first, last, lanes):
    """<q_t, k_u> of each head, in all lanes of that head."""
    products = q[t, first] * k[u, first]
    for c in range(first + 1, last):
        products += q[t, c] * k[u, c]
    return sum_head(products, lanes)


@compiled
def attention(joined, inside, p, start, end, heads):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). The document has tokens start to end - 1. Its heads are
    computed in groups: as many as share a row, or one head of several rows."""
    (q, k, v, tops, sums), (lanes, scale) = inside, heads
    for g in range(tops.width):
        # the rows of this group are first to last - 1
        first, last = g * q.width // tops.width, (g + 1) * q.width // tops.width
        for t in range(start, end):
            top, norm = full(q, -math.inf), full(q, 0)
            # causal: a query sees the keys up to its own position, t (S6.4)
            for u in range(start, t + 1):
                score = dot(q, t, k, u, first, last, lanes) * scale
                top = maximum(top, score)
                p[u, 0] = score
            for u in range(start, t + 1):
                # softmax is shift-invariant: subtracting the maximum only prevents
                # overflow
                e = exp(p[u, 0] - top)
                norm += e
                p[u, 0] = e
            for c in range(first, last):
                weighted = full(q, 0)
                for u in range(start, t + 1):
                    weighted += p[u, 0] * v[u, c]
                joined[t, c] = weighted / norm
            tops[t, g], sums[t, g] = top, norm  # for the gradient


@compiled
def activation(b, slope, a, n, power):
    """b = max(0, a)^power, and its slope, power max(0, a)^(power - 1) (S7.2, S7.3)."""
    for t in range(n):
        for c in range(a.width):
            s = is_positive(a[t, c])  # 1 or 0
            for _ in range(power - 1):
                s *= a[t, c]
            b[t, c], slope[t, c] = s * a[t, c], s * power


@called_by_python
def forward(model, packed, first, last):
    """Compute documents first to last - 1. Leaves their logits in the buffer of that
    name, and in the others what the gradient needs. Returns the number of tokens."""
    numbers, weights, _, weight_layout, work, work_layout = model
    n_embd, n_layer, power, heads, _ = numbers
    tokens, positions, _, starts = packed
    wte, wpe, lm_head = shared_weights(weights, weight_layout, 0)
    padding_mask, logits, x, x0, scale0, p = forward_buffers(work, work_layout, 0)
    begin, n = starts[first], starts[last] - starts[first]
    for t in range(n):
        token, position = tokens[begin + t], positions[begin + t]
        for c in range(x.width):
            x[t, c] = wte[token, c] + wpe[position, c]
    rmsnorm(x0, scale0, x, n, n_embd)  # S4.2: a norm here, and none before lm_head
    copy(x, x0, n)  # x changes from layer to layer; the gradient needs x0
    for i in range(n_layer):
        wq, wk, wv, wo, fc1, fc2 = layer_weights(weights, weight_layout, i)
        buffers = layer_buffers(work, work_layout, i)
        h, scale, q, k, v, tops, sums, joined, h2, scale2, a, b, slope = buffers
        rmsnorm(h, scale, x, n, n_embd)
        for y, w in (q, wq), (k, wk), (v, wv):
            fill(y, n, 0)  # as linear adds to y
            linear(y, w, h, n)
        inside = q, k, v, tops, sums
        for d in range(first, last):
            start, end = starts[d] - begin, starts[d + 1] - begin
            attention(joined, inside, p, start, end, heads)
        linear(x, wo, joined, n)  # x += is the residual connection
        rmsnorm(h2, scale2, x, n, n_embd)
        fill(a, n, 0)
        linear(a, fc1, h2, n)
        activation(b, slope, a, n, power)
        linear(x, fc2, b, n)
    for t in range(n):
        for c in range(logits.width):
            # -inf in the padding lanes, so that softmax gives them probability 0
            logits[t, c] = padding_mask[0, c]
    linear(logits, lm_head, x, n)
    return n


# ---------------------------------------------------------------- Backward

# dx is d loss / d x, and has the shape of x. Where x was used twice, each use gives a
# gradient, and dx is their sum: so these functions add to dx.


@compiled
def rmsnorm_backward(dx, dy, y, scale, n, n_embd):
    # forward was  y = x * scale,  scale = (mean(x²) + eps)^(-1/2).  Each x_i acts on
    # the loss in two ways, which add up:
    # - directly:           scale dy_i
    # - through the scale:  d scale / d x_i = -scale³ x_i / C = -scale² y_i / C,
    #   times  dscale = sum(x·dy) = sum(y·dy) / scale,  is  -scale y_i mean(y·dy),  so:
    for t in range(n):
        products = full(y, 0)
        for c in range(y.width):
            products += y[t, c] * dy[t, c]
        mean_y_dy = sum_lanes(products) / n_embd
        for c in range(y.width):
            dx[t, c] += scale[t, 0] * (dy[t, c] - y[t, c] * mean_y_dy)


@compiled
def linear_backward(dx, dw, dy, w, x, n):
    # forward was  y += x @ w.T,  so:  dx += dy @ w  and  dw += dy.T @ x
    for i in range(x.width):
        for o in range(dy.width):
            block = tile(w, o, i)
            for t in range(n):
                dx[t, i] += dy[t, o] @ block
            grad = tile(dw, o, i)
            for t in range(n):
                grad += outer(dy[t, o], x[t, i])
            put_tile(dw, o, i, grad)


@compiled
def attention_backward(dqkv, djoined, joined, inside, p, ds, start, end, heads):
    # The weights p are computed again from the scores: that takes less memory than
    # keeping them, which would be one number for each pair of tokens.
    (dq, dk, dv), (q, k, v, tops, sums), (lanes, scale) = dqkv, inside, heads
    for g in range(tops.width):
        first, last = g * q.width // tops.width, (g + 1) * q.width // tops.width
        for t in range(start, end):
            top, unit = tops[t, g], 1 / sums[t, g]
            # forward was  joined[t] = sum over u of p[u] v[u],  so  dp[u] is
            # <djoined[t], v[u]>,  and the mean of all dp[u], weighted by p[u], is:
            mean_dp = dot(djoined, t, joined, t, first, last, lanes)
            for u in range(start, t + 1):
                score = dot(q, t, k, u, first, last, lanes) * scale
                weight = exp(score - top) * unit
                dp = dot(djoined, t, v, u, first, last, lanes)
                # forward was  p[u] = e[u] / sum of all e.  A score acts on the loss
                # through its own p[u], and through the sum that divides all p,  so:
                p[u, 0], ds[u, 0] = weight, weight * (dp - mean_dp) * scale
            for c in range(first, last):
                dq_t = full(q, 0)
                # position t is the first one that sees t, so its sums start here
                dk[t, c], dv[t, c] = full(q, 0), full(q, 0)
                for u in range(start, t + 1):
                    # forward was  score = <q[t], k[u]> * scale,  so:
                    dq_t += ds[u, 0] * k[u, c]
                    dk[u, c] += ds[u, 0] * q[t, c]
                    # forward was  joined[t] = sum over u of p[u] v[u],  so:
                    dv[u, c] += p[u, 0] * djoined[t, c]
                dq[t, c] = dq_t


@compiled
def backward(model, packed, first, last):
    """The chain rule, from the logits to the embeddings. Reads the gradient of the
    logits from their buffer, and adds to the gradient of each weight."""
    numbers, weights, grads, weight_layout, work, work_layout = model
    n_embd, n_layer, _, heads, _ = numbers
    tokens, positions, _, starts = packed
    _, _, lm_head = shared_weights(weights, weight_layout, 0)
    dwte, dwpe, dlm_head = shared_weights(grads, weight_layout, 0)
    _, dlogits, x, x0, scale0, p = forward_buffers(work, work_layout, 0)
    ds, dx, dh, dq, dk, dv, djoined = backward_buffers(work, work_layout, 0)
    begin, n = starts[first], starts[last] - starts[first]
    # forward was  logits = lm_head x,  so:
    fill(dx, n, 0)
    linear_backward(dx, dlm_head, dlogits, lm_head, x, n)
    for j in range(n_layer):
        i = n_layer - 1 - j
        wq, wk, wv, wo, fc1, fc2 = layer_weights(weights, weight_layout, i)
        dwq, dwk, dwv, dwo, dfc1, dfc2 = layer_weights(grads, weight_layout, i)
        buffers = layer_buffers(work, work_layout, i)
        h, scale, q, k, v, tops, sums, joined, h2, scale2, da, b, slope = buffers
        # forward was  h2 = rmsnorm(x),  a = fc1 h2,  b = max(0, a)^p,  x += fc2 b,  so:
        fill(da, n, 0)
        linear_backward(da, dfc2, dx, fc2, b, n)  # this is db still
        for t in range(n):
            for c in range(da.width):
                da[t, c] *= slope[t, c]
        fill(dh, n, 0)
        linear_backward(dh, dfc1, da, fc1, h2, n)
        rmsnorm_backward(dx, dh, h2, scale2, n, n_embd)
        # forward was  h = rmsnorm(x),  q k v = wq wk wv h,  x += wo joined,  so:
        fill(djoined, n, 0)
        linear_backward(djoined, dwo, dx, wo, joined, n)
        dqkv, inside = (dq, dk, dv), (q, k, v, tops, sums)
        for d in range(first, last):
            start, end = starts[d] - begin, starts[d + 1] - begin
            attention_backward(dqkv, djoined, joined, inside, p, ds, start, end, heads)
        fill(dh, n, 0)
        for dy, dw, w in (dq, dwq, wq), (dk, dwk, wk), (dv, dwv, wv):
            linear_backward(dh, dw, dy, w, h, n)
        rmsnorm_backward(dx, dh, h, scale, n, n_embd)
    # forward was  x0 = rmsnorm(x)  of  x = wte[token] + wpe[position],  so:
    fill(dh, n, 0)
    rmsnorm_backward(dh, dx, x0, scale0, n, n_embd)
    for t in range(n):
        token, position = tokens[begin + t], positions[begin + t]
        for c in range(dh.width):
            dwte[token, c] += dh[t, c]
            dwpe[position, c] += dh[t, c]


# ---------------------------------------------------------------- Loss and training


@compiled
def cross_entropy(logits, targets, n, count):
    """The sum of -log softmax(logits)[target] over n targets (S8.1). Replaces logits by
    their gradient, that of the mean over count targets."""
    loss = 0.0
    for t in range(n):
        c_target, i_target = targets[t] // LANES, targets[t] % LANES
        tops, exps = logits[t, 0], full(logits, 0)
        for c in range(1, logits.width):
            tops = maximum(tops, logits[t, c])
        top = max_lanes(tops)
        below = top - logits[t, c_target, i_target]
        for c in range(logits.width):
            e = exp(logits[t, c] - top)
            exps += e
            logits[t, c] = e
        norm = sum_lanes(exps)
        loss += math.log(norm) + below
        # the gradient: predicted probabilities minus the one-hot target
        unit = 1 / (norm * count)
        for c in range(logits.width):
            logits[t, c] *= unit
        logits[t, c_target, i_target] -= 1 / count
    return loss


@compiled
def loss_and_backward(model, packed, first, end, count):
    """The part that documents first to end - 1 have in the mean loss of count targets
    (S8). Adds its gradient to this thread's gradients. Computes as many documents at
    once as the buffers have room for."""
    (_, _, _, _, max_tokens), _, _, _, work, work_layout = model
    _, _, targets, starts = packed
    logits = forward_buffers(work, work_layout, 0)[LOGITS]
    loss = 0.0
    while first < end:
        last = first + 1
        while last < end and starts[last + 1] - starts[first] <= max_tokens:
            last += 1
        n = forward(model, packed, first, last)
        loss += cross_entropy(logits, targets[starts[first] :], n, count)
        backward(model, packed, first, last)
        first = last
    return loss / count


@compiled
def add_gradients(memory, first, last):
    """Add the gradients of all threads in rows first to last - 1, always in the same
    order, so that the same run gives the same numbers again."""
    g = column(memory[GRADS])
    for other in range(GRADS + 1, len(memory)):
        share = column(memory[other])
        for i in range(first, last):
            g[i, 0] += share[i, 0]
            share[i, 0] = full(g, 0)


@inlined
def adam(memory, first, last, step, learning_rate, beta1, beta2):
    """Adam with bias correction, on rows first to last - 1; eps is added outside the
    root; gradients are reset to zero (S9)."""
    correct1, correct2 = 1 - beta1**step, 1 - beta2**step
    rate, unbias = learning_rate / correct1, 1 / correct2
    w, g = column(memory[WEIGHTS]), column(memory[GRADS])
    m, v = column(memory[FIRST_MOMENT]), column(memory[SECOND_MOMENT])
    for i in range(first, last):
        m_i = beta1 * m[i, 0] + (1 - beta1) * g[i, 0]
        v_i = beta2 * v[i, 0] + (1 - beta2) * g[i, 0] * g[i, 0]
        w[i, 0] -= rate * m_i / (sqrt(v_i * unbias) + 1e-8)
        m[i, 0], v[i, 0], g[i, 0] = m_i, v_i, full(g, 0)


@called_by_python
def steps(model, team, packed, shares, rates, steps_done, betas, losses, learn):
    """Take one step for each rate, as one of several threads; `me` is its number. Of
    step s it computes documents shares[s, me] to shares[s, me + 1] - 1. Of the weights
    it updates an equal part. Without `learn` the gradient is left where it is."""
    (memory, arrivals, me), (_, _, _, starts) = team, packed
    threads, size = len(memory) - GRADS, memory.shape[1] // LANES
    part = me * size // threads, (me + 1) * size // threads
    for s in range(len(rates)):
        first, end = shares[s, me], shares[s, me + 1]
        count = starts[shares[s, threads]] - starts[shares[s, 0]]  # S8.2: of the batch
        losses[s] = loss_and_backward(model, packed, first, end, count)
        barrier(arrivals, threads)  # now the gradients of all threads are complete
        add_gradients(memory, *part)
        if learn:
            adam(memory, *part, steps_done + s + 1, rates[s], *betas)
        barrier(arrivals, threads)  # now all weights are updated


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss."""
    # One compiled call takes many steps. Python handles Ctrl-C only between calls, so a
    # call is limited to some milliseconds; with threads to more, as they start slowly.
    config, batches = state.config, iter(batches)
    work = state.memory.shape[1] * config.batch_size * config.block_size
    limit = 2**25 if len(state.models) == 1 else 2**29
    at_once = max(1, limit // work)
    while chunk := list(islice(batches, at_once)):
        losses = take_steps(state, *zip(*chunk))
        state.step += len(chunk)
        yield from losses


def take_steps(state, batches, rates, learn=True):
    """Take one step for each batch, in one compiled call a thread. -> losses"""
    packed = pack(state, [tokens for batch in batches for tokens in batch])
    *_, starts = packed
    threads, betas = len(state.models), (state.config.beta1, state.config.beta2)
    shares = share_out(starts, list(map(len, batches)), threads)
    arrivals, losses = np.zeros(1, np.int64), np.empty((threads, len(rates)))
    rest, calls = (packed, shares, np.array(rates), state.step, betas), []
    for me, model in enumerate(state.models):
        team = state.memory, arrivals, me
        calls += [partial(steps, model, team, *rest, losses[me], learn)]
    run_together(state.pools, calls)
    return losses.sum(axis=0).tolist()


def pack(state, documents):
    """All tokens in one row, as flat arrays: inputs (N,), positions (N,), targets (N,),
    and where each document starts among them (B + 1,); the last is N."""
    ends = np.cumsum([0, *map(len, documents)])
    tokens = np.fromiter(chain.from_iterable(documents), np.int64, ends[-1])
    V, T, lengths = state.vocab_size, state.config.block_size, np.diff(ends) - 1
    for what, limit in (tokens, range(V)), (lengths, range(1, T + 1)):
        # compiled code does not check its indices
        if not np.isin(what, limit).all():
            raise microgpt.InputError(
                f"documents have {min(lengths)} … {max(lengths)} targets, tokens "
                f"{min(tokens)} … {max(tokens)}: it must be 1 … {T} and 0 … {V - 1}"
            )
    starts = np.cumsum([0, *lengths])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    # a document's inputs are all its tokens but the last, its targets all but the first
    inputs, targets = np.delete(tokens, ends[1:] - 1), np.delete(tokens, ends[:-1])
    return inputs, positions, targets, starts


def share_out(starts, sizes, threads):
    """Divide the documents of each batch among threads, so that each has as nearly the
    same number of tokens as whole documents allow. Thread i gets documents shares[s, i]
    to shares[s, i + 1] - 1 of step s. -> shares, (steps, threads + 1)"""
    ends = np.cumsum([0, *sizes])
    shares = np.stack([ends[:-1]] + threads * [ends[1:]], axis=1)
    if threads > 1:
        goals = np.linspace(starts[ends[:-1]], starts[ends[1:]], threads + 1, axis=1)
        middles = (starts[:-1] + starts[1:]) / 2
        shares[:, 1:-1] = np.searchsorted(middles, goals[:, 1:-1])
    return shares


def run_together(pools, calls):
    """Run the calls at the same time, each in a thread of its own. They wait for each
    other, so either all must start or none. Ctrl-C reaches only the main thread, and
    could come between two starts. So a leading thread starts the others."""
    leader, others = pools
    first, *rest = calls
    if not rest:
        return first()

    def lead():
        started = [others.submit(call) for call in rest]
        first()
        for call in started:
            call.result()

    try:
        leader.submit(lead).result()
    except BaseException:
        leader.submit(int).result()  # waits until the leader has finished
        raise


# ---------------------------------------------------------------- Interface


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    threads: int = 1,
):
    """A state that continues from the snapshot, whichever version the snapshot came
    from."""
    cores = numba.config.NUMBA_NUM_THREADS  # all, unless the environment has a number
    if not 1 <= threads <= cores:
        raise microgpt.InputError(f"threads is {threads}: it must lie in 1 … {cores}")
    V, T = len(snapshot.weights["wte"]), config.block_size
    axes = weight_axes(config, V)
    weight_layout, end = layout(
        [
            (np.prod(out, axis=0)[1], np.prod(into, axis=0)[1] // LANES)
            for out, into in axes.values()
        ]
    )
    memory = aligned_zeros((GRADS + threads, end * LANES), dtype)
    # with more tokens at once the buffers would not fit into the processor's cache
    max_tokens = max(T, min(256, T * config.batch_size))
    work_layout, end = layout(buffer_sizes(config, V, max_tokens))
    works = aligned_zeros((threads, end * LANES), dtype)
    works[:, V : round_up(V)] = -math.inf  # padding_mask, the first buffer
    heads = head_lanes(config), (config.n_embd // config.n_head) ** -0.5  # S6.3
    numbers = config.n_embd, config.n_layer, config.relu_power, heads, max_tokens
    views = [weight_views(axes, weight_layout, flat) for flat in memory[: GRADS + 1]]
    for part, named_rows in zip(views, snapshot[:3]):
        from_rows(part, named_rows)
    # of each thread: sizes and weights are shared, gradients and buffers its own
    models = [
        (numbers, memory[WEIGHTS], grads, weight_layout, work, work_layout)
        for grads, work in zip(memory[GRADS:], works)
    ]
    pools = ThreadPoolExecutor(1), ThreadPoolExecutor(max(1, threads - 1))
    state = SimpleNamespace(
        config=config, vocab_size=V, memory=memory, views=views, step=snapshot.step,
        models=models, pools=pools,
    )  # fmt: skip
    loss_and_grads(state, [])  # compile now, so that the first step is not slower
    return state


def aligned_zeros(shape, dtype):
    """Zeros that start at a multiple of 64 bytes, so that no row of float32 lies across
    two lines of the processor's cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(dtype).reshape(shape)


def weight_views(axes, weight_layout, flat):
    """{name: view} of the weights in a flat buffer: all axes, without the padding."""
    views = {}
    for (name, (out, into)), (start, _) in zip(axes.items(), weight_layout):
        sizes, in_memory = zip(*out, *into)
        view = flat[start * LANES :][: math.prod(in_memory)].reshape(in_memory)
        views[name] = view[tuple(map(slice, sizes))]
    return views


def from_rows(views, named_rows):
    """Write {name: rows} into the views."""
    for name, view in views.items():
        view[...] = np.reshape(named_rows[name], view.shape)


def to_rows(state, views):
    """The matrices of the views, copied. -> {name: (out, in)}"""
    shapes = microgpt.shapes(state.config, state.vocab_size)
    return {name: np.array(views[name]).reshape(shapes[name][:2]) for name in shapes}


def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    # pack takes the last token for a target; any will do, as no loss is computed
    n = forward(state.models[0], pack(state, [[*tokens, 0]]), 0, 1)
    *_, work, work_layout = state.models[0]
    start, width = work_layout[LOGITS] * LANES
    lines = work[start : start + n * width].reshape(n, width)
    return lines[:, : state.vocab_size].copy()  # without the padding


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight. Changes nothing in the
    state."""
    (loss,) = take_steps(state, [batch], [0.0], learn=False)
    grads = to_rows(state, state.views[GRADS])
    state.memory[GRADS] = 0
    return loss, grads


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    weights, first_moment, second_moment, _ = (to_rows(state, v) for v in state.views)
    return microgpt.Snapshot(weights, first_moment, second_moment, state.step)


def about(state):
    """Library, version, device, precision and threads: the first line of the output."""
    threads = f"{len(state.models)} thread" + "s" * (len(state.models) > 1)
    return f"Numba {numba.__version__} on cpu, {state.memory.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
