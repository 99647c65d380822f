"""Checkpoints: every number is read back as it was written, and a wrong file is one line."""

import contextlib
import json
import math
import random
import struct
from dataclasses import asdict, replace

import microgpt
from microgpt import Config, InputError

import numpy as np
import pytest
import safetensors.numpy
from microgpt_lab.runs import checkpoints, export

import lab_helpers

CONFIG = Config(n_embd=4, n_head=2, block_size=5, steps=30)
PLAN = checkpoints.RunPlan("seed", CONFIG, 42, "names", "0" * 64, "abc", 0.1)


def a_checkpoint(dtype="float64"):
    """A checkpoint whose moments are not zero."""
    rng = random.Random(1)
    first = checkpoints.before_first_step(PLAN, rng, "01_pure_python", about="me", options={"x": 1})
    numbers = np.random.default_rng(2)
    parts = [
        {name: numbers.random(np.shape(rows)).astype(dtype) for name, rows in part.items()}
        for part in first.snapshot[:3]
    ]
    return replace(first, snapshot=microgpt.Snapshot(*parts, 17))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "step-000017.safetensors"
    checkpoints.write_checkpoint(path, a_checkpoint())
    return path


def edit(path, tensors=None, metadata=None):
    """Write the file again with other tensors, or with other entries in its metadata."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    said = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["microgpt"])
    named = safetensors.numpy.load(raw) | (tensors or {})
    named = {name: array for name, array in named.items() if array is not None}
    said = {k: v for k, v in (said | (metadata or {})).items() if v is not None}
    path.write_bytes(safetensors.numpy.save(named, {"microgpt": json.dumps(said)}))


def refusal(path):
    """The one line with which reading the file is refused; it must name the file."""
    with pytest.raises(InputError) as refused:
        checkpoints.read_checkpoint(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    return str(refused.value)


# ---------------------------------------------------------------- Written and read


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_comes_back(tmp_path, dtype):
    written = a_checkpoint(dtype)
    checkpoints.write_checkpoint(tmp_path / "x.safetensors", written)
    read = checkpoints.read_checkpoint(tmp_path / "x.safetensors")
    assert replace(read, snapshot=None) == replace(written, snapshot=None)
    assert read.step == 17
    for got, want in zip(read.snapshot[:3], written.snapshot[:3]):
        assert list(got) == list(microgpt.shapes(CONFIG, 4))
        for name in want:
            assert got[name].dtype == dtype
            assert np.array_equal(got[name], want[name])


def test_tensors_have_the_names_of_the_specification(path):
    names = safetensors.numpy.load(path.read_bytes()).keys()
    weights = set(microgpt.shapes(CONFIG, 4))
    moments = {f"{m}_moment.{name}" for m in ("first", "second") for name in weights}
    assert names == weights | moments


def test_each_moment_has_its_own_name_in_the_file(path):
    """Other programs read the file too, so it is not enough that this one reads what it wrote."""
    named, snapshot = safetensors.numpy.load(path.read_bytes()), a_checkpoint().snapshot
    for name in snapshot.weights:
        assert np.array_equal(named[name], snapshot.weights[name])
        assert np.array_equal(named[f"first_moment.{name}"], snapshot.first_moment[name])
        assert np.array_equal(named[f"second_moment.{name}"], snapshot.second_moment[name])


def test_the_random_stream_continues(path):
    rng = random.Random(1)
    microgpt.initial(CONFIG, 4, rng)
    assert checkpoints.read_checkpoint(path).stream().random() == rng.random()


def test_nested_lists_are_stored_as_float64(tmp_path):
    checkpoint = checkpoints.before_first_step(PLAN, random.Random(3), "01_pure_python")
    checkpoints.write_checkpoint(tmp_path / "x.safetensors", checkpoint)
    read = checkpoints.read_checkpoint(tmp_path / "x.safetensors").snapshot.weights
    assert {k: v.tolist() for k, v in read.items()} == checkpoint.snapshot.weights


@pytest.mark.parametrize("kind", ["json", "npz", "safetensors"])
@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exports_hold_every_number(tmp_path, kind, moments, dtype):
    path, checkpoint = tmp_path / f"x.{kind}", a_checkpoint(dtype)
    export.export_checkpoint(checkpoint, path, moments)
    if kind == "json":
        named = json.loads(path.read_text())["tensors"]
    elif kind == "npz":
        named = dict(np.load(path))
        assert json.loads(str(named.pop("microgpt")))["step"] == 17
    else:
        named = safetensors.numpy.load(path.read_bytes())
    want = checkpoints.tensors(checkpoint.snapshot, moments)
    assert named.keys() == want.keys()
    for name, array in want.items():
        assert np.array_equal(np.array(named[name], dtype), array)


def test_weights_without_moments_can_be_read_but_not_exported_with_moments(tmp_path):
    path = tmp_path / "x.safetensors"
    export.export_checkpoint(a_checkpoint(), path, moments=False)
    read = checkpoints.read_checkpoint(path)
    assert not read.complete
    with pytest.raises(InputError, match="weights alone"):
        export.export_checkpoint(read, tmp_path / "y.safetensors", moments=True)


# ---------------------------------------------------------------- What is wrong with a file


def test_a_file_cut_anywhere_is_refused(path):
    raw = path.read_bytes()
    for length in {*range(0, 40), *range(40, len(raw), 997), len(raw) - 1}:
        path.write_bytes(raw[:length])
        assert "cut short" in refusal(path)


def test_a_damaged_file_is_refused_or_read_and_never_a_traceback(path):
    raw, chance = bytearray(path.read_bytes()), random.Random(4)
    for _ in range(300):
        changed = raw.copy()
        place = chance.choice(
            [chance.randrange(8), chance.randrange(2000), chance.randrange(len(raw))]
        )
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        with contextlib.suppress(InputError):
            checkpoints.read_checkpoint(path)


def test_other_files_are_refused(path, tmp_path):
    path.write_text("I am a text, and a long one at that.")
    assert "not a safetensors file" in refusal(path)
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3)}))
    assert "not a checkpoint of microgpt" in refusal(path)
    assert "cannot read" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "nowhere")


NAN = np.full((4, 4), np.nan)
NUMBERS = asdict(CONFIG)


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        ({"wte": np.zeros((4, 5))}, {}, "wte has shape (4, 5), its recipe makes it (4, 4)"),
        ({"lm_head": None}, {}, "lm_head is missing"),
        ({"second_moment.lm_head": None}, {}, "second_moment.lm_head is missing"),
        ({"extra": np.zeros((1, 1))}, {}, "extra does not belong to its recipe"),
        ({"wte": NAN}, {}, "wte has nan at [0][0]"),
        ({"second_moment.wte": -NAN / 0}, {}, "second_moment.wte has nan"),
        ({"wte": np.zeros((4, 4), np.int32)}, {}, "must be float32 or float64"),
        ({}, {"format": "microgpt-checkpoint/2"}, "format 2, this microgpt reads up to 1"),
        ({}, {"format": "microgpt-weights/1"}, "is a microgpt-weights"),
        ({}, {"format": "microgpt-checkpoint/x"}, "has format x"),
        ({}, {"format": 1}, "format is 1: it must be a text"),
        ({}, {"step": 31}, "the recipe has 30 steps"),
        ({}, {"step": "many"}, 'step is "many": it must be a whole number'),
        ({}, {"step": -1}, "step is -1: it must be a whole number >= 0"),
        ({}, {"step": True}, "step is true: it must be a whole number"),
        ({}, {"step": 10**400}, "step is 1000000000"),
        ({}, {"complete": 1}, "complete is 1: it must be true or false"),
        ({}, {"held_out": math.inf}, "is not JSON"),
        ({}, {"held_out": 1}, "held_out is 1: it must be a number < 1.0"),
        ({}, {"held_out": False}, "held_out is false: it must be a number"),
        ({}, {"digest": "0"}, 'digest is "0"'),
        ({}, {"options": {"x": []}}, "options[...]"),
        ({}, {"unknown": 1}, "there is no key unknown"),
        ({}, {"letters": None}, "letters is missing"),
        ({}, {"letters": "cba"}, 'letters is "cba": each must stand once, in sorted order'),
        ({}, {"letters": "abb"}, 'letters is "abb": each must stand once'),
        ({}, {"letters": ["a", "b", "c"]}, "letters is a list of 3: it must be a text"),
        ({}, {"letters": "abcd"}, "wte has shape (4, 4), its recipe makes it (5, 4)"),
        ({}, {"config": {"n_embd": 4}}, "config.n_head is missing"),
        ({}, {"config": NUMBERS | {"n_embd": 5}}, "not a multiple"),
        ({}, {"config": NUMBERS | {"n_embd": 8}}, "has shape"),
        ({}, {"config": NUMBERS | {"n_embd": True}}, "config.n_embd is true"),
        ({}, {"config": NUMBERS | {"n_embed": 4}}, "there is no key config.n_embed"),
        ({}, {"config": NUMBERS | {"steps": 1e9}}, "config.steps is 1000000000.0"),
        ({}, {"config": NUMBERS | {"learning_rate": 11}}, "it must be a number <= 10.0"),
        ({}, {"config": NUMBERS | {"schedule": "step"}}, "schedule is 'step'"),
        ({}, {"config": None}, "config is missing"),
        ({}, {"rng": [3, [1, 2, 3], None]}, "rng[1] is a list of 3"),
        ({}, {"rng": [3, [-1] * 625, None]}, "rng[1][0] is -1"),
        ({}, {"rng": [3, [1] * 625, True]}, "rng[2] is true"),
        ({}, {"rng": [2**70, [1] * 625, None]}, "rng is no state"),
        ({}, {"rng": [3, [700] * 625, None]}, "rng is no state"),
        ({}, {"rng": "x"}, 'rng is "x": it must be a list'),
    ],
)
def test_what_does_not_fit_is_named(path, tensors, metadata, says):
    edit(path, tensors, metadata)
    assert says in refusal(path)


def test_metadata_that_are_nested_too_deep_are_one_line(path):
    named, depth = safetensors.numpy.load(path.read_bytes()), 50_000
    for text in ("[" * depth, '{"format": ' * depth, "[" * depth + "]" * depth):
        path.write_bytes(safetensors.numpy.save(named, {"microgpt": text}))
        assert "\n" not in refusal(path)


# ---------------------------------------------------------------- Writing


def test_a_state_that_is_not_finite_is_not_written(tmp_path):
    bad = a_checkpoint()
    bad.snapshot.weights["wpe"][2, 1] = np.inf
    with pytest.raises(InputError, match=r"wpe has inf at \[2\]\[1\] after step 17"):
        checkpoints.write_checkpoint(tmp_path / "x.safetensors", bad)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- From one version to another


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """01's losses over twelve steps, the batches, and {version: (its file after six, losses)}."""
    config = Config(n_embd=8, n_head=2, n_layer=2, block_size=6, steps=12, batch_size=2)
    docs = ["anna", "bea", "nan", "abe", "ebba", "ann", "en"]
    tokenizer = microgpt.Tokenizer(docs)
    letters = "".join(tokenizer.letters)
    plan = checkpoints.RunPlan("seed", config, 42, "names", "0" * 64, letters, 0.0)
    first = checkpoints.before_first_step(plan, random.Random(5), "")
    batches = list(microgpt.batches(config, tokenizer, docs))
    state = microgpt.create(config, first.snapshot)
    right, found = list(microgpt.train(state, batches)), {}
    folder = tmp_path_factory.mktemp("written")
    for version in lab_helpers.HERE:
        module = lab_helpers.module_of(version.name)
        state = module.create(config, first.snapshot)
        losses = [float(loss) for loss in module.train(state, batches[:6])]
        path = folder / f"{version.name}.safetensors"
        checkpoints.write_checkpoint(path, replace(first, snapshot=module.export(state)))
        found[version.name] = path, losses
    return right, batches, found


@pytest.mark.parametrize("reader", [version.name for version in lab_helpers.HERE])
@pytest.mark.parametrize("writer", [version.name for version in lab_helpers.HERE])
def test_any_version_goes_on_where_any_other_stopped(written, writer, reader):
    right, batches, found = written
    path, losses = found[writer]
    checkpoint, module = checkpoints.read_checkpoint(path), lab_helpers.module_of(reader)
    assert checkpoint.step == 6
    state = module.create(checkpoint.plan.config, checkpoint.snapshot)
    losses = losses + [float(loss) for loss in module.train(state, batches[6:])]
    assert losses == pytest.approx(right, rel=1e-5)
    assert module.export(state).step == 12
