"""microGPT in PyTorch, packed. Same model as 04. New here: no padding. All tokens of a
batch stand in one row (N, C). Only attention has to keep the documents apart, so only
attention spreads them over a grid (B, T, C) (SPEC.md: S6)."""

import sys
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents,
# N tokens of all documents together; T is then the length of the longest document

# ---------------------------------------------------------------- Parameters


def from_rows(matrices, dtype, device):
    """{name: rows} -> {name: tensor}"""
    return {
        name: torch.tensor(np.asarray(rows), dtype=dtype, device=device)
        for name, rows in matrices.items()
    }


def to_rows(tensors):
    """{name: tensor} -> {name: rows}, copied into NumPy arrays"""
    return {name: t.numpy(force=True).copy() for name, t in tensors.items()}


def named_weights(model):
    """{name: parameter}, each under its name in the specification (S3.1)"""
    return {
        name.replace("layers.", "layer").removesuffix(".weight"): p
        for name, p in model.named_parameters()
    }


# ---------------------------------------------------------------- Forward


class GPT(nn.Module):
    """Two embeddings, the layers, and the output matrix (S4)."""

    def __init__(self, config, vocab_size):
        super().__init__()
        C = config.n_embd
        self.wte = nn.Embedding(vocab_size, C)
        self.wpe = nn.Embedding(config.block_size, C)
        self.lm_head = nn.Linear(C, vocab_size, bias=False)  # S3.1; True by default
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))

    def forward(self, tokens, positions, grid, place):
        """The logits of the next token after each position. (N,) -> (N, V)"""
        x = self.wte(tokens) + self.wpe(positions)  # (N, C)
        x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
        for layer in self.layers:
            x = layer(x, grid, place)
        return self.lm_head(x)  # (N, V)


class Layer(nn.Module):
    """Attention, then the MLP; each adds its result to x (S6, S7)."""

    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.n_head, self.relu_power = config.n_head, config.relu_power
        self.attn_wq = nn.Linear(C, C, bias=False)
        self.attn_wk = nn.Linear(C, C, bias=False)
        self.attn_wv = nn.Linear(C, C, bias=False)
        self.attn_wo = nn.Linear(C, C, bias=False)
        self.mlp_fc1 = nn.Linear(C, 4 * C, bias=False)
        self.mlp_fc2 = nn.Linear(4 * C, C, bias=False)

    def forward(self, x, grid, place):
        """(N, C) -> (N, C)"""
        h = rmsnorm(x)
        q, k, v = self.attn_wq(h), self.attn_wk(h), self.attn_wv(h)  # (N, C) each
        x = x + self.attn_wo(attention(q, k, v, self.n_head, grid, place))
        h = self.mlp_fc1(rmsnorm(x))  # (N, 4C)
        return x + self.mlp_fc2(F.relu(h) ** self.relu_power)  # (N, C)


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). The shape stays the same."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)  # S5.1; the default depends on dtype


def attention(q, k, v, n_head, grid, place):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). (N, C) -> (N, C)"""
    B, T = grid.shape
    # (N, C) -> (B, T, C) -> (B, T, H, D) -> (B, H, T, D)
    q, k, v = (a[grid].view(B, T, n_head, -1).transpose(1, 2) for a in (q, k, v))
    # softmax(q kᵀ / √D) v, where a token sees only itself and the tokens before it
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
    h = h.transpose(1, 2).reshape(B * T, -1)  # the heads side by side: (B * T, C)
    return h[place]  # (N, C)


# ---------------------------------------------------------------- Loss and training


def pack(batch):
    """All documents in one row. Returns five tensors:
    targets    the token that follows each token. (N,)
    inputs     the tokens. (N,)
    positions  of each token in its own document. (N,)
    grid       a row for each document: which token stands at each place. (B, T)
    place      where each token stands in the grid, counted row by row. (N,)"""
    targets = torch.tensor([token for tokens in batch for token in tokens[1:]])
    inputs = torch.tensor([token for tokens in batch for token in tokens[:-1]])
    lengths = torch.tensor([len(tokens) - 1 for tokens in batch])  # (B,)
    T = int(lengths.max())
    taken = (torch.arange(T) < lengths[:, None]).flatten()  # is a token there? (B * T,)
    (place,) = taken.nonzero(as_tuple=True)  # (N,)
    # to the right of a document its last token is repeated: the causal mask hides it
    grid = (taken.cumsum(0) - 1).view(-1, T)  # (B, T)
    return targets, inputs, place % T, grid, place


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8).
    Adds its gradient to the weights' gradients."""
    targets, *packed = (on_device(state, tensor) for tensor in pack(batch))
    logits = state.model(*packed)  # (N, V)
    loss = F.cross_entropy(logits, targets)  # S8.2: the mean of N numbers
    loss.backward()  # the chain rule: adds d loss / d p to p.grad of each weight p
    return loss.detach()


