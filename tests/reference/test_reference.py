"""The reference is the model of SPEC.md: each test is a claim about 01."""

import gc
import itertools
import json
import math
import os
import random
import re
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import microgpt
from microgpt import Config, Tokenizer, Value, Weight

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

SPEC = Path(__file__).parents[2] / "SPEC.md"
TINY = Config(n_embd=4, n_head=2, block_size=4, init_std=0.5, zero_init=False, steps=9)
DEEP = replace(TINY, n_layer=2)
RAGGED = [[5, 0, 1, 0, 2], [5, 3, 5], [5, 3, 3, 3, 5]]  # repeats; one letter; cut
steady = settings(derandomize=True, deadline=None, max_examples=60)


def snapshot(config, vocab_size=6, seed=1):
    return microgpt.initial(config, vocab_size, random.Random(seed))


def state_of(config, **how):
    return microgpt.create(config, snapshot(config, **how))


def arrays(tree):
    return {name: np.array(rows) for name, rows in tree.items()}


def assert_equal(got, want, tolerance=1e-12):
    """Each matrix of got is that of want: the worst number is named where it is not."""
    assert got.keys() == want.keys()
    for name, rows in arrays(want).items():
        found = np.array(got[name])
        assert found.shape == rows.shape, name
        apart = np.nan_to_num(abs(found - rows), nan=math.inf)
        at = np.unravel_index(apart.argmax(), apart.shape)
        assert apart[at] <= tolerance, f"{name}{[*map(int, at)]}: {found[at]}, {rows[at]}"


def specified_logits(config, w, tokens):
    """S4 to S7 on whole matrices, as SPEC.md has them, owing nothing to 01."""
    T, H = len(tokens), config.n_head
    future = np.triu(np.full((T, T), -np.inf), 1)

    def norm(x):
        return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5)

    def linear(x, name):
        return x @ w[name].T

    x = norm(w["wte"][tokens] + w["wpe"][:T])
    for i in range(config.n_layer):
        h = norm(x)
        q, k, v = (
            linear(h, f"layer{i}.attn_w{name}").reshape(T, H, -1).swapaxes(0, 1) for name in "qkv"
        )
        p = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(config.n_embd / H) + future)
        joined = (p / p.sum(2, keepdims=True) @ v).swapaxes(0, 1).reshape(T, -1)
        x = x + linear(joined, f"layer{i}.attn_wo")
        b = np.maximum(0, linear(norm(x), f"layer{i}.mlp_fc1")) ** config.relu_power
        x = x + linear(b, f"layer{i}.mlp_fc2")
    return linear(x, "lm_head")


def specified_loss(config, w, batch):
    """S8: the mean over all targets."""
    losses = []
    for tokens in batch:
        z = specified_logits(config, w, tokens[:-1])
        losses += [np.log(np.exp(zt).sum()) - zt[y] for zt, y in zip(z, tokens[1:])]
    return sum(losses) / len(losses)


def slope(f, h=1e-4):
    """f'(0), from central differences at two widths, whose errors of order h² cancel"""
    wide, narrow = ((f(s) - f(-s)) / (2 * s) for s in (h, h / 2))
    return (4 * narrow - wide) / 3


# ---------------------------------------------------------------- Autograd


@pytest.mark.parametrize(
    ("graph", "want"),
    {
        "a+a": (lambda a: a + a, 2),
        "a*a": (lambda a: a * a, 2 * 3),
        "b+b": (lambda a: (b := a * a) + b, 4 * 3),
        "diamond": (lambda a: (b := a + a) * (a * b), 3 * 4 * 3**2),
        "forty doublings": (lambda a: [a := a + a for _ in range(40)][-1], 2**40),
        "unused": (lambda a: (a * a, a + a)[1], 2),
    }.values(),
)
def test_a_value_used_many_times_gets_the_sum_over_its_uses(graph, want):
    a = Weight(3, 0, 0)
    microgpt.backward(graph(a))
    assert a.grad == want
    assert not microgpt.tape


