"""04: padding is inert, and a batch of one is 03."""

from dataclasses import replace
from itertools import islice

import microgpt

import pytest
from microgpt_lab.base import versions

torch = pytest.importorskip("torch")
PLAIN, BATCHED = versions.pick(["03", "04"])
SMALL = microgpt.Config(n_embd=8, n_head=2, n_layer=2, block_size=8, zero_init=False, batch_size=4)


@pytest.fixture(scope="module")
def batch():
    tokenizer = microgpt.Tokenizer(["emma", "jo", "alexander", "bo"])
    return [
        tokenizer.encode(doc)[: SMALL.block_size + 1] for doc in ("emma", "jo", "alexander", "bo")
    ]


@pytest.fixture(scope="module")
def snapshot():
    rng = microgpt.random.Random(1)
    return microgpt.initial(replace(SMALL, init_std=0.3), 14, rng)


@pytest.mark.parametrize("filler", [1, 7, 13])
def test_what_stands_in_the_padding_changes_nothing(batch, snapshot, filler):
    module = BATCHED.load()

    def loss_and_gradients(filler):
        state = module.create(SMALL, snapshot, dtype="float64")
        loss = module.mean_loss(state.model, *module.pad(batch, filler=filler))
        loss.backward()
        return [loss.detach(), *(p.grad for p in state.model.parameters())]

    for got, want in zip(loss_and_gradients(filler), loss_and_gradients(0), strict=True):
        assert torch.equal(got, want)


def test_more_padding_changes_nothing_but_the_last_digits(batch, snapshot):
    module = BATCHED.load()
    state = module.create(SMALL, snapshot, dtype="float64")
    tight = module.mean_loss(state.model, *module.pad(batch))
    wide = module.mean_loss(state.model, *module.pad(batch, length=SMALL.block_size))
    assert wide.item() == pytest.approx(tight.item(), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_of_one_gives_the_numbers_of_the_unbatched_version(dtype):
    config = microgpt.RECIPES["seed"]
    run = microgpt.prepare(config, say=lambda text: None)

    def losses(version):
        module = version.load()
        state = module.create(config, run.snapshot, dtype=dtype)
        steps = islice(microgpt.batches(config, run.tokenizer, run.docs), 50)
        return [float(loss) for loss in module.train(state, steps)]

    assert losses(BATCHED) == losses(PLAIN)
