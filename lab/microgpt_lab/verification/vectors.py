"""Golden vectors: what 01 computes in small cases, each chosen by the mistake it catches.

`microgpt vectors` writes them to `spec/vectors/`. They carry their initial weights and their
uniforms inside, so that a port needs no random generator of Python's. Only 01 makes them.
"""

import functools
import json
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, Snapshot, Tokenizer

from microgpt_lab.base.versions import ROOT

FORMAT = "microgpt-vectors/1"
FOLDER = ROOT / "spec" / "vectors"
KEPT = (1, 2, 3, 20)  # the steps after which weights and moments are kept

Case = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a case is before 01 has computed it."""

    id: str
    why: str
    rules: str
    docs: str
    config: Config
    seed: int = 1
    trained: int = 0  # steps that the weights have behind them already, on another schedule
    start: int = 0  # the step from which training goes on
    prompt: str = ""
    names: int = 20
    steps: int = 20  # losses to record
    stream: bool = False  # shuffle and draws are part of the question
    zeros: str = ""  # endings of the weights whose gradient is zero here, and no evidence


# Tiny enough to follow by hand, wide enough that no two numbers agree by chance.
TINY = Config(
    n_embd=4, n_head=2, block_size=6, init_std=0.3, zero_init=False, steps=20, temperature=1.0
)  # fmt: skip
NAMES = "anna bea nan abe ebba ann en"
# Cases share sizes and letters where their mistakes allow: a framework that compiles does so
# anew for each size.
GIST = replace(TINY, relu_power=1, beta1=0.85, beta2=0.99)

PLANS = [
    Plan(
        "first-steps",
        "What everyone runs first: attn_wo and mlp_fc2 start at zero, so that at first most "
        "gradients are zero and most mistakes do not show. They do from the second step on.",
        "S3.3 S9.3 S10.3",
        NAMES,
        replace(TINY, init_std=0.02, zero_init=True),
        stream=True,
        zeros="attn_wq attn_wk attn_wv mlp_fc1",
    ),
    Plan(
        "nothing-zero",
        "Small weights with nothing zero: every gradient is alive in the first step.",
        "S4.1 S5.1 S5.2 S6.1 S7.1 S8.3",
        NAMES,
        replace(TINY, init_std=0.02),
    ),
    Plan(
        "hot",
        "Large weights: scores far from uniform, ReLUs well off or on, a norm that bends. "
        "A wrong scale, mask or epsilon shows in the first digits.",
        "S5.1 S5.2 S6.3 S6.4 S6.5 S7.2",
        NAMES,
        replace(TINY, n_embd=8, n_head=4),
        seed=2,
    ),
    Plan(
        "faint",
        "Weights so small that the epsilon inside the norm's root is most of it.",
        "S5.1 S5.2",
        NAMES,
        replace(TINY, init_std=0.002),
        seed=3,
    ),
    Plan(
        "repeated-letters",
        "A letter that comes again: its embedding's gradient is a sum over its places.",
        "S4.1 S8.3",
        "aaaa abab baab enne",
        TINY,
        seed=4,
    ),
    Plan(
        "ragged-batch",
        "Documents of unlike length in one step: the loss is the mean over all targets, not "
        "the mean of the documents' means, and pads count for nothing.",
        "S8.2 S8.3 S1.4",
        "a enna bab ananab ea",
        replace(TINY, batch_size=3),
        seed=5,
    ),
    Plan(
        "cut-at-block",
        "A document longer than the block: cut after block_size targets, no BOS at its end.",
        "S2.3 S11.4",
        "annabeanna ab bananabean",
        TINY,
        seed=6,
    ),
    Plan(
        "one-letter",
        "Documents of a single letter: two targets, the shortest that there is.",
        "S2.2 S2.3 S6.4",
        "a b a n e",
        TINY,
        seed=7,
    ),
    Plan(
        "block-of-one",
        "A block of one token: after the cut the only input is BOS, and attention sees itself.",
        "S2.3 S6.4 S11.4",
        "ab ba a",
        replace(TINY, block_size=1),
        seed=8,
        zeros="attn_wq attn_wk",
    ),
    Plan(
        "two-layers",
        "Two layers: gradients pass through a whole layer, and weights of one layer are not "
        "those of the other.",
        "S3.1 S4.3 S6.7 S7.4",
        NAMES,
        replace(TINY, n_layer=2),
        seed=9,
    ),
    Plan(
        "one-head",
        "One head: head_dim is the whole width, so that 1/sqrt(D) and 1/sqrt(C) agree here "
        "and only here.",
        "S6.2 S6.3",
        NAMES,
        replace(TINY, n_head=1),
        seed=10,
    ),
    Plan(
        "four-heads",
        "Four heads of width 2: joined in any other order they give other numbers.",
        "S6.2 S6.6",
        NAMES,
        replace(TINY, n_embd=8, n_head=4),
        seed=11,
    ),
    Plan(
        "wide",
        "Wider than sixteen, heads of width 12: no sizes are powers of two, so that what fits "
        "lanes and tiles of those does not hide what is wrong beyond them.",
        "S3.1 S6.2 S6.3",
        NAMES,
        replace(TINY, n_embd=24, init_std=0.1),
        seed=17,
        steps=2,
    ),
    Plan(
        "relu",
        "The first power: plain ReLU, whose slope is 1 where it is on. The betas are those of "
        "the recipe `gist`.",
        "S7.2 S7.3 S9.1 S9.2",
        NAMES,
        GIST,
        seed=12,
    ),
    Plan(
        "linear-schedule",
        "The learning rate falls on a line, as in the recipe `gist`.",
        "S10.2 S10.3 S9.1 S9.2",
        NAMES,
        replace(GIST, schedule="linear"),
        seed=13,
    ),
    Plan(
        "last-step",
        "A run taken up at its last step: moments and their correction come from before, and "
        "the last learning rate is not zero.",
        "S9.3 S10.1 S10.3 S13.1",
        NAMES,
        TINY,
        seed=14,
        trained=19,
        start=19,
    ),
    Plan(
        "trained",
        "Weights that have learned: large moments, sharp distributions, names to sample.",
        "S11.2 S11.3 S11.4 S11.5 S13.1",
        NAMES,
        replace(TINY, temperature=0.5),
        seed=15,
        trained=200,
    ),
    Plan(
        "prompt",
        "Names that start with given letters: these draw no uniforms.",
        "S11.1 S11.5",
        NAMES,
        replace(TINY, temperature=2.0),
        seed=16,
        trained=100,
        prompt="an",
    ),
    Plan(
        "seed",
        "The whole recipe `seed` on real names: 500 steps.",
        "S12",
        "",
        microgpt.RECIPES["seed"],
        seed=42,
        steps=500,
        stream=True,
        zeros="attn_wq attn_wk attn_wv mlp_fc1",
    ),
    Plan(
        "gist",
        "The whole recipe `gist` on real names: the first 500 of its 1000 steps.",
        "S12",
        "",
        microgpt.RECIPES["gist"],
        seed=42,
        steps=500,
        stream=True,
    ),
    Plan(
        "thousand-names",
        "A thousand names from the weights that recipe `seed` ends with.",
        "S11",
        "",
        microgpt.RECIPES["seed"],
        seed=42,
        trained=500,
        names=1000,
        steps=0,
    ),
]


# ---------------------------------------------------------------- One case


def make(plan: Plan) -> Case:
    """Compute a case with 01: the question, then the answer in order of execution."""
    rng = random.Random(plan.seed)
    docs = plan.docs.split() or microgpt.load_documents()
    given = list(docs)
    if not plan.docs or plan.stream:
        rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    snapshot = microgpt.initial(plan.config, tokenizer.vocab_size, rng)
    if plan.trained:
        before = replace(plan.config, steps=max(plan.trained, plan.config.steps))
        snapshot = replay(before, snapshot, tokenizer, docs, plan.trained)
        snapshot = snapshot._replace(step=plan.start)
    uniforms = [rng.random() for _ in range(plan.names * (plan.config.block_size + 1))]
    used = docs if plan.docs else docs[: max(plan.steps, 1) * plan.config.batch_size]
    case: Case = {
        "format": FORMAT,
        "id": plan.id,
        "why": plan.why,
        "made_by": made_by(),
        "rules": plan.rules.split(),
        "zero_gradients": plan.zeros.split(),
        "config": asdict(plan.config),
        "letters": "".join(tokenizer.letters),
        "documents": used,
        "tokens": [tokenizer.encode(doc) for doc in used],
        "start": snapshot._asdict(),
        "steps": min(plan.steps, plan.config.steps - plan.start),
        "prompt": plan.prompt,
        "count": plan.names,
        "uniforms": uniforms,
    }
    if plan.stream and plan.docs:
        case["stream"] = {"seed": plan.seed, "documents": given}
    elif plan.stream:
        case["stream"] = {"seed": plan.seed, "documents": "names"}
    return case | {"answer": solve(plan, case, tokenizer)}


def replay(
    config: Config,
    snapshot: Snapshot,
    tokenizer: Tokenizer,
    docs: Sequence[str],
    steps: int,
) -> Snapshot:
    state = microgpt.create(config, snapshot)
    for _ in microgpt.train(state, islice(microgpt.batches(config, tokenizer, docs), steps)):
        pass
    return microgpt.export(state)


def solve(plan: Plan, case: Case, tokenizer: Tokenizer) -> Case:
    """What 01 answers to a case."""
    config, start = plan.config, Snapshot(**case["start"])
    answer: Case = {}
    if case["steps"]:
        todo = list(microgpt.batches(config, tokenizer, case["documents"], start.step))
        answer |= first_batch(config, start, todo[0][0])
        refuse_zeros(plan, answer["gradients"])
        state, losses, after = microgpt.create(config, start), [], {}
        for loss in microgpt.train(state, islice(todo, case["steps"])):
            losses.append(loss)
            if len(losses) in KEPT:
                after[str(len(losses))] = microgpt.export(state)._asdict()
        answer |= {"losses": losses, "after": after}
    state = microgpt.create(config, start)
    tokens = sample(microgpt, state, config, tokenizer, case, plan.names)
    answer["sampled_tokens"] = tokens
    answer["names"] = [tokenizer.decode(name) for name in tokens]
    return answer


def refuse_zeros(plan: Plan, gradients: dict[str, Any]) -> None:
    """A gradient that is all zero proves nothing, so that a case must own up to it."""
    zero = {name for name, rows in gradients.items() if not any(map(any, rows))}
    owned = {name for name in gradients if name.split(".")[-1] in plan.zeros.split()}
    if zero != owned:
        raise AssertionError(f"case {plan.id}: zero gradients {zero}, said {owned}")


def sample(
    module: Any,
    state: Any,
    config: Config,
    tokenizer: Tokenizer,
    case: Case,
    count: int,
) -> list[list[int]]:
    """Names that a version draws from a case's uniforms, each a list of tokens (S11)."""
    shared = getattr(module, "microgpt", module)
    drawn = iter(case["uniforms"])
    names = shared.generate(
        functools.partial(module.logits, state),
        config,
        tokenizer.bos,
        lambda: next(drawn),
        tokenizer.encode(case["prompt"])[1:-1],
    )
    return list(islice(names, count))


