"""microGPT in PyTorch. Same numbers as 02. New here: no gradient is written by hand.
Each operation on a tensor leaves a note of what it did; loss.backward() reads the notes
in reverse, and every weight ends up with its gradient (SPEC.md: S4 to S9)."""

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
        """What each token says of the next. (T,) -> (T, V)"""
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
        """(T, C) -> (T, C)"""
        h = rmsnorm(x)
        q, k, v = self.attn_wq(h), self.attn_wk(h), self.attn_wv(h)
        x = x + self.attn_wo(attention(q, k, v, self.n_head))
        h = self.mlp_fc1(rmsnorm(x))
        return x + self.mlp_fc2(F.relu(h) ** self.relu_power)


def rmsnorm(x):
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)  # S5.1; by default the dtype's


def attention(q, k, v, n_head):
    """What each head reads from the tokens so far (S6.2 to S6.6). (T, C) -> (T, C)"""
    T, C = q.shape
    q, k, v = (a.view(1, T, n_head, -1).transpose(1, 2) for a in (q, k, v))
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (1, H, T, D)
    return h.transpose(1, 2).reshape(T, C)


# ---------------------------------------------------------------- Loss and training


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8). Adds its gradient to the weights' grads."""
    n, total = sum(len(tokens) - 1 for tokens in batch), 0.0
    for tokens in batch:  # backward() after each, so that memory stays flat
        tokens = on_device(state, torch.tensor(tokens))
        logits = state.model(tokens[:-1])
        loss = F.cross_entropy(logits, tokens[1:], reduction="sum") / n
        loss.backward()
        total = total + loss.detach()
    return total


def step(state, batch, learning_rate):
    loss = loss_and_backward(state, batch)
    state.optimizer.param_groups[0]["lr"] = learning_rate
    state.optimizer.step()
    state.optimizer.zero_grad()  # or the next backward() would add to these
    return loss


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss: a tensor, as to
    ask for its value would be to wait for the device."""
    take = compiled_step if state.compiled else step
    for batch, learning_rate in batches:
        state.step += 1
        yield take(state, batch, learning_rate)


# So small a model spends its time on starting operations, not on computing. Hence the
# same step once more, for torch.compile: one graph from tokens to new weights, in which
# every shape is known (a document fills the block) and Adam is three lines for all.


def whole_step(model, config, buffers, document, numbers, last):
    """The loss of one document. Adds its gradient; after a batch's last, Adam (S9)."""
    weights, m, v, gradient = buffers
    n, learning_rate, correct1, correct2 = numbers

    def loss(weights):
        parts = weights.split([p.numel() for p in model.parameters()])
        pairs = zip(model.named_parameters(), parts)
        views = {name: part.view(p.shape) for (name, p), part in pairs}
        logits = torch.func.functional_call(model, views, document[0])
        return F.cross_entropy(logits, document[1], reduction="sum") / n

    g, value = torch.func.grad_and_value(loss)(weights)
    gradient += g
    if last:
        m.mul_(config.beta1).add_((1 - config.beta1) * gradient)
        v.mul_(config.beta2).add_((1 - config.beta2) * gradient * gradient)
        weights -= learning_rate * (m / correct1) / ((v / correct2).sqrt() + 1e-8)
        gradient.zero_()
    return value


def compiled_step(state, batch, learning_rate):
    config, total = state.config, 0.0
    n = sum(len(tokens) - 1 for tokens in batch)
    correct1, correct2 = 1 - config.beta1**state.step, 1 - config.beta2**state.step
    # as a tensor: for each new value of a float the graph would be compiled anew
    numbers = torch.tensor([n, learning_rate, correct1, correct2], dtype=state.dtype)
    numbers = on_device(state, numbers)
    for i, tokens in enumerate(batch):
        rest = config.block_size + 1 - len(tokens)
        inputs, targets = tokens[:-1] + [0] * rest, tokens[1:] + [-100] * rest
        document = on_device(state, torch.tensor([inputs, targets]))  # -100: no target
        last = i + 1 == len(batch)
        total = total + state.compiled(
            state.model, config, state.buffers, document, numbers, last
        )
    return total


def compile_step(state):
    """Move all numbers into four buffers, and compile whole_step for these."""
    weights, moments = list(state.weights.values()), state.optimizer.state
    m, v = ([moments[p][key] for p in weights] for key in ("exp_avg", "exp_avg_sq"))
    state.buffers = [buffer_of(weights), buffer_of(m), buffer_of(v)]
    state.buffers.append(torch.zeros_like(state.buffers[0]))
    state.compiled = torch.compile(
        whole_step, fullgraph=True, dynamic=False, isolate_recompiles=True,
        options={
            "cpp_wrapper": True,  # what calls the kernels is C++ too
            # all else is the same in every call, and not checked again in each
            "guard_filter_fn": lambda guards: [g.name == "last" for g in guards],
        },
    )  # fmt: skip
    kept, state.buffers = state.buffers, [b.clone() for b in state.buffers]
    try:  # now, on copies: it takes seconds, and what is missing is told at once
        compiled_step(state, [[0, 0]] * min(2, state.config.batch_size), 0.0)
    except RuntimeError as e:
        raise microgpt.InputError(
            "compile needs a C++ compiler that works, or leave it out: "
            + str(e).strip().splitlines()[0]
        ) from None
    state.buffers = kept


def buffer_of(tensors):
    """All numbers of the tensors, end to end; each tensor becomes a view of its own."""
    buffer = torch.cat([t.detach().flatten() for t in tensors])
    nn.utils.vector_to_parameters(buffer, tensors)
    return buffer


# ---------------------------------------------------------------- For whoever drives it


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu",
    compile: bool = False,
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
        step=snapshot.step, dtype=dtype, device=device, compiled=None,
    )  # fmt: skip
    if compile:
        compile_step(state)
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
    return state.model(on_device(state, torch.tensor(tokens))).numpy(force=True)


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
    how = f"{torch.get_num_threads()} thread" + ", compiled" * bool(state.compiled)
    return f"PyTorch {torch.__version__} on {state.device}, {dtype}, {how}"


if __name__ == "__main__":
    microgpt.run(sys.modules[__name__])
