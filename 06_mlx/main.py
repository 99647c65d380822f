"""microGPT in MLX. Same model as 05. New here: lazy evaluation and unified memory.
An operation only records what to compute; the computation runs when its result is
needed. CPU and GPU read the same memory, so a device is where an operation runs, not
where an array is stored (SPEC.md: S3 to S9)."""

import functools
import os
import sys
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

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

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

    def attention(self, h):
        """Each head's output: the average of the values so far, weighted by how well
        the query matches each key (S6). Then attn_wo. (T, C) -> (T, C)"""
        T, C = h.shape
        qkv = self.attn_wqkv(h)  # (T, 3C)
        qkv = qkv.reshape(T, 3 * self.n_head, -1).swapaxes(0, 1)  # (3H, T, D)
        q, k, v = mx.split(qkv, 3)  # (H, T, D) each
        scores = q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5  # (H, T, T)
        out = mx.softmax(scores + causal_mask(T), axis=-1) @ v  # (H, T, D)
        out = out.swapaxes(0, 1).reshape(T, C)  # the heads side by side
        return self.attn_wo(out)

    def mlp(self, h):
        """(T, C) -> (T, C)"""
        a = mx.maximum(self.mlp_fc1(h), 0)  # (T, 4C)
        b = functools.reduce(mx.multiply, [a] * self.relu_power)  # S7.2: a, a * a, …
        return self.mlp_fc2(b)  # (T, C)

    def __call__(self, x):
        x = x + self.attention(rmsnorm(x))
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

    def __call__(self, tokens):
        """The logits of the next token after each position. (T,) -> (T, V)"""
        x = self.wte(tokens) + self.wpe.weight  # (T, C), T is the block size: see pad
        x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)  # (T, V)


# ---------------------------------------------------------------- Loss and training


def pad(state, batch):
    """For each document its inputs, its targets, and the share of each target in the
    mean. (T,) each. All documents are padded to the block size, so that one compiled
    program serves them all. The causal mask hides the padding from the real tokens
    (S6.4), and the padding's share in the loss is 0."""
    n = sum(len(tokens) - 1 for tokens in batch)  # targets in the batch
    documents = []
    for tokens in batch:
        padding = [0] * (state.config.block_size + 1 - len(tokens))
        shares = [1 / n] * (len(tokens) - 1) + [0.0] * len(padding)
        arrays = tokens[:-1] + padding, tokens[1:] + padding, shares
        documents.append([mx.array(x) for x in arrays])
    return documents


def document_loss(model, inputs, targets, shares):
    """What the document adds to the mean over all targets of its batch (S8)."""
    losses = nn.losses.cross_entropy(model(inputs), targets)  # (T,)
    return (losses * shares).sum()


def gradients(model, document, *sums):
    """The document's loss and its gradient for each weight, added to the sums over the
    documents before it, if there are any."""
    own = nn.value_and_grad(model, document_loss)(model, *document)
    return tree_map(mx.add, own, sums) if sums else own


def take_step(model, optimizer, document, *sums):
    """One step of Adam (S9). The document is the last one of its batch; the sums are
    the loss and the gradient of the others."""
    loss, grads = gradients(model, document, *sums)
    optimizer.update(model, grads)  # Adam counts the steps too: optimizer.state["step"]
    return loss


def accumulate(state, documents):
    """The sums of the documents' losses and gradients, or () if there is none."""
    sums = ()
    for document in documents:
        sums = state.gradients(document, *sums)
        mx.async_eval(sums)  # begin now: else the graph of the whole batch is kept
    return sums


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss. float(loss)
    waits for the computation. Without it, Python builds the graph of the next step
    while this step is still being computed."""
    for batch, learning_rate in batches:
        with mx.stream(state.device):
            *others, last = pad(state, batch)
            # an array in the optimizer's state: to change it does not recompile
            state.optimizer.learning_rate = learning_rate
            loss = state.take_step(last, *accumulate(state, others))
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
    state.device = choose_device(device)
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
        [(inputs, _, _)] = pad(state, [[*tokens, 0]])  # the last token is only a target
        return np.array(state.model(inputs))[: len(tokens)]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight.
    Changes nothing in the state."""
    with mx.stream(state.device):
        loss, grads = accumulate(state, pad(state, batch))
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
    return f"MLX {mx.__version__} on {state.device.type.name}, float32, {how}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
