"""microGPT: a GPT that learns to make up names, whole, in one file of plain Python.

Read it from top to bottom: tokens, autograd, weights, the model, its loss, Adam,
training, sampling. That is the whole algorithm, and the reference for every other
version. Below it stand the interface for other programs, then recipes, documents and
the command line. SPEC.md says the same in formulas: a comment such as S9 names a rule.

    python microgpt.py            trains in a few seconds, then makes up twenty names
    python microgpt.py --help     every number of a run is an option
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - older ones lack what is imported below
    sys.stderr.write(f"error: Python {sys.version.split()[0]} is older than 3.11\n")
    sys.exit(2)

import argparse
import atexit
import contextlib
import functools
import gc
import hashlib
import http.client
import inspect
import json
import math
import os
import platform
import random
import shutil
import signal
import stat
import tempfile
import threading
import time
import urllib.request
from bisect import bisect
from collections import deque
from dataclasses import asdict, dataclass, fields, replace
from itertools import accumulate, chain, pairwise, takewhile
from operator import mul
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, NamedTuple, get_args

# C n_embd, H heads, D head_dim = C / H, V vocabulary, T tokens so far. A vector is a
# list of Values, a matrix a list of rows: (out, in) has `out` rows of `in` numbers.

# ---------------------------------------------------------------- Tokens


class Tokenizer:
    """A token for each letter, in sorted order, then BOS, which marks the ends (S2)."""

    def __init__(self, docs):
        self.letters = sorted(set("".join(docs)))
        self.ids = {letter: token for token, letter in enumerate(self.letters)}
        self.bos = len(self.letters)
        self.vocab_size = len(self.letters) + 1

    def encode(self, doc):
        return [self.bos, *(self.ids[letter] for letter in doc), self.bos]

    def decode(self, tokens):
        return "".join(self.letters[token] for token in tokens if token != self.bos)


# ---------------------------------------------------------------- Autograd

tape = []  # every Value that an operation made, in the order in which they were made


class Value:
    """A number that remembers which numbers it was computed from, its children, and its
    slope in each of them: local_grads[i] is d self / d children[i]."""

    __slots__ = ("data", "grad", "children", "local_grads")

    def __init__(self, data, children=(), local_grads=()):
        self.data = data
        self.grad = 0.0  # d loss / d self, which backward() fills in
        self.children = children
        self.local_grads = local_grads
        if children:
            tape.append(self)

    def __add__(self, other):  # y = a + b,  so  dy/da = 1  and  dy/db = 1
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):  # y = a b,  so  dy/da = b  and  dy/db = a
        return Value(self.data * other.data, (self, other), (other.data, self.data))


class Weight(Value):
    """A number that training changes. It also holds Adam's two moments."""

    __slots__ = ("m", "v")

    def __init__(self, data, m, v):
        super().__init__(float(data))
        self.m, self.v = float(m), float(v)


def backward(loss):
    """The chain rule, from the loss back to the weights. Everything that was computed
    from a Value stands later on the tape. So in reverse order each Value's grad is
    complete when the loop reaches it."""
    loss.grad = 1.0
    for value in reversed(tape):
        grad = value.grad
        if grad:  # a zero would only add zeros
            for child, local_grad in zip(value.children, value.local_grads):
                child.grad += local_grad * grad  # += as others may use this child too
    tape.clear()


# Each operation below makes one Value of many numbers at once: a few large steps on the
# tape are much faster than many small ones. Its first comment derives its slopes.


def data(values):
    return [value.data for value in values]


# Python 3.12 and newer have math.sumprod; older ones use this
sumprod = getattr(math, "sumprod", lambda x, y: sum(map(mul, x, y)))


def linear(x, w):
    """The matrix w times the vector x. (in,), (out, in) -> (out,)"""
    # y_i = Σ_j w_ij x_j,  so  dy_i/dw_ij = x_j  and  dy_i/dx_j = w_ij
    x_data, out = data(x), []
    for row in w:
        w_data = data(row)
        out.append(Value(sumprod(w_data, x_data), row + x, x_data + w_data))
    return out


def relu(x, power):
    """max(0, x) to a power: 1 is ReLU, 2 is squared ReLU (S7.2)."""
    # y = max(0, x)^p,  so  dy/dx = p max(0, x)^(p-1),  and 0 where x <= 0
    y = max(0.0, x.data)
    return Value(y**power, (x,), (power * y ** (power - 1) if y else 0.0,))


