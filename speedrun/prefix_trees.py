"""A speedrun entry: 09 with batches as prefix trees, and with Muon.

Names that begin alike share their first letters, and a causal model computes the same
for them: the `an` of anna, ana and andrew is computed once. So a batch of 128 names, of
7.1 tokens each, becomes trees of 4.8 nodes a name. The loss and its gradient are those
of the batch; a test compares them with 02's. For the matrices of the layers, Muon
replaces Adam.

Read 09_numba/main.py first. Forward and backward are 09's, except that a node attends
to its ancestors, not to all tokens before it (SPEC.md: S3 to S9)."""

import hashlib
import importlib.util
import math
import os
import sys
from itertools import chain
from pathlib import Path
from typing import Literal

import microgpt  # 01

import numba
import numpy as np

folder = Path(__file__).resolve().parent.parent / "09_numba"
spec = importlib.util.spec_from_file_location("microgpt_09", folder / "main.py")
v09 = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
sys.path.insert(0, str(folder))  # 09 imports rows.py, which stands beside it
spec.loader.exec_module(v09)
sys.path.remove(str(folder))

from microgpt_09 import (  # isort: skip
    FIRST_MOMENT, GRADS, LANES, LOGITS, WEIGHTS, about, activation, adam, aligned_zeros,
    backward_buffers, compiled, copy, dot, exp, fill, forward_buffers, full, group,
    head_lanes, layer_buffers, layer_weights, layout, linear, linear_backward, logits,
    max_lanes, maximum, put_tile, rmsnorm, rmsnorm_backward, shared_weights, sum_lanes,
    tile, to_rows, transpose,
)  # fmt: skip

# compiled code is kept where 09's is, under a digest of this program's own code
code = v09.rows.fingerprint(sys._getframe().f_code)
digest = hashlib.sha256(code.encode()).hexdigest()[:16]
numba.config.CACHE_DIR = os.path.join(numba.config.CACHE_DIR, digest)
called_by_python = numba.njit(error_model="numpy", cache=True)
__all__ = ["about", "create", "logits", "loss_and_grads", "race"]

# n nodes of a tree, T block_size, C n_embd. A document is a line of a table (T + 2,):
# how many inputs it has, then these, and after them its last target.

# ---------------------------------------------------------------- Trees


def empty_tree(nodes, documents, block_size):
    """Room for a tree: tokens of the nodes; path, the nodes from the root to each node,
    itself included; depth, its position; visits, how many documents pass through it;
    ends, the last node and the last target of each document; current, the path of the
    document that was added last."""
    sizes = [nodes, (nodes, block_size), nodes, nodes, (documents, 2), block_size]
    return tuple(np.zeros(size, np.int64) for size in sizes)


@compiled
def shared_inputs(document, before):
    """With how many equal inputs two documents begin."""
    n, most = 0, min(document[0], before[0])
    while n < most and document[1 + n] == before[1 + n]:
        n += 1
    return n


@compiled
def add_document(tree, n, d, document, shared):
    """Add document d to a tree of n nodes. Its first `shared` inputs have nodes, those
    of the document before it. -> the number of nodes"""
    tokens, path, depth, visits, ends, current = tree
    length = document[0]
    for i in range(shared, length):
        current[i] = n
        tokens[n], depth[n], visits[n] = document[1 + i], i, 0
        path[n, : i + 1] = current[: i + 1]
        n += 1
    for i in range(length):
        visits[current[i]] += 1
    ends[d] = current[length - 1], document[1 + length]
    return n


# ---------------------------------------------------------------- Forward


