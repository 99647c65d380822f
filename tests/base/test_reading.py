"""Everything that the lab reads may be wrong in every place: it is read, or refused with one line
that names the file. What is read can be used."""

import functools
import json
import random
from dataclasses import replace

import microgpt
from microgpt import Config

import numpy as np
import pytest
import safetensors.numpy
from microgpt_lab.base import version_table
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.benchmark import changes, record, report
from microgpt_lab.runs import checkpoints, run_folder
from microgpt_lab.verification import port_replies, ports, vectors

import odd_values
from bench_records import make_curve, make_failed_row, make_record, make_row, make_sweep

# ---------------------------------------------------------------- A right document for each reader


def metadata():
    config = Config(n_embd=4, n_head=2, block_size=5, steps=30)
    plan = checkpoints.RunPlan("seed", config, 42, "names", "0" * 64, "abc", 0.1)
    first = checkpoints.before_first_step(plan, random.Random(1), "01_pure_python", about="me")
    return replace(first, options={"dtype": "float64"})


def bench():
    curve = make_curve("02_numpy_manual_backprop", {16: 0.1, 32: 0.2})
    rows = [make_row("01_pure_python", 0.01), make_row("02_numpy_manual_backprop", 0.002)]
    rows.append(make_failed_row("03_pytorch"))
    rates = {"operations": {"float32": 1e9}}
    return make_record(rows, [make_sweep("n_embd", curve)], rates=rates)


def log_line():
    return {"step": 3, "loss": 2.5}


TABLE = {
    "title": "NumPy", "dtypes": ["float64"], "framework": "numpy", "devices": ["cpu"],
    "batched": False, "recipe": "seed", "program": "main.py",
    "variants": {"compiled": {"compile": True}}, "variables": {"X_CACHE": "{cache}"},
}  # fmt: skip


@functools.cache
def golden():
    """A small case with every level, as a port is asked."""
    return next(case for case in vectors.read_vectors() if case["id"] == "one-letter")


@functools.cache
def right_answer():
    case = golden()
    return {"id": case["id"], "dtype": "float64", "levels": ["model", "training", "sampling"]} | {
        key: value for key, value in case["answer"].items() if key != "intermediates"
    }


# ---------------------------------------------------------------- Reading and using it


def read_checkpoint(raw, path):
    named = checkpoints.tensors(metadata().snapshot)
    text = raw.decode("utf-8", "replace")
    path.write_bytes(safetensors.numpy.save(named, {"microgpt": text}))
    read = checkpoints.read_checkpoint(path)
    microgpt.create(read.plan.config, read.snapshot)
    checkpoints.write_checkpoint(path, read)


def read_bench(raw, path):
    path.write_bytes(raw)
    found = record.read_record(path)
    report.show_record(found, plain_console())
    changes.show_changes(bench(), found, plain_console())


def read_log(raw, path):
    """A line that does not fit ends the log."""
    folder = path.parent
    line = raw.replace(b"\n", b" ")
    (folder / "log.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n' + line + b"\n")
    found = run_folder.read_log(folder)
    assert found[0] == {"step": 1, "loss": 2.0}
    losses = [r["loss"] for r in found if "loss" in r]
    assert np.isfinite(losses).all()
    run_folder.read_log(folder)


def read_table(raw, path):
    document = json.loads(raw)
    if not isinstance(document, dict):
        return
    lines = [f"{json.dumps(key)} = {toml(x)}" for key, x in document.items() if x is not None]
    path.write_text("[tool.microgpt]\n" + "\n".join(lines), "utf-8", "surrogatepass")
    version_table.read_table(path)


def toml(value):
    if isinstance(value, dict):
        inner = (f"{json.dumps(key)} = {toml(x)}" for key, x in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def read_reply(raw, path):
    reply = ports.read_answer(golden(), raw)
    port_replies.judge_reply(reply)
    assert reply.error or reply.findings or reply.declined
    for text in (reply.error, *(finding.detail for finding in reply.findings)):
        assert "\n" not in text


def read_results(raw, path):
    path.write_bytes(raw)
    ports.read_results(path, [golden()])


READERS = {
    "checkpoint": (read_checkpoint, lambda: checkpoints.metadata(metadata())),
    "bench": (read_bench, bench),
    "log": (read_log, log_line),
    "table": (read_table, lambda: TABLE),
    "reply": (read_reply, right_answer),
    "results": (read_results, lambda: [right_answer()]),
}


@pytest.mark.parametrize("kind", READERS)
def test_one_odd_value_anywhere_is_read_or_is_one_line(kind, tmp_path):
    read, make = READERS[kind]
    path = tmp_path / ("pyproject.toml" if kind == "table" else f"{kind}.file")
    document, tried, refused = json.loads(json.dumps(make())), 0, 0
    assert odd_values.refusal(read, json.dumps(document).encode(), path) == ""
    every = 23 if kind in ("reply", "results") else 1  # these are large
    for said, raw in odd_values.texts(document, every):
        if kind == "table" and not is_json(raw):
            continue
        line = odd_values.refusal(read, raw, path)
        tried, refused = tried + 1, refused + bool(line)
        assert "\n" not in line, said
        assert path.name in line or not line, said
    assert tried > 20
    assert refused or kind in ("log", "reply")  # which have no refusal, but an end or a finding


def is_json(raw):
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True
