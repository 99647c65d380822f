"""`microgpt show` and `export`: what they print and write is what the model computes."""

import numpy as np
import pytest
from microgpt_lab.runs import run_folder, show

import lab_helpers
from lab_helpers import NUMPY


def test_probabilities_and_losses_are_those_of_the_version(run):
    checkpoint, module = run_folder.load(run), lab_helpers.module_of(NUMPY)
    reading = show.read_name(checkpoint, "anna")
    state = module.create(checkpoint.plan.config, checkpoint.snapshot)
    z = module.logits(state, reading.inputs).astype(float)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.allclose(reading.probabilities, p, atol=1e-6)
    loss, _ = module.loss_and_grads(state, [checkpoint.plan.tokenizer.encode("anna")])
    assert reading.losses.mean() == pytest.approx(loss, rel=1e-5)


def test_attention_is_causal_sums_to_one_and_is_what_01_computes(run):
    checkpoint = run_folder.load(run)
    reading = show.read_name(checkpoint, "evangeline")
    layers, heads, T, _ = reading.attention.shape
    assert (layers, heads, T) == (1, 2, 8)
    assert reading.beyond == 3
    assert np.allclose(reading.attention.sum(axis=-1), 1)
    assert (np.triu(reading.attention, 1) == 0).all()
    # the first head at the second position, computed here once more
    w = checkpoint.snapshot.weights
    x = np.array(w["wte"])[reading.inputs] + np.array(w["wpe"])[:T]
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    h = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    q, k = h @ w["layer0.attn_wq"].T, h @ w["layer0.attn_wk"].T
    scores = np.exp(q[1, :4] @ k[:2, :4].T / 2)
    assert np.allclose(reading.attention[0, 0, 1, :2], scores / scores.sum(), atol=1e-6)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
@pytest.mark.parametrize("shown", ["anna", "--embeddings"])
def test_a_picture_has_the_format_of_its_suffix(lab, run, tmp_path, kind, shown):
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    assert lab("show", run, shown, "--out", tmp_path / f"x.{kind}") == 0
    assert (tmp_path / f"x.{kind}").read_bytes().startswith(begins)


def test_a_picture_has_the_same_bytes_each_time(lab, run, tmp_path):
    for name in ("a.svg", "b.svg"):
        assert lab("show", run, "anna", "--out", tmp_path / name) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("shown", ["anna", "anastasia", "--embeddings"])
def test_the_text_fits_the_terminal(lab, run, monkeypatch, width, shown):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(show.plots, "save", lambda figure, path: None)  # pictures take a second
    assert lab("show", run, shown) == 0
    printed = [line for line in lab.out.splitlines() if not line.startswith("picture:")]
    assert max(map(len, printed)) <= width


def test_embeddings_are_projected_onto_their_principal_axes(run):
    paths = show.embedding_paths(run)
    saved = run_folder.saved_checkpoints(run)
    assert paths.steps == [run_folder.step_of(path) for path in saved]
    assert paths.points.shape == (len(paths.steps), 27, 2)
    table = np.array(run_folder.load(run).snapshot.weights["wte"], float)
    variances = np.linalg.eigvalsh(np.cov(table.T))[::-1]
    assert np.allclose(paths.points[-1].var(axis=0, ddof=1), variances[:2])
    assert np.allclose(paths.explained, variances[:2] / variances.sum())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "RUN"], "takes a name to read, or --embeddings"),
        (["show", "RUN", "anna", "--embeddings"], "takes a name to read, or --embeddings"),
        (["show", "RUN", "Zoë"], "name 'Zoë' has ['Z', 'ë']"),
        (["show", "RUN", "anna", "--out", "x.docx"], "a picture ends in"),
        (["show", "RUN", "anna", "--out", "no/x.svg"], "cannot write 'no/x.svg'"),
        (["export", "RUN", "x.txt"], "must end in .json, .npz, .safetensors"),
        (["export", "RUN", "no/x.npz"], "cannot write 'no/x.npz'"),
        (["verify", "--checkpoint", "RUN", "--write"], "leave --checkpoint out"),
    ],
)
def test_what_cannot_work_is_one_line(lab, run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in lab.refuses(*(run if a == "RUN" else a for a in arguments))
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_not_replaced_by_an_export(lab, run, tmp_path):
    (tmp_path / "x.npz").write_text("mine")
    assert "exists: give another name" in lab.refuses("export", run, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_text() == "mine"


def test_a_checkpoint_is_verified_against_01(lab, run):
    """`verify --checkpoint` runs every check that applies, in both precisions of 02."""
    saved = run_folder.saved_checkpoints(run)[-1]
    assert lab("verify", "01", "02", "--checkpoint", saved) == 0
    assert "✗" not in lab.out
    assert lab.out.count("02_numpy") == 2
