"""A wrong answer is explained by the mistake that gives its numbers."""

import microgpt

import pytest
from microgpt_lab.base import versions
from microgpt_lab.verification import mutants, ports

from golden_cases import NUMPY, PATIENCE, TINY, answer_of

NAMED = [
    "no-attention-scale",
    "norm-eps-1e-6",
    "adam-without-correction",
    "mean-of-means",
]


def port_replies(module):
    return ports.judge_all([ports.Reply(case, answer_of(module, case)) for case in TINY])


@pytest.mark.parametrize("key", NAMED)
def test_a_known_mistake_is_named(key):
    mutant = next(m for m in mutants.read_mutants(NUMPY.name) if m.id == key)
    replies = port_replies(mutants.apply(NUMPY, [mutant]))
    assert not ports.passed(replies)
    said = ports.diagnose(replies, PATIENCE)
    assert any(key in line and mutant.rule in line for line in said), said


def test_two_mistakes_at_once_are_both_named():
    both = ["no-attention-scale", "adam-without-correction"]
    group = [m for m in mutants.read_mutants(NUMPY.name) if m.id in both]
    said = ports.diagnose(port_replies(mutants.apply(NUMPY, group)), PATIENCE)
    assert all(key in said[0] for key in both), said


def test_an_unknown_mistake_is_described():
    source = NUMPY.path.read_text()
    broken = source.replace("return loss\n", "return loss * 1.25\n", 1)
    assert broken != source
    replies = port_replies(versions.load_source("broken", NUMPY.path, broken))
    said = ports.diagnose(replies, PATIENCE)
    assert "no known mistake" in said[0]
    assert any("S8" in line for line in said)


def test_a_wrong_file_of_mutants_does_not_hide_the_failure(monkeypatch):
    def refuse(version):
        raise microgpt.InputError("spec/mutants/x.toml cannot be read")

    monkeypatch.setattr(mutants, "read_mutants", refuse)
    right = answer_of(NUMPY.load(), TINY[0])
    replies = ports.judge_all([ports.Reply(TINY[0], right | {"loss": 0.0})])
    (line,) = ports.diagnose(replies, PATIENCE)
    assert line.endswith("spec/mutants/x.toml cannot be read")
