"""microGPT in MLX, in batches. Same numbers as 06. New here: a batch is one array, with
padding only inside attention, where documents must not meet; and under mlx.launch
each worker takes its share of every batch, and all of them the same step (SPEC S3-S9).
"""

import contextlib
import functools
import os
import sys
import tempfile
from itertools import chain
from shutil import which
from types import SimpleNamespace
from typing import Literal

os.environ.setdefault("MLX_ENABLE_TF32", "0")  # else GPUs may multiply in 10 bits
try:
    import microgpt

    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim
    import numpy as np
    from mlx.utils import tree_flatten, tree_map, tree_unflatten
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(
        f"error: {missing.name} is missing: `uv run python main.py` brings it",
        file=sys.stderr,
    )
    sys.exit(2)

# B documents, T tokens of the longest, N tokens of all, C n_embd, H heads, D head_dim,
# V vocabulary

# ---------------------------------------------------------------- Parameters


def nested(matrices):
    """{name: rows} (S3.1) -> the tree of the modules below: layer0.mlp_fc1 is
    layers.0.mlp_fc1.weight there, and q, k and v are one matrix."""
    leaves = []
    for name, rows in matrices.items():
        if name.endswith("attn_wq"):
            rows = np.concatenate([matrices[name[:-1] + x] for x in "qkv"])
            name += "kv"
        if not name.endswith(("attn_wk", "attn_wv")):
            array = mx.array(np.asarray(rows, np.float32))
            leaves.append((name.replace("layer", "layers.") + ".weight", array))
    return tree_unflatten(leaves)


def plain(tree):
    """The tree of the modules -> {name: rows}, NumPy's."""
    matrices = {}
    for path, array in tree_flatten(tree):
        name = path.replace("layers.", "layer").removesuffix(".weight")
        if name.endswith("attn_wqkv"):
            parts = np.split(np.array(array), 3)
            matrices |= {name[:-3] + x: part for x, part in zip("qkv", parts)}
        else:
            matrices[name] = np.array(array)
    return matrices


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    """Scale each row to unit mean square. (N, C) -> (N, C)"""
    return mx.fast.rms_norm(x, None, 1e-5)  # S5.1: no gain; eps has no default


@functools.cache
def causal(T):
    """What to add to the scores: nothing up to the own position, -inf after (S6.4)."""
    return mx.array(np.triu(np.full((T, T), -np.inf, np.float32), k=1))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, self.n_head, self.power = config.n_embd, config.n_head, config.relu_power
        self.attn_wqkv = nn.Linear(C, 3 * C, bias=False)  # three weights, one product
        self.attn_wo = nn.Linear(C, C, bias=False)
        self.mlp_fc1 = nn.Linear(C, 4 * C, bias=False)
        self.mlp_fc2 = nn.Linear(4 * C, C, bias=False)

    def attention(self, h, place, grid):
        """What each head reads from the document so far (S6). (N, C) -> (N, C)"""
        B, T = grid.shape
        qkv = self.attn_wqkv(h)[grid]  # (N, 3C) -> (B, T, 3C)
        qkv = qkv.reshape(B, T, 3 * self.n_head, -1).swapaxes(1, 2)
        q, k, v = mx.split(qkv, 3, axis=1)  # (B, 3H, T, D) -> (B, H, T, D) each
        scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5  # (B, H, T, T)
        out = mx.softmax(scores + causal(T), axis=-1) @ v
        out = out.swapaxes(1, 2).reshape(B * T, -1)[place]  # (B T, C) -> (N, C)
        return self.attn_wo(out)

    def mlp(self, h):
        a = mx.maximum(self.mlp_fc1(h), 0)
        return self.mlp_fc2(functools.reduce(mx.multiply, [a] * self.power))  # S7.2

    def __call__(self, x, place, grid):
        x = x + self.attention(rmsnorm(x), place, grid)
        return x + self.mlp(rmsnorm(x))