def adam(state, learning_rate):
    """One step of Adam for all weights (S9); then their gradients are reset."""
    state.step += 1
    state.optimizer.param_groups[0]["lr"] = learning_rate
    state.optimizer.step()
    state.optimizer.zero_grad()  # or the next backward() would add to this gradient


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss."""
    for batch, learning_rate in batches:
        if state.compiled:
            loss = compiled_step(state, batch, learning_rate)
        else:
            loss = loss_and_backward(state, batch)
            adam(state, learning_rate)
        yield loss  # a tensor: to read its value here would wait for the device


# A model this small spends its time on the overhead of each operation, not on its
# arithmetic. So the same step is written a second time, for torch.compile: one graph
# from tokens to new weights. All weights lie in one flat buffer, so that Adam is three
# lines. N, T and B vary from batch to batch, so the graph serves shapes of any size.


def whole_step(model, config, buffers, scalars, targets, packed):
    """The loss of a batch. Adam changes the weights by its gradient (S9)."""
    weights, m, v = buffers
    learning_rate, correct1, correct2 = scalars

    def loss(weights):
        parts = weights.split([p.numel() for p in model.parameters()])
        pairs = zip(model.named_parameters(), parts)
        views = {name: part.view(p.shape) for (name, p), part in pairs}
        # call the model with these views in place of its own parameters
        logits = torch.func.functional_call(model, views, packed)  # (N, V)
        return F.cross_entropy(logits, targets)  # S8.2: the mean of N numbers

    # autograd again, with the gradient as a result and not in p.grad
    gradient, value = torch.func.grad_and_value(loss)(weights)
    m.mul_(config.beta1).add_((1 - config.beta1) * gradient)  # S9.1
    v.mul_(config.beta2).add_((1 - config.beta2) * gradient * gradient)  # S9.2
    # S9.4; m / correct1 and v / correct2 are S9.3
    weights -= learning_rate * (m / correct1) / ((v / correct2).sqrt() + 1e-8)
    return value


def compiled_step(state, batch, learning_rate):
    """One step of training by the compiled graph. Returns its loss."""
    state.step += 1
    config = state.config
    correct1, correct2 = 1 - config.beta1**state.step, 1 - config.beta2**state.step
    # a tensor, since for each new value of a float the graph would be compiled again
    scalars = torch.tensor([learning_rate, correct1, correct2], dtype=state.dtype)
    scalars = on_device(state, scalars)
    targets, *packed = (on_device(state, tensor) for tensor in pack(batch))
    return state.compiled(
        state.model, config, state.buffers, scalars, targets, tuple(packed)
    )


def compile_step(state):
    """Move weights and moments into flat buffers, and compile whole_step for these."""
    weights, moments = list(state.weights.values()), state.optimizer.state
    m, v = ([moments[p][key] for p in weights] for key in ("exp_avg", "exp_avg_sq"))
    state.buffers = [flat_buffer(weights), flat_buffer(m), flat_buffer(v)]
    state.compiled = torch.compile(
        whole_step, fullgraph=True, dynamic=True, isolate_recompiles=True,
        recompile_limit=64,  # if N, T or B is 1, the graph is compiled again
        options={
            "cpp_wrapper": True,  # the code that calls the kernels is C++ too
            "guard_filter_fn": guards_of_shapes,
        },
    )  # fmt: skip
    # Compile now, so that a missing compiler is reported before training starts. This
    # trial is a step too: it works on copies, and is not counted.
    step, buffers = state.step, state.buffers
    state.buffers = [buffer.clone() for buffer in buffers]
    B, T = state.config.batch_size, state.config.block_size
    try:
        compiled_step(state, [[0] * (T + 1)] + [[0] * max(2, T)] * (B - 1), 0.0)
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[0]
        raise microgpt.InputError(
            f"compile failed ({reason}): it needs a C++ compiler, or leave it out"
        ) from None
    state.step, state.buffers = step, buffers


def guards_of_shapes(guards):
    """Check only the shapes before a call: nothing else changes between calls."""
    return [guard.guard_type in ("TENSOR_MATCH", "SHAPE_ENV") for guard in guards]


def flat_buffer(tensors):
    """One row of the numbers of all tensors; each tensor becomes a view of its part."""
    buffer = torch.cat([t.detach().flatten() for t in tensors])
    nn.utils.vector_to_parameters(buffer, tensors)
    return buffer


# ---------------------------------------------------------------- Interface


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu",
    compile: bool = False,
):
    """A state that continues from the snapshot,
    whichever version the snapshot came from."""
    torch.set_num_threads(1)  # at this size a second thread costs more than it saves
    torch.set_float32_matmul_precision("highest")  # no TF32 on a GPU
    device, dtype = choose_device(device, dtype), getattr(torch, dtype)
    model = GPT(config, vocab_size=len(snapshot.weights["wte"]))
    weights = named_weights(model)
    w, m, v = (from_rows(part, dtype, device) for part in snapshot[:3])
    for name, p in weights.items():
        p.data = w[name]  # in place of the random numbers that nn.Linear has drawn
    optimizer = torch.optim.Adam(
        weights.values(), betas=(config.beta1, config.beta2), eps=1e-8, fused=True
    )
    for name, p in weights.items():  # Adam continues from the snapshot's moments too
        step = torch.tensor(float(snapshot.step), device=device)
        optimizer.state[p] = {"step": step, "exp_avg": m[name], "exp_avg_sq": v[name]}
    state = SimpleNamespace(
        config=config, model=model, weights=weights, optimizer=optimizer,
        step=snapshot.step, dtype=dtype, device=device, compiled=None,
    )  # fmt: skip
    if compile:
        compile_step(state)
    return state


def choose_device(device, dtype):
    """The device asked for; "auto" takes the first of these that is available."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available() and dtype == "float32",
        "cpu": True,
    }
    here = [name for name in available if available[name]]
    if device not in ["auto", *here]:
        raise microgpt.InputError(
            f"device {device} cannot compute {dtype} here: choose {' or '.join(here)}"
        )
    return here[0] if device == "auto" else device