def inverse_rms(x):
    """1 / sqrt(mean(x²) + eps), the factor by which RMSNorm multiplies x (S5)."""
    # s = (mean(x²) + eps)^(-1/2),  so  ds/dx_i = -1/2 s³ · 2 x_i / C = -s³ x_i / C
    xs = data(x)
    scale = (sumprod(xs, xs) / len(xs) + 1e-5) ** -0.5
    return Value(scale, x, [-(scale**3) / len(xs) * xi for xi in xs])


def exponentials(xs):
    """e^(x - top) for each x, the sum of these, and top, the largest x."""
    top = max(xs)  # softmax is shift-invariant: subtracting it only prevents overflow
    exps = [math.exp(x - top) for x in xs]
    return exps, sum(exps), top


def softmax(x):
    """Scores to probabilities: each e^x over the sum of all (S6.5). (n,) -> (n,)"""
    # p_i = e^x_i / Σ_k e^x_k,  so  dp_i/dx_j = p_i (1 - p_i) if i = j,  else -p_i p_j
    exps, total, _ = exponentials(data(x))
    p = [e / total for e in exps]
    return [Value(pi, x, softmax_slopes(p, i)) for i, pi in enumerate(p)]


def softmax_slopes(p, i):
    """dp_i/dx_j for each j. A generator: backward() computes them when it needs them,
    as n² numbers for each token would take too much memory."""
    return (p[i] * ((i == j) - pj) for j, pj in enumerate(p))


def cross_entropy(x, target):
    """-log softmax(x)[target], the loss of one target (S8.1). (V,) -> one Value"""
    # loss = log Σ_k e^x_k - x_target,  so  dloss/dx_j = p_j,  p_j - 1 at the target:
    # predicted probabilities minus the one-hot target
    exps, total, top = exponentials(data(x))
    local_grads = [e / total for e in exps]
    local_grads[target] -= 1.0
    return Value(math.log(total) + top - x[target].data, x, local_grads)


def mean(x, n):
    """The sum of x over n."""
    # y = Σ_i x_i / n,  so  dy/dx_i = 1 / n
    return Value(sum(data(x)) / n, x, [1.0 / n] * len(x))


# ---------------------------------------------------------------- Parameters


def shapes(config, vocab_size):
    """{name: (rows, columns, standard deviation)} of the weights, in the order in which
    they are drawn (S3)."""
    C, std = config.n_embd, config.init_std
    # the last matrix of attention and of the MLP may start at zero: then a layer adds
    # nothing to its input at first
    last = 0.0 if config.zero_init else std
    table = {"wte": (vocab_size, C, std), "wpe": (config.block_size, C, std)}
    table["lm_head"] = (vocab_size, C, std)
    for i in range(config.n_layer):
        table |= {f"layer{i}.attn_w{name}": (C, C, std) for name in "qkv"}
        table[f"layer{i}.attn_wo"] = (C, C, last)
        table[f"layer{i}.mlp_fc1"] = (4 * C, C, std)
        table[f"layer{i}.mlp_fc2"] = (C, 4 * C, last)
    return table


class Snapshot(NamedTuple):
    """Everything that training carries from step to step (S13). The first three are
    {name: rows}, the last is the number of steps taken."""

    weights: dict
    first_moment: dict
    second_moment: dict
    step: int


