"""microGPT in PyTorch, on many workers. Same model as 04. New here: torchrun starts
this file once for each worker. Each computes the gradients of its part of every batch;
the workers add these up, so that all of them take the same step. With --sharded each
worker also stores only its part of the weights (SPEC.md: S8)."""

import contextlib
import functools
import inspect
import json
import math
import os
import shutil
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

# before PyTorch is loaded: no log lines from its C++ code, as errors are reported below
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import shards
import workers

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

# ---------------------------------------------------------------- Parameters


def from_rows(matrices, dtype, device):
    """{name: rows} -> {name: tensor}"""
    return {
        name: torch.tensor(np.asarray(rows), dtype=dtype, device=device)
        for name, rows in matrices.items()
    }


def to_rows(tensors):
    """{name: tensor} -> {name: rows}, copied into NumPy arrays. All workers call this
    together, because each has only a part of a sharded tensor (DTensor)."""
    whole = {
        name: t.full_tensor() if isinstance(t, DTensor) else t
        for name, t in tensors.items()
    }
    return {name: t.numpy(force=True).copy() for name, t in whole.items()}


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


def pad(batch, length=1, filler=0):  # 1, because a part may have no targets
    """Inputs and targets of all documents, padded on the right to one length: that of
    the longest document, or `length` if it is larger. -> (2, B, T)"""
    length = max([length] + [len(tokens) - 1 for tokens in batch])
    inputs, targets = [], []
    for tokens in batch:
        rest = length + 1 - len(tokens)
        inputs.append(tokens[:-1] + [filler] * rest)
        targets.append(tokens[1:] + [NO_TARGET] * rest)
    return torch.tensor([inputs, targets])


def total_loss(state, documents):
    """The sum of the losses of all targets of these documents (S8.1)."""
    inputs, targets = on_device(state, pad(documents))  # (B, T) each
    with torch.autocast(state.device.type, torch.bfloat16, enabled=state.mixed):
        logits = state.model(inputs).flatten(0, 1)  # (B * T, V)
    logits, targets = logits.to(state.dtype), targets.flatten()  # (B * T,)
    return F.cross_entropy(logits, targets, ignore_index=NO_TARGET, reduction="sum")


def parts(state, batch):
    """The documents of this worker, every `world`-th of the batch, in `accumulate`
    parts. A part without documents becomes one document without targets: it adds
    nothing, and the worker still takes part in every exchange."""
    mine = batch[state.rank :: state.world]
    return [mine[k :: state.accumulate] or [[0]] for k in range(state.accumulate)]


def gradient_exchange(model, last):
    """A context in which backward() also adds up the gradients of all workers, if this
    is the last part. For the parts before it, each worker only adds up its own."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    elif not last:
        return model.no_sync()
    return contextlib.nullcontext()


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8).
    Adds its gradient to the weights' gradients.
    -> (loss, how many workers were interrupted), the same in every worker"""
    n = sum(len(tokens) - 1 for tokens in batch)  # of the whole batch: S8.2
    sums = torch.tensor([0.0, state.interrupted()], dtype=state.dtype)
    sums = on_device(state, sums)
    for k, documents in enumerate(parts(state, batch), 1):
        with gradient_exchange(state.model, last=k == state.accumulate):
            loss = total_loss(state, documents) / n
            sums[0] += loss.detach()
            if k == state.accumulate:
                state.mark(f"step {state.step + 1}")
                # adds up both numbers over all workers, while backward() runs
                exchange = dist.all_reduce(sums, async_op=True)
            # DDP and FSDP divide by the number of workers, so multiply by it (S8.2)
            (loss * state.world).backward()
    exchange.wait()
    return sums