OPERATIONS = {
    "add": lambda x, y, z, w: [x + y],
    "mul": lambda x, y, z, w: [x * y],
    "relu": lambda x, y, z, w: [away_from_the_kink(x) and microgpt.relu(x, 1)],
    "relu²": lambda x, y, z, w: [away_from_the_kink(x) and microgpt.relu(x, 2)],
    "relu³": lambda x, y, z, w: [away_from_the_kink(x) and microgpt.relu(x, 3)],
    "linear": lambda x, y, z, w: microgpt.linear([x, y], [[z, w], [w, w], [x, z]]),
    "softmax": lambda x, y, z, w: microgpt.softmax([x, y, z]),
    "cross_entropy": lambda x, y, z, w: [microgpt.cross_entropy([x, y, z, w], 1)],
    "inverse_rms": lambda x, y, z, w: [microgpt.inverse_rms([x, y, z])],
    "mean": lambda x, y, z, w: [microgpt.mean([x, y, z], 5)],
}


def away_from_the_kink(x):
    assume(abs(x.data) > 0.01)
    return True


@steady
@given(
    st.lists(st.integers(-16, 16).map(lambda n: n / 8 + 0.01), min_size=2, max_size=4),
    st.lists(
        st.tuples(st.sampled_from(sorted(OPERATIONS)), *[st.integers(0, 99)] * 4),
        min_size=1,
        max_size=6,
    ),
)
def test_gradients_of_any_graph_are_central_differences(numbers, plan):
    """Each operation may take any Value made so far, the same one several times too."""

    def build(numbers):
        weights = [Weight(n, 0, 0) for n in numbers]
        pool = list(weights)
        for name, *picks in plan:
            pool += OPERATIONS[name](*(pool[i % len(pool)] for i in picks))
            assume(all(abs(value.data) < 30 for value in pool))
        return microgpt.mean(pool, 1), weights

    def moved(i, by):
        loss = build([n + by * (i == j) for j, n in enumerate(numbers)])[0].data
        microgpt.tape.clear()
        return loss

    microgpt.tape.clear()
    loss, weights = build(numbers)
    microgpt.backward(loss)
    for i, weight in enumerate(weights):
        want = slope(lambda by, i=i: moved(i, by))
        assert weight.grad == pytest.approx(want, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("x", [-2.0, 0.0])
def test_relu_is_flat_up_to_zero(power, x):
    x = Weight(x, 0, 0)
    y = microgpt.relu(x, power)
    microgpt.backward(y)
    assert (y.data, x.grad) == (0, 0)


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_softmax_and_cross_entropy_do_not_overflow(shift):
    x = [Value(n + shift) for n in (1.0, 2.0, 3.0)]
    total = sum(map(math.exp, (1, 2, 3)))
    assert microgpt.cross_entropy(x, 0).data == pytest.approx(math.log(total) - 1)
    assert microgpt.softmax(x)[2].data == pytest.approx(math.exp(3) / total)


# ---------------------------------------------------------------- Model


@pytest.mark.parametrize(
    "config",
    [
        *(replace(TINY, relu_power=p) for p in (1, 2, 3, 4)),
        replace(DEEP, n_embd=6, n_head=3, block_size=7),
        replace(DEEP, n_embd=6, n_head=1, init_std=1e-3),  # where eps weighs
        *(replace(r, init_std=0.3, zero_init=False) for r in microgpt.RECIPES.values()),
    ],
    ids=lambda c: f"{c.n_embd}-{c.n_head}-{c.n_layer}-{c.block_size}-p{c.relu_power}",
)
def test_logits_are_those_of_the_specification(config):
    start = snapshot(config)
    tokens = [5, 0, 0, 3, 1, 4, 2, 0, 1, 1, 2, 3, 4, 0, 3, 2][: config.block_size]
    got = microgpt.logits(microgpt.create(config, start), tokens)
    want = specified_logits(config, arrays(start.weights), tokens)
    assert_equal({"logits": got}, {"logits": want}, 1e-11 * abs(want).max())
    assert not microgpt.tape


@pytest.mark.parametrize("config", [replace(DEEP, relu_power=p) for p in (1, 2)])
def test_every_gradient_is_a_central_difference_of_the_specified_loss(config):
    start = snapshot(config)
    loss, grads = microgpt.loss_and_grads(microgpt.create(config, start), RAGGED)
    w, want = arrays(start.weights), {}
    assert loss == pytest.approx(specified_loss(config, w, RAGGED), rel=1e-13)
    for name, matrix in w.items():
        want[name] = np.zeros_like(matrix)
        for at, number in np.ndenumerate(matrix):

            def moved(by, matrix=matrix, at=at, number=number):
                matrix[at] = number + by
                return specified_loss(config, w, RAGGED)

            want[name][at] = slope(moved, 1e-5)
            matrix[at] = number
        assert abs(want[name]).max() > 1e-3, f"{name}: a case that compares nothing"
    assert_equal(grads, want, 1e-7)


def test_the_loss_at_a_position_knows_nothing_of_what_comes_later():
    tokens, t = [5, 0, 1, 0, 2], 1
    state = state_of(DEEP)
    cache = [([], []) for _ in range(DEEP.n_layer)]
    rows = [
        microgpt.forward(DEEP, state.w, token, position, cache)
        for position, token in enumerate(tokens[:-1])
    ]
    microgpt.backward(microgpt.cross_entropy(rows[t], tokens[t + 1]))
    grads = arrays(microgpt.to_rows(state, "grad"))
    assert grads["wpe"][: t + 1].all()  # what was read before it counts, in full
    assert not grads["wpe"][t + 1 :].any()
    assert grads["wte"][[5, 0]].all()
    assert not grads["wte"][[1, 2, 3, 4]].any()


def test_logits_of_a_prefix_do_not_change_as_it_grows():
    state, tokens = state_of(DEEP), [5, 0, 1, 0]
    whole = microgpt.logits(state, tokens)
    for n in range(1, 5):
        assert microgpt.logits(state, tokens[:n]) == whole[:n]


@pytest.mark.parametrize("vocab_size", [6, 27])
def test_weights_of_zero_give_a_loss_of_ln_v(vocab_size):
    zeros = snapshot(TINY, vocab_size=vocab_size).first_moment
    state = microgpt.create(TINY, microgpt.Snapshot(zeros, zeros, zeros, 0))
    loss, _ = microgpt.loss_and_grads(state, RAGGED)
    assert loss == pytest.approx(math.log(vocab_size), abs=1e-12)


# ---------------------------------------------------------------- Loss and batch


def weighted_mean(trees, counts):
    return {
        name: sum(n * np.array(tree[name]) for tree, n in zip(trees, counts)) / sum(counts)
        for name in trees[0]
    }


def test_a_batch_is_the_mean_over_its_targets_not_over_its_documents():
    state, counts = state_of(DEEP), [len(tokens) - 1 for tokens in RAGGED]
    loss, grads = microgpt.loss_and_grads(state, RAGGED)
    alone = [microgpt.loss_and_grads(state, [tokens]) for tokens in RAGGED]
    losses, trees = zip(*alone)
    assert loss == pytest.approx(np.average(losses, weights=counts), rel=1e-13)
    assert abs(loss - np.mean(losses)) > 1e-3, "a case that cannot tell"
    assert_equal(grads, weighted_mean(trees, counts))


def test_the_order_of_documents_within_a_batch_changes_nothing():
    state = state_of(DEEP)
    loss, grads = microgpt.loss_and_grads(state, RAGGED)
    for batch in itertools.permutations(RAGGED):
        other, others = microgpt.loss_and_grads(state, list(batch))
        assert other == pytest.approx(loss, rel=1e-13)
        assert_equal(others, grads)


def test_asking_for_gradients_leaves_the_state_as_it_was():
    state = state_of(TINY)
    before = microgpt.export(state)
    first, second = (microgpt.loss_and_grads(state, RAGGED) for _ in range(2))
    assert first == second
    assert microgpt.export(state) == before


def test_batches_take_documents_in_order_round_and_round_and_cut_them():
    docs = ["ab", "b", "abcabc", "ca", "c"]
    config = replace(TINY, steps=5, batch_size=3, schedule="linear")
    a, b, c, bos = range(4)
    want = [
        [[bos, a, b, bos], [bos, b, bos], [bos, a, b, c, a]],
        [[bos, c, a, bos], [bos, c, bos], [bos, a, b, bos]],
        [[bos, b, bos], [bos, a, b, c, a], [bos, c, a, bos]],
    ]
    every = list(microgpt.batches(config, Tokenizer(docs), docs))
    assert [batch for batch, _ in every[:3]] == want
    assert [rate for _, rate in every] == [
        microgpt.learning_rate(config, step) for step in range(5)
    ]
    for start in range(6):
        assert [*microgpt.batches(config, Tokenizer(docs), docs, start)] == every[start:]


def test_a_batch_may_be_larger_than_what_is_left_of_the_documents():
    config = replace(TINY, steps=1, batch_size=5)
    ((batch, _),) = microgpt.batches(config, Tokenizer("ab"), ["a", "b"])
    assert batch == [[2, 0, 2], [2, 1, 2]] * 2 + [[2, 0, 2]]


# ---------------------------------------------------------------- Training


def pairs(n, rate=0.01):
    """n steps, each on another document: most rows of wte have no gradient in it."""
    return [([RAGGED[i % 3]], rate) for i in range(n)]


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.85, 0.99), (0.0, 0.0)])
def test_adam_is_the_formula(betas):
    """S9, number by number, on gradients of a state that never trained."""
    beta1, beta2 = betas
    config = replace(DEEP, beta1=beta1, beta2=beta2)
    state = state_of(config)
    theta, m, v = (arrays(tree) for tree in microgpt.export(state)[:3])
    for k, (batch, rate) in enumerate(pairs(4, 0.02), start=1):
        fresh = microgpt.create(config, microgpt.export(state))
        _, grads = microgpt.loss_and_grads(fresh, batch)
        for name, g in arrays(grads).items():
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            m_hat, v_hat = m[name] / (1 - beta1**k), v[name] / (1 - beta2**k)
            theta[name] -= rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        list(microgpt.train(state, [(batch, rate)]))
        got = microgpt.export(state)
        assert got.step == k
        assert_equal(got.weights, theta)
        assert_equal(got.first_moment, m)
        assert_equal(got.second_moment, v)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_first_step_moves_each_weight_by_the_learning_rate(scale):
    """However small its gradient, as m̂ / √v̂ is its sign; and not at all without one."""
    start, rate = snapshot(TINY), 0.01
    start.weights["lm_head"] = [[scale * x for x in r] for r in start.weights["lm_head"]]
    state = microgpt.create(TINY, start)
    _, grads = microgpt.loss_and_grads(state, RAGGED[1:])
    before = arrays(microgpt.export(state).weights)
    list(microgpt.train(state, [(RAGGED[1:], rate)]))
    after = arrays(microgpt.export(state).weights)
    for name, g in arrays(grads).items():
        want = -rate * g / (abs(g) + 1e-8)
        assert_equal({name: after[name] - before[name]}, {name: want}, 1e-12)
    assert not np.array(grads["wte"])[[0, 1, 2, 4]].any(), "a case without zeros"


