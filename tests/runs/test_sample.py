"""`microgpt sample`: the names, their probabilities, and whether they are in the data."""

import json
import math
from dataclasses import replace

import microgpt

import pytest
from microgpt_lab.runs import checkpoints, documents, run_folder, sample


def sampled(lab, *arguments):
    """What `microgpt sample --json` prints."""
    assert lab("sample", *arguments, "--json") == 0
    return json.loads(lab.out)


def test_without_a_seed_the_first_names_are_those_of_the_run(lab, run):
    made = [n["name"] for n in sampled(lab, run, "-n", 25)["names"]]
    assert made[:20] == (run / "names.txt").read_text().split("\n")[:-1]


def test_another_version_draws_the_same_names(lab, run):
    one, other = (sampled(lab, run, *more) for more in ([], ["--with", "01"]))
    assert [n["name"] for n in one["names"]] == [n["name"] for n in other["names"]]
    for a, b in zip(one["names"], other["names"]):
        assert a["probability"] == pytest.approx(b["probability"], rel=1e-4)


def test_an_exported_file_samples_the_same(lab, run, tmp_path):
    file = tmp_path / "weights.safetensors"
    assert lab("export", run, file) == 0
    assert sampled(lab, file)["names"] == sampled(lab, run)["names"]


@pytest.mark.parametrize(
    "how",
    [
        sample.SamplingOptions(temperature=1.3),
        sample.SamplingOptions(temperature=0.7, top_k=2),
        sample.SamplingOptions(temperature=2.0, top_p=0.6),
        sample.SamplingOptions(temperature=1.0, top_k=4, top_p=0.8, prompt="b"),
    ],
    ids=str,
)
def test_probabilities_are_those_with_which_names_are_drawn(how):
    """With three letters and a block of three, all names can be counted: their probabilities sum to
    one, and each name comes up as often as its probability says."""
    config = microgpt.Config(
        n_embd=4, n_head=2, block_size=3, init_std=0.3, zero_init=False, steps=5
    )
    plan = checkpoints.RunPlan("seed", config, 1, "gone", "0", "abc", 0.0)
    rng = microgpt.random.Random(2)
    checkpoint = checkpoints.before_first_step(plan, rng, "01_pure_python")
    drawn = sample.draw_names(checkpoint, replace(how, seed=5), 4000, None)
    shares = {n.name: n.probability for n in drawn}
    assert max(map(len, shares)) == 3  # a full block, whose end is not drawn
    assert max(shares.values()) < 0.9  # names differ
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    for name, p in shares.items():
        found = sum(n.name == name for n in drawn) / 4000
        assert found == pytest.approx(p, abs=4 * math.sqrt(p / 4000) + 1e-3)
        assert name.startswith(how.prompt)


def test_top_k_one_always_draws_the_most_likely_letter(lab, run):
    made = sampled(lab, run, "-n", 5, "--top-k", 1)["names"]
    assert len({n["name"] for n in made}) == 1
    assert made[0]["probability"] == pytest.approx(1)


def test_top_p_keeps_the_token_that_crosses_the_line():
    """Probabilities 0.5, 0.3, 0.15, 0.05 at temperature 0.5: the first two reach 0.7 together."""
    temperature, p = 0.5, [0.15, 0.5, 0.05, 0.3]
    row = [temperature * math.log(x) for x in p]
    expected = {0.1: {1}, 0.49: {1}, 0.7: {1, 3}, 0.81: {0, 1, 3}, 1.0: {0, 1, 2, 3}}
    for top_p, kept in expected.items():
        how = sample.SamplingOptions(top_p=top_p)
        (left,) = sample.restricted(lambda tokens: [row], temperature, how)([0])
        assert {i for i, z in enumerate(left) if z > -math.inf} == kept


def test_a_lower_temperature_makes_likely_letters_likelier(lab, run):
    """As the help says: below 1, likely letters get likelier. The most likely name gains too."""
    (top,) = sampled(lab, run, "-n", 1, "--top-k", 1)["names"]
    checkpoint = run_folder.load(run)
    tokens = checkpoint.plan.tokenizer.encode(top["name"])[1:-1]
    found = []
    for temperature in (0.3, 0.7, 1.0, 2.0):
        module = microgpt
        state = module.create(checkpoint.plan.config, checkpoint.snapshot)
        config = replace(checkpoint.plan.config, temperature=temperature)

        def logits(prefix, state=state):
            return microgpt.logits(state, list(prefix))

        bos = checkpoint.plan.tokenizer.bos
        found.append(sample.probability_of(logits, config, bos, tokens, 0))
    assert found == sorted(found, reverse=True)


def test_it_says_which_names_are_in_the_data(lab, run):
    found = sampled(lab, run, "-n", 300, "--seed", 3, "--temperature", 1)
    docs = microgpt.load_documents(run_folder.load(run).plan.data)
    train, held_out = documents.split(docs, 0.1)
    for n in found["names"]:
        where = {"training": train, "held out": held_out}.get(n["known"])
        assert n["name"] in where if where else n["name"] not in docs
    new = sum(n["known"] == "new" for n in found["names"]) / 300
    assert found["shares"]["new"] == pytest.approx(new)
    assert new > 0.5


def test_without_the_data_it_says_that_this_is_unknown(lab, run, tmp_path):
    checkpoint = run_folder.load(run)
    gone = replace(checkpoint, plan=replace(checkpoint.plan, data=str(tmp_path / "gone")))
    checkpoints.write_checkpoint(tmp_path / "x.safetensors", gone)
    assert lab("sample", tmp_path / "x.safetensors") == 0
    assert "whether they are new is unknown" in lab.out
    assert sampled(lab, tmp_path / "x.safetensors")["shares"] == {}


def test_with_other_data_it_says_that_this_is_unknown(lab, run, tmp_path):
    checkpoint = run_folder.load(run)
    (tmp_path / "other.txt").write_text("anna\nbea\n")
    plan = replace(checkpoint.plan, data=str(tmp_path / "other.txt"))
    checkpoints.write_checkpoint(tmp_path / "x.safetensors", replace(checkpoint, plan=plan))
    assert {n["known"] for n in sampled(lab, tmp_path / "x.safetensors")["names"]} == {None}


def test_the_table_fits_a_terminal(lab, run):
    assert lab("sample", run) == 0
    assert max(map(len, lab.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompt", "Änn"], "prompt 'Änn' has ['Ä']: no document has these"),
        (["--prompt", "annabella"], "fills the block of 8 tokens"),
        (["--temperature", "0"], "temperature is 0.0: it must lie in"),
        (["--temperature", "nan"], "temperature is nan: it must lie in"),
        (["--top-k", "0"], "top-k is 0: it must be 1 or more"),
        (["--top-p", "0"], "top-p is 0.0"),
        (["--top-p", "1.5"], "top-p is 1.5"),
        (["-n", "-1"], "samples is -1: it must be 0 or more"),
        (["--with", "17"], "no version '17'"),
    ],
)
def test_what_cannot_work_is_one_line(lab, run, arguments, says):
    assert says in lab.refuses("sample", run, *arguments)


def test_a_path_that_does_not_exist_is_one_line(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no 'nowhere'" in lab.refuses("sample", "nowhere")
