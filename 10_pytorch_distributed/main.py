"""microGPT in PyTorch, on many workers. Same model as 04. New here: torchrun starts
this file N times, each worker takes its part of every batch, and all of them the same
step; if asked, each keeps only its part of the weights, too (SPEC.md: S8)."""

import contextlib
import functools
import inspect
import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what fails, a line here says
try:
    import microgpt

    import numpy as np
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    import torch.nn.functional as F
    from torch import nn
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor
    from torch.nn.parallel import DistributedDataParallel
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    hint = "`uv run torchrun --nproc-per-node 2 main.py` brings it"
    print(f"error: {missing.name} is missing: {hint}", file=sys.stderr)
    sys.exit(2)

import shards
import workers

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


def pad(batch, length=1, filler=0):
    """Inputs and targets of all documents, each a row that is filled up on its right:
    as long as the longest document, or longer. -> (2, B, T)"""
    length = max([length] + [len(tokens) - 1 for tokens in batch])
    inputs, targets = [], []
    for tokens in batch:
        rest = length + 1 - len(tokens)
        inputs.append(tokens[:-1] + [filler] * rest)
        targets.append(tokens[1:] + [NO_TARGET] * rest)
    return torch.tensor([inputs, targets])


def total_loss(state, documents):
    """The sum over the targets of some documents (S8.1)."""
    inputs, targets = on_device(state, pad(documents))
    with torch.autocast(state.device.type, torch.bfloat16, enabled=state.mixed):
        logits = state.model(inputs)
    return F.cross_entropy(
        logits.flatten(0, 1).to(state.dtype), targets.flatten(),
        ignore_index=NO_TARGET, reduction="sum",
    )  # fmt: skip


def parts(state, batch):
    """Every workers-th document, in as many parts as are to be accumulated. A part may
    be empty: it stands for itself with a document that has no target."""
    mine = batch[state.rank :: state.world]
    return [mine[k :: state.accumulate] or [[0]] for k in range(state.accumulate)]


def exchange(model, last):
    """Gradients pile up in each worker; with the last part they meet the others'."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    elif not last:
        return model.no_sync()
    return contextlib.nullcontext()


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8), whichever worker has them, and whether one of
    the workers wants to end. Adds the gradient to the weights' grads."""
    n = sum(len(tokens) - 1 for tokens in batch)  # of the whole batch: S8.2
    report = torch.tensor([0.0, state.pressed()], dtype=state.dtype)
    report = on_device(state, report)
    for k, documents in enumerate(parts(state, batch), 1):
        with exchange(state.model, last=k == state.accumulate):
            loss = total_loss(state, documents) / n
            report[0] += loss.detach()
            if k == state.accumulate:
                state.mark(f"step {state.step + 1}")
                told = dist.all_reduce(report, async_op=True)
            # times the workers, as they send the mean of what each of them has
            (loss * state.world).backward()
    told.wait()
    return report