def test_a_weight_without_a_gradient_goes_on_moving_while_its_moments_decay():
    state, letter = state_of(TINY), 3
    rows = []
    for batch in ([[5, letter, 5]], [[5, 0, 5]]):
        list(microgpt.train(state, [(batch, 0.01)]))
        rows.append([np.array(tree["wte"][letter]) for tree in microgpt.export(state)[:3]])
    (theta, m, v), (theta2, m2, v2) = rows
    assert (m2 == TINY.beta1 * m).all()
    assert (v2 == TINY.beta2 * v).all()
    assert (theta2 != theta).all()


@pytest.mark.parametrize(
    ("schedule", "factors"),
    {
        "linear": [1, 0.75, 0.5, 0.25],
        "cosine": [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2],
    }.items(),
)
def test_the_learning_rate_starts_whole_and_ends_above_zero(schedule, factors):
    config = Config(schedule=schedule, steps=4, learning_rate=0.3)
    rates = [microgpt.learning_rate(config, step) for step in range(4)]
    assert rates == pytest.approx([0.3 * factor for factor in factors], rel=1e-14)
    config = replace(config, steps=10**6)
    assert microgpt.learning_rate(config, 0) == 0.3
    assert 0 < microgpt.learning_rate(config, 10**6 - 1) < 1e-6