def on_device(state, tensor):
    """The tensor on the state's device. Python does not wait for the copy."""
    return tensor.to(state.device, non_blocking=True)


@torch.inference_mode()  # records no graph: no gradient is needed here
def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    # pack takes documents with a target for each token; the last one's may be any: 0
    _, *packed = (on_device(state, tensor) for tensor in pack([[*tokens, 0]]))
    return state.model(*packed).numpy(force=True)


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight.
    Changes nothing in the state."""
    loss = loss_and_backward(state, batch)
    grads = to_rows({name: p.grad for name, p in state.weights.items()})
    state.optimizer.zero_grad()
    return float(loss), grads


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    moments = {name: state.optimizer.state[p] for name, p in state.weights.items()}
    m = to_rows({name: of["exp_avg"] for name, of in moments.items()})
    v = to_rows({name: of["exp_avg_sq"] for name, of in moments.items()})
    return microgpt.Snapshot(to_rows(state.weights), m, v, state.step)


def about(state):
    """Library, version, device, precision and threads:
    the first line of the output."""
    dtype = str(state.dtype).removeprefix("torch.")
    how = f"{torch.get_num_threads()} thread" + ", compiled" * bool(state.compiled)
    return f"PyTorch {torch.__version__} on {state.device}, {dtype}, {how}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__], recipe="scaled")
