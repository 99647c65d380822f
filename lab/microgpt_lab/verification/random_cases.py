"""Cases that are drawn at random for each run, so that no program can be made to fit them.

A `Sketch` holds every choice of a case, each drawn without a look at the others. `case_of`
makes the case from it, and 01 computes the answer. `shrinking` makes a failing sketch smaller.
"""

import difflib
import json
import math
import random
from dataclasses import asdict, dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, InputError, Snapshot, Tokenizer

from microgpt_lab.verification import case_file, vectors
from microgpt_lab.verification.cases import Case
from microgpt_lab.verification.sensitivity import DTYPES, PREFIX, is_steady

Documents = tuple[tuple[int, ...], ...]
ALMOST_ONE = 1 - 2.0**-53  # the largest number that random() returns

# A case with more work than this, counted as weights × tokens, takes 01 too long.
MOST_TRAINING = 400_000
MOST_SAMPLING = 200_000


@dataclass(frozen=True)
class Sketch:
    """All choices of a case. The defaults are the smallest case. The fields stand in the
    order in which they are made smaller after a failure."""

    stream: bool = False  # shuffle and initial weights are part of the question
    names: int = 1
    extremes: bool = False  # some uniforms are 0 or 1 - 2^-53
    prompt: tuple[int, ...] = ()  # a letter is a number here, and so it is in documents
    temperature: float = 1.0
    start_step: int = 0
    moments: float = 0.01  # the size of the gradients before the start, if start_step > 0
    steps_taken: int = 1
    steps_left: int = 19  # of the schedule, after those taken here
    batch_size: int = 1
    documents: Documents = ((0, 1),)
    alphabet: str = "a to z"
    vocabulary: int = 2  # letters
    n_layer: int = 1
    n_head: int = 1
    head_dim: int = 4
    block_size: int = 4
    zero_init: bool = False
    init_std: float = 0.1
    scale: float = 1.0  # the weights are the initial ones times this
    relu_power: int = 2
    schedule: str = "cosine"
    beta1: float = 0.9
    beta2: float = 0.95
    learning_rate: float = 0.01
    seed: int = 1  # of the weights and the uniforms

    @property
    def config(self) -> Config:
        """The recipe. Raises InputError for numbers that Config refuses."""
        own = {f.name: getattr(self, f.name) for f in fields(Config) if hasattr(self, f.name)}
        total = self.start_step + self.steps_taken + self.steps_left
        return Config(**own, n_embd=self.n_head * self.head_dim, steps=total)

    @property
    def letters(self) -> list[str]:
        return ALPHABETS[self.alphabet][: self.vocabulary]

    def spell(self, document: tuple[int, ...]) -> str:
        return "".join(self.letters[number % self.vocabulary] for number in document)


# ---------------------------------------------------------------- Letters


def some_letters(*ranges: tuple[int, int]) -> list[str]:
    """Two hundred letters, taken from each range of code points in turn."""
    pools = [map(chr, range(first, first + size)) for first, size in ranges]
    found: list[str] = []
    while len(found) < 200:
        found += [letter for letter in (next(pool, "") for pool in pools) if letter]
    return found[:200]


# No white space and no control character: these would not survive S1.1.
ALPHABETS = {
    "a to z": [*map(chr, range(ord("a"), ord("z") + 1)), *map(chr, range(0x100, 0x100 + 174))],
    # JSON escapes some of these, and some combine with the letter before
    "punctuation": some_letters((0x21, 15), (0x5B, 6), (0x7B, 4), (0x300, 80), (0x4E00, 200)),
    # UTF-16 writes those from 0x10000 on as two units, which sort before 0xFF21
    "beyond the BMP": some_letters((0xFF21, 26), (0x1F600, 79), (0x10000, 12), (0x20000, 200)),
}


# ---------------------------------------------------------------- Drawing


def draw(seed: int, number: int) -> tuple[Sketch, Case]:
    """The case with that number of a seed, and its sketch. Draws again where the choices do
    not fit together, or where 01 would take too long."""
    rng = random.Random(f"{seed}-{number}")
    while True:
        sketch = draw_any(rng)
        if training_work(sketch) <= MOST_TRAINING and sampling_work(sketch) <= MOST_SAMPLING:
            try:
                return sketch, case_of(sketch, key_of(seed, number))
            except ValueError:
                continue


