"""microGPT in MLX. Same numbers as 05. New here: an operation only notes what is to be
computed, and nothing is until something asks (lazy evaluation); and arrays lie in one
memory that CPU and GPU share: a device is where an operation runs, not where an array
is (SPEC S3-S9).
"""

import functools
import os
import sys
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

# T tokens, C n_embd, H heads, D head_dim, V vocabulary

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
    """Scale each row to unit mean square. (T, C) -> (T, C)"""
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

    def attention(self, h):
        """What each head reads from the tokens so far (S6). (T, C) -> (T, C)"""
        T, C = h.shape
        qkv = self.attn_wqkv(h).reshape(T, 3 * self.n_head, -1).swapaxes(0, 1)
        q, k, v = mx.split(qkv, 3)  # (3H, T, D) -> (H, T, D) each
        scores = q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5  # (H, T, T)
        out = mx.softmax(scores + causal(T), axis=-1) @ v
        return self.attn_wo(out.swapaxes(0, 1).reshape(T, C))

    def mlp(self, h):
        a = mx.maximum(self.mlp_fc1(h), 0)
        return self.mlp_fc2(functools.reduce(mx.multiply, [a] * self.power))  # S7.2

    def __call__(self, x):
        x = x + self.attention(rmsnorm(x))
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

    def __call__(self, tokens):
        """The logits of what follows each token of a block. (T,) -> (T, V)"""
        x = rmsnorm(self.wte(tokens) + self.wpe.weight)  # S4.2: not before lm_head
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


# ---------------------------------------------------------------- Loss and training


def padded(tokens, share, block_size):
    """Inputs, targets, and each target's share in the mean. All documents get one
    length, so that one compiled program serves them: what stands behind the end is seen
    by no position before it (S6.4), and has no share."""
    n = len(tokens) - 1
    spare = [0] * (block_size - n)
    shares = [share] * n + [0.0] * len(spare)
    return [mx.array(x) for x in (tokens[:-1] + spare, tokens[1:] + spare, shares)]


def document_loss(model, inputs, targets, shares):
    """What the document adds to the mean over all targets of its batch (S8)."""
    return (nn.losses.cross_entropy(model(inputs), targets) * shares).sum()


def gradients(model, document, *so_far):
    """The loss and its gradient, added to those of the documents before, if any."""
    found = nn.value_and_grad(model, document_loss)(model, *document)
    return tree_map(mx.add, found, so_far) if so_far else found


def step(model, optimizer, document, *so_far):
    """Move the weights, by the last document of a batch and those before it."""
    loss, grads = gradients(model, document, *so_far)
    optimizer.update(model, grads)
    return loss


def documents(state, batch):
    n = sum(len(tokens) - 1 for tokens in batch)
    return [padded(tokens, 1 / n, state.config.block_size) for tokens in batch]


def walk(state, documents):
    """Loss and gradient of documents, one after the other."""
    so_far = ()
    for document in documents:
        so_far = state.gradients(document, *so_far)
        mx.async_eval(so_far)  # or the graphs of all of them would pile up
    return so_far


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss, still on its way:
    float() waits for it. Whoever does not wait has the next step's graph made while
    this one is computed."""
    for batch, learning_rate in batches:
        with mx.stream(state.device):
            *others, last = documents(state, batch)
            # an array in the compiled state, so a new value is no new program
            state.optimizer.learning_rate = learning_rate
            loss = state.step(last, *walk(state, others))
            mx.async_eval(loss, state.model.state, state.optimizer.state)
        yield loss


# ---------------------------------------------------------------- For whoever drives it


def find(device):
    """The device of that name, or MLX's choice: the GPU where there is one."""
    here = [name for name in ("cpu", "gpu") if mx.is_available(getattr(mx, name))]
    if device not in ("auto", *here):
        raise microgpt.InputError(f"device is {device}: MLX has {', '.join(here)} here")
    return mx.default_device() if device == "auto" else mx.Device(getattr(mx, device))


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
    state.device = find(device)
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
        inputs, _, _ = padded([*tokens, 0], 0.0, state.config.block_size)
        return np.array(state.model(inputs))[: len(tokens)]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    with mx.stream(state.device):
        loss, grads = walk(state, documents(state, batch))
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
    return f"MLX {mx.__version__} on {state.device.type.name}, float32, {how}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
