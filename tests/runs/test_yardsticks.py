"""The lines of what tables that count reach, in every picture of losses."""

import math

import microgpt

import pytest
from microgpt_lab.runs import documents, yardsticks

from lab_helpers import SMALL

NAMES = ("blind guess", "letter counts", "bigram", "3-gram", "5-gram")


@pytest.fixture(scope="module")
def all_names():
    docs = microgpt.load_documents("names", say=lambda _: None)
    return *documents.split(docs, 0.1), microgpt.Tokenizer(docs).letters


def test_the_lines_have_the_losses_of_the_tables_on_all_held_out_letters(all_names):
    found = yardsticks.losses(*all_names, block=100)
    assert tuple(found) == NAMES
    assert [*found.values()] == pytest.approx([math.log(27), 2.820, 2.461, 2.237, 2.026], abs=6e-4)


def test_what_no_model_with_the_block_sees_costs_a_blind_guess(all_names):
    """As in the held-out loss: so a table is measured on the same letters as the model."""
    docs, held_out, letters = all_names
    far, near = (yardsticks.losses(docs, held_out, letters, block) for block in (100, 4))
    assert near["blind guess"] == far["blind guess"]
    assert all(near[name] > far[name] for name in NAMES[1:])
    uniform = yardsticks.losses(["ab", "ba"], ["a" * 9], "ab", 1)["letter counts"]
    assert uniform > 0.9 * math.log(3)  # nine of ten letters are beyond the block


def test_a_run_without_held_out_documents_has_lines_too(all_names):
    docs, held_out, letters = all_names
    both = yardsticks.losses([*docs, *held_out], [], letters, 16)
    assert tuple(both) == NAMES
    assert both["bigram"] == pytest.approx(yardsticks.losses(*all_names, 16)["bigram"])


@pytest.mark.parametrize("docs", [[], ["anna"], ["a" * 2_100_000, "b"] * 10])
def test_too_few_or_too_many_letters_leave_the_blind_guess(docs):
    assert yardsticks.losses(docs, [], "abn", 8) == {"blind guess": math.log(4)}


def test_an_installation_without_the_ideas_has_the_blind_guess(monkeypatch, tmp_path):
    monkeypatch.setattr(yardsticks, "PROGRAM", tmp_path / "main.py")
    assert yardsticks.losses(["ab"] * 9, ["ba"], "ab", 8) == {"blind guess": math.log(3)}


@pytest.mark.parametrize(
    "command", [("train", "02", "--samples", 1), ("compare", "02", "--samples", 1)], ids=str
)
def test_every_picture_of_losses_has_the_lines(lab, names, tmp_path, command):
    out = tmp_path / "out"
    data = ["--data", names, "--steps", 12, "--evaluate", 20, "--out", out]
    assert lab(*command, *SMALL, *data) == 0
    (picture,) = out.glob("loss*.svg")
    drawn = picture.read_text("utf-8")
    docs = microgpt.load_documents(str(names), say=lambda _: None)
    train, held_out = documents.split(docs, 0.1)
    letters = microgpt.Tokenizer(docs).letters
    block = microgpt.RECIPES["seed"].block_size
    for name, loss in yardsticks.losses(train, held_out[:20], letters, block).items():
        assert f"<!-- {name} {loss:.2f} -->" in drawn