def test_one_step_uses_the_gradient_of_its_batch_alone():
    """Two runs that take turns do not mix, and nothing is left of a step before."""
    alone, turns = [], [state_of(DEEP), state_of(TINY)]
    for config in (DEEP, TINY):
        alone.append(list(microgpt.train(state_of(config), pairs(4))))
    both = zip(*(microgpt.train(state, pairs(4)) for state in turns))
    assert [list(losses) for losses in zip(*both)] == alone


def test_an_exported_run_goes_on_exactly():
    straight, cut = state_of(DEEP), state_of(DEEP)
    losses = list(microgpt.train(straight, pairs(6)))
    first = list(microgpt.train(cut, pairs(6)[:3]))
    text = json.dumps(microgpt.export(cut))
    again = microgpt.create(DEEP, microgpt.Snapshot(*json.loads(text)))
    assert first + list(microgpt.train(again, pairs(6)[3:])) == losses
    assert microgpt.export(again) == microgpt.export(straight)


def test_the_collector_rests_within_a_step_and_is_awake_after(monkeypatch):
    within, adam = [], microgpt.adam
    monkeypatch.setattr(microgpt, "adam", lambda *a: within.append(gc.isenabled()) or adam(*a))
    after = [gc.isenabled() for _ in microgpt.train(state_of(TINY), pairs(3))]
    assert (within, after) == ([False] * 3, [True] * 3)


