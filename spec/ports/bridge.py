"""The bridge between the JSON of `microgpt verify` and a port that has no JSON library.

    microgpt verify --program "python3 bridge.py ./port"

It reads a case as JSON, starts ./port, and gives it the case as words and numbers. It
reads the port's answer, also words and numbers, and writes it as JSON. Without a
program it prints the case as the port would get it:

    python3 bridge.py < spec/vectors/hot.json

What the port reads, in this order. Each line is one word, then numbers; a list has its
length first. A port that reads in order can skip the words.

    n_embd 4                   then the other numbers of the recipe (S12), in order:
                               n_head n_layer block_size init_std zero_init (0 or 1)
                               relu_power learning_rate beta1 beta2 linear (1: linear,
                               0: cosine) total_steps (S of S10) batch_size temperature
    vocab_size 6               letters and BOS; BOS is token vocab_size - 1
    documents 2                how many there are; a line for each follows:
    document 6 5 0 3 3 0 5     length and tokens: BOS, letters, BOS, not yet cut (S2.3)
    step 0                     steps taken before
    weights:wte 6 4            rows, columns; then a line for each row. All weights, in
    …                          the order of S3.2: wte wpe lm_head layer0.attn_wq …
    first_moment:wte 6 4       the same for the first moments
    second_moment:wte 6 4      and for the second moments
    steps 20                   how many steps to train; 0: do not train, only sample
    prompt 1 0                 length and tokens, without BOS
    count 20                   how many names to sample
    uniforms 3 0.1 0.7 0.2     length and numbers
    seed 1 42                  length and 32-bit words of the seed, lowest first (S1.2);
                               "seed 0" if the case does not ask for the level stream
    shuffle 2                  how many documents to shuffle; 0 if there is no stream

What the port writes. A line that begins with a word begins a part. The numbers of a
part may stand on any number of lines.

    declined its reason        the port has no answer to this case; nothing else follows
    levels forward gradients   the levels that it has
    dtype float64              or float32
    logits 0.1 …               of each document of the first batch, position by position
    loss 1.6
    gradient:wte 0.2 …         row by row; one part for each weight
    losses 1.6 1.5 …
    digits 4                   only for the level losses: digits after the point
    after:1:weights:wte 0.3 …  after 1 step; also first_moment and second_moment; and
                               the same after 2, 3 and 20 steps
    name 0 3 3 0               the tokens of one name, without BOS; one part a name
    shuffled 1 0               the documents' numbers, counted from 0, in the new order
    initial:wte 0.01 …         the initial weights that the seed gives
    value:layer0.q 0.1 …       optional: an intermediate value of the first batch,
    slope:layer0.q 0.1 …       and its gradient

The bridge needs nothing but Python's standard library.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys

RECIPE = ["n_embd", "n_head", "n_layer", "block_size", "init_std", "zero_init"]
RECIPE += ["relu_power", "learning_rate", "beta1", "beta2", "linear", "total_steps"]
RECIPE += ["batch_size", "temperature"]
STATE = ["weights", "first_moment", "second_moment"]
MATRICES = ["attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2"]


class Unusable(Exception):
    """The port's answer cannot be used; the text says why."""


# ---------------------------------------------------------------- The case as words


def weight_names(case):
    """The names of all weights, in the order of S3.2."""
    layers = range(case["config"]["n_layer"])
    inside = [f"layer{i}.{name}" for i in layers for name in MATRICES]
    return ["wte", "wpe", "lm_head", *inside]


def case_lines(case):
    """The case as the port reads it, line by line."""
    config, start = case["config"], case["start"]
    recipe = config | {
        "zero_init": int(config["zero_init"]),
        "linear": int(config["schedule"] == "linear"),
        "total_steps": config["steps"],
    }
    for key in RECIPE:
        yield key, recipe[key]
    yield "vocab_size", len(case["letters"]) + 1
    yield "documents", len(case["tokens"])
    for tokens in case["tokens"]:
        yield "document", len(tokens), *tokens
    yield "step", start["step"]
    for part in STATE:
        for name in weight_names(case):
            rows = start[part][name]
            yield f"{part}:{name}", len(rows), len(rows[0])
            yield from rows
    yield "steps", case["steps"]
    yield "prompt", len(case["prompt"]), *map(case["letters"].index, case["prompt"])
    yield "count", case["count"]
    yield "uniforms", len(case["uniforms"]), *case["uniforms"]
    stream = stream_of(case)
    words = [] if stream["seed"] is None else seed_words(stream["seed"])
    yield "seed", len(words), *words
    yield "shuffle", len(stream["documents"])


def stream_of(case):
    """Seed and documents of the level stream; none if the case does not ask for it."""
    stream = case.get("stream", {"documents": "names"})
    if stream["documents"] == "names":  # a file that the port does not get
        return {"seed": None, "documents": []}
    return stream


