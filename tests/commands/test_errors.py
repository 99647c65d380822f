"""What a person mistypes is answered in one line, with exit status 2."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verfy"], "no command 'verfy': did you mean verify?"),
        (["--wurst"], "Unrecognized options: --wurst (microgpt compare --help)"),
        (["train"], "Missing from microgpt train: VERSION"),
        (["train", "pure_pythn"], "did you mean 01_pure_python?"),
        (["train", "02", "--recipe", "sed"], "no recipe 'sed': did you mean seed?"),
        (["train", "02", "--dtype", "float16"], "dtype 'float16': 02_numpy_manual_backprop has"),
        (["train", "02", "--device", "cuda"], "has no option 'device': it has dtype"),
        (["train", "02", "--option", "x"], "has no option 'x': it has dtype"),
        (["train", "02", "--option", "x=1"], "has no option 'x': it has dtype"),
        (["train", "02", "--option", "dtype"], "option 'dtype' has no value: write --option"),
        (["train", "02", "--n-head", "3"], "not a multiple of n_head 3"),
        (["train", "02", "--steps", "0"], "steps is 0: it must lie in 1"),
        (["train", "02", "--steps", "many"], "--steps: invalid literal for int()"),
        (["train", "02", "--schedule", "flat"], "--schedule"),
        (["train", "02", "--save-every", "0"], "save_every is 0: it must be 1 or more"),
        (["train", "02", "--keep", "1"], "keep is 1: it must be 2 or more"),
        (["train", "02", "--held-out", "1"], "held-out is 1.0"),
        (["train", "02", "--data", "nowhere.txt"], "cannot read data 'nowhere.txt'"),
        (["train", "02", "--batch-size", "100000"], "exceeds the 29048 documents to train on"),
        (["resume"], "there is no run in runs/"),
        (["resume", "nowhere"], "there is no 'nowhere'"),
        (["resume", "."], "is not the folder of a run"),
        (["verify", "02", "--jobs", "0"], "jobs is 0: it must be 1 or more"),
        (["verify", "--program", "cat", "--timeout", "nan"], "timeout is nan: it must be 0.001"),
        (["mutants", "--jobs", "-1"], "jobs is -1: it must be 1 or more"),
        (["ablation", "--rounds", "0"], "rounds is 0: it must be 1 or more"),
    ],
)
def test_what_cannot_work_is_one_line(lab, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in lab.refuses(*arguments)
    assert not list(tmp_path.iterdir())
