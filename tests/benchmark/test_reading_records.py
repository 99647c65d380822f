"""A wrong bench.json is one line that names the file, the key and the value."""

import json

from microgpt import InputError

import pytest
from microgpt_lab.benchmark import record

from bench_records import make_curve, make_failed_row, make_record, make_row, make_sweep

RECORD = make_record(
    rows=[make_row("01_pure_python", 0.01), make_row("02_numpy_manual_backprop", 0.002)],
    swept=[make_sweep("n_embd", make_curve("02_numpy_manual_backprop", {16: 0.1, 32: 0.2}))],
    rates={"operations": {"float32": 1e9}},
)
RECORD["rows"].append(make_failed_row("03_pytorch"))


def refusal(path, raw):
    path.write_bytes(raw)
    with pytest.raises(InputError) as refused:
        record.read_record(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["rows"][0].pop("memory"), "rows[0].memory is missing"),
        (lambda r: r["rows"][0].update(step="slow"), 'rows[0].step is "slow": it must be a number'),
        (lambda r: r["rows"][1].update(step=0), "rows[1].step is 0: it must be a number > 0.0"),
        (lambda r: r["rows"][1].update(run=7), "rows[1].run is 7: there is no such run"),
        (lambda r: r["rows"][1].update(dtype="int8"), "it must be float32 or float64"),
        (lambda r: r["rows"][1].update(recipe="my"), "it must be seed or gist or scaled"),
        (lambda r: r["rows"][1].update(fast=True), "there is no key rows[1].fast"),
        (lambda r: r["rows"][1].update(rounds=[]), "rows[1].rounds is a list of 0"),
        (lambda r: r.update(runs=[]), "runs is a list of 0: it must be a list of length >= 1"),
        (lambda r: r.update(rows={}), "rows is an object of 0: it must be a list"),
        (lambda r: r["runs"][0].pop("machine"), "runs[0].machine is missing"),
        (
            lambda r: r["sweeps"][0]["curves"][0]["points"][1].update(value=1.5),
            "sweeps[0].curves[0].points[1].value is 1.5: it must be a whole number",
        ),
        (
            lambda r: r["sweeps"][0]["curves"][0].update(run=2),
            "sweeps[0].curves[0].run is 2: there is no such run",
        ),
    ],
)
def test_the_key_and_the_value_are_named(tmp_path, change, says):
    odd = json.loads(json.dumps(RECORD))
    change(odd)
    assert says in refusal(tmp_path / "bench.json", json.dumps(odd).encode())