@compiled
def attention(joined, inside, p, tree, n, heads):
    """09's, over the ancestors of each node (S6)."""
    (q, k, v, tops, sums), (lanes, scale) = inside, heads
    _, path, depth, _, _, _ = tree
    for g in range(tops.width):
        first, last = g * q.width // tops.width, (g + 1) * q.width // tops.width
        for t in range(n):
            top, norm = full(q, -math.inf), full(q, 0)
            for i in range(depth[t] + 1):
                score = dot(q, t, k, path[t, i], first, last, lanes) * scale
                top = maximum(top, score)
                p[i, 0] = score
            for i in range(depth[t] + 1):
                e = exp(p[i, 0] - top)
                norm += e
                p[i, 0] = e
            for c in range(first, last):
                weighted = full(q, 0)
                for i in range(depth[t] + 1):
                    weighted += p[i, 0] * v[path[t, i], c]
                joined[t, c] = weighted / norm
            tops[t, g], sums[t, g] = top, norm


@compiled
def forward(model, tree, n):
    """Leaves the logits of all nodes in the buffer of that name."""
    (n_embd, n_layer, power, heads, _), weights, _, places, work, work_layout = model
    tokens, _, depth, _, _, _ = tree
    wte, wpe, lm_head = shared_weights(weights, places, 0)
    padding_mask, z, x, x0, scale0, p = forward_buffers(work, work_layout, 0)
    for t in range(n):
        for c in range(x.width):
            x[t, c] = wte[tokens[t], c] + wpe[depth[t], c]
    rmsnorm(x0, scale0, x, n, n_embd)
    copy(x, x0, n)
    for i in range(n_layer):
        wq, wk, wv, wo, fc1, fc2 = layer_weights(weights, places, i)
        buffers = layer_buffers(work, work_layout, i)
        h, scale, q, k, v, tops, sums, joined, h2, scale2, a, b, slope = buffers
        rmsnorm(h, scale, x, n, n_embd)
        for y, w in (q, wq), (k, wk), (v, wv):
            fill(y, n, 0)
            linear(y, w, h, n)
        attention(joined, (q, k, v, tops, sums), p, tree, n, heads)
        linear(x, wo, joined, n)
        rmsnorm(h2, scale2, x, n, n_embd)
        fill(a, n, 0)
        linear(a, fc1, h2, n)
        activation(b, slope, a, n, power)
        linear(x, fc2, b, n)
    for t in range(n):
        for c in range(z.width):
            z[t, c] = padding_mask[0, c]
    linear(z, lm_head, x, n)


# ---------------------------------------------------------------- Backward


@compiled
def attention_backward(dqkv, djoined, joined, inside, p, ds, tree, n, heads):
    """09's, over the ancestors of each node."""
    (dq, dk, dv), (q, k, v, tops, sums), (lanes, scale) = dqkv, inside, heads
    _, path, depth, _, _, _ = tree
    for g in range(tops.width):
        first, last = g * q.width // tops.width, (g + 1) * q.width // tops.width
        for t in range(n):
            top, unit = tops[t, g], 1 / sums[t, g]
            mean_dp = dot(djoined, t, joined, t, first, last, lanes)
            for i in range(depth[t] + 1):
                u = path[t, i]
                score = dot(q, t, k, u, first, last, lanes) * scale
                weight = exp(score - top) * unit
                dp = dot(djoined, t, v, u, first, last, lanes)
                p[i, 0], ds[i, 0] = weight, weight * (dp - mean_dp) * scale
            for c in range(first, last):
                dq_t = full(q, 0)
                # a node stands before all that attend to it, so its sums start here
                dk[t, c], dv[t, c] = full(q, 0), full(q, 0)
                for i in range(depth[t] + 1):
                    u = path[t, i]
                    dq_t += ds[i, 0] * k[u, c]
                    dk[u, c] += ds[i, 0] * q[t, c]
                    dv[u, c] += p[i, 0] * djoined[t, c]
                dq[t, c] = dq_t


