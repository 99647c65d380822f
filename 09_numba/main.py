"""microGPT in Numba. Same numbers as 02. New here: Python that LLVM compiles.

The gradients are 02's, as loops over rows of sixteen numbers: a type of our own, which
rows.py teaches the compiler, and which becomes vector instructions. Many steps of
training are one compiled call, in which nothing is allocated. All sizes are arguments
of it, so that one build for each precision serves every recipe, and several threads may
each take a share of a batch in a call of their own (SPEC S3 to S9)."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from types import SimpleNamespace
from typing import Literal

try:
    import microgpt

    import numba
    import numpy as np
    import rows
    from rows import (  # isort: skip
        LANES, column, exp, full, greatest, head_total, matrices, maximum, meet, outer,
        positive, put_tile, sqrt, tile, total, transpose,
    )  # fmt: skip
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    hint = "`uv run python main.py` brings it"
    print(f"error: {missing.name} is missing: {hint}", file=sys.stderr)
    sys.exit(2)

rows.keep_builds(sys._getframe())
compiled = numba.njit(error_model="numpy")  # 1 / 0 is infinite, not an exception
called_by_python = numba.njit(error_model="numpy", cache=True, nogil=True)

# T tokens, C n_embd, H heads, D head_dim, V vocabulary
# x[t, c] is a row, the numbers 16 c to 16 c + 15 of token t; x.wide rows hold them all

# ---------------------------------------------------------------- Parameters


def padded(n):
    return -(-n // LANES) * LANES


def head_lanes(config):
    """The lanes that a head takes: a power of two of them, or whole rows."""
    D = config.n_embd // config.n_head
    return 1 << (D - 1).bit_length() if D < LANES else padded(D)


def axes(config, vocab_size):
    """{name: (out, in)} of the weights (S3): their axes, and of each the size and the
    size in memory. What lies beyond is zero, its gradient too, and so it stays zero."""
    C, H, lanes = config.n_embd, config.n_head, head_lanes(config)
    letters = [(vocab_size, padded(vocab_size))]
    positions = [(config.block_size, config.block_size)]
    channels, hidden = [(C, padded(C))], [(4 * C, padded(4 * C))]
    heads = [(H, padded(H * lanes) // lanes), (C // H, lanes)]
    table = {"wte": (letters, channels), "wpe": (positions, channels)}
    table["lm_head"] = (letters, channels)
    for i in range(config.n_layer):
        table |= {f"layer{i}.attn_w{name}": (heads, channels) for name in "qkv"}
        table[f"layer{i}.attn_wo"] = (channels, heads)
        table[f"layer{i}.mlp_fc1"] = (hidden, channels)
        table[f"layer{i}.mlp_fc2"] = (channels, hidden)
    return table


def work_sizes(config, vocab_size, most):
    """(lines, width) of each matrix that a step works in, room for `most` tokens."""
    A = config.n_head * head_lanes(config)
    sizes = config.n_embd, A, 4 * config.n_embd, vocab_size
    C, A, F, V = (padded(size) // LANES for size in sizes)
    shared = A if head_lanes(config) < LANES else config.n_head
    once = [V, C, C, 1, 1]  # logits, x, x0, scale0, p
    once += [1, C, C, A, A, A, A]  # ds, dx, dh, dq, dk, dv, djoined
    layer = [C, 1, A, A, A, shared, shared, A]  # h, scale, q, k, v, tops, norms, joined
    layer += [C, 1, F, F, F]  # h2, scale2, a, b, slope
    return [(1, V), *((most, width) for width in once + config.n_layer * layer)]


def layout(sizes):
    """(start, width) of matrices that follow one another, and the end: all in rows."""
    lines, width = np.transpose(sizes)
    ends = np.cumsum(lines * width)
    return np.stack([ends - lines * width, width], axis=1), int(ends[-1])


# ---------------------------------------------------------------- Forward


@compiled
def fill(x, n, number):
    for t in range(n):
        for c in range(x.wide):
            x[t, c] = full(x, number)


@compiled
def copy(y, x, n):
    for t in range(n):
        for c in range(x.wide):
            y[t, c] = x[t, c]


@compiled
def rmsnorm(y, scale, x, n, n_embd):
    """Scale each token to unit mean square (S5)."""
    for t in range(n):
        squares = full(x, 0)
        for c in range(x.wide):
            squares += x[t, c] * x[t, c]
        scale[t, 0] = full(x, 1 / math.sqrt(total(squares) / n_embd + 1e-5))
        for c in range(x.wide):
            y[t, c] = x[t, c] * scale[t, 0]


@compiled
def linear(y, w, x, n):
    """y += x @ w.T: each tile of w is loaded once, turned, and meets all tokens."""
    for o in range(y.wide):
        for i in range(x.wide):
            turned = transpose(tile(w, o, i))
            for t in range(n):
                y[t, o] += x[t, i] @ turned


@numba.njit(forceinline=True)
def dot(q, t, k, u, first, last, lanes):
    """<q_t, k_u> of each head, in all the lanes of that head."""
    products = q[t, first] * k[u, first]
    for c in range(first + 1, last):
        products += q[t, c] * k[u, c]
    return head_total(products, lanes)


@compiled
def attention(joined, inside, p, start, end, heads):
    """What each head reads from the tokens of its document so far (S6). Rows first to
    last - 1 share the weights p: they are one row of several heads, or one head."""
    (q, k, v, tops, norms), (lanes, scale) = inside, heads
    for g in range(tops.wide):
        first, last = g * q.wide // tops.wide, (g + 1) * q.wide // tops.wide
        for t in range(start, end):
            top, norm = full(q, -math.inf), full(q, 0)
            for u in range(start, t + 1):
                score = dot(q, t, k, u, first, last, lanes) * scale
                top = maximum(top, score)
                p[u, 0] = score
            for u in range(start, t + 1):
                # softmax is shift-invariant: this only prevents overflow
                e = exp(p[u, 0] - top)
                norm += e
                p[u, 0] = e
            for c in range(first, last):
                read = full(q, 0)
                for u in range(start, t + 1):
                    read += p[u, 0] * v[u, c]
                joined[t, c] = read / norm
            tops[t, g], norms[t, g] = top, norm


@compiled
def activation(b, slope, a, n, power):
    """b = max(0, a)^p, and its slope (S7.2, S7.3)."""
    for t in range(n):
        for c in range(a.wide):
            s = positive(a[t, c])
            for _ in range(power - 1):
                s *= a[t, c]
            b[t, c], slope[t, c] = s * a[t, c], s * power


@called_by_python
def forward(net, text, first, last):
    """Leaves the logits of documents first to last - 1 in their room, and what the
    gradient needs in the others. Returns how many tokens these are."""
    (n_embd, n_layer, power, heads, _), weights, _, places, work, rooms = net
    tokens, positions, _, starts = text
    wte, wpe, lm_head = matrices(weights, places, 0, 3)
    silence, logits, x, x0, scale0, p = matrices(work, rooms, 0, 6)
    begin, n = starts[first], starts[last] - starts[first]
    for t in range(n):
        token, position = tokens[begin + t], positions[begin + t]
        for c in range(x.wide):
            x[t, c] = wte[token, c] + wpe[position, c]
    rmsnorm(x0, scale0, x, n, n_embd)  # S4.2: here too, but not before lm_head
    copy(x, x0, n)
    for i in range(n_layer):
        wq, wk, wv, wo, fc1, fc2 = matrices(weights, places, 3 + 6 * i, 6)
        layer = matrices(work, rooms, 13 + 13 * i, 13)
        h, scale, q, k, v, tops, norms, joined, h2, scale2, a, b, slope = layer
        rmsnorm(h, scale, x, n, n_embd)
        for y, w in (q, wq), (k, wk), (v, wv):
            fill(y, n, 0)
            linear(y, w, h, n)
        inside = q, k, v, tops, norms
        for d in range(first, last):
            start, end = starts[d] - begin, starts[d + 1] - begin
            attention(joined, inside, p, start, end, heads)
        linear(x, wo, joined, n)
        rmsnorm(h2, scale2, x, n, n_embd)
        fill(a, n, 0)
        linear(a, fc1, h2, n)
        activation(b, slope, a, n, power)
        linear(x, fc2, b, n)
    for t in range(n):
        for c in range(logits.wide):
            logits[t, c] = silence[0, c]  # minus infinity in the lanes of no letter
    linear(logits, lm_head, x, n)
    return n


# ---------------------------------------------------------------- Backward

# dx is d loss / d x: of the shape of x, and a sum over all that x went into


@compiled
def rmsnorm_backward(dx, dy, y, scale, n, n_embd):
    # forward was  y = x * scale,  and scale is made of x too: d scale / d x is
    # -scale**3 * x / C,  in which x * scale is y again,  so:
    for t in range(n):
        products = full(y, 0)
        for c in range(y.wide):
            products += y[t, c] * dy[t, c]
        along = total(products) / n_embd
        for c in range(y.wide):
            dx[t, c] += scale[t, 0] * (dy[t, c] - y[t, c] * along)


@compiled
def linear_backward(dx, dw, dy, w, x, n):
    # forward was  y += x @ w.T,  so:  dx += dy @ w  and  dw += dy.T @ x
    for i in range(x.wide):
        for o in range(dy.wide):
            block = tile(w, o, i)
            for t in range(n):
                dx[t, i] += dy[t, o] @ block
            grad = tile(dw, o, i)
            for t in range(n):
                grad += outer(dy[t, o], x[t, i])
            put_tile(dw, o, i, grad)


@compiled
def attention_backward(dqkv, djoined, joined, inside, p, ds, start, end, heads):
    (dq, dk, dv), (q, k, v, tops, norms), (lanes, scale) = dqkv, inside, heads
    for g in range(tops.wide):
        first, last = g * q.wide // tops.wide, (g + 1) * q.wide // tops.wide
        for t in range(start, end):
            top, unit = tops[t, g], 1 / norms[t, g]
            # forward was  joined[t] = sum of p[u] v[u],  so the sum of p[u] dp[u] is:
            along = dot(djoined, t, joined, t, first, last, lanes)
            for u in range(start, t + 1):
                score = dot(q, t, k, u, first, last, lanes) * scale
                weight = exp(score - top) * unit
                dp = dot(djoined, t, v, u, first, last, lanes)
                # forward was  p[u] = e[u] / norm,  each e a part of the norm,  so:
                p[u, 0], ds[u, 0] = weight, weight * (dp - along) * scale
            for c in range(first, last):
                dq_t = full(q, 0)
                dk[t, c], dv[t, c] = full(q, 0), full(q, 0)  # t is the first to see t
                for u in range(start, t + 1):
                    # forward was  score = <q[t], k[u]> * scale,  so:
                    dq_t += ds[u, 0] * k[u, c]
                    dk[u, c] += ds[u, 0] * q[t, c]
                    # forward was  joined[t] = sum of p[u] v[u],  so:
                    dv[u, c] += p[u, 0] * djoined[t, c]
                dq[t, c] = dq_t


@compiled
def backward(net, text, first, last):
    """The chain rule, from the gradient in the room of the logits to that of each
    weight, to which it adds."""
    (n_embd, n_layer, _, heads, _), weights, grads, places, work, rooms = net
    tokens, positions, _, starts = text
    (lm_head,) = matrices(weights, places, 2, 1)
    dwte, dwpe, dlm_head = matrices(grads, places, 0, 3)
    once = matrices(work, rooms, 1, 12)
    dlogits, x, x0, scale0, p, ds, dx, dh, dq, dk, dv, djoined = once
    begin, n = starts[first], starts[last] - starts[first]
    fill(dx, n, 0)
    linear_backward(dx, dlm_head, dlogits, lm_head, x, n)
    for j in range(n_layer):
        i = n_layer - 1 - j
        wq, wk, wv, wo, fc1, fc2 = matrices(weights, places, 3 + 6 * i, 6)
        dwq, dwk, dwv, dwo, dfc1, dfc2 = matrices(grads, places, 3 + 6 * i, 6)
        layer = matrices(work, rooms, 13 + 13 * i, 13)
        h, scale, q, k, v, tops, norms, joined, h2, scale2, da, b, slope = layer
        # forward was  h2 = rmsnorm(x),  a = fc1 h2,  b = max(0, a)^p,  x += fc2 b,  so:
        fill(da, n, 0)
        linear_backward(da, dfc2, dx, fc2, b, n)
        for t in range(n):
            for c in range(da.wide):
                da[t, c] *= slope[t, c]
        fill(dh, n, 0)
        linear_backward(dh, dfc1, da, fc1, h2, n)
        rmsnorm_backward(dx, dh, h2, scale2, n, n_embd)
        # forward was  h = rmsnorm(x),  q k v = wq wk wv h,  x += wo joined,  so:
        fill(djoined, n, 0)
        linear_backward(djoined, dwo, dx, wo, joined, n)
        dqkv, inside = (dq, dk, dv), (q, k, v, tops, norms)
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
        for c in range(dh.wide):
            dwte[token, c] += dh[t, c]
            dwpe[position, c] += dh[t, c]


# ---------------------------------------------------------------- Loss and training


@compiled
def cross_entropy(logits, targets, n, count):
    """The sum of -log softmax(logits)[target] (S8.1). In the room of the logits it
    leaves the gradient of the mean over count: what was predicted less what is true."""
    loss = 0.0
    for t in range(n):
        c_target, i_target = targets[t] // LANES, targets[t] % LANES
        tops, exps = logits[t, 0], full(logits, 0)
        for c in range(1, logits.wide):
            tops = maximum(tops, logits[t, c])
        top = greatest(tops)
        below = top - logits[t, c_target, i_target]
        for c in range(logits.wide):
            e = exp(logits[t, c] - top)
            exps += e
            logits[t, c] = e
        norm = total(exps)
        loss += math.log(norm) + below
        unit = 1 / (norm * count)
        for c in range(logits.wide):
            logits[t, c] *= unit
        logits[t, c_target, i_target] -= 1 / count
    return loss


@compiled
def add_up(memory, first, last):
    """The gradient in rows first to last - 1, all threads' shares of it, in order."""
    g = column(memory[3])
    for other in range(4, len(memory)):
        share = column(memory[other])
        for i in range(first, last):
            g[i, 0] += share[i, 0]
            share[i, 0] = full(g, 0)