class GPT(nn.Module):
    """Each module has drawn weights of its own here, but nothing has asked for them:
    they are replaced before they were ever computed."""

    def __init__(self, config, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.layers = [Layer(config) for _ in range(config.n_layer)]
        self.lm_head = nn.Linear(config.n_embd, vocab_size, bias=False)

    def __call__(self, tokens, place, grid):
        """The logits of what follows each token. (N,) -> (N, V)"""
        position = place % grid.shape[1]
        x = rmsnorm(self.wte(tokens) + self.wpe(position))  # S4.2: not before lm_head
        for layer in self.layers:
            x = layer(x, place, grid)
        return self.lm_head(x)


# ---------------------------------------------------------------- Loss and training


def round_up(n, multiple):
    return max(1, -(-n // multiple)) * multiple


def packed(documents, share):
    """The tokens of all documents one after the other, the place of each in a grid with
    one line for each document, and which of them stands at each place of the grid; the
    targets, and the share of each in the mean. Sizes are rounded up, so that few shapes
    occur and few programs are compiled. What fills up has no share, and in the grid it
    stands behind the document's end, where no position before it sees it (S6.4)."""
    lengths = [len(document) - 1 for document in documents]
    n, T = sum(lengths), round_up(max(lengths), 4)
    real = np.arange(T) < np.array(lengths)[:, None]  # (B, T)
    grid = np.zeros(real.shape, np.int32)
    grid[real] = np.arange(n)
    spare = [0] * (round_up(n, 16) - n)
    tokens = [token for document in documents for token in document[:-1]]
    targets = [token for document in documents for token in document[1:]]
    columns = tokens, np.flatnonzero(real).tolist(), targets, [share] * n
    tokens, place, targets, shares = (mx.array(column + spare) for column in columns)
    return tokens, place, mx.array(grid), targets, shares


def batch_loss(model, tokens, place, grid, targets, shares):
    """The mean over all targets of the batch, or this worker's part of it (S8)."""
    losses = nn.losses.cross_entropy(model(tokens, place, grid), targets)
    return (losses * shares).sum()


def gradients(model, *batch):
    """The loss and its gradient: the mean over the workers, sent as one message."""
    return nn.average_gradients(nn.value_and_grad(model, batch_loss)(model, *batch))


def step(model, optimizer, *batch):
    """Move the weights, in every worker by the same numbers."""
    loss, grads = gradients(model, *batch)
    optimizer.update(model, grads)
    return loss


def mine(state, batch):
    """Every workers-th document. The share makes up for the mean over the workers: in
    all, each target weighs 1 / n, whichever worker has it."""
    rank, workers = state.world.rank(), state.world.size()
    n = sum(len(tokens) - 1 for tokens in batch)
    # more workers than documents: who has none takes part with an empty one
    return packed(batch[rank::workers] or [[0]], workers / n)


def in_step(batches):
    """Hand batches on while every worker has one: Ctrl-C may reach them apart."""
    for item in chain(batches, [None]):
        if not mx.distributed.all_min(mx.array(int(item is not None))).item():
            return
        yield item


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss, still on its way:
    float() waits for it."""
    for batch, learning_rate in in_step(batches):
        with mx.stream(state.device):
            # an array in the compiled state, so a new value is no new program
            state.optimizer.learning_rate = learning_rate
            loss = state.step(*mine(state, batch))
            mx.async_eval(loss, state.model.state, state.optimizer.state)
        yield loss


# ---------------------------------------------------------------- For whoever drives it


def find(device):
    """The device of that name, or MLX's choice: the GPU where there is one."""
    here = [name for name in ("cpu", "gpu") if mx.is_available(getattr(mx, name))]
    if device not in ("auto", *here):
        raise microgpt.InputError(f"device is {device}: MLX has {', '.join(here)} here")
    return mx.default_device() if device == "auto" else mx.Device(getattr(mx, device))


def join():
    """The workers that mlx.launch has started, or this one alone."""
    world = mx.distributed.init()
    if world.rank():  # on a CPU, MLX compiles in one folder: there they would collide
        folder = f"mlx-worker-{world.rank()}"
        os.environ["TMPDIR"] = os.path.join(tempfile.gettempdir(), folder)
        os.makedirs(os.environ["TMPDIR"], exist_ok=True)
    return world


def create(
    config,
    snapshot,
    dtype: Literal["float32"] = "float32",
    device: Literal["auto", "cpu", "gpu"] = "auto",
    compile: bool = True,
):
    """A state, which goes on where the snapshot stood, whichever version made that."""
    model = GPT(config, len(snapshot.weights["wte"]))
    model.update(nested(snapshot.weights))
    optimizer = optim.Adam(
        config.learning_rate,
        betas=[config.beta1, config.beta2],  # the default is 0.9, 0.999
        eps=1e-8,
        bias_correction=True,  # S9.3; the default is False
    )
    optimizer.init(model.trainable_parameters())
    pair = nested(snapshot.first_moment), nested(snapshot.second_moment)
    optimizer.state.update(tree_map(lambda m, v: {"m": m, "v": v}, *pair))
    optimizer.state["step"] = mx.array(snapshot.step, mx.uint64)

    state = SimpleNamespace(config=config, model=model, optimizer=optimizer)
    state.device, state.world = find(device), join()
    # on a CPU it takes g++, without which MLX goes on uncompiled
    state.compiled = compile and (state.device == mx.gpu or which("g++") is not None)
    state.gradients = functools.partial(gradients, model)
    state.step = functools.partial(step, model, optimizer)
    if state.compiled:  # which has it declare what it moves besides its arguments
        w, all_of_it = model.state, [model.state, optimizer.state]
        state.gradients = mx.compile(state.gradients, inputs=w, outputs=w)
        state.step = mx.compile(state.step, inputs=all_of_it, outputs=all_of_it)
    return state


def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    with mx.stream(state.device):
        inputs = packed([[*tokens, 0]], 0.0)[:3]
        return np.array(state.model(*inputs))[: len(tokens)]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    with mx.stream(state.device):
        loss, grads = state.gradients(*mine(state, batch))
        return float(loss), plain(grads)


def export(state):
    """All that training carries, as NumPy's arrays."""
    weights, adam = state.model.parameters(), state.optimizer.state
    m = tree_map(lambda _, pair: pair["m"], weights, adam)
    v = tree_map(lambda _, pair: pair["v"], weights, adam)
    step = adam["step"].item()
    return microgpt.Snapshot(plain(weights), plain(m), plain(v), step)


def about(state):
    """What computes, and in what precision."""
    how = "compiled" if state.compiled else "not compiled"
    where = f"{state.device.type.name}, float32, {how}"
    workers = f"{state.world.size()} worker" + "s" * (state.world.size() > 1)
    return f"MLX {mx.__version__} on {where}, {workers}"


def main():
    """The program, in every worker. The first speaks for all, on the screen and in the
    log; but what breaks in another one is heard."""
    try:
        first = join().rank() == 0
    except RuntimeError as e:
        print(f"error: the workers do not meet: {e}", file=sys.stderr)
        sys.exit(2)
    with contextlib.ExitStack() as undo:
        if not first:
            sys.argv += ["--log", os.devnull]
            nowhere = undo.enter_context(open(os.devnull, "w"))
            undo.enter_context(contextlib.redirect_stdout(nowhere))
            undo.enter_context(contextlib.redirect_stderr(nowhere))
        microgpt.run(sys.modules[__name__], recipe="scaled")


if __name__ == "__main__":
    main()