@compiled
def backward(model, tree, n):
    """From the gradient of the logits to that of each weight, to which it adds."""
    (n_embd, n_layer, _, heads, _), weights, grads, places, work, work_layout = model
    tokens, _, depth, _, _, _ = tree
    _, _, lm_head = shared_weights(weights, places, 0)
    dwte, dwpe, dlm_head = shared_weights(grads, places, 0)
    _, dz, x, x0, scale0, p = forward_buffers(work, work_layout, 0)
    ds, dx, dh, dq, dk, dv, djoined = backward_buffers(work, work_layout, 0)
    fill(dx, n, 0)
    linear_backward(dx, dlm_head, dz, lm_head, x, n)
    for j in range(n_layer):
        i = n_layer - 1 - j
        wq, wk, wv, wo, fc1, fc2 = layer_weights(weights, places, i)
        dwq, dwk, dwv, dwo, dfc1, dfc2 = layer_weights(grads, places, i)
        buffers = layer_buffers(work, work_layout, i)
        h, scale, q, k, v, tops, sums, joined, h2, scale2, da, b, slope = buffers
        fill(da, n, 0)
        linear_backward(da, dfc2, dx, fc2, b, n)
        for t in range(n):
            for c in range(da.width):
                da[t, c] *= slope[t, c]
        fill(dh, n, 0)
        linear_backward(dh, dfc1, da, fc1, h2, n)
        rmsnorm_backward(dx, dh, h2, scale2, n, n_embd)
        fill(djoined, n, 0)
        linear_backward(djoined, dwo, dx, wo, joined, n)
        dqkv, inside = (dq, dk, dv), (q, k, v, tops, sums)
        attention_backward(dqkv, djoined, joined, inside, p, ds, tree, n, heads)
        fill(dh, n, 0)
        for dy, dw, w in (dq, dwq, wq), (dk, dwk, wk), (dv, dwv, wv):
            linear_backward(dh, dw, dy, w, h, n)
        rmsnorm_backward(dx, dh, h, scale, n, n_embd)
    fill(dh, n, 0)
    rmsnorm_backward(dh, dx, x0, scale0, n, n_embd)
    for t in range(n):
        for c in range(dh.width):
            dwte[tokens[t], c] += dh[t, c]
            dwpe[depth[t], c] += dh[t, c]


# ---------------------------------------------------------------- Muon

# Muon averages the gradients of a matrix, as momentum does, and moves the matrix by the
# nearest orthogonal matrix to that average: so all its directions, strong or weak in
# the gradient, get steps of about the same size. To find it, a polynomial of the matrix
# is applied three times (Newton-Schulz; coefficients of Jordan et al., 2024). Singular
# values from 0.02 of their root sum of squares on come to lie in 0.7 ... 1.21.
A1, A3, A5, TIMES = 3.4445, -4.7750, 2.0315, 3
SCRATCH = [("x", "long"), ("gram", "C"), ("square", "C"), ("y", "long")]
scratch_matrices = group([], SCRATCH)


@compiled
def multiply(y, x, w, n):
    """y += x @ w, of n lines."""
    for i in range(y.width):
        for o in range(x.width):
            block = tile(w, o, i)
            for t in range(n):
                y[t, i] += x[t, o] @ block