def test_memory_is_flat_over_steps():
    used = []
    tracemalloc.start()
    for _ in microgpt.train(state_of(TINY), pairs(25)):
        assert not microgpt.tape
        used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert used[24] - used[4] < 4096  # one graph takes far more


def test_memory_is_flat_over_the_documents_of_a_batch(monkeypatch):
    lengths, backward = [], microgpt.backward
    monkeypatch.setattr(
        microgpt,
        "backward",
        lambda x: lengths.append(len(microgpt.tape)) or backward(x),
    )
    microgpt.loss_and_grads(state_of(TINY), RAGGED[:1] * 5)
    assert len(lengths) == 5
    assert len(set(lengths)) == 1


# ---------------------------------------------------------------- Stream and weights


def names_of(config, vocab_size):
    """S3.1 and S3.2: what is drawn, in which order, in which shape."""
    C, V, T = config.n_embd, vocab_size, config.block_size
    every = [("wte", V, C), ("wpe", T, C), ("lm_head", V, C)]
    for i in range(config.n_layer):
        every += [(f"layer{i}.attn_w{name}", C, C) for name in "qkvo"]
        every += [(f"layer{i}.mlp_fc1", 4 * C, C), (f"layer{i}.mlp_fc2", C, 4 * C)]
    return every


def normals(rng):
    """S3.4, from uniforms alone."""
    while True:
        angle, radius = 2 * math.pi * rng.random(), rng.random()
        radius = math.sqrt(-2 * math.log(1 - radius))
        yield from (math.cos(angle) * radius, math.sin(angle) * radius)


def shuffled(docs, rng):
    """S1.3, from bits alone."""
    docs = list(docs)
    for i in range(len(docs) - 1, 0, -1):
        while (j := rng.getrandbits((i + 1).bit_length())) > i:
            pass
        docs[i], docs[j] = docs[j], docs[i]
    return docs


@pytest.mark.parametrize("seed", [42, 7])
@pytest.mark.parametrize("config", [microgpt.RECIPES["seed"], microgpt.RECIPES["gist"], DEEP])
def test_one_stream_shuffles_the_documents_then_draws_the_weights(config, seed, tmp_path):
    docs = [a + b for a in "abcdefg" for b in "xyz"]
    path = tmp_path / "docs.txt"
    path.write_text("\n".join(docs))
    run = microgpt.prepare(config, str(path), seed, say=lambda _: None)
    rng = random.Random(seed)
    assert run.docs == shuffled(docs, rng)
    assert run.digest == microgpt.digest(docs)
    z = normals(rng)
    assert [*run.snapshot.weights] == [n for n, _, _ in names_of(config, 11)]
    for name, rows, columns in names_of(config, 11):
        silent = config.zero_init and name.endswith(("attn_wo", "mlp_fc2"))
        std = 0 if silent else config.init_std
        want = [[std * next(z) for _ in range(columns)] for _ in range(rows)]
        assert_equal({name: run.snapshot.weights[name]}, {name: want}, 1e-14)
    for moments in run.snapshot[1:3]:
        assert moments.keys() == run.snapshot.weights.keys()
        assert not any(x for rows in moments.values() for row in rows for x in row)
    assert run.snapshot.step == 0
    assert run.rng.random() == rng.random()


def test_training_draws_nothing_and_the_stream_can_be_kept_as_text(tmp_path):
    path = tmp_path / "docs.txt"
    path.write_text("ab\nba\naab\n")
    run = microgpt.prepare(TINY, str(path), say=lambda _: None)
    state = microgpt.create(TINY, run.snapshot)
    kept = json.dumps(run.rng.getstate())
    list(microgpt.train(state, microgpt.batches(TINY, run.tokenizer, run.docs)))
    assert json.dumps(run.rng.getstate()) == kept

    def names(rng):
        draw, bos = lambda tokens: microgpt.logits(state, tokens), run.tokenizer.bos
        return [*itertools.islice(microgpt.generate(draw, TINY, bos, rng.random), 20)]

    rng = random.Random()
    version, internal, gauss_next = json.loads(kept)
    rng.setstate((version, tuple(internal), gauss_next))
    assert names(rng) == names(run.rng)