@numba.njit(error_model="numpy", forceinline=True)
def adam(memory, first, last, step, learning_rate, beta1, beta2):
    """Adam with bias correction, eps outside the root; grads are spent (S9)."""
    correct1, correct2 = 1 - beta1**step, 1 - beta2**step
    rate, unbias = learning_rate / correct1, 1 / correct2
    w, m = column(memory[0]), column(memory[1])
    v, g = column(memory[2]), column(memory[3])
    for i in range(first, last):
        m_i = beta1 * m[i, 0] + (1 - beta1) * g[i, 0]
        v_i = beta2 * v[i, 0] + (1 - beta2) * g[i, 0] * g[i, 0]
        w[i, 0] -= rate * m_i / (sqrt(v_i * unbias) + 1e-8)
        m[i, 0], v[i, 0], g[i, 0] = m_i, v_i, full(g, 0)


@called_by_python
def steps(net, team, text, shares, rates, done, betas, losses, learn):
    """For each rate a step. Of a batch this thread takes documents shares[s, me] to
    shares[s, me + 1] - 1, as many at once as there is room for, and of the weights as
    large a part as the others. Without learn, the gradient is left where it is."""
    (_, _, _, _, most), _, _, _, work, rooms = net
    (memory, gate, me), (_, _, targets, starts) = team, text
    (logits,) = matrices(work, rooms, 1, 1)
    threads, size = len(memory) - 3, memory.shape[1] // LANES
    mine = me * size // threads, (me + 1) * size // threads
    for s in range(len(rates)):
        first, end = shares[s, me], shares[s, me + 1]
        count = starts[shares[s, threads]] - starts[shares[s, 0]]  # S8.2: of the batch
        loss = 0.0
        while first < end:
            last = first + 1
            while last < end and starts[last + 1] - starts[first] <= most:
                last += 1
            n = forward(net, text, first, last)
            loss += cross_entropy(logits, targets[starts[first] :], n, count)
            backward(net, text, first, last)
            first = last
        losses[s] = loss / count
        meet(gate, threads)  # now all gradients are there
        add_up(memory, *mine)
        if learn:
            adam(memory, *mine, done + s + 1, rates[s], *betas)
        meet(gate, threads)  # now all weights are