def seed_words(seed):
    """The 32-bit words of a seed, lowest first; a seed of 0 has one word."""
    count = max(1, -(-seed.bit_length() // 32))
    return [seed >> 32 * i & 0xFFFFFFFF for i in range(count)]


def plain(case):
    """The whole case as text."""
    return "".join(" ".join(map(str, line)) + "\n" for line in case_lines(case))


# ---------------------------------------------------------------- The answer as JSON


def answer_of(case, text):
    """The port's output -> the answer for `microgpt verify`."""
    answer = {"id": case["id"]}
    names = []
    for label, words in parts(text):
        if label == "declined":
            return answer | {"declined": " ".join(words)}
        if label == "levels":
            answer[label] = words
        elif label == "dtype":
            answer[label] = " ".join(words)
        elif label == "name":
            names.append("".join(entry(case["letters"], label, x) for x in words))
        else:
            place(case, answer, label, words)
    if names or ("sampling" in answer.get("levels", ()) and case["count"] == 0):
        answer["names"] = names
    return answer


def parts(text):
    """(label, words) of each part. A line that begins with a number belongs to the part
    before it."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words and not is_number(words[0]):
            found.append((words[0], words[1:]))
        elif words and not found:
            raise Unusable(f"its output must begin with a word, not {words[0]!r}")
        elif words:
            found[-1][1].extend(words)
    return found


def place(case, answer, label, words):
    """Put the numbers of one part where the JSON of an answer has them."""
    kind, *names = label.split(":")
    if label == "shuffled":
        documents = stream_of(case)["documents"]
        shuffled = [entry(documents, label, x) for x in words]
        answer.setdefault("stream", {})[label] = shuffled
        return
    numbers = [to_number(label, x) for x in words]
    if label == "losses":
        answer[label] = numbers
    elif label == "logits":
        answer[label] = by_document(case, label, numbers)
    elif label == "loss":
        (answer[label],) = sized(label, numbers, 1)
    elif label == "digits":
        (answer[label],) = (entry(range(17), label, x) for x in words)
    elif kind in ("value", "slope") and len(names) == 1:
        place_inner(case, answer, kind, names[0], numbers)
    else:
        place_matrix(case, answer, label, numbers)


def place_inner(case, answer, kind, name, numbers):
    """Put an intermediate value, or its gradient, where the answer has it."""
    inner = answer.setdefault("intermediates", [])
    if not inner or inner[-1]["name"] != name:
        inner.append({"name": name})
    key = "value" if kind == "value" else "gradient"
    inner[-1][key] = by_document(case, name, numbers)


def place_matrix(case, answer, label, numbers):
    """Put a weight, its gradient or one of its moments where the answer has it."""
    kind, *names = label.split(":")
    if kind == "gradient" and len(names) == 1:
        found = answer.setdefault("gradients", {})
    elif kind == "initial" and len(names) == 1:
        found = answer.setdefault("stream", {}).setdefault("weights", {})
    elif kind == "after" and len(names) == 3 and names[1] in STATE:
        state = answer.setdefault("after", {}).setdefault(names[0], {})
        found = state.setdefault(names[1], {})
    else:
        raise Unusable(f"{label!r} is no part of an answer: bridge.py lists them")
    found[names[-1]] = matrix(case, label, names[-1], numbers)


def matrix(case, label, name, numbers):
    """Numbers as rows of the shape of the weight of that name."""
    if name not in case["start"]["weights"]:
        raise Unusable(f"{label}: there is no weight {name!r}")
    rows = case["start"]["weights"][name]
    widths = [len(row) for row in rows]
    return cut(sized(label, numbers, sum(widths)), widths)


def by_document(case, name, numbers):
    """Numbers as one list for each document of the first batch, in it one row for each
    position. In scores and attention, a position has a row for each head."""
    config, tokens, step = case["config"], case["tokens"], case["start"]["step"]
    first = step * config["batch_size"]
    batch = [tokens[(first + b) % len(tokens)] for b in range(config["batch_size"])]
    lengths = [min(config["block_size"], len(document) - 1) for document in batch]
    if name.endswith((".scores", ".attention")):
        heads = config["n_head"]
        widths = [t + 1 for n in lengths for t in range(n) for _ in range(heads)]
        rows = cut(sized(name, numbers, sum(widths)), widths)
        return cut(cut(rows, [heads] * sum(lengths)), lengths)
    width = len(numbers) // sum(lengths)
    if name == "logits":
        width = len(case["letters"]) + 1
    rows = cut(sized(name, numbers, sum(lengths) * width), [width] * sum(lengths))
    return cut(rows, lengths)


def cut(items, lengths):
    """Cut a list into pieces of these lengths."""
    steps = iter(items)
    return [[next(steps) for _ in range(length)] for length in lengths]


def sized(label, numbers, count):
    """The numbers, if there are that many."""
    if len(numbers) != count:
        raise Unusable(f"{label} has {len(numbers)} numbers: it must have {count}")
    return numbers


def is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def to_number(label, word):
    if not is_number(word):
        raise Unusable(f"{label}: {word!r} is not a number")
    return float(word)


def entry(items, label, word):
    """The item that a token or a document's number stands for."""
    if not items:
        raise Unusable(f"{label}: this case does not ask for it")
    if not word.isdecimal() or int(word) >= len(items):
        most = len(items) - 1
        raise Unusable(f"{label}: {word!r} must be a whole number from 0 to {most}")
    return items[int(word)]


# ---------------------------------------------------------------- Running the port


def ask(command, case):
    """The port's output. If the port fails, the bridge ends in the same way."""
    try:
        given = plain(case)
        done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True)
    except OSError as e:
        sys.exit(f"bridge: cannot start {command[0]!r}: {e.strerror or e}")
    except UnicodeDecodeError:
        raise Unusable("its output is not text") from None
    if done.returncode < 0:  # killed by a signal: the bridge ends by the same one
        with contextlib.suppress(OSError):  # SIGKILL has no handler to change
            signal.signal(-done.returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -done.returncode)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main():
    for name in ("SIGINT", "SIGPIPE"):  # they end it without a traceback
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        case = json.loads(sys.stdin.buffer.read())
    except ValueError as e:
        sys.exit(f"bridge: standard input must be a case as JSON: {e}")
    if len(sys.argv) < 2:
        sys.stdout.write(plain(case))
        return
    try:
        json.dump(answer_of(case, ask(sys.argv[1:], case)), sys.stdout)
    except Unusable as e:
        print(f"bridge: {sys.argv[1]}: {e}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
