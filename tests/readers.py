"""Each kind of file that is read: a right one, and a function that reads one and uses it. For the
tests in which something is wrong with the file."""

import contextlib
import functools
import json
import random
from dataclasses import replace

import microgpt
from microgpt import Config

import numpy as np
import safetensors.numpy
from microgpt_lab.base import version_table
from microgpt_lab.base.terminal import plain_console
from microgpt_lab.benchmark import changes, record, report
from microgpt_lab.runs import checkpoints, run_folder
from microgpt_lab.speedrun import entries
from microgpt_lab.verification import (
    answers,
    case_file,
    port_replies,
    ports,
    random_cases,
    vectors,
)

from bench_records import make_curve, make_failed_row, make_record, make_row, make_sweep
from lab_helpers import NUMPY, module_of

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
    """A small case, as a port is asked."""
    return next(case for case in vectors.read_vectors() if case["id"] == "one-letter")


LEVELS = ("forward", "gradients", "training", "sampling")


@functools.cache
def right_answer():
    case = golden()
    return {"id": case["id"], "dtype": "float64", "levels": list(LEVELS)} | {
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


@functools.cache
def small_case():
    """A case that is quickly computed and has every key."""
    documents = ((0, 1, 1), (1,), (0, 1, 0, 1, 0))
    sketch = random_cases.Sketch(
        stream=True, names=2, steps_taken=2, steps_left=5, batch_size=2, documents=documents,
        prompt=(1,), head_dim=2, block_size=3,
    )  # fmt: skip
    return random_cases.case_of(sketch, "small")


def read_case(raw, path):
    """A case that can be read can be asked: no version raises."""
    path.write_bytes(raw)
    case = case_file.read_case(path)
    ports.question(case)
    if case["steps"] > 9 or case["count"] > 9:
        return  # this takes long
    for finding in answers.run_checks(module_of(NUMPY), case, "float64"):
        assert finding.check != "error", finding.line()
        assert "cannot be read" not in finding.detail, finding.line()


def read_documents(raw, path):
    path.write_bytes(raw)
    documents = microgpt.load_documents(str(path))
    config = Config(n_embd=1, n_head=1, block_size=1)
    microgpt.prepare(config, str(path), say=lambda *_: None)
    assert len(documents) > 1


def read_whole_checkpoint(raw, path):
    """As read_checkpoint, but anything may be wrong: the header and the tensors too."""
    path.write_bytes(raw)
    read = checkpoints.read_checkpoint(path)
    microgpt.create(read.plan.config, read.snapshot)


def read_toml_table(raw, path):
    path.write_bytes(raw)
    version_table.read_table(path)


def read_entry(raw, path):
    """An entry of the race, and its record."""
    path.with_suffix(".toml").write_bytes(raw)
    entry = entries.Entry("one_second/entry")
    with patched(entries, "FOLDER", path.parent.parent):
        assert entry.description.program
        assert entry.config


def read_entry_record(raw, path):
    path.write_bytes(raw)
    with patched(entries, "FOLDER", path.parent.parent):
        assert entries.Entry("one_second/entry").record


@contextlib.contextmanager
def patched(module, name, value):
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def entry_record():
    runs = [{"seed": 1, "loss": 2.1, "seconds": 0.9}]
    rival = {"entry": "one_second/01", "runs": runs, "p": 0.001}
    return {
        "command": "microgpt speedrun", "date": "2026-11-26", "machine": "a processor",
        "runs": runs, "rival": rival,
    }  # fmt: skip


READERS = {
    "checkpoint": (read_checkpoint, lambda: checkpoints.metadata(metadata())),
    "bench": (read_bench, bench),
    "log": (read_log, log_line),
    "table": (read_table, lambda: TABLE),
    "reply": (read_reply, right_answer),
    "results": (read_results, lambda: [right_answer()]),
    "case": (read_case, small_case),
}

# Files that are not JSON: any byte of them may be wrong.
DOCUMENTS = "anna\nbob\nzoë\nabcdefghij\n".encode()
ENTRY = b"""title = "An entry"
program = "09"
[recipe]
n_embd = 4
n_head = 2
[options]
dtype = "float32"
"""
BYTES = {
    "documents": (read_documents, lambda: DOCUMENTS),
    "whole checkpoint": (read_whole_checkpoint, lambda: whole_checkpoint()),
    "TOML table": (read_toml_table, lambda: b"[tool.microgpt]\n" + TOML_TABLE.encode()),
    "entry": (read_entry, lambda: ENTRY),
    "record of an entry": (read_entry_record, lambda: json.dumps(entry_record()).encode()),
}
TOML_TABLE = "\n".join(f"{key} = {toml(value)}" for key, value in TABLE.items())
NAMES = {"table": "pyproject.toml", "TOML table": "pyproject.toml", "entry": "entry.toml"}
NAMES |= {"record of an entry": "entry.json"}


def path_for(kind, folder):
    """Where a file of that kind is written."""
    (folder / "one_second").mkdir(exist_ok=True)
    return folder / "one_second" / NAMES.get(kind, f"{kind}.file")


@functools.cache
def whole_checkpoint():
    text = json.dumps(checkpoints.metadata(metadata()))
    return safetensors.numpy.save(checkpoints.tensors(metadata().snapshot), {"microgpt": text})