def adam(state, learning_rate):
    """One step of Adam for all weights (S9); then their gradients are reset."""
    state.step += 1
    state.optimizer.param_groups[0]["lr"] = learning_rate
    state.optimizer.step()
    state.optimizer.zero_grad()  # or the next backward() would add to this gradient


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss.
    Every worker is given the whole batch. Ends early if a worker is interrupted."""
    for batch, learning_rate in batches:
        loss, interrupted = loss_and_backward(state, batch)
        adam(state, learning_rate)
        yield float(loss)
        if interrupted:
            return


# ---------------------------------------------------------------- Interface


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    sharded: bool = False,  # each worker stores a part of each weight (FSDP)
    mixed: bool = False,  # the forward pass multiplies in bfloat16
    accumulate: int = 1,  # parts whose gradients are added up before the exchange
):
    """A state that continues from the snapshot,
    whichever version the snapshot came from."""
    torch.set_num_threads(1)  # one for each worker: more workers use more cores
    torch.set_float32_matmul_precision("highest")  # no TF32 on a GPU
    device = choose_device(device)
    refuse_options(device, dtype, mixed, accumulate)
    join_workers(device)
    dtype = getattr(torch, dtype)
    model = GPT(config, vocab_size=len(snapshot.weights["wte"]))
    w, m, v = (from_rows(part, dtype, device) for part in snapshot[:3])
    for name, p in named_weights(model).items():
        p.data = w[name]  # in place of the random numbers that nn.Linear has drawn
    if sharded:
        shard(model, device)
        m, v = (split_like(named_weights(model), moments) for moments in (m, v))
        parallel = model
    else:
        parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    weights = named_weights(model)  # once more: sharding has replaced the parameters
    optimizer = torch.optim.Adam(
        weights.values(), betas=(config.beta1, config.beta2), eps=1e-8, fused=True
    )
    for name, p in weights.items():  # Adam continues from the snapshot's moments too
        step = torch.tensor(float(snapshot.step), device=device)
        optimizer.state[p] = {"step": step, "exp_avg": m[name], "exp_avg_sq": v[name]}
    return SimpleNamespace(
        config=config, model=parallel, weights=weights, optimizer=optimizer,
        step=snapshot.step, dtype=dtype, device=device, mixed=mixed,
        accumulate=accumulate, sharded=sharded, rank=dist.get_rank(),
        world=dist.get_world_size(), interrupted=lambda: False, mark=lambda where: None,
    )  # fmt: skip


def choose_device(device):
    """The device asked for; "auto" takes a GPU if this worker has one. Each worker of a
    machine takes the GPU of its own number."""
    if device == "cpu":
        return torch.device("cpu")
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if device == "auto" and local >= count:
        return torch.device("cpu")
    if local >= count:
        raise microgpt.InputError(
            f"device cuda: this machine has {count} GPUs, and worker {local} needs one "
            "of its own: start fewer workers or choose cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def refuse_options(device, dtype, mixed, accumulate):
    if not 1 <= accumulate <= 1000:
        raise microgpt.InputError(
            f"accumulate is {accumulate}: it must lie in 1 … 1000"
        )
    if mixed and (device.type == "cpu" or dtype != "float32"):
        raise microgpt.InputError(
            f"mixed precision needs --device cuda and --dtype float32, not "
            f"{device.type} and {dtype}"
        )


def join_workers(device, backend="auto", store=None, me=None, timeout=60.0):
    """Create the process group, through which the workers exchange tensors. A program
    that was not started by torchrun is a group of one worker."""
    if dist.is_initialized():
        return
    if backend == "auto":
        backend = "gloo" if device.type == "cpu" else "nccl"
    if backend == "nccl" and (device.type == "cpu" or not dist.is_nccl_available()):
        raise microgpt.InputError(
            "backend nccl needs --device cuda and a PyTorch that has it: choose gloo"
        )
    dist.init_process_group(
        backend, store=store or dist.HashStore(), rank=me.rank if me else 0,
        world_size=me.world if me else 1, timeout=timedelta(seconds=timeout),
    )  # fmt: skip


def shard(model, device):
    """FSDP: each worker keeps a part of each weight. A layer collects its weights from
    all workers before it computes, and drops them afterwards."""
    mesh = dist.init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*model.layers, model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def split_like(weights, moments):
    """For each moment, the same part that this worker keeps of the weight."""
    return {
        name: distribute_tensor(
            moments[name], p.device_mesh, p.placements, src_data_rank=None
        )
        for name, p in weights.items()
    }


def on_device(state, tensor):
    """The tensor on the state's device. Python does not wait for the copy."""
    return tensor.to(state.device, non_blocking=True)