# ---------------------------------------------------------------- Tokens


documents = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=9)


@steady
@given(st.lists(documents, min_size=1, max_size=9))
def test_every_document_survives_its_tokens(docs):
    tokenizer = Tokenizer(docs)
    assert tokenizer.letters == sorted({letter for doc in docs for letter in doc})
    assert tokenizer.vocab_size == len(tokenizer.letters) + 1
    for doc in docs:
        first, *inner, last = tokenizer.encode(doc)
        assert first == last == tokenizer.bos == tokenizer.vocab_size - 1
        assert [tokenizer.letters[token] for token in inner] == list(doc)
        assert tokenizer.decode(inner) == doc
        assert tokenizer.decode([first, *inner, last]) == doc


# ---------------------------------------------------------------- Sampling


def opinions(tokens):
    """Logits as a model may have them: random, another row for each prefix."""
    rng = random.Random(str(tokens))
    return [None] * (len(tokens) - 1) + [[rng.gauss(0, 2) for _ in range(6)]]


def plain_document(config, uniform, prompt):
    """S11, letter by letter."""
    tokens = [5, *prompt]
    while len(tokens) < config.block_size + 1:
        exps = [math.exp(z / config.temperature) for z in opinions(tokens)[-1]]
        sums = [*itertools.accumulate(e / sum(exps) for e in exps)]
        u = uniform() * sums[-1]
        tokens.append(next(i for i, c in enumerate(sums) if c > u))
        if tokens[-1] == 5:
            return tokens[1:-1]
    return tokens[1:]


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1, 3])
@pytest.mark.parametrize("prompt", [[], [3], [0, 0]])
def test_names_come_from_the_inverse_of_the_distribution(temperature, prompt):
    config = replace(TINY, temperature=temperature)
    ours, plain = random.Random(1), random.Random(1)
    names = microgpt.generate(opinions, config, 5, ours.random, prompt)
    names = list(itertools.islice(names, 200))
    assert names == [plain_document(config, plain.random, prompt) for _ in names]
    assert ours.random() == plain.random()


@pytest.mark.parametrize("prompt", [[], [3], [0, 0, 1]])
@pytest.mark.parametrize("fed", ["letters to the block", "two letters, then BOS"])
def test_each_token_takes_one_uniform_and_the_prompt_none(fed, prompt):
    letters = 4 - len(prompt) if fed == "letters to the block" else 1
    draws = iter([0.1] * letters + [0.9] * 9)  # 0.1 draws letter 0, 0.9 draws BOS

    def even(tokens):
        assert len(tokens) <= TINY.block_size
        return [[0.0, 0.0]]

    names = microgpt.generate(even, TINY, 1, draws.__next__, prompt)
    assert next(names) == prompt + [0] * letters
    closing = len(prompt) + letters < TINY.block_size
    assert len(list(draws)) == 9 - closing


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53, 0.5])
def test_no_uniform_draws_a_token_without_probability_or_beyond_the_last(uniform):
    rng = random.Random(3)
    for _ in range(300):
        row = [rng.gauss(0, 1) for _ in range(rng.randrange(1, 40))]
        row = [-1e4, -1e4, *row, -1e4]  # e to such powers is zero
        names = microgpt.generate(
            lambda _, row=row: [row], Config(block_size=1), 99, lambda: uniform
        )
        assert 2 <= next(names)[0] < len(row) - 1


# ---------------------------------------------------------------- Recipes


def test_the_recipes_are_those_of_the_specification():
    """The table of S12, read out of SPEC.md, names each number of a Config once."""
    section = SPEC.read_text(encoding="utf-8").split("## S12")[1].split("## S13")[0]
    table = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    header, _, *rows = table
    recipes = {cell.strip("`"): {} for cell in header[1:]}
    words = {"yes": True, "no": False, "cosine": "cosine", "linear": "linear"}
    for label, *cells in rows:
        keys = re.findall(r"`(\w+)`", label)
        for recipe, cell in zip(recipes.values(), cells):
            found = re.findall(r"[\w.]+", cell)
            values = [words[v] if v in words else float(v) for v in found]
            assert len(values) == len(keys), label
            recipe.update(zip(keys, values))
    assert recipes == {name: asdict(c) for name, c in microgpt.RECIPES.items()}