def initial(config, vocab_size, rng):
    """What training starts from: normally distributed weights (S3.3), moments zero."""
    table = shapes(config, vocab_size)
    weights = {
        name: [[rng.gauss(0, std) for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns, std) in table.items()
    }
    zeros = {name: [[0.0] * c for _ in range(r)] for name, (r, c, _) in table.items()}
    return Snapshot(weights, zeros, zeros, 0)


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    """Scale a vector to a mean square of 1 (S5). (C,) -> (C,)"""
    scale = inverse_rms(x)
    return [xi * scale for xi in x]


def attention(q, keys, values, head_dim):
    """Each head's output: the average of the values so far, weighted by how well the
    query matches each key (S6). (C,), (T, C), (T, C) -> (C,)"""
    out, scale = [], Value(head_dim**-0.5)
    for start in range(0, len(q), head_dim):
        head = slice(start, start + head_dim)  # this head's part of q, k and v
        scores = [s * scale for s in linear(q[head], [k[head] for k in keys])]  # (T,)
        out += linear(softmax(scores), [list(v) for v in zip(*values)][head])  # += (D,)
    return out


def forward(config, w, token, position, cache):
    """The logits of the next token after this one. cache holds each layer's keys and
    values of the tokens so far, to which this token adds its own. -> (V,)"""
    x = [t + p for t, p in zip(w["wte"][token], w["wpe"][position])]  # (C,)
    x = rmsnorm(x)  # S4.2: a norm here, and none before lm_head
    for i, (keys, values) in enumerate(cache):
        # attention: gather information from earlier tokens
        h = rmsnorm(x)
        q = linear(h, w[f"layer{i}.attn_wq"])  # (C,): what this token looks for
        keys.append(linear(h, w[f"layer{i}.attn_wk"]))  # (T, C): what each token offers
        values.append(linear(h, w[f"layer{i}.attn_wv"]))  # (T, C): what it passes on
        h = attention(q, keys, values, config.n_embd // config.n_head)
        x = [xi + hi for xi, hi in zip(x, linear(h, w[f"layer{i}.attn_wo"]))]
        # MLP: compute with what was gathered
        h = rmsnorm(x)
        h = linear(h, w[f"layer{i}.mlp_fc1"])  # (4C,)
        h = [relu(hi, config.relu_power) for hi in h]
        x = [xi + hi for xi, hi in zip(x, linear(h, w[f"layer{i}.mlp_fc2"]))]  # (C,)
    return linear(x, w["lm_head"])  # (V,)


# ---------------------------------------------------------------- Loss and training


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8). Adds its gradient to the weights'
    gradients."""
    n, total = sum(len(tokens) - 1 for tokens in batch), 0.0
    for tokens in batch:  # one graph for each document, so that memory stays small
        cache = [([], []) for _ in range(state.config.n_layer)]
        losses = [
            cross_entropy(forward(state.config, state.w, token, t, cache), target)
            for t, (token, target) in enumerate(pairwise(tokens))
        ]
        loss = mean(losses, n)
        backward(loss)
        total += loss.data
    return total


def adam(state, learning_rate):
    """Move each weight against its mean gradient, divided by the gradient's usual size.
    Gradients are reset to zero (S9)."""
    state.step += 1
    beta1, beta2 = state.config.beta1, state.config.beta2
    # the moments start at zero: without this correction they are too small at first
    correct1, correct2 = 1 - beta1**state.step, 1 - beta2**state.step
    for p in parameters(state):
        p.m = beta1 * p.m + (1 - beta1) * p.grad
        p.v = beta2 * p.v + (1 - beta2) * p.grad * p.grad
        # eps, which prevents a division by zero, is added outside the root
        p.data -= learning_rate * (p.m / correct1) / (math.sqrt(p.v / correct2) + 1e-8)
        p.grad = 0.0


def train(state, batches):
    """Take one step for each (batch, learning rate) and yield its loss."""
    for batch, learning_rate in batches:
        gc.disable()  # it searches for reference cycles, and the graph has none
        loss = loss_and_backward(state, batch)
        adam(state, learning_rate)
        gc.enable()
        yield loss


def learning_rate(config, step):
    """The learning rate of a step. It falls from the first step, which is step 0,
    towards zero (S10)."""
    done = step / config.steps
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def batches(config, tokenizer, docs, start=0):
    """(batch, learning rate) of each step. Documents are taken in order, and after the
    last comes the first again (S1.4); each is cut so that its inputs fit the block."""
    for step in range(start, config.steps):
        first = step * config.batch_size
        picked = [docs[(first + i) % len(docs)] for i in range(config.batch_size)]
        # S2.3: block_size inputs, and for each the token after it
        cut = [tokenizer.encode(doc)[: config.block_size + 1] for doc in picked]
        yield cut, learning_rate(config, step)


# ---------------------------------------------------------------- Sampling


def generate(logits, config, bos, uniform, prompt=()):
    """Draw names without end, each as a list of tokens (S11). logits(tokens) scores
    what may follow; uniform() draws from [0, 1), once for each token."""

    @functools.cache  # many names begin with the same letters
    def cumulative(tokens):
        scaled = [float(x) / config.temperature for x in logits(list(tokens))[-1]]
        exps, total, _ = exponentials(scaled)
        return list(accumulate(e / total for e in exps))  # (V,)

    while True:
        tokens = (bos, *prompt)
        while len(tokens) <= config.block_size:
            sums = cumulative(tokens)
            # the first token whose cumulative probability exceeds u
            token = bisect(sums, uniform() * sums[-1], 0, len(sums) - 1)
            if token == bos:
                break
            tokens += (token,)
        yield list(tokens[1:])


# ---------------------------------------------------------------- Interface

# What every version offers, so that other programs can use any of them alike (S14):
# create, logits, loss_and_grads, train, export, about.


def create(config, snapshot, dtype: Literal["float64"] = "float64"):
    """A state that continues from the snapshot, whichever version the snapshot came
    from."""
    w = {
        name: [
            [Weight(*numbers) for numbers in zip(*rows)]
            for rows in zip(*(matrices[name] for matrices in snapshot[:3]))
        ]
        for name in snapshot.weights
    }
    return SimpleNamespace(config=config, w=w, step=snapshot.step)


def parameters(state):
    return [p for rows in state.w.values() for row in rows for p in row]


def to_rows(state, what):
    """One attribute (data, grad, m or v) of every weight. -> {name: rows}"""
    return {
        name: [[getattr(p, what) for p in row] for row in rows]
        for name, rows in state.w.items()
    }


def logits(state, tokens):
    """The logits of the next token after each position of one document.
    (n,) -> (n, V)"""
    cache = [([], []) for _ in range(state.config.n_layer)]
    out = [forward(state.config, state.w, x, t, cache) for t, x in enumerate(tokens)]
    tape.clear()  # no gradient is wanted
    return [data(row) for row in out]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient for each weight. Changes nothing in the
    state."""
    loss, grads = loss_and_backward(state, batch), to_rows(state, "grad")
    for p in parameters(state):
        p.grad = 0.0
    return loss, grads


def export(state):
    """Everything that training carries from step to step, as plain numbers (S13)."""
    weights, m, v = (to_rows(state, what) for what in ("data", "m", "v"))
    return Snapshot(weights, m, v, state.step)


def about(state):
    """Library, version, device, precision and threads: the first line of the output."""
    return f"Python {platform.python_version()}, float64"


# ---------------------------------------------------------------- Data and command line

# -------------------------------- Recipes


class InputError(Exception):
    """A request that cannot work: one line with the value, and what would be right."""


class Option(NamedTuple):
    """What a number of a recipe means, and the limits between which it must lie."""

    meaning: str
    low: float | None = None
    high: float | None = None


OPTIONS = {
    "n_embd": Option("width of the residual stream", 1, 4096),
    "n_head": Option("attention heads, which share the width", 1, 256),
    "n_layer": Option("layers, each of attention and MLP", 1, 64),
    "block_size": Option("longest context, in tokens", 1, 4096),
    "init_std": Option("standard deviation of the initial weights", 1e-9, 10),
    "zero_init": Option("start attn_wo and mlp_fc2 at zero", 0, 1),
    "relu_power": Option("the MLP's activation is max(0, x) to this power", 1, 4),
    "learning_rate": Option("learning rate of the first step", 1e-9, 10),
    "beta1": Option("Adam: decay of the mean gradient", 0, 0.99999),
    "beta2": Option("Adam: decay of the mean squared gradient", 0, 0.99999),
    "schedule": Option("how the learning rate falls to zero"),
    "steps": Option("optimizer steps", 1, 10**9),
    "batch_size": Option("documents in a step", 1, 10**6),
    "temperature": Option("sampling: below 1, likely letters get likelier", 1e-3, 1e3),
}


@dataclass(frozen=True)
class Config:
    """A recipe (S12): every number in which one run can differ from another."""

    n_embd: int = 16  # C: how many numbers represent a token
    n_head: int = 4  # H: each head has C / H of them
    n_layer: int = 1
    block_size: int = 8  # how many tokens the model can look back at, itself included
    init_std: float = 0.02
    zero_init: bool = True  # a layer adds nothing to its input at first (S3.3)
    relu_power: int = 2  # 1 is ReLU, 2 is squared ReLU
    learning_rate: float = 0.01  # of the first step; the schedule lowers it
    beta1: float = 0.9  # close to 1: the mean gradient is over many steps
    beta2: float = 0.95  # the same for the mean squared gradient
    schedule: Literal["cosine", "linear"] = "cosine"
    steps: int = 500
    batch_size: int = 1
    temperature: float = 0.5  # below 1, likely letters get likelier

    def __post_init__(self):
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            # "not …" so that NaN is refused too
            if option.low is not None and not option.low <= value <= option.high:
                raise InputError(
                    f"{name} is {value}: it must lie in {option.low} … {option.high}"
                )
        choices = get_args(Config.__annotations__["schedule"])
        if self.schedule not in choices:
            known = " or ".join(choices)
            raise InputError(f"schedule is {self.schedule!r}: it must be {known}")
        if self.n_embd % self.n_head:
            raise InputError(
                f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}"
            )