def step(state, batch, learning_rate):
    report = loss_and_backward(state, batch)
    state.optimizer.param_groups[0]["lr"] = learning_rate
    state.optimizer.step()
    state.optimizer.zero_grad()  # or the next backward() would add to these
    state.step += 1
    return report


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss. Each worker is
    given the whole batch. It ends early if one of the workers is interrupted."""
    for batch, learning_rate in batches:
        loss, pressed = step(state, batch, learning_rate).tolist()
        yield loss
        if pressed:
            return


# ---------------------------------------------------------------- For whoever drives it


def create(
    config,
    snapshot,
    dtype: Literal["float32", "float64"] = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    sharded: bool = False,
    mixed: bool = False,
    accumulate: int = 1,
):
    """A state, which goes on where the snapshot stood, whichever version made that.
    sharded: each worker keeps a part of each weight, and asks for the others' parts."""
    torch.set_num_threads(1)  # one a worker: the workers are the threads
    torch.set_float32_matmul_precision("highest")  # no TF32 on a GPU
    if accumulate < 1:
        raise microgpt.InputError(f"accumulate is {accumulate}: it must be 1 or more")
    if mixed and (device == "cpu" or dtype != "float32"):
        raise microgpt.InputError(
            f"mixed precision needs --device cuda and float32, not {device} with "
            f"{dtype}: bfloat16 pays on GPUs alone"
        )
    device, dtype = join(device), getattr(torch, dtype)
    model = GPT(config, vocab_size=len(snapshot.weights["wte"]))
    w, m, v = (tensors(part, dtype, device) for part in snapshot[:3])
    for name, p in named(model).items():
        p.data = w[name]
    if sharded:
        mesh = dist.init_device_mesh(device.type, (dist.get_world_size(),))
        for module in [*model.layers, model]:
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        m, v = (split_like(named(model), moments) for moments in (m, v))
        parallel = model
    else:
        parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    weights = named(model)
    optimizer = torch.optim.Adam(
        weights.values(), betas=(config.beta1, config.beta2), eps=1e-8, fused=True
    )
    for name, p in weights.items():
        taken = torch.tensor(float(snapshot.step), device=device)
        optimizer.state[p] = {"step": taken, "exp_avg": m[name], "exp_avg_sq": v[name]}
    return SimpleNamespace(
        config=config, model=parallel, weights=weights, optimizer=optimizer,
        step=snapshot.step, dtype=dtype, device=device, mixed=mixed,
        accumulate=accumulate, sharded=sharded, rank=dist.get_rank(),
        world=dist.get_world_size(), pressed=lambda: False, mark=lambda where: None,
    )  # fmt: skip


def join(device, backend="auto", store=None, me=None, timeout=60.0):
    """The group of all workers, and the device of this one. Without torchrun there is
    this worker alone, in a group that needs no port."""
    if device == "cuda":
        local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if local >= count:
            raise microgpt.InputError(
                f"device cuda: worker {local} of this machine has none of its {count} "
                "GPUs: start as many workers as there are, or choose cpu"
            )
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    if not dist.is_initialized():
        if backend == "auto":
            backend = "gloo" if device == "cpu" else "nccl"
        if backend == "nccl" and (device == "cpu" or not dist.is_nccl_available()):
            raise microgpt.InputError(
                "backend nccl needs --device cuda and a PyTorch that has it: here it "
                "is gloo"
            )
        dist.init_process_group(
            backend, store=store or dist.HashStore(), rank=me.rank if me else 0,
            world_size=me.world if me else 1, timeout=timedelta(seconds=timeout),
        )  # fmt: skip
    return torch.device(device)


def split_like(weights, moments):
    """Of each moment what this worker keeps of its weight."""
    return {
        name: distribute_tensor(
            moments[name], p.device_mesh, p.placements, src_data_rank=None
        )
        for name, p in weights.items()
    }


def on_device(state, tensor):
    return tensor.to(state.device, non_blocking=True)


def carried(state):
    """All that training carries, as PyTorch has it: {what: {name: tensor}}."""
    moments = {name: state.optimizer.state[p] for name, p in state.weights.items()}
    return {
        "weights": {name: p.detach() for name, p in state.weights.items()},
        "first_moment": {name: of["exp_avg"] for name, of in moments.items()},
        "second_moment": {name: of["exp_avg_sq"] for name, of in moments.items()},
    }


def rows(tensors):
    """{name: tensor} -> {name: rows}. All workers ask at once, as parts must meet."""
    whole = {
        name: t.full_tensor() if isinstance(t, DTensor) else t
        for name, t in tensors.items()
    }
    return {name: t.numpy(force=True).copy() for name, t in whole.items()}


@torch.no_grad()
def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    state.mark("a name")
    # DDP has nothing to say here; sharded weights have to meet, in all workers at once
    model = getattr(state.model, "module", state.model)
    inputs = on_device(state, torch.tensor([tokens]))
    with torch.autocast(state.device.type, torch.bfloat16, enabled=state.mixed):
        return model(inputs)[0].to(state.dtype).numpy(force=True)


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    loss, _ = loss_and_backward(state, batch).tolist()
    grads = rows({name: p.grad for name, p in state.weights.items()})
    state.optimizer.zero_grad()
    return loss, grads


