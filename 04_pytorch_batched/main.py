"""microGPT in PyTorch, a batch at once. Same model as 03. New here: padding. Documents
of any length stand in one tensor: the shorter ones are padded on the right. The causal
mask hides the padding from all real tokens, and the loss ignores it (SPEC.md: S6.4,
S8.2)."""

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
        """The logits of the next token after each position. (B, T) -> (B, T, V)"""
        T = tokens.shape[-1]
        x = self.wte(tokens) + self.wpe.weight[:T]  # (B, T, C)
        x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)  # (B, T, V)


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
        """(B, T, C) -> (B, T, C)"""
        h = rmsnorm(x)
        q, k, v = self.attn_wq(h), self.attn_wk(h), self.attn_wv(h)  # (B, T, C) each
        x = x + self.attn_wo(attention(q, k, v, self.n_head))
        h = self.mlp_fc1(rmsnorm(x))  # (B, T, 4C)
        return x + self.mlp_fc2(F.relu(h) ** self.relu_power)  # (B, T, C)


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). The shape stays the same."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)  # S5.1; the default depends on dtype


def attention(q, k, v, n_head):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). (B, T, C) -> (B, T, C)"""
    B, T, C = q.shape
    # (B, T, C) -> (B, T, H, D) -> (B, H, T, D)
    q, k, v = (a.view(B, T, n_head, -1).transpose(1, 2) for a in (q, k, v))
    # softmax(q kᵀ / √D) v, where a token sees only itself and the tokens before it
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
    return h.transpose(1, 2).reshape(B, T, C)  # the heads side by side: (B, T, C)


# ---------------------------------------------------------------- Loss and training


NO_TARGET = -100  # cross_entropy ignores a target of this value


def pad(batch, length=0, filler=0):
    """Inputs and targets of all documents, padded on the right to one length: that of
    the longest document, or `length` if it is larger. -> (2, B, T)"""
    length = max([length] + [len(tokens) - 1 for tokens in batch])
    inputs, targets = [], []
    for tokens in batch:
        rest = length + 1 - len(tokens)
        inputs.append(tokens[:-1] + [filler] * rest)
        targets.append(tokens[1:] + [NO_TARGET] * rest)
    return torch.tensor([inputs, targets])


def mean_loss(model, inputs, targets):
    """The mean over all real targets (S8.2), not over all B * T places."""
    logits = model(inputs).flatten(0, 1)  # (B * T, V)
    targets = targets.flatten()  # (B * T,)
    return F.cross_entropy(logits, targets, ignore_index=NO_TARGET)


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8).
    Adds its gradient to the weights' gradients."""
    inputs, targets = on_device(state, pad(batch))  # (B, T) each
    loss = mean_loss(state.model, inputs, targets)
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
        loss = loss_and_backward(state, batch)
        adam(state, learning_rate)
        yield loss  # a tensor: to read its value here would wait for the device


# ---------------------------------------------------------------- Interface


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu",
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
        step=snapshot.step, dtype=dtype, device=device,
    )  # fmt: skip
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
    return state.model(on_device(state, torch.tensor([tokens])))[0].numpy(force=True)


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
    how = f"{torch.get_num_threads()} thread"
    return f"PyTorch {torch.__version__} on {state.device}, {dtype}, {how}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__], recipe="scaled")
