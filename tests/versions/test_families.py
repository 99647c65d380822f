"""Versions of one framework, side by side: what differs is the idea, and all else is one text."""

import ast
from collections import defaultdict

import pytest
from microgpt_lab.base import versions

# What each family's versions do in different ways. Everything else of the same name is the
# same text in all of them, comments included (docs/one-file-per-version.md).
IDEAS = {
    "torch": {
        "GPT", "Layer", "attention", "loss_and_backward", "train", "whole_step",
        "compiled_step", "compile_step", "create", "logits", "about", "pad",
    },
    "jax": {
        "loss_and_grad", "step", "pad", "train", "choose_device", "create",
        "loss_and_grads", "about",
    },
    "mlx": {
        "GPT", "Layer", "gradients", "take_step", "train", "create", "logits",
        "loss_and_grads", "about",
    },
}  # fmt: skip
# 10's weights may be sharded, its device belongs to a group of workers.
OWN = {("10", name) for name in ("to_rows", "choose_device", "loss_and_grads", "export")}


def definitions(version):
    """{name: text} of a program's functions and classes."""
    source = version.path.read_text("utf-8")
    return {
        node.name: ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def family(framework):
    """{name: {text: numbers of the versions}} of what at least two versions define."""
    found = defaultdict(lambda: defaultdict(list))
    for version in versions.find().values():
        if version.framework.split(".")[0] == framework:
            for name, text in definitions(version).items():
                if (version.name[:2], name) not in OWN:
                    found[name][text].append(version.name[:2])
    return {n: texts for n, texts in found.items() if sum(map(len, texts.values())) > 1}


@pytest.mark.parametrize("framework", IDEAS)
def test_what_is_not_the_idea_is_the_same_text(framework):
    differ = {name for name, texts in family(framework).items() if len(texts) > 1}
    assert differ <= IDEAS[framework], differ - IDEAS[framework]


@pytest.mark.parametrize("framework", IDEAS)
def test_the_list_of_ideas_names_nothing_that_is_the_same(framework):
    same = {name for name, texts in family(framework).items() if len(texts) == 1}
    assert not same & IDEAS[framework]


def test_every_family_is_looked_at():
    frameworks = [v.framework.split(".")[0] for v in versions.find().values() if v.framework]
    assert {f for f in frameworks if frameworks.count(f) > 1} == set(IDEAS)


INTERFACE = {
    "create": "A state that continues from the snapshot, whichever version the snapshot came from.",
    "logits": "The logits of the next token after each position of one document. (n,) -> (n, V)",
    "loss_and_grads": "The loss of a batch and its gradient for each weight. "
    "Changes nothing in the state.",
    "train": "Take one step for each (batch, learning rate) and yield its loss.",
    "export": "Everything that training carries from step to step, as plain numbers (S13).",
    "about": "Library, version, device, precision and threads: the first line of the output.",
}


@pytest.mark.parametrize("name", versions.find())
def test_the_interface_is_described_in_the_same_words(name):
    """The first sentences of a docstring; a version may add to them."""
    version = versions.find()[name]
    for node in ast.parse(version.path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name in INTERFACE:
            said = " ".join((ast.get_docstring(node) or "").split())
            assert said.startswith(INTERFACE[node.name]), f"{name}: {node.name}"