def export(state):
    """All that training carries, as plain numbers."""
    return microgpt.Snapshot(*map(rows, carried(state).values()), state.step)


def about(state):
    """What computes, and in what precision."""
    dtype = str(state.dtype).removeprefix("torch.") + " and bfloat16" * state.mixed
    how = "sharded over " if state.sharded else ""
    crowd = f"{how}{state.world} worker{'s' * (state.world > 1)}"
    threads = f"{torch.get_num_threads()} thread" + " each" * (state.world > 1)
    where = f"{state.device.type} ({dist.get_backend()})"
    return f"PyTorch {torch.__version__} on {where}, {dtype}, {crowd}, {threads}"


# ---------------------------------------------------------------- Going on


def save(state, folder, identity, losses):
    """A checkpoint, written by all workers. It counts as soon as run.json is in it."""
    part, whole = folder / f"step-{state.step:09}.part", stored(folder, state.step)
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
        for old in checkpoints(folder)[:-2]:  # one more, should the disk lose the last
            shutil.rmtree(stored(folder, old), ignore_errors=True)


def stored(folder, step):
    return folder / f"step-{step:09}"


def checkpoints(folder):
    """The steps of which there is a whole checkpoint, in order."""
    found = [path.parent.name for path in folder.glob("step-*/run.json")]
    return sorted(int(name[5:]) for name in found if name[5:].isdecimal())


def restore(state, folder, step, identity):
    """Go on where a checkpoint stands, which may be of any number of workers; refused
    if it is not of this run. -> the losses so far"""
    place = stored(folder, step)
    history = {"losses": torch.empty(step, dtype=torch.float64)}
    try:
        found = json.loads((place / "run.json").read_text())
        for what, want in identity.items():
            if found[what] != want:
                raise microgpt.InputError(
                    f"checkpoint {place} has {what} {found[what]}, this run {want}: "
                    "give it back its own, or choose another --checkpoint"
                )
        dcp.load(carried(state) | history, checkpoint_id=place)
    except (OSError, ValueError, KeyError, TypeError, dcp.api.CheckpointException):
        raise microgpt.InputError(f"checkpoint {place} is damaged: remove it") from None
    state.step = step
    for p in state.weights.values():
        state.optimizer.state[p]["step"].fill_(step)
    return history["losses"].tolist()


# ---------------------------------------------------------------- Running it


def launch(
    backend: Literal["auto", "gloo", "nccl"] = "auto",
    checkpoint: str = "",
    save_every: int = 100,
    timeout: float = 60.0,
):
    """What the command line has beyond create(): how the workers talk, the folder where
    they go on after a restart, and how many seconds they wait for each other."""
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
        pass

    own, more = (inspect.signature(of).parameters for of in (create, launch))
    flags.__signature__ = inspect.Signature([*own.values(), *more.values()])
    version = SimpleNamespace(create=flags, __doc__=__doc__)
    config, options, given = microgpt.parse_options(version, recipe="scaled")
    if options.samples < 0:
        raise microgpt.InputError(f"samples is {options.samples}: it must be 0 or more")
    how = launch(**{name: given.pop(name) for name in more})
    return config, options, given, how


def main():
    """The program, in every worker. The first speaks for all, on the screen and in the
    log, and all of them end with the same status."""
    first, store, pressed = workers.first("RANK"), None, workers.until_pressed()
    # before they have met, one on each machine
    me = SimpleNamespace(speaks=workers.first("LOCAL_RANK"))
    try:
        with contextlib.ExitStack() as undo:
            if not first:
                nowhere = undo.enter_context(open(os.devnull, "w"))
                undo.enter_context(contextlib.redirect_stdout(nowhere))
            given = arguments()
            vars(me).update(vars(workers.environment()))
            store = workers.meet(me, given[-1].timeout)
            me.speaks = first
            session(me, store, pressed, *given)
    except microgpt.InputError as e:
        workers.leave(me, store, e)
    except KeyboardInterrupt:
        workers.leave(me, store, "interrupted", 130)
    except OSError as e:
        workers.leave(me, store, f"cannot write: {e.strerror or e}")
    except RuntimeError as e:
        if not isinstance(e, dist.DistError) and "gloo" not in str(e):
            raise
        lost = "another worker is lost: torchrun says which, and starts all of them "
        workers.leave(me, store, lost + "again if it has --max-restarts", 1)


