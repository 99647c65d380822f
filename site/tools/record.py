"""Record 01's run of recipe `seed` for the page: the weights that it opens on, and the numbers
that the tests compare the screen with. Every number comes from 01 itself.

    python site/tools/record.py           write the files
    python site/tools/record.py --check   compare them with 01 as it is now; exit status 1 if not
"""

import json
import math
import sys
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import microgpt

import numpy as np
from microgpt_lab.base import versions
from microgpt_lab.base.trace import numbers, recording
from microgpt_lab.runs import checkpoints, documents
from safetensors.numpy import load

SITE = Path(__file__).resolve().parent.parent
SEED, NAMES, SHARE = 42, 20, 0.1
READ = ["emma", "ava", "zoe", "a"]  # the names whose every value is recorded
CLOSE = 1e-9  # Python from 3.12 on adds more exactly: 500 steps make that at most this
WIDE = 100  # columns of a line


def options():
    """What each number of a recipe means, and its limits."""
    return {
        name: {"meaning": o.meaning, "low": o.low, "high": o.high}
        for name, o in microgpt.OPTIONS.items()
    }


def run():
    """(the run's checkpoint, its losses, its names), as 01's program has them."""
    config = microgpt.RECIPES["seed"]
    prepared = microgpt.prepare(config, seed=SEED, say=lambda text: None)
    state = microgpt.create(config, prepared.snapshot)
    batches = microgpt.batches(config, prepared.tokenizer, prepared.docs)
    losses = list(microgpt.train(state, batches))
    plan = checkpoints.RunPlan(
        "seed", config, SEED, "names", prepared.digest, "".join(prepared.tokenizer.letters), 0.0
    )
    stream = prepared.rng.getstate()
    checkpoint = checkpoints.Checkpoint(
        plan, microgpt.export(state), stream, "01_pure_python", complete=False
    )
    uniforms = []

    def uniform():
        uniforms.append(prepared.rng.random())
        return uniforms[-1]

    def draw(tokens):
        return microgpt.logits(state, tokens)

    known = set(prepared.docs)
    drawn = microgpt.generate(draw, config, prepared.tokenizer.bos, uniform)
    names = [prepared.tokenizer.decode(name) for name in islice(drawn, NAMES)]
    marked = [{"name": name, "in_data": name in known} for name in names]
    return checkpoint, state, losses, marked, uniforms


def read(state, tokenizer, name):
    """Every value of the forward pass of a name, and the probabilities at the recipe's
    temperature and at 1."""
    tokens = tokenizer.encode(name)[:-1]
    inner = {}
    with recording(state, lambda: inner):
        rows = microgpt.logits(state, tokens)
    values = {key: numbers(value, "data") for key, value in inner.items()}
    values["logits"] = rows
    probabilities = {}
    for temperature in (state.config.temperature, 1.0):
        scaled = [[z / temperature for z in row] for row in rows]
        sums = [microgpt.exponentials(row)[:2] for row in scaled]
        probabilities[str(temperature)] = [[e / total for e in exps] for exps, total in sums]
    labels = ["BOS" if token == tokenizer.bos else tokenizer.letters[token] for token in tokens]
    return {"tokens": tokens, "labels": labels, "values": values, "probabilities": probabilities}


def held_out_run():
    """The same run with a tenth of the names held out, as `microgpt train` has it: computed by 02,
    which is verified to be 01, in float64."""
    config = microgpt.RECIPES["seed"]
    docs = documents.prepare(config, "names", SEED, SHARE)
    start = microgpt.initial(config, docs.tokenizer.vocab_size, docs.rng)
    module = versions.find()["02_numpy_manual_backprop"].load()
    state = module.create(config, start, dtype="float64")
    losses, held_out = [], {}

    def measure():
        loss = documents.nats_a_character(module, state, config, docs.tokenizer, docs.held_out)
        held_out[len(losses)] = loss

    measure()
    for batch in microgpt.batches(config, docs.tokenizer, docs.train):
        losses += [float(loss) for loss in module.train(state, [batch])]
        if len(losses) % (config.steps // 5) == 0:
            measure()
    drawn = microgpt.generate(
        partial(module.logits, state), config, docs.tokenizer.bos, docs.rng.random
    )
    names = [docs.tokenizer.decode(name) for name in islice(drawn, NAMES)]
    return {"losses": losses, "held_out": held_out, "names": names}


def make():
    """{path under site/: JSON, or a checkpoint}"""
    checkpoint, state, losses, names, uniforms = run()
    tokenizer = checkpoint.plan.tokenizer
    recipes = {name: asdict(config) for name, config in microgpt.RECIPES.items()}
    golden = {"seed": SEED, "losses": losses, "names": names, "uniforms": uniforms}
    golden["letters"] = tokenizer.letters
    golden["read"] = {name: read(state, tokenizer, name) for name in READ}
    return {
        "src/recorded/recipes.json": {"recipes": recipes, "options": options()},
        "src/recorded/run.json": {"seed": SEED, "names": names, "loss": mean(losses[-50:])},
        "golden/seed-42.json": golden,
        "golden/held-out.json": held_out_run(),
        "src/recorded/seed-42.safetensors": checkpoint,
    }


def mean(values):
    return sum(values) / len(values)


def same(a, b):
    """Whether two values of JSON agree, numbers up to CLOSE."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)
    return type(a) is type(b) and a == b


def differs(path, made):
    """What is wrong with a recorded file, or ""."""
    if not path.exists():
        return "is missing"
    if isinstance(made, dict):
        plain = json.loads(json.dumps(made))
        return "" if same(json.loads(path.read_text("utf-8")), plain) else "differs from 01"
    tensors, right = load(path.read_bytes()), checkpoints.tensors(made.snapshot, False)
    equal = tensors.keys() == right.keys() and all(
        np.allclose(tensors[name], right[name], rtol=CLOSE, atol=CLOSE) for name in right
    )
    return "" if equal else "differs from 01"


def write(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(made, dict):
        path.write_text(json.dumps(made, ensure_ascii=False) + "\n", "utf-8")
    else:
        checkpoints.write_checkpoint(path, made)


def main():
    wrong = 0
    for name, made in make().items():
        if "--check" not in sys.argv:
            write(SITE / name, made)
            print(f"wrote site/{name}")
        elif said := differs(SITE / name, made):
            wrong += 1
            print(f"error: site/{name} {said}: run python site/tools/record.py", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