# ---------------------------------------------------------------- Published runs

# What the two published programs print on makemore's 32,033 names with seed 42
FIRST_NAMES = [
    "yuheng", "diondre", "xavien", "jori", "juanluis", "erandi", "phia", "samatha",
    "phoenix", "emmelynn", "hollan", "hollis", "callalily", "adelayde", "josephyne",
    "weldon", "kayle", "ragnar", "colbie", "taveon",
]  # fmt: skip
PUBLISHED = {
    "seed": {
        "weights": 4064,
        "losses": [
            3.3630094726947277, 3.2917491427847314, 3.261802006662319,
            3.304873132449283, 3.29942919814758, 3.148904873341824,
            3.18521718196916, 3.1790401405409168, 3.1423861773860877,
            3.2762579779910945, 3.0676558671442087, 3.1035153290628634,
            3.176957664646559, 3.0855862237639866, 2.957741869486952,
            2.8062814511529774, 2.8005750875347966, 2.690157221644697,
            2.9799616264529694, 2.478332163722843,
        ],
        "loss at step 100": 4.009267876995115,
        "names": ["kalia", "ameli", "aayme", "kanni", "mayein"],
    },
    "gist": {
        "weights": 4192,
        "losses": [
            3.3659669475848504, 3.4242727838717717, 3.177802125458052,
            3.066355684224198, 3.220883089750623, 2.945159723009943,
            3.2894250644306684, 3.324529585380703, 2.8990336423579377,
            3.2228882401182624, 2.7963507594287016, 2.934480617624684,
            3.0543970639808657, 3.0905059200723985, 3.0651377432523272,
            2.7336950107057856, 2.8838578386104303, 2.897710832489143,
            2.7073423432667667, 2.74528539365564,
        ],
        "loss at step 100": 3.366930921178914,
        "names": ["kamon", "ann", "karai", "jaire", "vialan"],
    },
}  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_twenty_steps_are_those_of_the_published_program(recipe, tmp_path):
    """The shuffle depends on how many documents there are, not on which: it takes only
    the twenty drawn first, in their places, and the rest of the alphabet."""
    places = list(range(32033))
    random.Random(42).shuffle(places)
    docs = ["abcdefghijklmnopqrstuvwxyz"] * len(places)
    for place, name in zip(places, FIRST_NAMES):
        docs[place] = name
    path = tmp_path / "names.txt"
    path.write_text("\n".join(docs))

    config, published = microgpt.RECIPES[recipe], PUBLISHED[recipe]
    run = microgpt.prepare(config, str(path), say=lambda _: None)
    assert run.docs[:20] == FIRST_NAMES
    state = microgpt.create(config, run.snapshot)
    assert len(microgpt.parameters(state)) == published["weights"]
    steps = microgpt.batches(config, run.tokenizer, run.docs)
    losses = list(microgpt.train(state, itertools.islice(steps, 20)))
    assert losses == pytest.approx(published["losses"], rel=0, abs=1e-9)


if makemore := os.environ.get("MICROGPT_MAKEMORE"):  # that file, or the word makemore

    @pytest.mark.parametrize("recipe", PUBLISHED)
    def test_whole_runs_are_those_of_the_published_program(recipe):
        config, published = microgpt.RECIPES[recipe], PUBLISHED[recipe]
        run = microgpt.prepare(config, makemore, say=lambda _: None)
        assert run.digest == microgpt.SHA256["makemore"]
        state, bos = microgpt.create(config, run.snapshot), run.tokenizer.bos
        steps = microgpt.batches(config, run.tokenizer, run.docs)
        losses = list(microgpt.train(state, steps))
        assert losses[:20] == pytest.approx(published["losses"], rel=0, abs=1e-9)
        at_100 = published["loss at step 100"]
        assert losses[99] == pytest.approx(at_100, rel=0, abs=1e-9)
        names = microgpt.generate(
            lambda tokens: microgpt.logits(state, tokens), config, bos, run.rng.random
        )
        names = [*map(run.tokenizer.decode, itertools.islice(names, 5))]
        assert names == published["names"]