def draw_any(rng: random.Random) -> Sketch:
    """A sketch over the whole range of each field, small values more often."""
    vocabulary = whole(rng, 2, 200)
    block = rng.choice([whole(rng, 1, 16), whole(rng, 17, 48)])
    documents = draw_documents(rng, vocabulary, block)
    batch = rng.choice([whole(rng, 1, 8), whole(rng, 9, 70)])
    stream = rng.random() < 0.2
    running = not stream and rng.random() < 0.5
    return Sketch(
        stream=stream and batch <= len(documents),
        names=whole(rng, 1, 8),
        extremes=rng.random() < 0.3,
        prompt=letters_of(rng, vocabulary, rng.randrange(block) if rng.random() < 0.3 else 0),
        temperature=between(rng, 0.2, 5),
        start_step=rng.choice([whole(rng, 1, 30), 500, whole(rng, 500, 5000)]) * running,
        moments=between(rng, 1e-3, 1e-1),
        steps_taken=whole(rng, 1, 5),
        steps_left=rng.choice([0, whole(rng, 1, 10_000)]),
        batch_size=batch,
        documents=documents,
        alphabet=rng.choice(list(ALPHABETS)),
        vocabulary=vocabulary,
        n_layer=rng.choice([1, 1, 2, 3, 4]),
        n_head=rng.choice([1, 2, 3, 4, 5, 8]),
        head_dim=rng.choice([1, 2, 3, 4, 5, 8, whole(rng, 9, 40)]),
        block_size=block,
        zero_init=rng.random() < 0.4,
        init_std=between(rng, 0.005, 0.5),
        scale=rng.choice([1.0, 1.0, 0.3, 2.0]) if not stream else 1.0,
        relu_power=rng.choice([1, 2, 3, 4]),
        schedule=rng.choice(["cosine", "linear"]),
        beta1=rng.choice([0.0, 0.5, 0.85, 0.9, 0.95, rng.uniform(0, 0.99)]),
        beta2=rng.choice([0.5, 0.95, 0.99, 0.999, rng.uniform(0, 0.999)]),
        learning_rate=between(rng, 1e-4, 0.2),
        seed=rng.choice([rng.randrange(10), rng.randrange(2**32, 2**53)]),
    )


def draw_documents(rng: random.Random, vocabulary: int, block: int) -> Documents:
    """Documents of one letter, shorter than the block, as long as it, and longer; some with
    one letter many times, and some that are there twice."""
    found: list[tuple[int, ...]] = []
    for _ in range(whole(rng, 1, 80)):
        length = rng.choice([1, whole(rng, 1, block), block - 1, block, block + 1, 2 * block])
        document = letters_of(rng, rng.choice([1, 2, vocabulary]), max(1, length))
        found.append(rng.choice(found) if found and rng.random() < 0.1 else document)
    return tuple(found)


def letters_of(rng: random.Random, vocabulary: int, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(vocabulary) for _ in range(length))


