"""The race: its program computes the model's gradients, and a record is what it says."""

import dataclasses
import random

import microgpt

import msgspec
import numpy as np
import pytest
from microgpt_lab.base.versions import edited, find, load_source
from microgpt_lab.commands import main, racing
from microgpt_lab.runs import documents
from microgpt_lab.speedrun import entries, page, race, worker
from microgpt_lab.speedrun.entries import FOLDER, Record, Rival, Run

PROGRAM = FOLDER / "prefix_trees.py"
NAMES = ["anna", "ana", "andrew", "anna", "b", "bartholomew", "bartholomea", "ana", "zoe"]


# ---------------------------------------------------------------- The program


@pytest.fixture(scope="module")
def tokenizer():
    return microgpt.Tokenizer(NAMES)


@pytest.fixture(scope="module")
def config():
    """The block is shorter than some names, and a batch of the test larger than batch_size."""
    return microgpt.Config(
        n_embd=16, n_head=2, n_layer=2, block_size=7, init_std=0.3, zero_init=False, batch_size=4
    )


@pytest.fixture(scope="module")
def batch(config, tokenizer):
    return [tokenizer.encode(name)[: config.block_size + 1] for name in NAMES]


@pytest.fixture(scope="module")
def snapshot(config, tokenizer):
    return microgpt.initial(config, tokenizer.vocab_size, random.Random(1))


@pytest.fixture(scope="module")
def expected(config, snapshot, batch):
    version = find()["02_numpy_manual_backprop"].load()
    return version.loss_and_grads(version.create(config, snapshot, dtype="float64"), batch)


@pytest.fixture(scope="module")
def program():
    pytest.importorskip("numba")
    return load_source("speedrun_under_test", PROGRAM)


def largest_difference(module, config, snapshot, batch, expected):
    state = module.create(config, snapshot, dtype="float64")
    loss, grads = module.loss_and_grads(state, batch)
    found = [np.abs(np.subtract(grads[name], expected[1][name])).max() for name in expected[1]]
    return max(abs(loss - expected[0]), *found)


def test_loss_and_gradients_are_those_of_02(program, config, snapshot, batch, expected):
    assert largest_difference(program, config, snapshot, batch, expected) <= 1e-13


def test_a_wrong_program_has_other_gradients(config, snapshot, batch, expected, program):
    """Each node counts once, however many names pass through it."""
    wrong = {"find": "visits[t] / (norm * count)", "replace": "1 / (norm * count)"}
    source = edited(PROGRAM.read_text("utf-8"), [wrong], "visits")
    module = load_source("speedrun_wrong", PROGRAM, source)
    assert not largest_difference(module, config, snapshot, batch, expected) <= 1e-3


def test_muon_moves_a_matrix_by_a_nearly_orthogonal_one(program, config, snapshot, batch, expected):
    state = program.create(config, snapshot, dtype="float64", muon_rate=1.0, momentum=0.0)
    table = program.make_table(sorted(batch), config.block_size)
    program.call_steps(state, table, np.arange(len(batch))[None], np.array([[0.0, 0.5]]))
    after, (_, grads) = program.v09.export(state).weights, expected
    for name, before in snapshot.weights.items():
        moved = np.subtract(before, after[name])
        if not name.startswith("layer"):
            assert not moved.any()  # Adam's part, with a learning rate of zero
            continue
        rows, columns = moved.shape
        values = np.linalg.svd(moved, compute_uv=False) / 0.5 / max(1, rows / columns) ** 0.5
        gradient = np.linalg.svd(grads[name], compute_uv=False)
        strong = gradient > 0.03 * np.linalg.norm(gradient)
        assert strong.sum() > 2
        assert values[: strong.sum()].min() >= 0.6
        assert values.max() <= 1.3


# ---------------------------------------------------------------- Comparing


def runs(*losses, seconds=0.5):
    return [Run(seed=i + 1, loss=loss, seconds=seconds) for i, loss in enumerate(losses)]


def test_the_probability_is_the_share_of_all_swaps():
    assert race.probability(runs(1, 1, 1), runs(2, 2, 2)) == 1 / 8
    assert race.probability(runs(2, 2, 2), runs(1, 1, 1)) == 1
    # of the sums ±3 ±1 the one found, 2, is exceeded by 4 alone
    assert race.probability(runs(1, 3), runs(4, 2)) == 1 / 4 + 1 / 4
    assert race.probability(runs(1, 1), runs(1, 1)) == 1


TEN = runs(*np.linspace(2.0, 2.1, 10))


@pytest.mark.parametrize(
    ("found", "rival", "reason"),
    [
        (TEN, None, ""),
        (TEN[:9], None, "9 seeds"),
        (runs(*[2.0] * 10, seconds=1.01), None, "the limit is 1 s"),
        (TEN, Rival(entry="one_second/x", runs=TEN, p=0.01), "p = 0.010"),
        (TEN, Rival(entry="one_second/x", runs=TEN, p=0.001), ""),
        (TEN, Rival(entry="one_second/x", runs=runs(2.0, seconds=3), p=0.001), "too slow"),
    ],
)
def test_what_counts_as_a_record(found, rival, reason):
    said = race.verdict(entries.Entry("one_second/new"), found, rival)
    assert (reason in said) if reason else not said


