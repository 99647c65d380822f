"""microGPT in MLX, a batch at once. Same model as 06. New here: packing and workers.
The tokens of all documents stand in one row; only attention, where documents must not
mix, uses a padded grid. With mlx.launch, several workers compute the same step
together, each on its part of the batch (SPEC.md: S3 to S9)."""

import contextlib
import functools
import os
import sys
from itertools import chain
from shutil import which
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

os.environ.setdefault("MLX_ENABLE_TF32", "0")  # else a GPU may multiply in 10 bits
# for the CPU, MLX keeps what g++ compiles in the temporary folder, under a fixed name
os.environ["TMPDIR"] = str(microgpt.private_folder("mlx"))

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents,
# N tokens of all documents together; T is then the length of the longest, rounded up

# ---------------------------------------------------------------- Parameters


def from_rows(matrices):
    """{name: rows} (S3.1) -> the arrays, in a tree of the same form as the modules'.
    layer0.mlp_fc1 becomes layers.0.mlp_fc1.weight; wq, wk and wv become one matrix."""
    leaves = []
    for name, rows in matrices.items():
        if name.endswith("attn_wq"):  # wq, wk and wv, one above the other: (3C, C)
            rows = np.concatenate([matrices[name[:-1] + x] for x in "qkv"])
            name += "kv"
        if not name.endswith(("attn_wk", "attn_wv")):  # these two are in attn_wqkv
            array = mx.array(np.asarray(rows, np.float32))
            leaves.append((name.replace("layer", "layers.") + ".weight", array))
    return tree_unflatten(leaves)


def to_rows(tree):
    """The arrays, in a tree of the same form as the modules' -> {name: rows}, copied
    into NumPy arrays"""
    matrices = {}
    for path, array in tree_flatten(tree):
        name = path.replace("layers.", "layer").removesuffix(".weight")
        if name.endswith("attn_wqkv"):
            parts = np.split(np.array(array), 3)  # (3C, C) -> (C, C) each
            matrices |= {name[:-3] + x: part for x, part in zip("qkv", parts)}
        else:
            matrices[name] = np.array(array)
    return matrices


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). The shape stays the same."""
    return mx.fast.rms_norm(x, None, 1e-5)  # S5.1: None is no gain; eps has no default


@functools.cache
def causal_mask(T):
    """Added to the scores: 0 for positions up to the current one, -inf for later ones
    (S6.4). (T, T)"""
    return mx.array(np.triu(np.full((T, T), -np.inf, np.float32), k=1))


class Layer(nn.Module):
    """Attention, then the MLP; each adds its result to x (S6, S7)."""

    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.n_head, self.relu_power = config.n_head, config.relu_power
        self.attn_wqkv = nn.Linear(C, 3 * C, bias=False)  # one product for q, k and v
        self.attn_wo = nn.Linear(C, C, bias=False)
        self.mlp_fc1 = nn.Linear(C, 4 * C, bias=False)
        self.mlp_fc2 = nn.Linear(4 * C, C, bias=False)

    def attention(self, h, place, grid):
        """Each head's output: the average of the values so far, weighted by how well
        the query matches each key (S6). Then attn_wo. (N, C) -> (N, C)"""
        B, T = grid.shape
        qkv = self.attn_wqkv(h)[grid]  # (N, 3C) -> (B, T, 3C): a row for each document
        qkv = qkv.reshape(B, T, 3 * self.n_head, -1).swapaxes(1, 2)  # (B, 3H, T, D)
        q, k, v = mx.split(qkv, 3, axis=1)  # (B, H, T, D) each
        scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5  # (B, H, T, T)
        out = mx.softmax(scores + causal_mask(T), axis=-1) @ v  # (B, H, T, D)
        out = out.swapaxes(1, 2).reshape(B * T, -1)  # the heads side by side
        out = out[place]  # (B * T, C) -> (N, C): all tokens in one row again
        return self.attn_wo(out)

    def mlp(self, h):
        """(N, C) -> (N, C)"""
        a = mx.maximum(self.mlp_fc1(h), 0)  # (N, 4C)
        b = functools.reduce(mx.multiply, [a] * self.relu_power)  # S7.2: a, a * a, …
        return self.mlp_fc2(b)  # (N, C)

    def __call__(self, x, place, grid):
        x = x + self.attention(rmsnorm(x), place, grid)
        return x + self.mlp(rmsnorm(x))


class GPT(nn.Module):
    """Two embeddings, the layers, and the output matrix (S4). nn.Embedding and
    nn.Linear set up random weights, but MLX is lazy: `create` replaces them before they
    are ever computed."""

    def __init__(self, config, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.layers = [Layer(config) for _ in range(config.n_layer)]
        self.lm_head = nn.Linear(config.n_embd, vocab_size, bias=False)

    def __call__(self, tokens, place, grid):
        """The logits of the next token after each position. (N,) -> (N, V)"""
        position = place % grid.shape[1]  # counted from the start of the document
        x = self.wte(tokens) + self.wpe(position)  # (N, C)
        x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
        for layer in self.layers:
            x = layer(x, place, grid)
        return self.lm_head(x)  # (N, V)


# ---------------------------------------------------------------- Loss and training


def round_up(n, multiple):
    """The smallest multiple that is not below n, and at least one."""
    return max(1, -(-n // multiple)) * multiple


def pack(documents, share):
    """The arrays of a batch, with the tokens of all documents in one row:
    tokens   (N,)    the inputs, one document after the other
    place    (N,)    where each token stands in the grid, counted row by row
    grid     (B, T)  a row for each document: which token stands at each place
    targets  (N,)    the next token after each input
    shares   (N,)    the share of each target in the mean: `share`, or 0 for padding
    N and T are rounded up: fewer shapes, so fewer compilations. The causal mask hides
    the grid's padding from the real tokens, since it is on the right (S6.4)."""
    lengths = [len(document) - 1 for document in documents]
    n, T = sum(lengths), round_up(max(lengths), 4)
    real = np.arange(T) < np.array(lengths)[:, None]  # (B, T): False is padding
    grid = np.zeros(real.shape, np.int32)
    grid[real] = np.arange(n)  # the real places, row by row, are the row of tokens
    padding = [0] * (round_up(n, 16) - n)
    tokens = [token for document in documents for token in document[:-1]]
    targets = [token for document in documents for token in document[1:]]
    columns = tokens, np.flatnonzero(real).tolist(), targets, [share] * n
    tokens, place, targets, shares = (mx.array(column + padding) for column in columns)
    return tokens, place, mx.array(grid), targets, shares


