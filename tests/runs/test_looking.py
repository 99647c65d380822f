"""sample, show, export and doctor: what they print is what the model says."""

import json
import math
from dataclasses import replace

import microgpt

import numpy as np
import pytest
from microgpt_lab.base import versions
from microgpt_lab.commands import doctor, main
from microgpt_lab.runs import checkpoints, run_folder, sample, show

import lab_helpers
from lab_helpers import NUMPY, SMALL


@pytest.fixture
def lab(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    return lab_helpers.Lab(monkeypatch, capsys)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run that has ended."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "names.txt"
    data.write_text("\n".join(microgpt.load_documents()[:400]))
    short = [*SMALL, "--data", data, "--steps", 60, "--evaluate", 20, "--out", folder / "run"]
    assert main.parse([*map(str, ["train", "02", *short])]).run() == 0
    return folder / "run"


def names(lab, *arguments):
    assert lab("sample", *arguments, "--json") == 0
    return json.loads(lab.out)


# ---------------------------------------------------------------- sample


def test_without_a_seed_it_begins_with_the_run_s_own_names(lab, run):
    made = [n["name"] for n in names(lab, run, "-n", 25)["names"]]
    assert made[:20] == (run / "names.txt").read_text().split("\n")[:-1]


def test_another_version_draws_the_same(lab, run):
    one, other = (names(lab, run, *more) for more in ([], ["--with", "01"]))
    assert [n["name"] for n in one["names"]] == [n["name"] for n in other["names"]]
    for a, b in zip(one["names"], other["names"]):
        assert a["probability"] == pytest.approx(b["probability"], rel=1e-4)


@pytest.mark.parametrize(
    "how",
    [
        sample.How(temperature=1.3),
        sample.How(temperature=0.7, top_k=2),
        sample.How(temperature=2.0, top_p=0.6),
        sample.How(temperature=1.0, top_k=4, top_p=0.8, prompt="b"),
    ],
    ids=str,
)
def test_probabilities_are_those_with_which_names_are_drawn(how):
    """A model so small that all its names can be counted: their probabilities sum to one, and
    each comes up as often as it says."""
    config = microgpt.Config(
        n_embd=4, n_head=2, block_size=3, init_std=1.0, zero_init=False, steps=5
    )
    plan = checkpoints.Plan("seed", config, 1, "gone", "0", "abc", 0.0)
    checkpoint = checkpoints.first(plan, microgpt.random.Random(2), "01_pure_python")
    drawn = sample.draw(checkpoint, replace(how, seed=5), 4000, None)
    shares = {n.name: n.probability for n in drawn}
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    for name, p in shares.items():
        found = sum(n.name == name for n in drawn) / 4000
        assert found == pytest.approx(p, abs=4 * math.sqrt(p / 4000) + 1e-3)
        assert name.startswith(how.prompt)


def test_top_k_one_is_always_the_likeliest(lab, run):
    made = names(lab, run, "-n", 5, "--top-k", 1)["names"]
    assert len({n["name"] for n in made}) == 1
    assert made[0]["probability"] == pytest.approx(1)


def test_it_knows_which_names_are_new(lab, run):
    found = names(lab, run, "-n", 300, "--seed", 3, "--temperature", 1)
    plan = run_folder.load(run).plan
    docs = microgpt.load_documents(plan.data)
    train, held_out = sample.documents.split(docs, 0.1)
    for n in found["names"]:
        where = {"training": train, "held out": held_out}.get(n["known"])
        assert n["name"] in where if where else n["name"] not in docs
    new = sum(n["known"] == "new" for n in found["names"]) / 300
    assert found["shares"]["new"] == pytest.approx(new)
    assert new > 0.5


def test_without_its_data_it_says_that_it_does_not_know(lab, run, tmp_path):
    checkpoint = run_folder.load(run)
    gone = replace(checkpoint, plan=replace(checkpoint.plan, data=str(tmp_path / "gone")))
    checkpoints.write(tmp_path / "x.safetensors", gone)
    assert lab("sample", tmp_path / "x.safetensors") == 0
    assert "unknown" in lab.out
    assert names(lab, tmp_path / "x.safetensors")["shares"] == {}


def test_the_table_fits_a_terminal(lab, run):
    assert lab("sample", run) == 0
    assert max(map(len, lab.out.splitlines())) <= 80


# ---------------------------------------------------------------- show


def test_what_it_shows_is_what_the_version_says(run):
    checkpoint, module = run_folder.load(run), lab_helpers.module_of(NUMPY)
    sight = show.look(checkpoint, "anna")
    state = module.create(checkpoint.plan.config, checkpoint.snapshot)
    z = module.logits(state, sight.inputs).astype(float)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.allclose(sight.probabilities, p, atol=1e-6)
    loss, _ = module.loss_and_grads(state, [checkpoint.plan.tokenizer.encode("anna")])
    assert sight.losses.mean() == pytest.approx(loss, rel=1e-5)


def test_attention_looks_back_and_shares_out_one(run):
    checkpoint = run_folder.load(run)
    sight = show.look(checkpoint, "evangeline")
    layers, heads, T, _ = sight.attention.shape
    assert (layers, heads, T) == (1, 2, 8)
    assert sight.beyond == 3
    assert np.allclose(sight.attention.sum(axis=-1), 1)
    assert (np.triu(sight.attention, 1) == 0).all()
    # and it is what 01 computes with: heads @ values, by hand for the second position
    w = checkpoint.snapshot.weights
    x = np.array(w["wte"])[sight.inputs] + np.array(w["wpe"])[:T]
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    h = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    q, k = h @ w["layer0.attn_wq"].T, h @ w["layer0.attn_wk"].T
    scores = np.exp(q[1, :4] @ k[:2, :4].T / 2)
    assert np.allclose(sight.attention[0, 0, 1, :2], scores / scores.sum(), atol=1e-6)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_pictures_are_what_their_names_say(lab, run, tmp_path, kind):
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    for arguments in (["anna"], ["--embeddings"]):
        assert lab("show", run, *arguments, "--out", tmp_path / f"x.{kind}") == 0
        assert (tmp_path / f"x.{kind}").read_bytes().startswith(begins)


def test_a_picture_is_the_same_each_time(lab, run, tmp_path):
    for name in ("a.svg", "b.svg"):
        assert lab("show", run, "anna", "--out", tmp_path / name) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_stands_in_the_terminal_fits_it(lab, run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (["anna"], ["anastasia"], ["--embeddings"]):
        assert lab("show", run, *arguments) == 0
        told = [line for line in lab.out.splitlines() if not line.startswith("picture:")]
        assert max(map(len, told)) <= width


def test_embeddings_are_seen_along_the_axes_that_say_most(run):
    ways = show.embeddings(run)
    assert ways.steps == [run_folder.step_of(path) for path in run_folder.saved(run)]
    assert ways.points.shape == (len(ways.steps), 27, 2)
    table = np.array(run_folder.load(run).snapshot.weights["wte"], float)
    variances = np.linalg.eigvalsh(np.cov(table.T))[::-1]
    assert np.allclose(ways.points[-1].var(axis=0, ddof=1), variances[:2])
    assert np.allclose(ways.explained, variances[:2] / variances.sum())


# ---------------------------------------------------------------- export, verify


def test_an_exported_file_samples_the_same(lab, run, tmp_path):
    file = tmp_path / "weights.safetensors"
    assert lab("export", run, file) == 0
    assert names(lab, file)["names"] == names(lab, run)["names"]
    assert "exists" in lab.refuses("export", run, file)


def test_a_checkpoint_is_held_against_01(lab, run):
    """A version starts where any other stopped, on every check that has a question there."""
    assert lab("verify", "01", "02", "--checkpoint", run_folder.saved(run)[-1]) == 0
    assert "✗" not in lab.out
    assert lab.out.count("02_numpy") == 2  # in both precisions


# ---------------------------------------------------------------- doctor


def test_the_doctor_says_what_is_here_and_what_is_missing(lab, monkeypatch):
    numpy = versions.find()[NUMPY]
    missing = replace(numpy, name="99_missing", framework="no_such_module")
    broken = replace(numpy, name="98_broken")
    monkeypatch.setattr(doctor, "pick", lambda asked: [numpy, missing, broken])
    assert lab("doctor") == 1
    assert f"✓ {NUMPY}" in lab.out
    assert "NumPy" in lab.out
    assert "✗ 99_missing" in lab.out
    assert "uv sync --all-packages" in lab.out
    assert "✗ 98_broken" in lab.out  # no such folder: its process says so
    assert microgpt.SHA256["names"][:16] in lab.out
    assert max(map(len, lab.out.splitlines())) <= 80
    monkeypatch.setattr(doctor, "pick", lambda asked: [numpy])
    assert lab("doctor") == 0


# ---------------------------------------------------------------- What cannot work


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "RUN", "--prompt", "Änn"], "prompt 'Änn' has ['Ä']: no document has these"),
        (["sample", "RUN", "--prompt", "annabella"], "fills the block of 8 tokens"),
        (["sample", "RUN", "--temperature", "0"], "temperature is 0.0: it must lie in"),
        (["sample", "RUN", "--temperature", "nan"], "temperature is nan: it must lie in"),
        (["sample", "RUN", "--top-k", "0"], "top-k is 0: it must be 1 or more"),
        (["sample", "RUN", "--top-p", "0"], "top-p is 0.0"),
        (["sample", "RUN", "--top-p", "1.5"], "top-p is 1.5"),
        (["sample", "RUN", "-n", "-1"], "count is -1"),
        (["sample", "RUN", "--with", "17"], "no version '17'"),
        (["sample", "nowhere"], "there is no 'nowhere'"),
        (["show", "RUN"], "takes a name to read, or --embeddings"),
        (["show", "RUN", "anna", "--embeddings"], "takes a name to read, or --embeddings"),
        (["show", "RUN", "Zoë"], "name 'Zoë' has ['Z', 'ë']"),
        (["show", "RUN", "anna", "--out", "x.docx"], "a picture ends in"),
        (["show", "RUN", "anna", "--out", "no/x.svg"], "cannot write 'no/x.svg'"),
        (["export", "RUN", "x.txt"], "must end in .json, .npz, .safetensors"),
        (["export", "RUN", "no/x.npz"], "cannot write 'no/x.npz'"),
        (["verify", "--checkpoint", "RUN", "--write"], "leave --checkpoint out"),
        (["verfy"], "no command 'verfy': did you mean verify?"),
        (["verify", "02", "--jobs", "0"], "jobs is 0: it must be 1 or more"),
        (["verify", "--program", "cat", "--timeout", "nan"], "timeout is nan: it must be 0.001"),
        (["mutants", "--jobs", "-1"], "jobs is -1: it must be 1 or more"),
        (["ablation", "--rounds", "0"], "rounds is 0: it must be 1 or more"),
        (["--wurst"], "Unrecognized options: --wurst (microgpt compare --help)"),
    ],
)
def test_what_cannot_work_is_one_line(lab, run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in lab.refuses(*(str(run) if a == "RUN" else a for a in arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_help_fits_a_terminal_and_names_every_option(lab, command):
    assert lab(*[command][: bool(command)], "--help") == 0
    assert max(map(len, lab.out.splitlines())) <= 80
    assert "{None}" not in lab.out
    assert "default: None" not in lab.out


def test_alone_it_compares():
    assert isinstance(main.parse([]), main.COMMANDS["compare"])
    assert main.parse(["--seed", "7"]) == main.COMMANDS["compare"](seed=7)