def between(rng: random.Random, low: float, high: float) -> float:
    """A number with three digits, whose logarithm is evenly distributed."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")


def whole(rng: random.Random, low: int, high: int) -> int:
    """A whole number from low to high, small ones more often."""
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))


def count_weights(sketch: Sketch) -> int:
    table = microgpt.shapes(sketch.config, sketch.vocabulary + 1)
    return sum(rows * columns for rows, columns, _ in table.values())


def training_work(sketch: Sketch) -> int:
    """Weights × tokens of all passes over a batch."""
    lengths = [min(sketch.block_size, len(document) + 1) for document in sketch.documents]
    tokens = sketch.batch_size * sum(lengths) // len(lengths)
    return count_weights(sketch) * tokens * (sketch.steps_taken + 3)


def sampling_work(sketch: Sketch) -> int:
    """Weights × tokens of the names, if all fill the block; forward passes only."""
    return count_weights(sketch) * sketch.names * sketch.block_size**2 // 8


# ---------------------------------------------------------------- From a sketch to a case


def case_of(sketch: Sketch, key: str, why: str = "Drawn at random.") -> Case:
    """The case, with 01's answer. Raises InputError or ValueError if the choices do not fit
    together, or if only some layers have a gradient of zero."""
    config, rng = sketch.config, random.Random(sketch.seed)
    docs = [sketch.spell(document) for document in sketch.documents]
    given, letters = list(docs), sketch.letters
    if sketch.stream:
        rng.shuffle(docs)
        letters = Tokenizer(docs).letters
    prompt = sketch.spell(sketch.prompt)
    if len(prompt) >= config.block_size or not set(prompt) <= set(letters):
        raise ValueError("the prompt does not fit")
    tokenizer = Tokenizer(letters)
    start = start_of(sketch, tokenizer.vocab_size, rng)
    # ten at least: `stream` compares those
    uniforms = [rng.random() for _ in range(max(10, sketch.names * (config.block_size + 1)))]
    if sketch.extremes and not sketch.stream:
        uniforms = [rng.choice([0.0, ALMOST_ONE]) if u < 0.25 else u for u in uniforms]
    case: Case = {
        "format": vectors.FORMAT,
        "id": key,
        "why": why,
        "made_by": vectors.made_by(),
        "rules": ["S12"],
        "config": asdict(config),
        "letters": "".join(tokenizer.letters),
        "documents": docs,
        "tokens": [tokenizer.encode(doc) for doc in docs],
        "start": start._asdict(),
        "steps": sketch.steps_taken,
        "prompt": prompt,
        "count": sketch.names,
        "uniforms": uniforms,
    }
    if sketch.stream:
        refuse_stream(sketch, letters)
        case["stream"] = {"seed": sketch.seed, "documents": given}
    case["zero_gradients"] = zero_gradients(case)
    return case | {"answer": vectors.solve(case)}


def refuse_stream(sketch: Sketch, letters: list[str]) -> None:
    """Raises ValueError for what a run from the beginning cannot have."""
    changed = sketch.start_step or sketch.scale != 1
    if changed or len(letters) < 2 or len(sketch.documents) < max(2, sketch.batch_size):
        raise ValueError("the stream does not fit")


def start_of(sketch: Sketch, vocab_size: int, rng: random.Random) -> Snapshot:
    """The initial weights, or those of a run in progress, in which no matrix is zero."""
    config = sketch.config
    if sketch.start_step:
        config = replace(config, zero_init=False)
    fresh = microgpt.initial(config, vocab_size, rng)
    weights = {
        name: [[x * sketch.scale for x in row] for row in rows]
        for name, rows in fresh.weights.items()
    }
    if not sketch.start_step:
        return fresh._replace(weights=weights)

    def each(number: Any) -> dict[str, Any]:
        return {name: [[number() for _ in row] for row in rows] for name, rows in weights.items()}

    first = each(lambda: rng.gauss(0, sketch.moments))
    second = each(lambda: sketch.moments**2 * (0.1 + rng.random()))
    return Snapshot(weights, first, second, sketch.start_step)


def zero_gradients(case: Case) -> list[str]:
    """The weights, by the end of their names, whose gradient in the first batch is zero."""
    config, snapshot = vectors.question(case)
    tokenizer = Tokenizer(case["letters"])
    batch, _ = next(microgpt.batches(config, tokenizer, case["documents"], snapshot.step))
    _, gradients = microgpt.loss_and_grads(microgpt.create(config, snapshot), batch)
    zero = {name.split(".")[-1] for name, rows in gradients.items() if not any(map(any, rows))}
    return sorted(zero)


# ---------------------------------------------------------------- Those of one run


@dataclass(frozen=True)
class RandomCase:
    """A case drawn for a run, and the dtypes in which a right program passes it."""

    number: int
    case: Case
    dtypes: list[str]


@dataclass(frozen=True)
class RandomCases:
    """The cases of one run: `wanted` of them for each dtype."""

    seed: int
    wanted: int
    drawn: list[RandomCase]
    explicit: bool = False  # whether the user asked for them: then variants get them too

    def of(self, dtype: str) -> list[RandomCase]:
        return [one for one in self.drawn if dtype in one.dtypes][: self.wanted]

    def left_out(self, dtype: str) -> int:
        return sum(dtype not in one.dtypes for one in self.drawn)

    @classmethod
    def read(cls, path: str) -> "RandomCases":
        """From the file that `write` made."""
        whole = json.loads(Path(path).read_text("utf-8"))
        return cls(**whole | {"drawn": [RandomCase(**one) for one in whole["drawn"]]})

    def write(self, path: str) -> None:
        whole = vars(self) | {"drawn": [vars(one) for one in self.drawn]}
        Path(path).write_text(json.dumps(whole), "utf-8")


def key_of(seed: int, number: int) -> str:
    return f"{PREFIX}-{seed}-{number}"


def draw_cases(seed: int, wanted: int, explicit: bool = False) -> RandomCases:
    """Draw until each dtype has `wanted` cases that a right program passes."""
    drawn: list[RandomCase] = []
    for number in count() if wanted else ():
        drawn.append(draw_case(seed, number))
        found = [sum(dtype in one.dtypes for one in drawn) for dtype in DTYPES]
        if min(found) >= wanted:
            break
    return RandomCases(seed, wanted, drawn, explicit)


def draw_case(seed: int, number: int) -> RandomCase:
    """A case, and the dtypes in which a right program passes it."""
    _, case = draw(seed, number)
    return RandomCase(number, case, [dtype for dtype in DTYPES if is_steady(case, dtype)])


def new_seed() -> int:
    """A seed from the system's entropy, short enough to type."""
    return random.SystemRandom().randrange(10**9)


# ---------------------------------------------------------------- One case by name or file


def find_case(given: str) -> Case:
    """A golden case by its name, or a case from a file. Raises InputError."""
    golden = {case["id"]: case for case in vectors.read_vectors()}
    if given in golden:
        return golden[given]
    path = Path(given)
    if not path.exists() or path.is_dir():
        near = difflib.get_close_matches(given, golden, 1)
        said = f"did you mean {near[0]}?" if near else f"there are {', '.join(golden)}"
        raise InputError(f"no case and no file {given!r}: {said}")
    return case_file.read_case(path)
