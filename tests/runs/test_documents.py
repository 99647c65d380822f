"""Which documents are held out, and how the held-out loss is computed."""

import itertools
import math
import random
from dataclasses import replace

import microgpt
from microgpt import Config, InputError

import numpy as np
import pytest
from microgpt_lab.runs import documents

from lab_helpers import NUMPY, module_of

DOCS = microgpt.load_documents()


def test_no_repeat_of_a_held_out_name_is_trained_on():
    train, held_out = documents.split(DOCS, 0.1)
    assert len(DOCS) - len(set(DOCS)) == 2561  # there are repeats, so the test can fail
    assert not set(train) & set(held_out)
    assert set(train) | set(held_out) == set(DOCS)
    assert len(held_out) == len(set(held_out)) == len(set(DOCS)) // 10


def test_the_split_depends_neither_on_the_seed_nor_on_the_order():
    shuffled = random.Random(1).sample(DOCS, len(DOCS))
    once = list(dict.fromkeys(DOCS))
    held_out = documents.split(DOCS, 0.1)[1]
    assert held_out == documents.split(shuffled, 0.1)[1] == documents.split(once, 0.1)[1]
    seeds = [documents.prepare(Config(), "names", seed, 0.1).held_out for seed in (1, 2)]
    assert seeds == [held_out, held_out]
    assert held_out[:5] != sorted(held_out)[:5]  # not a part of the alphabet


def test_the_other_documents_keep_their_order():
    train, held_out = documents.split(DOCS, 0.1)
    away = set(held_out)
    assert train == [doc for doc in DOCS if doc not in away]


def test_with_nothing_held_out_the_run_is_that_of_the_programs():
    config = Config(n_embd=4, n_head=2)
    run = microgpt.prepare(config, say=lambda _: None)
    docs = documents.prepare(config, "names", 42, 0.0)
    assert (docs.train, docs.held_out, docs.digest) == (run.docs, [], run.digest)
    weights = microgpt.initial(config, docs.tokenizer.vocab_size, docs.rng).weights
    assert weights == run.snapshot.weights
    assert docs.rng.getstate() == run.rng.getstate()


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(InputError, match="held-out is"):
        documents.split(DOCS, share)


def test_data_that_have_changed_since_the_checkpoint_are_refused(tmp_path):
    (tmp_path / "x.txt").write_text("ab\nba\nabba\n")
    with pytest.raises(InputError, match=r"has SHA-256 .*…, but the .* was trained on aec607"):
        documents.prepare(Config(), str(tmp_path / "x.txt"), 42, 0.1, microgpt.SHA256["names"])


def test_the_held_out_names_are_always_these():
    """All held-out losses of this project are on the same names, so the split may never change."""
    _, held_out = documents.split(DOCS, 0.1)
    assert held_out[:5] == ["evander", "grady", "ayon", "sarenity", "jaydynn"]
    assert (len(held_out), held_out[-1]) == (2968, "marquel")


def test_the_alphabet_is_that_of_all_documents(tmp_path):
    """Each letter but a stands in one document only, and half of the documents are held out."""
    (tmp_path / "x.txt").write_text("".join(f"a{letter}\n" for letter in "bcdefghi"))
    docs = documents.prepare(Config(), str(tmp_path / "x.txt"), 42, 0.5)
    assert len(docs.held_out) == 4
    assert "".join(docs.tokenizer.letters) == "abcdefghi"


def test_a_document_is_cut_if_its_end_does_not_fit():
    docs, config = ["abc", "abcd", "abcde"], Config(block_size=4)
    tokenizer = microgpt.Tokenizer(docs)
    (batch, _), *_ = microgpt.batches(replace(config, batch_size=3), tokenizer, docs)
    without_end = sum(tokens[-1] != tokenizer.bos for tokens in batch)
    assert documents.count_cut(config, docs) == without_end == 2


# ---------------------------------------------------------------- The held-out loss


def a_state(config, tokenizer, module=microgpt):
    snapshot = microgpt.initial(config, tokenizer.vocab_size, random.Random(3))
    return module.create(config, snapshot)


@pytest.mark.parametrize("block_size", [1, 3, 8, 16])
def test_uniform_predictions_cost_ln_v_a_character_with_any_block(block_size):
    tokenizer = microgpt.Tokenizer(["abcd"])
    config = Config(n_embd=4, n_head=2, block_size=block_size, init_std=1e-9)
    state = a_state(config, tokenizer)
    loss = documents.nats_a_character(microgpt, state, config, tokenizer, ["abcd", "b", "dadadada"])
    assert loss == pytest.approx(math.log(5))


def test_where_all_documents_fit_it_is_the_loss_of_the_specification():
    docs = ["anna", "bea", "n", "ebba"]
    tokenizer = microgpt.Tokenizer(docs)
    config = Config(n_embd=4, n_head=2, init_std=0.3, zero_init=False)
    state = a_state(config, tokenizer)
    want, _ = microgpt.loss_and_grads(state, [tokenizer.encode(doc) for doc in docs])
    got = documents.nats_a_character(microgpt, state, config, tokenizer, docs)
    assert got == pytest.approx(want, rel=1e-14)


def test_a_character_beyond_the_block_costs_a_uniform_guess():
    tokenizer = microgpt.Tokenizer(["abcdef"])
    config = Config(n_embd=4, n_head=2, block_size=3, init_std=0.3, zero_init=False)
    state = a_state(config, tokenizer)
    cut = tokenizer.encode("fedcba")[:4]
    seen, _ = microgpt.loss_and_grads(state, [cut])
    got = documents.nats_a_character(microgpt, state, config, tokenizer, ["fedcba"])
    assert got == pytest.approx((3 * seen + 4 * math.log(7)) / 7, rel=1e-14)


def test_a_longer_block_is_measured_on_the_same_text():
    """Both blocks fit the documents and the other weights are equal, so the losses are equal."""
    tokenizer = microgpt.Tokenizer(["abc"])
    short = Config(n_embd=4, n_head=2, block_size=4, init_std=0.3)
    long, docs = replace(short, block_size=9), ["abc", "cab"]
    snapshot = microgpt.initial(short, 4, random.Random(3))
    longer = microgpt.initial(long, 4, random.Random(3))
    longer.weights.update(snapshot.weights)
    longer.weights["wpe"] = [*snapshot.weights["wpe"], *[[0.0] * 4] * 5]
    losses = [
        documents.nats_a_character(microgpt, microgpt.create(c, s), c, tokenizer, docs)
        for c, s in ((short, snapshot), (long, longer))
    ]
    assert losses[0] == losses[1]


def test_another_version_has_the_same_held_out_loss():
    docs = documents.prepare(Config(), "names", 42, 0.1)
    few = list(itertools.islice(docs.held_out, 20))
    config, numpy = Config(init_std=0.3, zero_init=False), module_of(NUMPY)
    snapshot = microgpt.initial(config, docs.tokenizer.vocab_size, docs.rng)
    losses = [
        documents.nats_a_character(module, state, config, docs.tokenizer, few)
        for module, state in (
            (microgpt, microgpt.create(config, snapshot)),
            (numpy, numpy.create(config, snapshot, dtype="float64")),
        )
    ]
    assert np.isclose(*losses, rtol=1e-12)
