"""microGPT in Python: where a port begins. README.md says how to run and verify it.

It reads a case as JSON from standard input and writes its answer as JSON to standard
output; spec/README.md describes both. Fill in the functions under "To be filled" one
after the other, and add each level to LEVELS as soon as it is written. A comment such
as S6.3 names a rule of SPEC.md.
"""

import copy
import json
import sys

# n targets of a document, V vocab_size

# What is written so far: "forward", "gradients", "training", "sampling", "stream".
LEVELS = []
DTYPE = "float64"  # or "float32": it selects the tolerances


class Problem(Exception):
    """Something that ends the program with one line."""


def not_written(name):
    raise Problem(f"{name} is not written yet: take its level out of LEVELS")


# ---------------------------------------------------------------- The model


class Model:
    """What training carries (S13). Weights and moments have the names of S3.1; each
    value is a list of rows."""

    def __init__(self, case):
        self.config = case["config"]  # the numbers of the recipe, as in S12
        self.vocab_size = len(case["letters"]) + 1  # BOS is the last token
        self.weights = case["start"]["weights"]
        self.first_moment = case["start"]["first_moment"]
        self.second_moment = case["start"]["second_moment"]


# ---------------------------------------------------------------- To be filled
#
# A batch is a list of documents. A document has n + 1 tokens, cut to the block: the
# first n are the inputs, the last n the targets.


def declines(model):
    """Why this port has no answer to a case, or "". For instance:
    if model.config["n_layer"] != 1: return "it has one layer only"
    """
    return ""


def forward(model, inputs):
    """Level forward: the logits of the next token after each position of one document
    (S4 to S7): n rows of V numbers."""
    not_written("forward")


def loss(model, batch):
    """Level forward: the mean loss of all targets of a batch (S8)."""
    not_written("loss")


def gradients(model, batch):
    """Level gradients: the gradient of that loss for each weight: name -> rows."""
    not_written("gradients")


def train_step(model, batch, step):
    """Level training: the loss of a batch; then one step of Adam (S9) with the learning
    rate of that step (S10) changes the weights and both moments. step counts from 0."""
    not_written("train_step")


def sample(model, prompt, uniform):
    """Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
    uniform() is the next uniform number of the case (S11.3)."""
    not_written("sample")


def stream(model, seed, documents):
    """Level stream: shuffle the list of documents in place (S1.3). Then return the
    initial weights (S3): name -> rows."""
    not_written("stream")


# ---------------------------------------------------------------- The answer


def batch_of(case, step):
    """The documents of a step (S1.4), each cut to the block (S2.3)."""
    tokens, size = case["tokens"], case["config"]["batch_size"]
    batch = [tokens[(step * size + b) % len(tokens)] for b in range(size)]
    return [document[: case["config"]["block_size"] + 1] for document in batch]


def names(model, case):
    letters, uniforms = case["letters"], iter(case["uniforms"])
    prompt = [letters.index(letter) for letter in case["prompt"]]

    def uniform():
        for number in uniforms:
            return number
        raise Problem("the case has no more uniforms: S11.5")

    tokens = [sample(model, prompt, uniform) for _ in range(case["count"])]
    return ["".join(letters[token] for token in name) for name in tokens]


def training(model, case):
    losses, after = [], {}
    for s in range(1, case["steps"] + 1):
        step = case["start"]["step"] + s - 1
        losses.append(train_step(model, batch_of(case, step), step))
        if s in (1, 2, 3, 20):
            state = {
                "weights": model.weights,
                "first_moment": model.first_moment,
                "second_moment": model.second_moment,
            }
            after[s] = copy.deepcopy(state)
    return {"losses": losses, "after": after}


def answer_of(case):
    model = Model(case)
    why = declines(model) if LEVELS else "not written yet"
    if why:
        return {"id": case["id"], "declined": why}
    answer = {"id": case["id"], "levels": LEVELS, "dtype": DTYPE}
    batch = batch_of(case, case["start"]["step"])
    if "sampling" in LEVELS:
        answer["names"] = names(model, case)
    if case["steps"] and "forward" in LEVELS:
        answer["logits"] = [forward(model, document[:-1]) for document in batch]
        answer["loss"] = loss(model, batch)
    if case["steps"] and "gradients" in LEVELS:
        answer["gradients"] = copy.deepcopy(gradients(model, batch))
    if "stream" in case and "stream" in LEVELS:
        shuffled = list(case["stream"]["documents"])
        weights = stream(model, case["stream"]["seed"], shuffled)
        answer["stream"] = {"shuffled": shuffled, "weights": weights}
    if case["steps"] and "training" in LEVELS:
        answer |= training(model, case)  # changes the weights
    return answer


if __name__ == "__main__":
    try:
        json.dump(answer_of(json.load(sys.stdin)), sys.stdout)
    except Problem as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