def train(state, batches):
    """Take a step for each (batch, learning rate), many in a call; yield each loss."""
    config, batches = state.config, iter(batches)
    work = state.memory.shape[1] * config.batch_size * config.block_size
    enough = 2**25 if len(state.nets) == 1 else 2**29  # a thread takes long to wake
    at_once = max(1, enough // work)  # some milliseconds, so that Ctrl-C is heard
    while chunk := list(islice(batches, at_once)):
        losses = take(state, *zip(*chunk))
        state.step += len(chunk)
        yield from losses


def take(state, batches, rates, learn=True):
    """The losses of so many steps, each thread's share of them in one call."""
    text = pack(state, [tokens for batch in batches for tokens in batch])
    threads, betas = len(state.nets), (state.config.beta1, state.config.beta2)
    shares = deal(text[3], list(map(len, batches)), threads)
    gate, losses = np.zeros(1, np.int64), np.empty((threads, len(rates)))
    rest, calls = (text, shares, np.array(rates), state.step, betas), []
    for me, net in enumerate(state.nets):
        team = state.memory, gate, me
        calls += [partial(steps, net, team, *rest, losses[me], learn)]
    together(state.crew, calls)
    return losses.sum(axis=0).tolist()


def deal(starts, sizes, threads):
    """Where in each batch each thread's share begins, and where the last ends: as many
    tokens for each as whole documents allow. -> (steps, threads + 1)"""
    ends = np.cumsum([0, *sizes])
    shares = np.stack([ends[:-1]] + threads * [ends[1:]], axis=1)
    if threads > 1:
        goals = np.linspace(starts[ends[:-1]], starts[ends[1:]], threads + 1, axis=1)
        middles = (starts[:-1] + starts[1:]) / 2
        shares[:, 1:-1] = np.searchsorted(middles, goals[:, 1:-1])
    return shares


def together(crew, calls):
    """Make the calls at once. Of several, a leader makes the first and has its others
    start the rest: Ctrl-C, which the main thread alone hears, must not come in between,
    for what has started waits for the rest."""
    leader, others = crew
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
        leader.submit(int).result()  # behind what it has begun
        raise


# ---------------------------------------------------------------- For whoever drives it


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    threads: int = 1,
):
    """A state, which goes on where the snapshot stood, whichever version made that."""
    cores = numba.config.NUMBA_NUM_THREADS  # unless the environment says another number
    if not 1 <= threads <= cores:
        raise microgpt.InputError(f"threads is {threads}: it must lie in 1 … {cores}")
    V, T = len(snapshot.weights["wte"]), config.block_size
    table = axes(config, V)
    sizes = [
        (np.prod(out, axis=0)[1], np.prod(into, axis=0)[1] // LANES)
        for out, into in table.values()
    ]
    places, end = layout(sizes)
    # weights, both moments, each thread's grads
    memory = aligned((3 + threads, end * LANES), dtype)
    most = max(T, min(256, T * config.batch_size))  # more would not stay in the cache
    rooms, end = layout(work_sizes(config, V, most))
    works = aligned((threads, end * LANES), dtype)
    works[:, V : padded(V)] = -math.inf
    heads = head_lanes(config), (config.n_embd // config.n_head) ** -0.5  # S6.3
    numbers = config.n_embd, config.n_layer, config.relu_power, heads, most
    views = [named(table, places, flat) for flat in memory[:4]]
    for views_of, matrices_of in zip(views, snapshot[:3]):
        for name, view in views_of.items():
            view[...] = np.reshape(matrices_of[name], view.shape)
    nets = [
        (numbers, memory[0], grads, places, work, rooms)
        for grads, work in zip(memory[3:], works)
    ]
    crew = ThreadPoolExecutor(1), ThreadPoolExecutor(max(1, threads - 1))
    state = SimpleNamespace(
        config=config, vocab_size=V, memory=memory, views=views, step=snapshot.step,
        nets=nets, crew=crew,
    )  # fmt: skip
    loss_and_grads(state, [])  # what is to be compiled is so before a clock runs
    return state


def aligned(shape, dtype):
    """Zeros, of which the first stands at a multiple of 64 bytes: so no row lies across
    two lines of the processor's cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(dtype).reshape(shape)


def named(table, places, flat):
    """{name: view} of the weights in a flat buffer, in all their axes."""
    views = {}
    for (name, (out, into)), (start, _) in zip(table.items(), places):
        sizes, in_memory = zip(*out, *into)
        view = flat[start * LANES :][: math.prod(in_memory)].reshape(in_memory)
        views[name] = view[tuple(map(slice, sizes))]
    return views


def read(state, views):
    """What is in views, as arrays of their own. -> {name: (out, in)}"""
    shapes = microgpt.shapes(state.config, state.vocab_size)
    return {name: np.array(views[name]).reshape(shapes[name][:2]) for name in shapes}


def pack(state, documents):
    """Flat arrays: the inputs of all documents, their positions, their targets, and
    where in these each document starts."""
    ends = np.cumsum([0, *map(len, documents)])
    tokens = np.fromiter(chain.from_iterable(documents), np.int64, ends[-1])
    V, T, lengths = state.vocab_size, state.config.block_size, np.diff(ends) - 1
    for what, limit in (tokens, range(V)), (lengths, range(1, T + 1)):
        if not np.isin(what, limit).all():  # compiled code would go beyond its arrays
            raise microgpt.InputError(
                f"documents have {min(lengths)} … {max(lengths)} targets, tokens "
                f"{min(tokens)} … {max(tokens)}: it must be 1 … {T} and 0 … {V - 1}"
            )
    starts = np.cumsum([0, *lengths])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    inputs, targets = np.delete(tokens, ends[1:] - 1), np.delete(tokens, ends[:-1])
    return inputs, positions, targets, starts


def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    n = forward(state.nets[0], pack(state, [[*tokens, 0]]), 0, 1)  # 0: any last target
    *_, work, rooms = state.nets[0]
    start, width = rooms[1] * LANES
    lines = work[start : start + n * width].reshape(n, width)
    return lines[:, : state.vocab_size].copy()


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    (loss,) = take(state, [batch], [0.0], learn=False)
    grads = read(state, state.views[3])
    state.memory[3] = 0
    return loss, grads


def export(state):
    """All that training carries, as arrays."""
    matrices_of = (read(state, views) for views in state.views[:3])
    return microgpt.Snapshot(*matrices_of, state.step)


def about(state):
    """What computes, in what precision, with how many threads."""
    threads = f"{len(state.nets)} thread" + "s" * (len(state.nets) > 1)
    return f"Numba {numba.__version__} on cpu, {state.memory.dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