RECIPES = {
    "seed": Config(),
    "gist": Config(
        block_size=16, init_std=0.08, zero_init=False, relu_power=1,
        beta1=0.85, beta2=0.99, schedule="linear", steps=1000,
    ),
    "scaled": Config(n_embd=64, n_layer=2, block_size=16, batch_size=32, steps=1000),
}  # fmt: skip

# -------------------------------- Documents

ROOT = Path(__file__).resolve().parent.parent
MAKEMORE = (
    "https://raw.githubusercontent.com/karpathy/makemore/"
    "988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt"
)
# over the lines with a newline after each, as copies differ in the last newline
SHA256 = {
    "names": "aec607bd1a59dd33d973a1742803d5012dadd56f6fa3966c1bf5466fb1894442",
    "makemore": "816d2a728695db28a20e17eae61c9c423091a511b3df09a06a489dccbf0876c7",
}


def digest(docs):
    return hashlib.sha256("".join(f"{doc}\n" for doc in docs).encode()).hexdigest()


def load_documents(source="names", say=print):
    """The documents of a file, a URL, makemore or the embedded names (S1.1)."""
    path = ROOT / "data" / "names.txt" if source == "names" else Path(source)
    if source == "names" and not path.exists():
        say(f"there is no {path}: taking makemore's names instead")
        source = "makemore"
    url = MAKEMORE if source == "makemore" else source
    try:
        if url.startswith(("http://", "https://")):
            return load_url(url, source, say)
        return parse(read_file(path), source)
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = " ".join(str(getattr(e, "strerror", 0) or e).split())  # one line
        raise InputError(
            f"cannot read data {source!r} ({reason}): give a file with one document a "
            "line, names, or with a network makemore or a URL"
        ) from None


