"""microGPT in PyTorch. Same model as 02. New here: autograd. Each operation on a
tensor records itself in a graph. loss.backward() walks the graph backwards and fills in
the gradient of every weight: none is written by hand (SPEC.md: S3 to S9)."""

import sys
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

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

    def forward(self, tokens):
        """The logits of the next token after each position. (T,) -> (T, V)"""
        T = tokens.shape[-1]
        x = self.wte(tokens) + self.wpe.weight[:T]  # (T, C)
        x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)  # (T, V)


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

    def forward(self, x):
        """(T, C) -> (T, C)"""
        h = rmsnorm(x)
        q, k, v = self.attn_wq(h), self.attn_wk(h), self.attn_wv(h)  # (T, C) each
        x = x + self.attn_wo(attention(q, k, v, self.n_head))
        h = self.mlp_fc1(rmsnorm(x))  # (T, 4C)
        return x + self.mlp_fc2(F.relu(h) ** self.relu_power)  # (T, C)


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). The shape stays the same."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)  # S5.1; the default depends on dtype


def attention(q, k, v, n_head):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). (T, C) -> (T, C)"""
    T, C = q.shape
    # (T, C) -> (1, T, H, D) -> (1, H, T, D)
    q, k, v = (a.view(1, T, n_head, -1).transpose(1, 2) for a in (q, k, v))
    # softmax(q kᵀ / √D) v, where a token sees only itself and the tokens before it
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (1, H, T, D)
    return h.transpose(1, 2).reshape(T, C)  # the heads side by side: (T, C)


# ---------------------------------------------------------------- Loss and training


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8).
    Adds its gradient to the weights' gradients."""
    n, total = sum(len(tokens) - 1 for tokens in batch), 0.0
    for tokens in batch:  # backward() after each document, as that frees the graph
        tokens = on_device(state, torch.tensor(tokens))
        logits = state.model(tokens[:-1])  # (T, V)
        loss = F.cross_entropy(logits, tokens[1:], reduction="sum") / n  # S8.2
        loss.backward()  # the chain rule: adds d loss / d p to p.grad of each weight p
        total = total + loss.detach()
    return total


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
# lines. Each document is padded to the block, so that all shapes are fixed.


def whole_step(model, config, buffers, scalars, document, last):
    """The loss of one document. Adds its gradient to the buffer; after the batch's last
    document, Adam changes the weights (S9)."""
    weights, m, v, gradient = buffers
    n, learning_rate, correct1, correct2 = scalars

    def loss(weights):
        parts = weights.split([p.numel() for p in model.parameters()])
        pairs = zip(model.named_parameters(), parts)
        views = {name: part.view(p.shape) for (name, p), part in pairs}
        # call the model with these views in place of its own parameters
        logits = torch.func.functional_call(model, views, document[0])  # (T, V)
        return F.cross_entropy(logits, document[1], reduction="sum") / n  # S8.2

    # autograd again, with the gradient as a result and not in p.grad
    g, value = torch.func.grad_and_value(loss)(weights)
    gradient += g
    if last:
        m.mul_(config.beta1).add_((1 - config.beta1) * gradient)  # S9.1
        v.mul_(config.beta2).add_((1 - config.beta2) * gradient * gradient)  # S9.2
        # S9.4; m / correct1 and v / correct2 are S9.3
        weights -= learning_rate * (m / correct1) / ((v / correct2).sqrt() + 1e-8)
        gradient.zero_()
    return value


def compiled_step(state, batch, learning_rate):
    """One step of training by the compiled graph. Returns its loss."""
    state.step += 1
    config, total = state.config, 0.0
    n = sum(len(tokens) - 1 for tokens in batch)
    correct1, correct2 = 1 - config.beta1**state.step, 1 - config.beta2**state.step
    # a tensor, since for each new value of a float the graph would be compiled again
    scalars = torch.tensor([n, learning_rate, correct1, correct2], dtype=state.dtype)
    scalars = on_device(state, scalars)
    for i, tokens in enumerate(batch):
        rest = config.block_size + 1 - len(tokens)
        # cross_entropy ignores a target of -100
        inputs, targets = tokens[:-1] + [0] * rest, tokens[1:] + [-100] * rest
        document = on_device(state, torch.tensor([inputs, targets]))  # (2, T)
        last = i + 1 == len(batch)
        total = total + state.compiled(
            state.model, config, state.buffers, scalars, document, last
        )
    return total


def compile_step(state):
    """Move weights and moments into flat buffers, and compile whole_step for these."""
    weights, moments = list(state.weights.values()), state.optimizer.state
    m, v = ([moments[p][key] for p in weights] for key in ("exp_avg", "exp_avg_sq"))
    state.buffers = [flat_buffer(weights), flat_buffer(m), flat_buffer(v)]
    state.buffers.append(torch.zeros_like(state.buffers[0]))  # the gradient
    state.compiled = torch.compile(
        whole_step, fullgraph=True, dynamic=False, isolate_recompiles=True,
        options={
            "cpp_wrapper": True,  # the code that calls the kernels is C++ too
            # check only `last` before a call: nothing else changes between calls
            "guard_filter_fn": lambda guards: [g.name == "last" for g in guards],
        },
    )  # fmt: skip
    # Compile now, so that a missing compiler is reported before training starts. This
    # trial is a step too: it works on copies, and is not counted.
    step, buffers = state.step, state.buffers
    state.buffers = [buffer.clone() for buffer in buffers]
    try:
        compiled_step(state, [[0, 0]] * min(2, state.config.batch_size), 0.0)
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[0]
        raise microgpt.InputError(
            f"compile failed ({reason}): it needs a C++ compiler, or leave it out"
        ) from None
    state.step, state.buffers = step, buffers


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
    return state.model(on_device(state, torch.tensor(tokens))).numpy(force=True)


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
    microgpt.run(sys.modules[__name__])