def batch_loss(model, tokens, place, grid, targets, shares):
    """What these documents add to the mean over all targets of the batch (S8)."""
    losses = nn.losses.cross_entropy(model(tokens, place, grid), targets)  # (N,)
    return (losses * shares).sum()


def gradients(model, *arrays):
    """The batch's loss and its gradient for each weight: the average over the workers,
    which exchange all of it in one message."""
    own = nn.value_and_grad(model, batch_loss)(model, *arrays)
    return nn.average_gradients(own)


def take_step(model, optimizer, *arrays):
    """One step of Adam (S9). Every worker takes it with the same numbers."""
    loss, grads = gradients(model, *arrays)
    optimizer.update(model, grads)  # Adam counts the steps too: optimizer.state["step"]
    return loss


def own_documents(state, batch):
    """The arrays of this worker's part of the batch. With W workers the share of each
    target is W / n, as `gradients` divides the sum over the workers by W: so each of
    the batch's n targets has 1 / n of the mean, whichever worker computes it (S8.2)."""
    rank, workers = state.world.rank(), state.world.size()
    n = sum(len(tokens) - 1 for tokens in batch)  # targets in the batch
    # a worker without a document takes an empty one: the others wait for its message
    return pack(batch[rank::workers] or [[0]], workers / n)