def session(me, store, pressed, config, options, own, how):
    """Agree with the others, go on where a checkpoint stands, train, make up names."""
    try:
        log = open_log(options.log if me.rank == 0 else None)
        run = shards.prepare(config, options.data, options.seed, options.prompt, print)
        step = max([0, *(checkpoints(how.folder) if how.folder else [])])
        settings = asdict(config) | vars(options) | own
        settings |= {"save_every": how.save_every, "checkpoint": step}
        settings |= {"data": "", "log": ""}  # names of files, which may well differ
        mine = {"data": run.digest, "settings": settings}
    except microgpt.InputError as e:
        mine = {"error": str(e)}
    workers.agree(store, me, mine, how.timeout)
    if me.world > len(run.docs):
        raise microgpt.InputError(
            f"{me.world} workers exceed the {len(run.docs)} documents: start fewer"
        )
    # the group gives up later than the watch, which can say more
    join(own["device"], how.backend, store, me, 3 * how.timeout + 30)
    state = create(config, run.snapshot, **own)
    watch = workers.Watch(store, me, how.timeout)
    state.pressed, state.mark = pressed.is_set, watch.mark
    watch.start()
    identity = {"data": run.digest, "seed": options.seed, "dtype": own["dtype"]}
    identity |= asdict(config)
    losses = restore(state, how.folder, step, identity) if step else []
    if me.rank == 0 and how.folder:
        for part in how.folder.glob("step-*.part"):  # of a worker that was killed
            shutil.rmtree(part)
    with log:
        begin(state, run, log, vars(options) | own, losses)
        batches = microgpt.batches(config, run.tokenizer, run.docs, state.step)
        keep = (how.folder, identity) if how.folder else None
        follow(state, batches, log, losses, how.save_every, keep)
        names = microgpt.generate(
            functools.partial(logits, state), config, run.tokenizer.bos,
            run.rng.random, run.prompt,
        )  # fmt: skip
        for i, name in zip(range(options.samples), map(run.tokenizer.decode, names)):
            microgpt.say(log, {"name": name})
            print(f"{i + 1:3}  {name}")
    watch.over.set()
    workers.part(state)


def open_log(path):
    """Line by line, so that a worker that is killed has written all but the last."""
    try:
        return open(path or os.devnull, "a", encoding="utf-8", buffering=1)
    except OSError as e:
        raise microgpt.InputError(
            f"cannot write --log {path!r}: {e.strerror}"
        ) from None


def begin(state, run, log, options, losses):
    """Say what starts, and write the log anew up to where it goes on."""
    size = sum(len(row) for rows in run.snapshot.weights.values() for row in rows)
    print(f"{about(state)}: {size:,} weights, {len(run.docs):,} documents", flush=True)
    if losses:
        print(f"going on after step {state.step:,}", flush=True)
    with contextlib.suppress(OSError):  # of a pipe or a device
        log.truncate(0)
    found = {"documents": len(run.docs), "digest": run.digest, "about": about(state)}
    microgpt.say(log, options | found | {"config": asdict(state.config)})
    for step, loss in enumerate(losses, 1):
        microgpt.say(log, {"step": step, "loss": loss})


def follow(state, batches, log, losses, save_every, keep):
    """Log each loss, say ten times what the mean of the last 50 is, and save."""
    steps, first, start = state.config.steps, state.step, time.perf_counter()
    for loss in train(state, batches):
        if not math.isfinite(loss):
            raise microgpt.InputError(
                f"the loss is {loss} at step {state.step}: learn more slowly"
            )
        losses.append(loss)
        microgpt.say(log, {"step": state.step, "loss": loss})
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
        print("stopped early: names from what was learned", flush=True)
        if keep and state.step % save_every:
            save(state, *keep, losses)


if __name__ == "__main__":
    main()
