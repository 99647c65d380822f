"""microGPT: a GPT that learns to make up names, the whole of it in one file.

Nothing but Python's standard library. Read it from top to bottom: documents, tokens,
autograd, weights, the model, its training, its dreams. SPEC.md says the same in
formulas, and a comment such as S9 names the rule there. All that stands above
"Running it" is the algorithm, and the reference for every other version.

    python microgpt.py            trains in a few seconds, then makes up twenty names
    python microgpt.py --help     every number of a run is an option
"""

import argparse
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
import signal
import sys
import time
import urllib.request
from bisect import bisect
from collections import deque
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import accumulate, chain, pairwise, takewhile
from operator import mul
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, NamedTuple, get_args

# ---------------------------------------------------------------- Recipe


class InputError(Exception):
    """What a person asked for cannot work: one line with the value and what would."""


def number(default, low, high, meaning):
    return field(default=default, metadata={"limits": (low, high), "help": meaning})


@dataclass(frozen=True)
class Config:
    """A recipe (S12): every number that makes one run differ from another."""

    n_embd: int = number(16, 1, 4096, "width of the residual stream")
    n_head: int = number(4, 1, 256, "attention heads, which share the width")
    n_layer: int = number(1, 1, 64, "layers of attention and MLP")
    block_size: int = number(8, 1, 4096, "longest context, in tokens")
    init_std: float = number(0.02, 1e-9, 10, "standard deviation of the first weights")
    zero_init: bool = number(True, 0, 1, "start attn_wo and mlp_fc2 at zero")
    relu_power: int = number(2, 1, 4, "the MLP's activation is max(0, x) to this power")
    learning_rate: float = number(0.01, 1e-9, 10, "learning rate of the first step")
    beta1: float = number(0.9, 0, 0.99999, "Adam's decay of the mean gradient")
    beta2: float = number(0.95, 0, 0.99999, "Adam's decay of the mean squared gradient")
    schedule: Literal["cosine", "linear"] = field(
        default="cosine", metadata={"help": "how the learning rate falls to zero"}
    )
    steps: int = number(500, 1, 10**9, "optimizer steps")
    batch_size: int = number(1, 1, 10**6, "documents in a step")
    temperature: float = number(0.5, 1e-3, 1e3, "below 1 is bolder, above 1 is wilder")

    def __post_init__(self):
        for f in fields(self):
            if "limits" in f.metadata:
                value, (low, high) = getattr(self, f.name), f.metadata["limits"]
                if not low <= value <= high:  # so that NaN is refused too
                    raise InputError(
                        f"{f.name} is {value}: it must lie in {low} … {high}"
                    )
        if self.n_embd % self.n_head:
            raise InputError(
                f"n_embd {self.n_embd} is no multiple of n_head {self.n_head}"
            )


RECIPES = {
    "seed": Config(),
    "gist": Config(
        block_size=16, init_std=0.08, zero_init=False, relu_power=1,
        beta1=0.85, beta2=0.99, schedule="linear", steps=1000,
    ),
    "scaled": Config(n_embd=64, n_layer=2, block_size=16, batch_size=32, steps=1000),
}  # fmt: skip

# ---------------------------------------------------------------- Documents