def while_all_have_batches(batches):
    """Yield batches as long as every worker has one. After Ctrl-C, which may reach the
    workers at different times, they all stop at the same step."""
    for item in chain(batches, [None]):  # None: this worker has no more batches
        has_batch = mx.array(int(item is not None))
        if not mx.distributed.all_min(has_batch).item():
            return
        yield item


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss. float(loss)
    waits for the computation."""
    for batch, learning_rate in while_all_have_batches(batches):
        with mx.stream(state.device):
            # an array in the optimizer's state: to change it does not recompile
            state.optimizer.learning_rate = learning_rate
            loss = state.take_step(*own_documents(state, batch))
            # begin to compute the loss, the weights and the moments; do not wait
            mx.async_eval(loss, state.model.state, state.optimizer.state)
        yield loss


# ---------------------------------------------------------------- Interface


def choose_device(device):
    """The device that was asked for; "auto" is the GPU, if there is one."""
    here = [name for name in ("gpu", "cpu") if mx.is_available(getattr(mx, name))]
    if device not in ("auto", *here):
        raise microgpt.InputError(
            f"device {device} is not available here: choose {' or '.join(here)}"
        )
    return mx.Device(getattr(mx, here[0] if device == "auto" else device))


def join_workers():
    """The group of workers that mlx.launch has started; without it, a group of 1."""
    world = mx.distributed.init()
    if world.rank():
        # each worker compiles in its own folder: none overwrites another's files
        folder = os.path.join(os.environ["TMPDIR"], f"worker-{world.rank()}")
        os.makedirs(folder, exist_ok=True)
        os.environ["TMPDIR"] = folder
    return world


def create(
    config,
    snapshot,
    dtype: Literal["float32"] = "float32",
    device: Literal["auto", "cpu", "gpu"] = "cpu",
    compile: bool = True,
):
    """A state that continues from the snapshot,
    whichever version the snapshot came from."""
    model = GPT(config, len(snapshot.weights["wte"]))
    model.update(from_rows(snapshot.weights))
    optimizer = optim.Adam(
        config.learning_rate,
        betas=[config.beta1, config.beta2],  # S9.1, S9.2; MLX defaults to 0.9, 0.999
        eps=1e-8,
        bias_correction=True,  # S9.3; MLX defaults to False
    )
    # Adam continues from the snapshot's moments and its number of steps
    optimizer.init(model.trainable_parameters())
    moments = from_rows(snapshot.first_moment), from_rows(snapshot.second_moment)
    optimizer.state.update(tree_map(lambda m, v: {"m": m, "v": v}, *moments))
    optimizer.state["step"] = mx.array(snapshot.step, mx.uint64)

    state = SimpleNamespace(config=config, model=model, optimizer=optimizer)
    state.device, state.world = choose_device(device), join_workers()
    # for the CPU, MLX compiles with g++; without g++ the step stays uncompiled
    state.compiled = compile and (state.device == mx.gpu or which("g++") is not None)
    state.gradients = functools.partial(gradients, model)
    state.take_step = functools.partial(take_step, model, optimizer)
    if state.compiled:
        # mx.compile must be told which arrays a function reads and changes besides its
        # arguments; any other array would become a constant of the compiled program
        weights, both = model.state, [model.state, optimizer.state]
        state.gradients = mx.compile(state.gradients, inputs=weights, outputs=weights)
        state.take_step = mx.compile(state.take_step, inputs=both, outputs=both)
    return state


def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    with mx.stream(state.device):
        inputs = pack([[*tokens, 0]], 0.0)[:3]  # the last token is only a target
        return np.array(state.model(*inputs))[: len(tokens)]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight.
    Changes nothing in the state."""
    with mx.stream(state.device):
        loss, grads = state.gradients(*own_documents(state, batch))
        return float(loss), to_rows(grads)


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    weights, moments = state.model.parameters(), state.optimizer.state
    m = tree_map(lambda _, pair: pair["m"], weights, moments)
    v = tree_map(lambda _, pair: pair["v"], weights, moments)
    step = state.optimizer.state["step"].item()
    return microgpt.Snapshot(to_rows(weights), to_rows(m), to_rows(v), step)


def about(state):
    """Library, version, device, precision and threads:
    the first line of the output."""
    how = "compiled" if state.compiled else "not compiled"
    workers = f"{state.world.size()} worker" + "s" * (state.world.size() > 1)
    where = f"{state.device.type.name}, float32, {how}"
    return f"MLX {mx.__version__} on {where}, {workers}"


def main():
    """The program; with mlx.launch it runs once in each worker. Only the first worker
    prints and writes the log. An error that nobody expected is shown by every worker:
    its traceback is printed after the redirection has ended."""
    try:
        first = join_workers().rank() == 0
    except RuntimeError as e:
        hint = "check the hosts; `mlx.launch -p 40000` takes other ports"
        print(f"error: the workers cannot connect ({e}): {hint}", file=sys.stderr)
        sys.exit(2)
    with contextlib.ExitStack() as stack:
        if not first:
            sys.argv += ["--log", os.devnull]
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        microgpt.run(sys.modules[__name__], recipe="scaled")


if __name__ == "__main__":
    main()