def question(case: Case) -> tuple[Config, Snapshot]:
    """The recipe and the state that a case starts from."""
    return Config(**case["config"]), Snapshot(**case["start"])


# ---------------------------------------------------------------- The forward pass, watched


def first_batch(config: Config, start: Snapshot, batch: list[list[int]]) -> Case:
    """Logits, loss, all gradients and every intermediate of one batch, from 01's graph."""
    state = microgpt.create(config, start)
    watched: list[dict[str, list[Any]]] = []
    with watching(state, lambda: watched[-1]):
        inner = microgpt.forward

        def forward(config: Config, w: Any, token: int, position: int, cache: Any) -> Any:
            if position == 0:
                watched.append({})
            return inner(config, w, token, position, cache)

        with patched(forward=forward):
            loss = microgpt.loss_and_backward(state, batch)
    names = list(watched[0])
    return {
        "logits": [numbers(document["logits"], "data") for document in watched],
        "loss": loss,
        "gradients": microgpt.read(state, "grad"),
        "intermediates": [
            {
                "name": name,
                "value": [numbers(document[name], "data") for document in watched],
                "gradient": [numbers(document[name], "grad") for document in watched],
            }
            for name in names
        ],
    }


def numbers(values: Any, what: str) -> Any:
    """Nested lists of Values -> nested lists of one of their numbers."""
    if isinstance(values, microgpt.Value):
        return getattr(values, what)
    return [numbers(value, what) for value in values]