ROOT = Path(__file__).resolve().parent.parent
MAKEMORE = (
    "https://raw.githubusercontent.com/karpathy/makemore/"
    "988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt"
)
SHA256 = {  # of the lines, each with a newline: copies differ in the final one
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
    if remote := url.startswith(("http://", "https://")):
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        path = Path(__file__).resolve().with_name(".cache") / f"{key}.txt"
    try:
        if remote and not path.exists():
            say(f"downloading {url}")
            raw = fetch(url)
            parse(raw, source)  # what is wrong is not kept
            save(path, raw)
        return parse(path.read_bytes(), source)
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = " ".join(str(getattr(e, "strerror", 0) or e).split())  # one line
        raise InputError(
            f"cannot read data {source!r} ({reason}): give a file with one document a "
            "line, names, or with a network makemore or a URL"
        ) from None


def parse(raw, source):
    """The lines that are not empty, refused if nothing can be learned from them."""
    try:
        docs = [line.strip() for line in raw.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as e:
        raise InputError(f"data {source} is not UTF-8 text: byte {e.start}") from None
    docs = [doc for doc in docs if doc]
    letters = set("".join(docs))
    if "\0" in letters:
        raise InputError(
            f"data {source} is binary: it must be text, one document a line"
        )
    if len(docs) < 2 or len(letters) < 2:
        found = f"{len(docs)} document(s) with {len(letters)} different letter(s)"
        raise InputError(f"data {source} has {found}: it takes at least 2 of each")
    if digest(docs) != SHA256.get(source, digest(docs)):
        raise InputError(
            f"data {source} has SHA-256 {digest(docs)}, not {SHA256[source]}"
        )
    return docs


def fetch(url, seconds=60, limit=2**26):
    """All the bytes of a URL, or an OSError that says why not."""
    deadline, raw = time.monotonic() + seconds, bytearray()
    with urllib.request.urlopen(url, timeout=min(10, seconds)) as reply:
        while chunk := reply.read1(2**16):
            raw += chunk
            if len(raw) > limit or time.monotonic() > deadline:
                raise OSError(f"over {limit:,} bytes or {seconds} seconds")
        if len(raw) != int(reply.headers.get("Content-Length") or len(raw)):
            raise OSError(f"cut off after {len(raw):,} bytes")
    return raw


def save(path, raw):
    """Write a file whole or not at all: a temporary name, then one rename."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(raw)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    """A number that knows what it was made from, and how it changes with each part."""

    __slots__ = ("data", "grad", "children", "local_grads")

    def __init__(self, data, children=(), local_grads=()):
        self.data = data
        self.grad = 0.0  # d loss / d self
        self.children = children
        self.local_grads = local_grads  # local_grads[i] = d self / d children[i]
        if children:
            tape.append(self)

    def __add__(self, other):
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        return Value(self.data * other.data, (self, other), (other.data, self.data))


class Weight(Value):
    """A leaf, which training moves: it carries Adam's two moments along."""

    __slots__ = ("m", "v")

    def __init__(self, data, m, v):
        super().__init__(float(data))
        self.m, self.v = float(m), float(v)


def backward(loss):
    """The chain rule, from the loss to the leaves. Whatever used a Value stands later
    on the tape: read backwards, it meets each Value with its grad complete."""
    loss.grad = 1.0
    for value in reversed(tape):
        if grad := value.grad:  # a zero has nothing to pass on
            for child, local_grad in zip(value.children, value.local_grads):
                child.grad += local_grad * grad  # += as others may use this child too
    tape.clear()


def data(values):
    return [value.data for value in values]


# from 3.12 on Python has it
sumprod = getattr(math, "sumprod", lambda x, y: sum(map(mul, x, y)))


def linear(x, w):
    """Each row of w times x, each product one Value. (in,), (out, in) -> (out,)"""
    x_data, out = data(x), []
    for row in w:
        w_data = data(row)
        out.append(Value(sumprod(w_data, x_data), row + x, x_data + w_data))
    return out


def relu(x, power):
    y = max(0.0, x.data)
    return Value(y**power, (x,), (power * y ** (power - 1) if y else 0.0,))


def inverse_rms(x):
    """1 / sqrt(mean(x²) + eps): by what RMSNorm scales x (S5)."""
    xs = data(x)
    scale = (sumprod(xs, xs) / len(xs) + 1e-5) ** -0.5
    return Value(scale, x, [-(scale**3) / len(xs) * xi for xi in xs])


def exponentials(xs):
    top = max(xs)  # softmax is shift-invariant: this only prevents overflow
    exps = [math.exp(x - top) for x in xs]
    return exps, sum(exps), top


def softmax(x):
    exps, total, _ = exponentials(data(x))
    p = [e / total for e in exps]
    return [
        Value(pi, x, [pi * ((i == j) - pj) for j, pj in enumerate(p)])
        for i, pi in enumerate(p)
    ]


def cross_entropy(x, target):
    """-log softmax(x)[target]. Its gradient: what was predicted less what is true."""
    exps, total, top = exponentials(data(x))
    local_grads = [e / total for e in exps]
    local_grads[target] -= 1.0
    return Value(math.log(total) + top - x[target].data, x, local_grads)


def mean(x, n):
    return Value(sum(data(x)) / n, x, [1.0 / n] * len(x))


# ---------------------------------------------------------------- Parameters


def shapes(config, vocab_size):
    """{name: (rows, columns, deviation)} of the weights, in order of drawing (S3)."""
    C, std = config.n_embd, config.init_std
    last = 0.0 if config.zero_init else std  # what ends a branch may start silent
    table = {"wte": (vocab_size, C, std), "wpe": (config.block_size, C, std)}
    table["lm_head"] = (vocab_size, C, std)
    for i in range(config.n_layer):
        table |= {f"layer{i}.attn_w{name}": (C, C, std) for name in "qkv"}
        table[f"layer{i}.attn_wo"] = (C, C, last)
        table[f"layer{i}.mlp_fc1"] = (4 * C, C, std)
        table[f"layer{i}.mlp_fc2"] = (C, 4 * C, last)
    return table


class Snapshot(NamedTuple):
    """All that training carries from step to step; each of the three {name: rows}."""

    weights: dict
    first_moment: dict
    second_moment: dict
    step: int


def initial(config, vocab_size, rng):
    """What training starts from: normal draws (S3.3), moments zero."""
    table = shapes(config, vocab_size)
    weights = {
        name: [[rng.gauss(0, std) for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns, std) in table.items()
    }
    zeros = {name: [[0.0] * c for _ in range(r)] for name, (r, c, _) in table.items()}
    return Snapshot(weights, zeros, zeros, 0)


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    scale = inverse_rms(x)
    return [xi * scale for xi in x]


def attention(q, keys, values, head_dim):
    """What each head reads from the tokens so far: values, as its q meets keys (S6)."""
    out, scale = [], Value(head_dim**-0.5)
    for start in range(0, len(q), head_dim):
        head = slice(start, start + head_dim)
        scores = [s * scale for s in linear(q[head], [k[head] for k in keys])]
        out += linear(softmax(scores), [list(v) for v in zip(*values)][head])
    return out


def forward(config, w, token, position, cache):
    """The logits of what follows one token. cache: keys and values of each layer."""
    x = [t + p for t, p in zip(w["wte"][token], w["wpe"][position])]
    x = rmsnorm(x)  # S4.2: here too, but not before lm_head
    for i, (keys, values) in enumerate(cache):
        h = rmsnorm(x)
        q = linear(h, w[f"layer{i}.attn_wq"])
        keys.append(linear(h, w[f"layer{i}.attn_wk"]))
        values.append(linear(h, w[f"layer{i}.attn_wv"]))
        h = attention(q, keys, values, config.n_embd // config.n_head)
        x = [xi + hi for xi, hi in zip(x, linear(h, w[f"layer{i}.attn_wo"]))]
        h = rmsnorm(x)
        h = [relu(hi, config.relu_power) for hi in linear(h, w[f"layer{i}.mlp_fc1"])]
        x = [xi + hi for xi, hi in zip(x, linear(h, w[f"layer{i}.mlp_fc2"]))]
    return linear(x, w["lm_head"])


# ---------------------------------------------------------------- Loss and training


def loss_and_backward(state, batch):
    """The mean loss of all targets (S8). Adds its gradient to the weights' grads."""
    n, total = sum(len(tokens) - 1 for tokens in batch), 0.0
    for tokens in batch:  # one graph a document, so that memory stays flat
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
    """Adam with bias correction, eps outside the root; grads are spent (S9)."""
    state.step += 1
    beta1, beta2 = state.config.beta1, state.config.beta2
    correct1, correct2 = 1 - beta1**state.step, 1 - beta2**state.step
    for p in leaves(state):
        p.m = beta1 * p.m + (1 - beta1) * p.grad
        p.v = beta2 * p.v + (1 - beta2) * p.grad * p.grad
        p.data -= learning_rate * (p.m / correct1) / (math.sqrt(p.v / correct2) + 1e-8)
        p.grad = 0.0


def train(state, batches):
    """Take a step for each (batch, learning rate) and yield its loss."""
    for batch, learning_rate in batches:
        gc.disable()  # the graph has no cycles: to search it for them is in vain
        loss = loss_and_backward(state, batch)
        adam(state, learning_rate)
        gc.enable()
        yield loss


def learning_rate(config, step):
    """Falls from the first step, which is step 0, towards zero (S10)."""
    done = step / config.steps
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def batches(config, tokenizer, docs, start=0):
    """(batch, learning rate) of each step: documents in order, round and round (S1.3),
    each cut so that its inputs fit the block (S2.3)."""
    for step in range(start, config.steps):
        first = step * config.batch_size
        picked = [docs[(first + i) % len(docs)] for i in range(config.batch_size)]
        cut = [tokenizer.encode(doc)[: config.block_size + 1] for doc in picked]
        yield cut, learning_rate(config, step)


# ---------------------------------------------------------------- Sampling


def generate(logits, config, bos, uniform, prompt=()):
    """Draw documents without end, each a list of tokens: logits(tokens) says what may
    follow, uniform() draws from [0, 1), one draw a token (S11)."""

    @functools.cache  # many names begin alike
    def cumulative(tokens):
        scaled = [float(x) / config.temperature for x in logits(list(tokens))[-1]]
        exps, total, _ = exponentials(scaled)
        return list(accumulate(e / total for e in exps))

    while True:
        tokens = (bos, *prompt)
        while len(tokens) <= config.block_size:
            steps = cumulative(tokens)
            token = bisect(steps, uniform() * steps[-1], 0, len(steps) - 1)
            if token == bos:
                break
            tokens += (token,)
        yield list(tokens[1:])


# ---------------------------------------------------------------- For whoever drives it


def prepare(config, source="names", seed=42, prompt="", say=print):
    """All that a run starts from, refused at once if the parts do not fit (S1, S3)."""
    docs, rng = load_documents(source, say), random.Random(seed)
    known = digest(docs)
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    refuse_misfits(config, docs, tokenizer, prompt)
    if cut := sum(len(doc) >= config.block_size for doc in docs):
        say(f"{cut:,} of {len(docs):,} documents do not fit the block and are cut")
    snapshot = initial(config, tokenizer.vocab_size, rng)
    return SimpleNamespace(
        docs=docs, digest=known, tokenizer=tokenizer, rng=rng, snapshot=snapshot,
        prompt=tokenizer.encode(prompt)[1:-1],
    )  # fmt: skip


def refuse_misfits(config, docs, tokenizer, prompt):
    if config.batch_size > len(docs):
        raise InputError(
            f"batch_size {config.batch_size} exceeds the {len(docs)} documents"
        )
    if unknown := sorted(set(prompt) - set(tokenizer.letters)):
        raise InputError(
            f"prompt {prompt!r} has {unknown}: the data know no such letters"
        )
    if len(prompt) >= config.block_size:
        raise InputError(
            f"prompt {prompt!r} fills the block of {config.block_size} tokens"
        )


def create(config, snapshot, dtype: Literal["float64"] = "float64"):
    """A state, which goes on where the snapshot stood, whichever version made that."""
    w = {
        name: [
            [Weight(*numbers) for numbers in zip(*rows)]
            for rows in zip(*(matrices[name] for matrices in snapshot[:3]))
        ]
        for name in snapshot.weights
    }
    return SimpleNamespace(config=config, w=w, step=snapshot.step)


def leaves(state):
    return [p for rows in state.w.values() for row in rows for p in row]


def read(state, what):
    """What every weight has under that name: data, grad, m or v. -> {name: rows}"""
    return {
        name: [[getattr(p, what) for p in row] for row in rows]
        for name, rows in state.w.items()
    }


def logits(state, tokens):
    """What one document's prefix says of each next token. (n,) -> (n, vocab_size)"""
    cache = [([], []) for _ in range(state.config.n_layer)]
    out = [forward(state.config, state.w, x, t, cache) for t, x in enumerate(tokens)]
    tape.clear()
    return [data(row) for row in out]


def loss_and_grads(state, batch):
    """The loss of a batch and its gradient in each weight. The state does not move."""
    loss, grads = loss_and_backward(state, batch), read(state, "grad")
    for p in leaves(state):
        p.grad = 0.0
    return loss, grads


def export(state):
    """All that training carries, as plain numbers."""
    return Snapshot(read(state, "data"), read(state, "m"), read(state, "v"), state.step)


def about(state):
    """What computes, and in what precision."""
    return f"Python {platform.python_version()}, float64"


# ---------------------------------------------------------------- Running it


def run(version, recipe="seed"):
    """The command line of a version, a module that has the functions above: train, then
    make up names. Exit status 0, 2 for what cannot work, 130 after a second Ctrl-C."""
    sys.stdout.reconfigure(errors="backslashreplace")  # not every one has all letters
    try:
        try:
            session(version, *parse_options(version, recipe))
        finally:
            sys.stdout.flush()  # at exit nobody could catch its failure
    except InputError as e:
        sys.exit(print(f"error: {e}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(e, BrokenPipeError):  # `| head` has seen enough
            print(f"error: cannot write: {e.strerror or e}", file=sys.stderr)
            sys.exit(2)


Help = argparse.RawDescriptionHelpFormatter


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (--help lists the options)")


def parse_options(version, recipe):
    """(config, shared options, create's own): a flag for each number of a recipe, and
    for each parameter of create() beyond the first two."""
    parser = Parser(
        description=version.__doc__, allow_abbrev=False, formatter_class=Help
    )
    add = parser.add_argument
    add("--recipe", choices=RECIPES, default=recipe, help=f"default: {recipe}")
    add("--data", default="names", help="file, URL, makemore, names (default: names)")
    add("--seed", type=int, default=42, help="of all that is random (default: 42)")
    add("--samples", type=int, default=20, help="how many to make up (default: 20)")
    add("--prompt", default="", help="letters to start with")
    add("--log", metavar="FILE", help="write the run as JSON Lines")
    own = list(inspect.signature(version.create).parameters.values())[2:]
    flags = [(p.name, p.annotation, p.default, f"default: {p.default}") for p in own]
    flags += [(f.name, f.type, None, f.metadata["help"]) for f in fields(Config)]
    for name, kind, default, meaning in flags:
        how = {"choices": get_args(kind)} if get_args(kind) else {"type": kind}
        if kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        add("--" + name.replace("_", "-"), default=default, help=meaning, **how)
    given = vars(parser.parse_args())
    numbers = {f.name: given.pop(f.name) for f in fields(Config)}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    own = {p.name: given.pop(p.name) for p in own}
    return replace(RECIPES[given["recipe"]], **numbers), SimpleNamespace(**given), own


def session(version, config, options, own):
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
        print(head, flush=True)  # training may take a while to say more
        found = {"documents": len(run.docs), "digest": run.digest}
        found |= {"about": version.about(state), "config": asdict(config)}
        write_record(log, vars(options) | own | found)
        steps = until_interrupted(batches(config, tokenizer, run.docs))
        watch(version.train(state, steps), config.steps, log)
        draw = functools.partial(version.logits, state)
        names = generate(draw, config, tokenizer.bos, run.rng.random, run.prompt)
        known = set(run.docs)
        for i, name in zip(range(options.samples), map(tokenizer.decode, names)):
            write_record(log, {"name": name, "in_data": name in known})
            print(f"{i + 1:3}  {name}")


def write_record(log, record):
    log.write(json.dumps(record) + "\n")


def until_interrupted(batches):
    """Hand batches on until Ctrl-C, so that training ends as if they had run out. The
    handler serves once: the next Ctrl-C leaves, as usual."""
    usual, pressed = signal.getsignal(signal.SIGINT), []

    def stop(*_):
        pressed.append(True)
        signal.signal(signal.SIGINT, usual)
        # not print, which may be at work right now, and cannot be entered twice
        os.write(2, b"\nstopping after this step: names from what was learned\n")

    signal.signal(signal.SIGINT, stop)
    yield from takewhile(lambda _: not pressed, batches)
    signal.signal(signal.SIGINT, usual)


def watch(losses, steps, log):
    """Log each loss and show the mean of 50: often on a terminal, where the line is
    written over, else ten times. A loss may be on its way still: float() waits."""
    live, start = sys.stdout.isatty(), time.perf_counter()
    recent, waiting, taken, due = deque(maxlen=50), [], 0, start
    for loss in chain(losses, [None]):  # None: there are no more
        waiting += [] if loss is None else [loss]
        now, count = time.perf_counter(), taken + len(waiting)
        if loss is not None and (now < due if live else count % max(1, steps // 10)):
            continue
        for value in map(float, waiting):
            taken += 1
            if not math.isfinite(value):
                raise InputError(
                    f"the loss is {value} at step {taken}: learn more slowly"
                )
            write_record(log, {"step": taken, "loss": value})
            recent.append(value)
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