@compiled
def turn(y, x, n):
    """y = x.T, where x has n lines, a multiple of 16."""
    for o in range(n // LANES):
        for i in range(x.width):
            put_tile(y, i, o, transpose(tile(x, o, i)))


@compiled
def orthogonalize(x, gram, square, y, n):
    """Replace x by a matrix whose n lines are nearly orthogonal and of length 1; n is
    at most the length of a line."""
    squares = full(x, 0)
    for t in range(n):
        for c in range(x.width):
            squares += x[t, c] * x[t, c]
    # singular values are at most the root of the sum of their squares
    unit = full(x, 1 / (math.sqrt(sum_lanes(squares)) + 1e-12))
    for t in range(n):
        for c in range(x.width):
            x[t, c] *= unit
    for _ in range(TIMES):
        # y = (A1 + A3 g + A5 g²) x  with  g = x xᵀ
        fill(gram, n, 0)
        linear(gram, x, x, n)
        fill(square, n, 0)
        linear(square, gram, gram, n)
        for t in range(n):
            for c in range(gram.width):
                gram[t, c] = A3 * gram[t, c] + A5 * square[t, c]
            for c in range(x.width):
                y[t, c] = A1 * x[t, c]
        multiply(y, gram, x, n)
        copy(x, y, n)


@compiled
def muon(w, m, g, n, rate, momentum, decay, scratch, places):
    """Move a matrix of n lines, and reset its gradient to zero."""
    x, gram, square, y = scratch_matrices(scratch, places, 0)
    for t in range(n):
        for c in range(g.width):
            m[t, c] = momentum * m[t, c] + (1 - momentum) * g[t, c]
            # Nesterov: the average as it will be if the next gradient is like this one
            g[t, c] = momentum * m[t, c] + (1 - momentum) * g[t, c]
    C = min(n, g.width * LANES)
    if n > C:
        turn(x, g, n)
    else:
        copy(x, g, n)
    orthogonalize(x, gram, square, y, C)
    if n > C:
        turn(g, x, C)
    else:
        copy(g, x, n)
    # a matrix with more lines than columns takes a larger step
    rate *= math.sqrt(n / C)
    for t in range(n):
        for c in range(g.width):
            w[t, c] -= rate * (g[t, c] + decay * w[t, c])
            g[t, c] = full(g, 0)


# ---------------------------------------------------------------- Loss and training


@compiled
def cross_entropy(z, tree, n, documents, count):
    """The part that a tree has in the mean loss of count targets (S8). Replaces the
    logits z by their gradient."""
    tokens, path, depth, visits, ends, _ = tree
    loss = 0.0
    # a node's token is a target of its parent, once for each document that passes
    for t in range(n):
        if depth[t]:
            c, lane = tokens[t] // LANES, tokens[t] % LANES
            loss -= visits[t] * z[path[t, depth[t] - 1], c, lane]
    for t, token in ends[:documents]:
        loss -= z[t, token // LANES, token % LANES]
    for t in range(n):
        tops, exps = z[t, 0], full(z, 0)
        for c in range(1, z.width):
            tops = maximum(tops, z[t, c])
        top = max_lanes(tops)
        for c in range(z.width):
            e = exp(z[t, c] - top)
            exps += e
            z[t, c] = e
        norm = sum_lanes(exps)
        loss += visits[t] * (math.log(norm) + top)
        unit = visits[t] / (norm * count)
        for c in range(z.width):
            z[t, c] *= unit
    for t in range(n):
        if depth[t]:
            c, lane = tokens[t] // LANES, tokens[t] % LANES
            z[path[t, depth[t] - 1], c, lane] -= visits[t] / count
    for t, token in ends[:documents]:
        z[t, token // LANES, token % LANES] -= 1 / count
    return loss / count


@compiled
def tree_step(model, tree, n, documents, count):
    _, _, _, _, work, work_layout = model
    forward(model, tree, n)
    z = forward_buffers(work, work_layout, 0)[LOGITS]
    loss = cross_entropy(z, tree, n, documents, count)
    backward(model, tree, n)
    return loss


@compiled
def loss_and_backward(model, tree, table, batch):
    """The mean loss of a batch, which are lines of the table in ascending order. Adds
    its gradient to the gradients."""
    max_nodes, count = model[0][4], 0
    for line in batch:
        count += table[line, 0]
    n, documents, before, loss = 0, 0, 0, 0.0
    for line in batch:
        document = table[line]
        shared = shared_inputs(document, table[before]) if n else 0
        full_tree = n + document[0] - shared > max_nodes or documents == len(tree[4])
        if full_tree:
            loss += tree_step(model, tree, n, documents, count)
            n, documents, shared = 0, 0, 0
        n = add_document(tree, n, documents, document, shared)
        documents, before = documents + 1, line
    return loss + tree_step(model, tree, n, documents, count)


@called_by_python
def steps(model, memory, tree, table, batches, rates, numbers, scratch, layouts, learn):
    """Take one step for each batch. rates: of Adam and Muon, (steps, 2). -> losses"""
    (beta1, beta2, momentum, decay), (square, long) = numbers, layouts
    places, losses = model[3], np.zeros(len(rates))
    # Adam's part: the embeddings and lm_head stand before the layers
    shared_rows = places[3, 0]
    for s in range(len(rates)):
        losses[s] = loss_and_backward(model, tree, table, np.sort(batches[s]))
        if not learn:
            continue
        adam(memory, 0, shared_rows, s + 1, rates[s, 0], beta1, beta2)
        for i in range(model[0][1]):
            w = layer_weights(memory[WEIGHTS], places, i)
            m = layer_weights(memory[FIRST_MOMENT], places, i)
            g = layer_weights(memory[GRADS], places, i)
            C = w[0].width * LANES
            for j in range(6):
                lines = 4 * C if j == 4 else C  # mlp_fc1
                of_scratch = square if j < 4 else long
                muon(
                    w[j], m[j], g[j], lines, rates[s, 1], momentum, decay, scratch,
                    of_scratch,
                )  # fmt: skip
    return losses


def race(state, documents, rng):
    """Train on the token lists of all documents, as many steps as the recipe says, and
    return the losses."""
    config, B = state.config, state.config.batch_size
    table = make_table(sorted(documents), config.block_size)
    shuffle = np.random.default_rng(rng.getrandbits(64)).permutation
    # of each epoch whole batches; the documents that are left over come in another one
    epochs = -(-config.steps // (len(table) // B))
    order = [shuffle(len(table))[: len(table) // B * B] for _ in range(epochs)]
    batches = np.concatenate(order)[: config.steps * B].reshape(config.steps, B)
    # a warm-up of a fiftieth of the steps, then a line to zero
    done = np.arange(config.steps) / config.steps
    shape = np.minimum((done + 1 / config.steps) * 50, (1 - done) / (1 - 1 / 50))
    rates = np.outer(shape, [config.learning_rate, state.muon_rate])
    return call_steps(state, table, batches, rates)


def make_table(documents, block_size):
    """Token lists as a table of one line each. (documents, T + 2)"""
    lengths = np.array([len(tokens) for tokens in documents], np.int64)
    table = np.zeros((len(documents), block_size + 2), np.int64)
    table[:, 0] = lengths - 1
    used = np.arange(block_size + 1) < lengths[:, None]
    table[:, 1:][used] = np.fromiter(chain.from_iterable(documents), np.int64)
    return table


def call_steps(state, table, batches, rates, learn=True):
    config = state.config
    numbers = config.beta1, config.beta2, state.momentum, state.decay
    return steps(
        state.models[0], state.memory, state.tree, table, batches, rates, numbers,
        state.scratch, state.layouts, learn,
    )  # fmt: skip


# ---------------------------------------------------------------- Interface


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    muon_rate: float = 0.02,
    momentum: float = 0.9,
    decay: float = 0.0,
):
    """09's state, with what trees and Muon need. decay is the weight decay of the
    layers' matrices."""
    lanes, C = head_lanes(config), config.n_embd
    if C % LANES or lanes * config.n_head != C:
        raise microgpt.InputError(
            f"n_embd is {C} and n_head {config.n_head}: n_embd must be a multiple of "
            "16, and the width of a head a power of two or a multiple of 16"
        )
    state = v09.create(config, snapshot, dtype)
    state.muon_rate, state.momentum, state.decay = muon_rate, momentum, decay
    T, max_nodes = config.block_size, state.models[0][0][4]
    state.tree = empty_tree(max_nodes, config.batch_size, T)
    width = C // LANES
    sizes = [[(C, a * width), (C, width), (C, width), (C, a * width)] for a in (1, 4)]
    (square, _), (long, end) = map(layout, sizes)
    state.scratch = aligned_zeros((end * LANES,), dtype)
    state.layouts = square, long
    nothing = np.zeros((0, config.batch_size), np.int64)
    call_steps(state, make_table([], T), nothing, np.zeros((0, 2)))  # compile now
    return state


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight, as in every version."""
    table = make_table(sorted(batch), state.config.block_size)
    every = np.arange(len(batch))[None]
    (loss,) = call_steps(state, table, every, np.zeros((1, 2)), learn=False)
    grads = to_rows(state, state.views[GRADS])
    state.memory[GRADS] = 0
    return float(loss), grads