def test_a_record_that_is_not_true_is_rejected():
    honest = Record(command="", date="2026-01-01", machine="", runs=TEN)
    assert not race.repeated(honest, TEN[4:6])
    lower = [msgspec.structs.replace(run, loss=run.loss - 0.2) for run in TEN]
    assert "the record's" in race.repeated(msgspec.structs.replace(honest, runs=lower), TEN[4:6])


# ---------------------------------------------------------------- Entries


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A race of its own, with one small entry."""
    monkeypatch.setattr(entries, "FOLDER", tmp_path)
    (tmp_path / "one_second").mkdir()
    text = 'title = "small"\nprogram = "02"\n[recipe]\nsteps = 2\n'
    (tmp_path / "one_second" / "01_small.toml").write_text(text, "utf-8")
    return tmp_path


def test_an_entry_gives_the_same_loss_again(folder):
    racer = worker.Racer("one_second/01_small")
    first, again, other = racer.run(1), racer.run(1), racer.run(2)
    assert first["loss"] == again["loss"] != other["loss"]
    assert 2 < first["loss"] < 4


def in_this_process(chosen, seeds, say):
    return {
        entry.name: [Run(**worker.Racer(entry.name).run(seed)) for seed in seeds]
        for entry in chosen
    }


def test_check_ends_1_for_a_record_that_is_not_true(folder, monkeypatch, capsys):
    monkeypatch.setattr(race, "in_turns", in_this_process)
    (entry,) = entries.find(())
    found = in_this_process([entry], [1, 2, 3], None)[entry.name]
    record = Record(command="", date="2026-01-01", machine="here", runs=found)
    entry.record_path.write_bytes(msgspec.json.encode(record))
    assert racing.Speedrun(check=True, seeds=2).run() == 0
    assert "2 of 2 losses equal to the digit" in capsys.readouterr().out
    better = [msgspec.structs.replace(run, loss=run.loss - 0.5) for run in found]
    entry.record_path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, runs=better)))
    assert racing.Speedrun(check=True, seeds=2).run() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('title = "x"\nprogram = "02"\n', "recipe is missing"),
        ('title = "x"\nprogram = "02"\nwidth = 3\n[recipe]\n', "there is no key width"),
        ('title = 3\nprogram = "02"\n[recipe]\n', "title is 3: it must be a text"),
        ('title = "x"\nprogram = "02"\n[recipe]\nn_embd = 5\nn_head = 2\n', "not a multiple"),
        ('title = "x"\nprogram = "02"\n[recipe]\nwidth = 5\n', "width"),
        ('title = "x"\nprogram = "../main.py"\n[recipe]\n', "no program '../main.py'"),
        ('title = "x\n', "is not TOML"),
    ],
)
def test_a_mistake_in_an_entry_is_one_line(folder, text, said):
    (folder / "one_second" / "01_small.toml").write_text(text, "utf-8")
    (entry,) = entries.find(())
    with pytest.raises(microgpt.InputError) as e:
        entry.config, entry.load()
    assert said in str(e.value)
    assert "\n" not in str(e.value)
    assert "01_small.toml" in str(e.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["two"], "no entry 'two'"),
        (["--seeds", "1"], "seeds is 1"),
        (["--seeds", "21"], "seeds is 21"),
        (["--check", "--write"], "contradict"),
    ],
)
def test_wrong_requests_end_2(folder, arguments, said, capsys):
    assert main.status_of(["speedrun", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_entries_nothing_is_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(entries, "FOLDER", tmp_path)
    assert main.status_of(["speedrun", "--check"]) == 2
    assert "no entry" in capsys.readouterr().err


# ---------------------------------------------------------------- The records in the tree


def test_the_page_shows_the_records():
    assert (FOLDER / "README.md").read_text("utf-8") == page.text()


@pytest.mark.parametrize("entry", entries.all_entries(), ids=lambda entry: entry.name)
def test_every_entry_holds_a_record_that_counts(entry):
    record = entry.record
    assert record
    assert not race.verdict(entry, record.runs, record.rival)
    before = entries.holder(entry)
    assert (record.rival and record.rival.entry) == (before and before.name)
    if record.rival:
        assert record.rival.p == race.probability(record.runs, record.rival.runs)
    assert dataclasses.is_dataclass(entry.config)


def test_the_readme_counts_tokens_and_prefixes_right(program):
    """Of ten batches of 128 training names."""
    docs, _ = documents.split(microgpt.load_documents(), 0.1)
    random.Random(1).shuffle(docs)
    batches = [docs[i : i + 128] for i in range(0, 1280, 128)]
    tokens = sum(len(doc) + 1 for batch in batches for doc in batch) / 1280
    prefixes = sum(
        len({doc[:n] for doc in batch for n in range(len(doc) + 1)}) for batch in batches
    )
    text = (FOLDER / "README.md").read_text("utf-8")
    assert f"{tokens:.1f} tokens a name, but only {prefixes / 1280:.1f} different" in text
    said = " ".join(program.__doc__.split())
    assert f"{tokens:.1f} tokens each, becomes trees of {prefixes / 1280:.1f} nodes" in said
    entry = entries.Entry("ten_seconds/02_prefix_trees").config
    assert round(entry.steps * entry.batch_size / len(docs)) == 5
