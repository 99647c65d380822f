"""microGPT in PyTorch, a batch at once. Same model as 03. New here: documents of any
length stand in one tensor. The shorter ones are padded on the right, where the causal
mask hides what was added and the loss passes over it (SPEC.md: S6.4, S8.2)."""

import sys
from types import SimpleNamespace
from typing import Literal

try:
    import microgpt
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    hint = "`uv run python main.py` brings it"
    print(f"error: {missing.name} is missing: {hint}", file=sys.stderr)
    sys.exit(2)

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

# ---------------------------------------------------------------- Parameters


def tensors(matrices, dtype, device):
    """{name: rows} -> {name: tensor}"""
    return {
        name: torch.tensor(np.asarray(rows), dtype=dtype, device=device)
        for name, rows in matrices.items()
    }


def named(model):
    """{name: parameter}, each under its name in S3.1"""
    return {
        name.replace("layers.", "layer").removesuffix(".weight"): p
        for name, p in model.named_parameters()
    }


# ---------------------------------------------------------------- Forward


class GPT(nn.Module):
    def __init__(self, config, vocab_size):
        super().__init__()
        C = config.n_embd
        self.wte = nn.Embedding(vocab_size, C)
        self.wpe = nn.Embedding(config.block_size, C)
        self.lm_head = nn.Linear(C, vocab_size, bias=False)  # S3.1; True by default
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))

    def forward(self, tokens):
        """What each token says of the next. (B, T) -> (B, T, V)"""
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[-1]]
        x = rmsnorm(x)  # S4.2: here too, but not before lm_head
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


class Layer(nn.Module):
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
        q, k, v = self.attn_wq(h), self.attn_wk(h), self.attn_wv(h)
        x = x + self.attn_wo(attention(q, k, v, self.n_head))
        h = self.mlp_fc1(rmsnorm(x))
        return x + self.mlp_fc2(F.relu(h) ** self.relu_power)


def rmsnorm(x):
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)  # S5.1; by default the dtype's


def attention(q, k, v, n_head):
    """What each head reads from the tokens so far (S6.2 to S6.6)."""
    B, T, C = q.shape
    q, k, v = (a.view(B, T, n_head, -1).transpose(1, 2) for a in (q, k, v))
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
    return h.transpose(1, 2).reshape(B, T, C)


# ---------------------------------------------------------------- Loss and training


NO_TARGET = -100  # what cross_entropy passes over


def pad(batch, length=0, filler=0):
    """Inputs and targets of all documents, each a row that is filled up on its right:
    as long as the longest document, or longer. -> (2, B, T)"""
    length = max([length] + [len(tokens) - 1 for tokens in batch])
    inputs, targets = [], []
    for tokens in batch:
        rest = length + 1 - len(tokens)
        inputs.append(tokens[:-1] + [filler] * rest)
        targets.append(tokens[1:] + [NO_TARGET] * rest)
    return torch.tensor([inputs, targets])


def mean_loss(model, inputs, targets):
    """The mean over all targets (S8.2): those that are there, not B times T."""
    logits = model(inputs)
    return F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET
    )


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8). Adds its gradient to the weights' grads."""
    inputs, targets = on_device(state, pad(batch))
    loss = mean_loss(state.model, inputs, targets)
    loss.backward()
    return loss.detach()


def step(state, batch, learning_rate):
    loss = loss_and_backward(state, batch)
    state.optimizer.param_groups[0]["lr"] = learning_rate
    state.optimizer.step()
    state.optimizer.zero_grad()  # or the next backward() would add to these
    return loss


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss: a tensor, as to
    ask for its value would be to wait for the device."""
    for batch, learning_rate in batches:
        state.step += 1
        yield step(state, batch, learning_rate)


# ---------------------------------------------------------------- For whoever drives it


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu",
):
    """A state, which goes on where the snapshot stood, whichever version made that."""
    torch.set_num_threads(1)  # at this size a second one costs more than it brings
    torch.set_float32_matmul_precision("highest")  # no TF32 on a GPU
    device, dtype = pick(device, dtype), getattr(torch, dtype)
    model = GPT(config, vocab_size=len(snapshot.weights["wte"]))
    weights = named(model)
    w, m, v = (tensors(part, dtype, device) for part in snapshot[:3])
    for name, p in weights.items():
        p.data = w[name]
    optimizer = torch.optim.Adam(
        weights.values(), betas=(config.beta1, config.beta2), eps=1e-8, fused=True
    )
    for name, p in weights.items():
        taken = torch.tensor(float(snapshot.step), device=device)
        optimizer.state[p] = {"step": taken, "exp_avg": m[name], "exp_avg_sq": v[name]}
    state = SimpleNamespace(
        config=config, model=model, weights=weights, optimizer=optimizer,
        step=snapshot.step, dtype=dtype, device=device,
    )  # fmt: skip
    return state


def pick(device, dtype):
    """The device that is asked for; auto is the first that is here."""
    found = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available() and dtype == "float32",
        "cpu": True,
    }
    here = [name for name in found if found[name]]
    if device not in ["auto", *here]:
        raise microgpt.InputError(
            f"device {device} cannot compute {dtype} here: choose {' or '.join(here)}"
        )
    return here[0] if device == "auto" else device


def on_device(state, tensor):
    return tensor.to(state.device, non_blocking=True)


def rows(tensors):
    return {name: t.numpy(force=True).copy() for name, t in tensors.items()}


@torch.inference_mode()
def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    return state.model(on_device(state, torch.tensor([tokens])))[0].numpy(force=True)


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    loss = loss_and_backward(state, batch)
    grads = rows({name: p.grad for name, p in state.weights.items()})
    state.optimizer.zero_grad()
    return float(loss), grads


def export(state):
    """All that training carries, as plain numbers."""
    moments = {name: state.optimizer.state[p] for name, p in state.weights.items()}
    m = rows({name: of["exp_avg"] for name, of in moments.items()})
    v = rows({name: of["exp_avg_sq"] for name, of in moments.items()})
    return microgpt.Snapshot(rows(state.weights), m, v, state.step)


def about(state):
    """What computes, and in what precision."""
    dtype = str(state.dtype).removeprefix("torch.")
    threads = f"{torch.get_num_threads()} thread"
    return f"PyTorch {torch.__version__} on {state.device}, {dtype}, {threads}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__], recipe="scaled")