def load_url(url, source, say):
    """The documents of a URL, which are kept so that the next run needs no network."""
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = Path(__file__).resolve().with_name(".cache") / f"{key}.txt"
    try:
        return parse(read_file(path), source)
    except FileNotFoundError:
        say(f"downloading {url}")
    except (OSError, InputError):
        say(f"{path} cannot be used: downloading {url} again")
    raw = fetch(url)
    docs = parse(raw, source)  # check first, so that a bad download is not kept
    try:
        save(path, raw)
    except OSError as e:  # the next run downloads it again
        say(f"not kept: cannot write {path}: {e.strerror or e}")
    return docs


def read_file(path, limit=2**28):
    """All the bytes of a file. OSError for one that is too large or never ends."""
    raw = bytearray()
    with open(path, "rb") as file:
        for chunk in iter(functools.partial(file.read, 2**20), b""):
            raw += chunk
            if len(raw) > limit:
                raise OSError(f"over {limit:,} bytes")
    return raw


# What a file may begin with that is no text, and what to do about it.
SIGNATURES = {
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"PAR1": "a Parquet table: write the column with the documents as a text file",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
    b"<!doctype html": "a web page: give the address of the text itself",
    b"<html": "a web page: give the address of the text itself",
}


def decode(raw, source):
    """The text of a file. Raises InputError, with the likely cause, if it is no text of
    lines in UTF-8."""
    start = raw[:99].lstrip().lower()
    for signature, what in SIGNATURES.items():
        if raw.startswith(signature) or start.startswith(signature):
            raise InputError(f"data {source} is {what}")
    if b"\0" in raw:
        raise InputError(
            f"data {source} is binary, or UTF-16: it must be text in UTF-8, one "
            "document a line"
        )
    if b"\r" in raw and b"\n" not in raw:
        raise InputError(
            f"data {source} has carriage returns and no newline: end each line with a "
            "newline"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        byte = raw[e.start : e.start + 1]
        raise InputError(
            f"data {source} is not UTF-8 text: byte {e.start} is 0x{byte.hex()}, in "
            f"Windows-1252 {byte.decode('cp1252', 'replace')!r}: save it as UTF-8"
        ) from None


def parse(raw, source):
    """The lines that are not empty. Raises InputError if they cannot be trained on."""
    docs = [line.strip() for line in decode(raw, source).split("\n")]
    docs = [doc for doc in docs if doc]
    letters = set("".join(docs))
    if len(docs) < 2 or len(letters) < 2:
        found = f"{len(docs)} document(s) with {len(letters)} different letter(s)"
        raise InputError(f"data {source} has {found}: it takes at least 2 of each")
    if digest(docs) != SHA256.get(source, digest(docs)):
        raise InputError(
            f"data {source} has SHA-256 {digest(docs)}, not {SHA256[source]}"
        )
    return docs


def fetch(url, seconds=60, limit=2**26):
    """All the bytes of a URL, or an exception that says why not. A thread downloads, so
    that it can be left behind whatever the server does."""
    found = []

    def download():
        try:
            found.append(read_url(url, seconds, limit))
        except Exception as e:
            found.append(e)

    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    if not found:
        raise OSError(f"over {seconds} seconds")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def read_url(url, seconds, limit):
    deadline, raw = time.monotonic() + seconds, bytearray()
    with urllib.request.urlopen(url, timeout=min(10, seconds)) as reply:
        for chunk in iter(functools.partial(reply.read1, 2**16), b""):
            raw += chunk
            if len(raw) > limit or time.monotonic() > deadline:
                raise OSError(f"over {limit:,} bytes or {seconds} seconds")
        if len(raw) != int(reply.headers.get("Content-Length") or len(raw)):
            raise OSError(f"cut off after {len(raw):,} bytes")
    return raw


def private_folder(name):
    """A folder for temporary files that nobody else can read or change. It is the same
    one each time; where that is somebody else's, a new one."""
    try:
        folder, user = tempfile.gettempdir(), getattr(os, "getuid", lambda: "user")()
        if os.name == "posix" and set(folder) & set('"$`\\'):
            folder = "/tmp"  # a compiler is started by a shell, which reads these
        path = Path(folder, f"microgpt-{user}-{name}")
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == user
        if os.name == "nt" or (mine and not status.st_mode & 0o077):
            return path
    except FileExistsError:
        pass
    except OSError as e:
        raise InputError(
            f"no temporary folder can be written ({e.strerror or e}): set TMPDIR to one"
        ) from None
    path = Path(tempfile.mkdtemp(prefix="microgpt-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def save(path, raw):
    """Write a file whole or not at all: under a temporary name first, then renamed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(raw)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def prepare(config, source="names", seed=42, prompt="", say=print):
    """Everything a run starts from: documents, tokenizer, random stream and initial
    weights (S1, S3). Raises InputError if they do not fit together."""
    refuse_seed(seed)
    docs, rng = load_documents(source, say), random.Random(seed)
    known = digest(docs)
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    refuse_misfits(config, docs, tokenizer, prompt)
    cut = sum(len(doc) >= config.block_size for doc in docs)
    if cut:
        say(f"{cut:,} of {len(docs):,} documents do not fit the block and are cut")
    snapshot = initial(config, tokenizer.vocab_size, rng)
    return SimpleNamespace(
        docs=docs, digest=known, tokenizer=tokenizer, rng=rng, snapshot=snapshot,
        prompt=tokenizer.encode(prompt)[1:-1],
    )  # fmt: skip


def refuse_seed(seed):
    if seed < 0:  # Python drops the sign
        raise InputError(
            f"seed is {seed}: it must be 0 or more ({-seed} gives the same numbers)"
        )


def memory():
    """Bytes of memory that a process can have here; None where that is unknown."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        try:
            found.append(int(Path("/sys/fs/cgroup", name).read_text("ascii")))
        except (OSError, ValueError):  # there is no limit
            continue
    return min(found)


def refuse_too_large(config, vocab_size):
    """Raises InputError for a model that cannot even start: before training, a weight
    and its moments take at least 64 bytes in any version."""
    size = sum(
        rows * columns for rows, columns, _ in shapes(config, vocab_size).values()
    )
    needed, here = 64 * size, memory()
    if here and needed > here:
        raise InputError(
            f"the recipe has {size:,} weights: it needs about {needed / 1e9:,.0f} GB "
            f"of memory, this machine has {here / 1e9:,.0f} GB: lower n_embd or n_layer"
        )


def refuse_misfits(config, docs, tokenizer, prompt):
    """Raises InputError where recipe, documents and prompt do not fit together, or the
    model does not fit into the machine."""
    refuse_too_large(config, tokenizer.vocab_size)
    if config.batch_size > len(docs):
        raise InputError(
            f"batch_size {config.batch_size} exceeds the {len(docs)} documents"
        )
    unknown = sorted(set(prompt) - set(tokenizer.letters))
    if unknown:
        raise InputError(
            f"prompt {prompt!r} has {unknown}: no document has these letters"
        )
    if len(prompt) >= config.block_size:
        raise InputError(
            f"prompt {prompt!r} fills the block of {config.block_size} tokens"
        )


# -------------------------------- Command line


def show_uncaught(kind, error, trace):
    """What a framework's import may raise: Ctrl-C, or a request that cannot work."""
    if kind is InputError:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = show_uncaught


def run(version, recipe="seed"):
    """The command line of a version, a module that has the interface above: train, then
    make up names. Exit status 0, 2 for what cannot work, 130 after a second Ctrl-C."""
    guard_output()
    try:
        try:
            train_and_sample(version, *parse_options(version, recipe))
        finally:
            sys.stdout.flush()  # here: an error while Python exits cannot be caught
    except InputError as e:
        sys.exit(print(f"error: {visible(e)}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(e, BrokenPipeError):  # with `| head` the reader just stops
            print(f"error: cannot write: {e.strerror or e}", file=sys.stderr)
            sys.exit(2)


def guard_output():
    """Make both streams safe to print to: letters that an encoding lacks are written as
    escapes, and a stream that was closed before the start becomes one nobody reads."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")


def visible(text):
    """The text in one line, with characters that a terminal would obey as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


Help = argparse.RawDescriptionHelpFormatter


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (--help lists the options)")

    def parse_args(self):
        given = super().parse_args()
        for name, value in vars(given).items():
            if value == []:  # so does an older argparse read --name=--
                self.error(f"{name.replace('_', '-')} has no value")
        return given


def some_text(text):
    """The type of an option that is a text: an empty one is refused."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: give a value or leave it out")
    return text


def in_recipes(name):
    """The value in each recipe: "default: 4", or "seed 16, gist 16, scaled 64"."""
    values = {recipe: getattr(config, name) for recipe, config in RECIPES.items()}
    if len(set(values.values())) == 1:
        return f"default: {values['seed']}"
    return ", ".join(f"{recipe} {value}" for recipe, value in values.items())


def parse_options(version, recipe):
    """(config, shared options, create's own): a flag for each number of a recipe, and
    for each parameter of create() beyond the first two."""
    parser = Parser(
        description=version.__doc__, allow_abbrev=False, formatter_class=Help
    )
    add = parser.add_argument
    add("--recipe", choices=RECIPES, default=recipe, help=f"default: {recipe}")
    source = "file, URL, makemore, names (default: names)"
    add("--data", type=some_text, default="names", help=source)
    add(
        "--seed", type=int, default=42,
        help="seed of the shuffle, the initial weights and the sampling (default: 42)",
    )  # fmt: skip
    add("--samples", type=int, default=20, help="names to make up (default: 20)")
    add("--prompt", default="", help="letters that each name starts with")
    written = "write settings, losses and names as JSON Lines"
    add("--log", type=some_text, metavar="FILE", help=written)
    own = list(inspect.signature(version.create).parameters.values())[2:]
    flags = [(p.name, p.annotation, p.default, f"default: {p.default}") for p in own]
    for f in fields(Config):
        meaning = f"{OPTIONS[f.name].meaning} ({in_recipes(f.name)})"
        flags.append((f.name, f.type, None, meaning))
    for name, kind, default, meaning in flags:
        how = {"type": some_text if kind is str else kind}
        if get_args(kind):
            how = {"choices": get_args(kind)}
        if kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        default = None if default == "" else default  # "" is refused where it is given
        add("--" + name.replace("_", "-"), default=default, help=meaning, **how)
    given = vars(parser.parse_args())
    numbers = {f.name: given.pop(f.name) for f in fields(Config)}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    own = {p.name: given.pop(p.name) for p in own}
    refuse_overwriting(given["log"], given["data"])
    return replace(RECIPES[given["recipe"]], **numbers), SimpleNamespace(**given), own


def refuse_overwriting(log, *sources):
    """Raises InputError if the log is a file that documents are read from."""
    for source in (*sources, ROOT / "data" / "names.txt"):
        files = log and os.path.isfile(log) and os.path.isfile(source)
        if files and os.path.samefile(log, source):
            raise InputError(f"--log {log!r} holds the documents: give another file")


def train_and_sample(version, config, options, own):
    """One run: train a version, then print names; those in the data are marked."""
    if options.samples < 0:
        raise InputError(f"samples is {options.samples}: it must be 0 or more")
    run = prepare(config, options.data, options.seed, options.prompt)
    state, tokenizer = version.create(config, run.snapshot, **own), run.tokenizer
    try:
        log = open(options.log or os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as e:
        raise InputError(f"cannot write --log {options.log!r}: {e.strerror}") from None
    with log:
        size = sum(len(row) for rows in run.snapshot.weights.values() for row in rows)
        head = f"{version.about(state)}: {size:,} weights, {len(run.docs):,} documents"
        print(head, flush=True)  # the next line may take a while
        found = {"documents": len(run.docs), "digest": run.digest}
        found |= {"about": version.about(state), "config": asdict(config)}
        write_record(log, vars(options) | own | found)
        steps = until_interrupted(batches(config, tokenizer, run.docs))
        guess = math.log(tokenizer.vocab_size)
        try:
            report_losses(version.train(state, steps), config.steps, log, guess)
            if not all(map(math.isfinite, version.logits(state, [tokenizer.bos])[-1])):
                raise InputError(
                    "the logits are not finite: try a lower --learning-rate"
                )
        except InputError as e:
            raise InputError(f"{e}{not_finite(version.export(state))}") from None
        draw = functools.partial(version.logits, state)
        names = generate(draw, config, tokenizer.bos, run.rng.random, run.prompt)
        known = set(run.docs)
        for i, name in zip(range(options.samples), map(tokenizer.decode, names)):
            write_record(log, {"name": name, "in_data": name in known})
            print(f"{i + 1:3}  {visible(name)}" + "  (in the data)" * (name in known))


def not_finite(snapshot):
    """The end of an error message: the first weight that is not finite, if any is."""
    for name, rows in snapshot.weights.items():
        for i, row in enumerate(rows):
            for j, x in enumerate(row):
                if not math.isfinite(x):
                    return f"; after step {snapshot.step} {name}[{i}][{j}] is {x}"
    return ""


def write_record(log, record):
    log.write(json.dumps(record) + "\n")


def until_interrupted(batches):
    """Pass batches on until Ctrl-C or SIGTERM; then training ends as if there were no
    more. A second one ends the program, as usual."""
    usual, pressed = {}, []

    def stop(number, _):
        pressed.append(True)
        signal.signal(number, usual[number])
        # os.write, since print may be running right now and must not be entered twice
        with contextlib.suppress(OSError):  # nobody can read it
            os.write(2, b"\nstopping after this step: names from what was learned\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # it is ignored under nohup
            usual[number] = signal.signal(number, stop)
    yield from takewhile(lambda _: not pressed, batches)
    for number, handler in usual.items():
        signal.signal(number, handler)


PATIENCE = 50  # losses that are far too high, before that is said


def too_high(step, guess):
    return (
        f"step {step:,}: the last {PATIENCE} losses are over twice {guess:.2f}, that "
        "of a blind guess: try a lower --learning-rate"
    )


def report_losses(losses, steps, log, guess):
    """Log each loss and print the mean of the last 50: ten times a second in one line
    of a terminal, else ten times in all. A framework may still be computing a loss when
    it arrives here: float() waits for it. Losses far above a blind guess are said."""
    live, start = sys.stdout.isatty(), time.perf_counter()
    recent, waiting, taken, due = deque(maxlen=50), [], 0, start
    high = 0  # so many of the last losses are far too high
    for loss in chain(losses, [None]):  # None: there are no more
        waiting += [] if loss is None else [loss]
        now, count = time.perf_counter(), taken + len(waiting)
        if loss is not None and (now < due if live else count % max(1, steps // 10)):
            continue
        for value in map(float, waiting):
            taken += 1
            if not math.isfinite(value):
                raise InputError(
                    f"the loss is {value} at step {taken}: try a lower --learning-rate"
                )
            write_record(log, {"step": taken, "loss": value})
            recent.append(value)
            high = high + 1 if value > 2 * guess else 0
            if high == PATIENCE:
                print(too_high(taken, guess))
        if recent and (waiting or live):
            pace = (time.perf_counter() - start) / max(1, taken)
            print(
                f"step {taken:,} of {steps:,}  loss {sum(recent) / len(recent):.4f}  "
                f"{pace * 1e3:.3g} ms a step  {pace * (steps - taken):.0f} s left",
                end="\n" if loss is None or not live else "  \r", flush=True,
            )  # fmt: skip
        waiting, due = [], now + 0.1


if __name__ == "__main__":
    run(sys.modules[__name__])