@torch.no_grad()  # records no graph: no gradient is needed here
def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    state.mark("the sampling of a name")
    # without DDP, which only exchanges gradients; with FSDP all workers call this
    # together, because each has only a part of each weight
    model = getattr(state.model, "module", state.model)
    inputs = on_device(state, torch.tensor([tokens]))  # (1, n)
    with torch.autocast(state.device.type, torch.bfloat16, enabled=state.mixed):
        return model(inputs)[0].to(state.dtype).numpy(force=True)


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight.
    Changes nothing in the state."""
    loss, _ = loss_and_backward(state, batch)
    grads = to_rows({name: p.grad for name, p in state.weights.items()})
    state.optimizer.zero_grad()
    return float(loss), grads


def carried(state):
    """Weights and both moments (S13), as tensors: {kind: {name: tensor}}"""
    moments = {name: state.optimizer.state[p] for name, p in state.weights.items()}
    return {
        "weights": {name: p.detach() for name, p in state.weights.items()},
        "first_moment": {name: of["exp_avg"] for name, of in moments.items()},
        "second_moment": {name: of["exp_avg_sq"] for name, of in moments.items()},
    }


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    return microgpt.Snapshot(*map(to_rows, carried(state).values()), state.step)


def about(state):
    """Library, version, device, precision and threads:
    the first line of the output."""
    dtype = str(state.dtype).removeprefix("torch.") + " and bfloat16" * state.mixed
    sharded = "sharded over " if state.sharded else ""
    group = f"{sharded}{state.world} worker{'s' * (state.world > 1)}"
    threads = f"{torch.get_num_threads()} thread" + " each" * (state.world > 1)
    where = f"{state.device.type} ({dist.get_backend()})"
    return f"PyTorch {torch.__version__} on {where}, {dtype}, {group}, {threads}"


# ---------------------------------------------------------------- Checkpoints


def save(state, folder, identity, losses):
    """Write a checkpoint; all workers call this together. The file run.json is written
    last: a folder without it is not a whole checkpoint."""
    part = folder / f"step-{state.step:09}.part"
    whole = checkpoint_folder(folder, state.step)
    state.mark(f"the checkpoint of step {state.step}")
    history = {"losses": torch.tensor(losses, dtype=torch.float64)}
    try:
        dcp.save(carried(state) | history, checkpoint_id=part)
    except (OSError, dcp.api.CheckpointException) as e:
        failures = [error for error, _ in getattr(e, "failures", {}).values()] or [e]
        reason = " ".join(str(failures[0]).split())
        raise microgpt.InputError(f"cannot write --checkpoint: {reason}") from None
    if state.rank == 0:
        shutil.rmtree(whole, ignore_errors=True)
        part.rename(whole)
        microgpt.save(whole / "run.json", json.dumps(identity).encode())
        for old in checkpoints(folder)[:-2]:  # keep two, in case the newest is damaged
            shutil.rmtree(checkpoint_folder(folder, old), ignore_errors=True)


def checkpoint_folder(folder, step):
    return folder / f"step-{step:09}"


def checkpoints(folder):
    """The steps that have a whole checkpoint, in order."""
    found = [path.parent.name for path in folder.glob("step-*/run.json")]
    return sorted(int(name[5:]) for name in found if name[5:].isdecimal())


def remove_incomplete(folder):
    """Remove what workers that were killed have left."""
    for part in folder.glob("step-*.part"):
        shutil.rmtree(part)


def restore(state, folder, step, identity):
    """Continue from a checkpoint, which any number of workers may have written. Raises
    InputError if it belongs to another run. -> the losses of all steps so far"""
    place = checkpoint_folder(folder, step)
    history = {"losses": torch.empty(step, dtype=torch.float64)}
    try:
        found = json.loads((place / "run.json").read_text("utf-8"))
        for what, want in identity.items():
            if found[what] != want:
                raise microgpt.InputError(
                    f"checkpoint {place} has {what} {found[what]}, this run has {want}:"
                    f" give it {found[what]}, or choose another --checkpoint"
                )
        dcp.load(carried(state) | history, checkpoint_id=place)  # into these tensors
    except (OSError, ValueError, KeyError, TypeError, dcp.api.CheckpointException):
        raise microgpt.InputError(f"checkpoint {place} is damaged: remove it") from None
    state.step = step
    for p in state.weights.values():
        state.optimizer.state[p]["step"].fill_(step)
    return history["losses"].tolist()


# ---------------------------------------------------------------- Command line


def launch(
    backend: Literal["auto", "gloo", "nccl"] = "auto",
    checkpoint: str = "",
    save_every: int = 100,
    timeout: float = 60.0,
):
    """The options that create() does not have: the library that exchanges tensors, the
    folder of the checkpoints, how many steps lie between two of them, and for how many
    seconds the workers wait for each other."""
    if save_every < 1:
        raise microgpt.InputError(f"save_every is {save_every}: it must be 1 or more")
    if not 0 < timeout <= 1e6:
        raise microgpt.InputError(f"timeout is {timeout}: it must be above 0 seconds")
    folder = Path(checkpoint) if checkpoint else None
    return SimpleNamespace(
        backend=backend, folder=folder, save_every=save_every, timeout=timeout
    )


def arguments():
    """(config, shared options, create's own, launch's)"""

    def flags():
        """Stands for create: a function with the options of create and launch."""

    own, more = (inspect.signature(of).parameters for of in (create, launch))
    flags.__signature__ = inspect.Signature([*own.values(), *more.values()])
    version = SimpleNamespace(create=flags, __doc__=__doc__)
    config, options, given = microgpt.parse_options(version, recipe="scaled")
    if options.samples < 0:
        raise microgpt.InputError(f"samples is {options.samples}: it must be 0 or more")
    launch_options = launch(**{name: given.pop(name) for name in more})
    return config, options, given, launch_options


def main():
    """The program, in every worker. Worker 0 alone prints and writes the log; all
    workers end with the same status."""
    microgpt.guard_output()
    first, store = workers.is_first("RANK"), None
    interrupted = workers.catch_interrupt()
    # before the rendezvous, the first worker of each machine reports errors
    me = SimpleNamespace(reports=workers.is_first("LOCAL_RANK"))
    try:
        with contextlib.ExitStack() as undo:
            if not first:
                nowhere = undo.enter_context(open(os.devnull, "w", encoding="utf-8"))
                undo.enter_context(contextlib.redirect_stdout(nowhere))
            given = arguments()
            vars(me).update(vars(workers.read_environment()))
            store = workers.rendezvous(me, given[-1].timeout)
            me.reports = first
            train_and_sample(me, store, interrupted, *given)
    except microgpt.InputError as e:
        workers.exit_together(me, store, e)
    except KeyboardInterrupt:
        workers.exit_together(me, store, "interrupted", 130)
    except OSError as e:
        workers.exit_together(me, store, f"cannot write: {e.strerror or e}")
    except RuntimeError as e:
        if not isinstance(e, dist.DistError) and "gloo" not in str(e):
            raise
        if interrupted.is_set():  # torchrun stops all workers, as one has ended
            os._exit(1)
        lost = "another worker has ended: torchrun reports which one, and with "
        workers.exit_together(me, store, lost + "--max-restarts it starts all again", 1)


def train_and_sample(me, store, interrupted, config, options, own, launch_options):
    """Check that all workers run the same, then train and generate names."""
    folder, timeout = launch_options.folder, launch_options.timeout
    try:
        device = choose_device(own["device"])
        own["device"] = device.type
        log = open_log(options.log if me.rank == 0 else None)
        run = shards.prepare(config, options.data, options.seed, options.prompt, print)
        step = max([0, *(checkpoints(folder) if folder else [])])
        settings = asdict(config) | vars(options) | own | {"checkpoint": step}
        settings["save_every"] = launch_options.save_every
        settings |= {"data": "", "log": ""}  # these file names may differ
        mine = {"data": run.digest, "settings": settings}
    except microgpt.InputError as e:
        mine = {"error": str(e)}
    workers.agree(store, me, mine, timeout)
    if me.world > len(run.docs):
        raise microgpt.InputError(
            f"{me.world} workers exceed the {len(run.docs)} documents: start fewer"
        )
    # a longer limit than the watch has, because the watch can say which worker hangs
    join_workers(device, launch_options.backend, store, me, 3 * timeout + 30)
    state = create(config, run.snapshot, **own)
    watch = workers.Watch(store, me, timeout)
    state.interrupted, state.mark = interrupted.is_set, watch.mark
    watch.start()
    identity = {"data": run.digest, "seed": options.seed, "dtype": own["dtype"]}
    identity |= asdict(config)
    losses = restore(state, folder, step, identity) if step else []
    if me.rank == 0 and folder:
        remove_incomplete(folder)
    with log:
        report_start(state, run, log, vars(options) | own, losses)
        batches = microgpt.batches(config, run.tokenizer, run.docs, state.step)
        keep = (folder, identity) if folder else None
        report_losses(state, batches, log, losses, launch_options.save_every, keep)
        print_names(state, run, log, options.samples)
    watch.over.set()
    workers.leave_group(state)


def open_log(path):
    """Written line by line: if this worker is killed, at most the last line is lost."""
    try:
        return open(path or os.devnull, "a", encoding="utf-8", buffering=1)
    except OSError as e:
        raise microgpt.InputError(
            f"cannot write --log {path!r}: {e.strerror}"
        ) from None


def report_start(state, run, log, options, losses):
    """Print the first line. Write the log again, up to the step that is continued."""
    size = sum(len(row) for rows in run.snapshot.weights.values() for row in rows)
    print(f"{about(state)}: {size:,} weights, {len(run.docs):,} documents", flush=True)
    if losses:
        print(f"continues after step {state.step:,}", flush=True)
    with contextlib.suppress(OSError):  # a pipe or a device cannot be emptied
        log.truncate(0)
    found = {"documents": len(run.docs), "digest": run.digest, "about": about(state)}
    microgpt.write_record(log, options | found | {"config": asdict(state.config)})
    for step, loss in enumerate(losses, 1):
        microgpt.write_record(log, {"step": step, "loss": loss})


def report_losses(state, batches, log, losses, save_every, keep):
    """Train. Log each loss, print the mean of the last 50 ten times, and save. Losses
    far above a blind guess are said."""
    steps, first, start = state.config.steps, state.step, time.perf_counter()
    guess = math.log(len(state.weights["wte"]))
    high = 0  # so many of the last losses are far too high
    for loss in train(state, batches):
        if not math.isfinite(loss):
            raise microgpt.InputError(
                f"the loss is {loss} at step {state.step}: try a lower --learning-rate"
            )
        losses.append(loss)
        microgpt.write_record(log, {"step": state.step, "loss": loss})
        high = high + 1 if loss > 2 * guess else 0
        if high == microgpt.PATIENCE:
            print(microgpt.too_high(state.step, guess), flush=True)
        if state.step % max(1, steps // 10) == 0:
            pace = (time.perf_counter() - start) / (state.step - first)
            recent = losses[-50:]
            print(
                f"step {state.step:,} of {steps:,}  "
                f"loss {sum(recent) / len(recent):.4f}  {pace * 1e3:.3g} ms a step  "
                f"{pace * (steps - state.step):.0f} s left", flush=True,
            )  # fmt: skip
        if keep and (state.step % save_every == 0 or state.step == steps):
            save(state, *keep, losses)
    if state.step < steps:
        print(f"stopped after step {state.step:,}", flush=True)
        if keep and state.step % save_every:
            save(state, *keep, losses)


def print_names(state, run, log, samples):
    """Generate names and mark those that stand in the data, unless the documents are a
    stream: then they are not all in memory."""
    names = microgpt.generate(
        functools.partial(logits, state), state.config, run.tokenizer.bos,
        run.rng.random, run.prompt,
    )  # fmt: skip
    known = None if isinstance(run.docs, shards.Stream) else set(run.docs)
    for i, name in zip(range(samples), map(run.tokenizer.decode, names)):
        mark = {} if known is None else {"in_data": name in known}
        microgpt.write_record(log, {"name": name} | mark)
        shown = microgpt.visible(name)
        print(f"{i + 1:3}  {shown}" + "  (in the data)" * mark.get("in_data", False))


if __name__ == "__main__":
    main()