@contextmanager
def patched(**functions: Callable[..., Any]) -> Iterator[None]:
    """Put functions in the place of 01's for a while."""
    before = {name: getattr(microgpt, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(microgpt, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(microgpt, name, function)


@contextmanager
def watching(state: Any, document: Callable[[], dict[str, list[Any]]]) -> Iterator[None]:
    """Note what passes between 01's functions, under a name each, a row a position.

    The names stand in order of execution. `scores` and `attention` have a row a head.
    """
    weights = {id(rows): name for name, rows in state.w.items()}
    renamed = {"attn_wo": "attn_out", "mlp_fc1": "pre_activation", "mlp_fc2": "mlp_out"}
    renamed |= {"attn_wq": "q", "attn_wk": "k", "attn_wv": "v"}
    inner = {
        name: getattr(microgpt, name)
        for name in ("rmsnorm", "linear", "attention", "softmax", "relu")
    }
    now = {"norms": 0, "layer": 0}

    def note(name: str, row: Any) -> None:
        document().setdefault(name, []).append(row)

    def rmsnorm(x: Any) -> Any:
        norm, now["layer"] = now["norms"], (now["norms"] - 1) // 2
        now["norms"] = (norm + 1) % (1 + 2 * state.config.n_layer)
        layer = f"layer{now['layer']}"
        if norm == 0:
            before, after = "embedding", "embedding_norm"
        elif norm % 2:  # its input is what the layer before left
            before, after = (
                f"layer{now['layer'] - 1}.mlp_residual",
                f"{layer}.attn_norm",
            )
        else:
            before, after = f"{layer}.attn_residual", f"{layer}.mlp_norm"
        if norm != 1:  # what the first layer starts from is embedding_norm
            note(before, x)
        y = inner["rmsnorm"](x)
        note(after, y)
        return y

    def linear(x: Any, w: Any) -> Any:
        name = weights.get(id(w))
        if name == "lm_head":
            note(f"layer{state.config.n_layer - 1}.mlp_residual", x)
        y = inner["linear"](x, w)
        if name:
            layer, _, short = name.rpartition(".")
            note(f"{layer}.{renamed[short]}" if layer else "logits", y)
            if short == "mlp_fc1":
                note(f"{layer}.activation", [])
        return y

    def attention(q: Any, *rest: Any) -> Any:
        note(f"layer{now['layer']}.scores", [])
        note(f"layer{now['layer']}.attention", [])
        y = inner["attention"](q, *rest)
        note(f"layer{now['layer']}.heads", y)
        return y

    def softmax(x: Any) -> Any:
        y = inner["softmax"](x)
        document()[f"layer{now['layer']}.scores"][-1].append(x)
        document()[f"layer{now['layer']}.attention"][-1].append(y)
        return y

    def relu(x: Any, power: int) -> Any:
        y = inner["relu"](x, power)
        document()[f"layer{now['layer']}.activation"][-1].append(y)
        return y

    with patched(rmsnorm=rmsnorm, linear=linear, attention=attention, softmax=softmax, relu=relu):
        yield


# ---------------------------------------------------------------- Files


def dump(value: Any, indent: int = 0) -> str:
    """JSON with a line for each key and each row of numbers; floats to their last digit."""
    if isinstance(value, dict):
        pad = " " * (indent + 1)
        lines = [f"{pad}{json.dumps(k)}: {dump(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        pad = " " * (indent + 1)
        rows = ",\n".join(pad + dump(v, indent + 1) for v in value)
        return "[\n" + rows + "\n" + " " * indent + "]"
    return json.dumps(value, allow_nan=False)


def text(case: Case) -> str:
    return dump(case) + "\n"


def made_by() -> str:
    """What the last digits depend on: `sum`, `exp` and `log` are the interpreter's."""
    return f"CPython {'.'.join(platform.python_version_tuple()[:2])}, {platform.machine()}"


def write(folder: Path = FOLDER) -> list[Path]:
    """Compute all cases with 01 and write a file each; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for plan in PLANS:
        path = folder / f"{plan.id}.json"
        path.write_text(text(make(plan)))
        paths.append(path)
    return paths


# A variant is the same program run in another way, often compiled anew for each recipe: these
# two cases between them ask for every check.
FOR_VARIANTS = ("ragged-batch", "seed")


def read_for(variant: str) -> list[Case]:
    """The cases that a variant of a version is put to; all for the version itself."""
    return [case for case in read() if not variant or case["id"] in FOR_VARIANTS]


def read(folder: Path = FOLDER) -> list[Case]:
    """All cases, in the order of PLANS."""
    try:
        return [json.loads((folder / f"{plan.id}.json").read_text()) for plan in PLANS]
    except (OSError, ValueError) as e:
        raise microgpt.InputError(
            f"cannot read golden vectors: {e}; run: microgpt vectors"
        ) from None
