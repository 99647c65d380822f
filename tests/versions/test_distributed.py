"""Many workers compute what one does, in 07, 08 and 10; and 10 continues after failures."""

import json
import math
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import microgpt

import numpy as np
import pytest
from microgpt_lab.base import versions
from microgpt_lab.benchmark import scale
from microgpt_lab.verification import mutants

FOUND = versions.find()
JAX, MLX, TORCH = "07_jax_batched", "08_mlx_batched", "10_pytorch_distributed"
PADDED = "04_pytorch_batched"
FOLDER = FOUND[TORCH].path.parent
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCH_CPP_LOG_LEVEL": "FATAL"}

# No batch divides evenly among two or four workers: a remainder, one document, fewer documents
# than workers.
NUMBERS = """
import microgpt
import numpy as np

def numbers(module, dtype, options):
    config = microgpt.Config(
        n_embd=8, n_head=2, n_layer=2, block_size=14, init_std=0.1, zero_init=False, batch_size=5,
        steps=6,
    )
    run = microgpt.prepare(config, say=lambda *_: None)
    encoded = [run.tokenizer.encode(doc)[: config.block_size + 1] for doc in run.docs]
    sizes, batches, at = (5, 1, 3, 7, 2, 4), [], 0
    for step, size in enumerate(sizes):
        batches.append((encoded[at : at + size], microgpt.learning_rate(config, step)))
        at += size
    state = module.create(config, run.snapshot, dtype, **options)
    logits = module.logits(state, encoded[0][:-1])
    loss, gradients = module.loss_and_grads(state, batches[0][0])
    losses = [float(loss) for loss in module.train(state, iter(batches))]
    end = module.export(state)
    matrices = {"gradients": gradients} | dict(zip(("weights", "m", "v"), end[:3]))
    flat = {k: np.concatenate([w[n].ravel() for n in sorted(w)]) for k, w in matrices.items()}
    found = {"logits": logits, "loss": [loss], "losses": losses} | flat
    found = {k: np.asarray(v, np.float64).ravel() for k, v in found.items()}
    return {k: [float(x) for x in v] for k, v in found.items()}
"""
exec(NUMBERS)
LIMITS = {"float64": 1e-12, "float32": 1e-5}
MOMENTS = {"float64": 1e-10, "float32": 1e-4}  # and weights: Adam amplifies rounding


def distance(got, want):
    """{kind of number: relative difference}; it is infinite where a number is NaN."""
    found = {}
    for kind in want:
        g, w = np.array(got[kind], float), np.array(want[kind], float)
        off = np.linalg.norm(g - w) / np.linalg.norm(w) if g.shape == w.shape else math.inf
        found[kind] = float(off) if math.isfinite(off) else math.inf
    return found


def close(got, want, dtype):
    return [
        f"{kind}: relative difference {off:.2g}"
        for kind, off in distance(got, want).items()
        if not off <= (MOMENTS if kind in ("weights", "m", "v") else LIMITS)[dtype]
    ]


def needs(name):
    if FOUND[name].missing:
        pytest.skip(FOUND[name].missing)


# ---------------------------------------------------------------- 07: devices of JAX


FAST = "--xla_backend_optimization_level=0"  # most of the test's time is compilation


def test_jax_on_many_devices_computes_what_one_does():
    needs(JAX)
    program = f"""{NUMBERS}
import json, sys
from microgpt_lab.base import versions
module = versions.find()[{JAX!r}].load()
for devices in (1, 2, 4):
    print(json.dumps(numbers(module, "float64", {{"devices": devices}})))
try:
    numbers(module, "float64", {{"devices": 5}})
except microgpt.InputError as e:
    print(json.dumps(str(e)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    one, two, four, refused = map(json.loads, done.stdout.splitlines())
    assert not close(two, one, "float64")
    assert not close(four, one, "float64")
    assert "devices is 5" in refused
    assert "JAX_NUM_CPU_DEVICES=5" in refused


# ---------------------------------------------------------------- 08: workers of MLX


def free_ports(count):
    """Ports on which no program listens."""
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def mlx_numbers(workers, folder, edit=None):
    """The numbers of each of so many workers, after an edit of 08. They are connected in a
    ring, as mlx.launch connects them; uncompiled, because other tests compile."""
    program = f"""{NUMBERS}
import json, sys
from microgpt_lab.base import versions
version = versions.find()[{MLX!r}]
source = versions.edited(version.path.read_text(), json.loads(sys.argv[1]), "edit")
module = versions.load_source("edited", version.path, source)
print(json.dumps(numbers(module, "float32", {{"compile": False, "device": "cpu"}})))
"""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(workers)]))
    ring = {"MLX_HOSTFILE": str(hosts)} if workers > 1 else {}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, json.dumps([edit] if edit else [])],
            env=FOUND[MLX].environment | ring | {"MLX_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(workers)
    ]
    found = []
    try:
        for process in started:
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0, err
            found.append(json.loads(out))
    finally:
        for process in started:
            process.kill()
    return found


@pytest.fixture(scope="session")
def mlx_alone(tmp_path_factory):
    needs(MLX)
    return mlx_numbers(1, tmp_path_factory.mktemp("mlx"))[0]


@pytest.mark.parametrize("workers", [2, 4])
def test_mlx_with_many_workers_computes_what_one_does(mlx_alone, workers, tmp_path):
    for found in mlx_numbers(workers, tmp_path):
        assert not close(found, mlx_alone, "float32")


def wrong_together(name):
    """The mutants whose mistake shows only with several workers."""
    return tomllib.loads((mutants.FOLDER / f"{name}.toml").read_text())["distributed"]


@pytest.mark.parametrize("wrong", wrong_together(MLX), ids=lambda wrong: wrong["id"])
def test_mlx_with_two_workers_shows_the_mistakes_that_one_hides(mlx_alone, tmp_path, wrong):
    for found in mlx_numbers(2, tmp_path, wrong):
        assert close(found, mlx_alone, "float32")


# ---------------------------------------------------------------- 10: workers of PyTorch

# Workers wait before a step (or another place that they mark) as long as the folder `closed` has
# a file with its name. So a test can interrupt, stop or kill a worker at a known step.
GATES = """
GIVE_WAY = False  # whether a worker that is interrupted waits no longer

def close_gates(workers, closed):
    mark, catch, interrupts = workers.Watch.mark, workers.catch_interrupt, []

    def catch_interrupt():
        interrupts.append(catch())
        return interrupts[-1]

    def wait_at_gate(watch, where):
        mark(watch, where)
        while os.path.exists(f"{closed}/{where}"):
            if GIVE_WAY and any(event.is_set() for event in interrupts):
                break
            time.sleep(0.02)

    workers.catch_interrupt, workers.Watch.mark = catch_interrupt, wait_at_gate
"""

# Imports PyTorch once, then forks all workers of all tests, told by a line of JSON each.
CROWD = f"""{NUMBERS}
import json, os, signal, sys, time
from dataclasses import replace
from types import SimpleNamespace
import torch.distributed as dist
from microgpt_lab.base import versions

version = versions.find()[{TORCH!r}]
module = version.load()
import torch._dynamo  # or each worker would import it, which takes seconds
{GATES}
def wide(width):
    config = replace(microgpt.RECIPES["scaled"], n_embd=width)
    if width not in runs:  # drawn before the fork, once for all workers
        runs[width] = microgpt.prepare(config, say=lambda *_: None)
    return config, runs[width]

def held(module, width, sharded):
    config, run = wide(width)
    state = module.create(config, run.snapshot, sharded=sharded)
    (batch, _) = next(microgpt.batches(config, run.tokenizer, run.docs))
    module.loss_and_backward(state, batch)
    tensors = [p.grad for p in state.weights.values()]
    for kind in module.carried(state).values():
        tensors += kind.values()
    parts = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    storages = [part.untyped_storage() for part in parts]
    return sum({{s.data_ptr(): s.nbytes() for s in storages}}.values())

def jumping_clock(path):  # it stands still until there is a file, and then is very fast
    began = []

    def monotonic():
        if not began and os.path.exists(path):
            began.append(time.monotonic())
        return 1e4 * (time.monotonic() - began[0]) if began else 0.0

    return monotonic

def worker(rank, ask, out):
    os.environ |= {{"RANK": str(rank), "LOCAL_RANK": str(rank)}}
    os.environ |= {{"WORLD_SIZE": str(ask["workers"]), "MASTER_ADDR": "127.0.0.1"}}
    os.environ |= {{"MASTER_PORT": str(ask.get("port", 0))}}
    os.environ |= ask.get("environment", {{}})
    for fd, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{{out}}/{{rank}}.{{name}}", os.O_CREAT | os.O_WRONLY), fd)
    module.shards.WINDOW, module.shards.BLOCK = ask.get("window", (2**25, 2**18))
    if "closed" in ask:
        close_gates(module.workers, ask["closed"])
    if rank in ask.get("clock_of", []):
        clock = jumping_clock(ask["clock"])
        module.workers.time = SimpleNamespace(monotonic=clock, sleep=time.sleep)
    if "arguments" in ask:
        sys.argv = ["main.py", *ask["arguments"], *ask.get("only", {{}}).get(str(rank), [])]
        module.main()
    else:
        edit = ask["edit"]
        source = versions.edited(version.path.read_text(), [edit] if edit else [], "edit")
        mine = versions.load_source("edited", version.path, source) if edit else module
        store = dist.FileStore(f"{{out}}/store", ask["workers"])
        me = mine.SimpleNamespace(rank=rank, world=ask["workers"])
        mine.join_workers(mine.choose_device("cpu"), "gloo", store, me, 600.0)
        for dtype, options in ask["settings"]:
            print(json.dumps(numbers(mine, dtype, options)), flush=True)
        for width, sharded in ask.get("held", []):
            print(held(mine, width, sharded), flush=True)
        module.workers.leave_group(None)

runs = {{}}
for line in sys.stdin:
    ask = json.loads(line)
    for width, _ in ask.get("held", []):
        wide(width)
    pids = []
    for rank in range(ask["workers"]):
        pids.append(os.fork())
        if not pids[-1]:
            try:
                worker(rank, ask, ask["out"])
            except SystemExit as e:
                os._exit(e.code or 0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            sys.stdout.flush()
            os._exit(0)
    print(json.dumps(pids), flush=True)
    status = {{}}
    for rank, pid in enumerate(pids):
        if rank not in ask.get("stopped", []):
            status[rank] = os.waitpid(pid, 0)[1]
    for rank in ask.get("stopped", []):  # the others have ended without these
        os.kill(pids[rank], signal.SIGKILL)
        status[rank] = os.waitpid(pids[rank], 0)[1]
    print(json.dumps([status[rank] for rank in range(ask["workers"])]), flush=True)
"""


class Crowd:
    """Starts groups of workers, one group after the other."""

    def __init__(self, folder):
        self.folder, self.groups = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", CROWD],
            env=os.environ | ALONE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, workers, meanwhile=None, seconds=900, **ask):
        """Standard output, standard error and status of each worker. `meanwhile` is called
        with their process ids."""
        self.groups += 1
        out = self.folder / str(self.groups)
        out.mkdir()
        ask |= {"workers": workers, "out": str(out)}
        self.process.stdin.write(json.dumps(ask) + "\n")
        self.process.stdin.flush()
        pids = json.loads(self.process.stdout.readline())
        if meanwhile:
            meanwhile(pids)
        with killed_after(pids, seconds):
            status = json.loads(self.process.stdout.readline())
        texts = [[(out / f"{r}.{x}").read_text() for r in range(workers)] for x in ("out", "err")]
        codes = [os.waitstatus_to_exitcode(s) for s in status]
        return SimpleNamespace(out=texts[0], err=texts[1], status=codes)

    def numbers(self, workers, settings, edit=None, **more):
        """The numbers of each worker for each (dtype, options); None if an edited one failed."""
        done = self(workers, edit=edit, settings=settings, **more)
        if any(done.status) and edit:
            return None
        assert not any(done.status), done.err
        return [[json.loads(line) for line in text.splitlines()] for text in done.out]

    def program(self, workers, *arguments, **more):
        """main.py, as torchrun would start it; the first worker keeps the store."""
        port = free_ports(1)[0] if workers > 1 else 0
        return self(workers, arguments=list(map(str, arguments)), **{"port": port} | more)


class killed_after:
    def __init__(self, pids, seconds):
        import threading

        self.timer = threading.Timer(seconds, self.kill, [pids])

    def kill(self, pids):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *_):
        self.timer.cancel()


@pytest.fixture(scope="session")
def crowd(tmp_path_factory):
    needs(TORCH)
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    found = Crowd(tmp_path_factory.mktemp("crowd"))
    yield found
    found.process.stdin.close()
    found.process.wait()


@pytest.fixture(scope="session")
def padded():
    """The numbers of 04, in one process: {dtype: numbers}"""
    needs(PADDED)
    module = FOUND[PADDED].load()
    return {dtype: numbers(module, dtype, {}) for dtype in LIMITS}  # noqa: F821


SETTINGS = [
    (dtype, {"sharded": sharded, "accumulate": accumulate})
    for dtype, sharded, accumulate in (
        ("float64", False, 1),
        ("float64", False, 3),
        ("float64", True, 1),
        ("float64", True, 3),
        ("float32", False, 1),
        ("float32", True, 3),
    )
]


@pytest.fixture(scope="session")
def found_by(crowd):
    """The numbers of each worker in each setting, computed once for each number of workers."""
    known = {}

    def ask(workers):
        if workers not in known:
            known[workers] = crowd.numbers(workers, SETTINGS)
        return known[workers]

    return ask


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize(
    "setting", range(len(SETTINGS)), ids=lambda i: f"{SETTINGS[i][0]}-{SETTINGS[i][1]}"
)
def test_many_workers_compute_what_one_does_without_them(found_by, padded, workers, setting):
    dtype, _ = SETTINGS[setting]
    for rank in range(workers):
        assert not close(found_by(workers)[rank][setting], padded[dtype], dtype)


def test_one_worker_gives_the_numbers_of_the_padded_version_bit_for_bit(found_by, padded):
    assert found_by(1)[0][SETTINGS.index(("float32", {"sharded": False, "accumulate": 1}))] == {
        **padded["float32"]
    }


HELD = [(width, sharded) for width in (64, 256) for sharded in (False, True)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_holds_the_memory_that_the_formula_says(crowd, workers):
    done = crowd(workers, settings=[], held=HELD, edit=None)
    assert not any(done.status), done.err
    for (width, sharded), measured in zip(HELD, map(int, done.out[0].split())):
        config = replace(microgpt.RECIPES["scaled"], n_embd=width)
        assert measured == scale.memory(config, 27, workers, sharded)


@pytest.mark.parametrize("wrong", wrong_together(TORCH), ids=lambda wrong: wrong["id"])
def test_two_workers_show_the_mistakes_that_one_hides(crowd, padded, wrong):
    found = crowd.numbers(2, [("float64", {"accumulate": 3})], wrong)
    assert found is None or close(found[0][0], padded["float64"], "float64")


# ---------------------------------------------------------------- 10: the program

SMALL = ["--n-embd", "8", "--n-head", "2", "--dtype", "float64", "--samples", "2"]


def losses(log):
    """The losses in a log, whose steps are 1, 2, 3 … without a gap or a repeat."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [record["step"] for record in records if "step" in record]
    assert steps == [*range(1, len(steps) + 1)]
    assert sum("config" in record for record in records) == 1
    return [record["loss"] for record in records if "loss" in record]


def refused(done):
    """The only line on standard error of all workers, which all end with status 2."""
    assert done.status == [2] * len(done.status), done.err
    (line,) = "".join(done.err).splitlines()
    assert line.startswith("error: ")
    return line


def test_the_program_trains_as_the_padded_version_does(crowd, tmp_path, monkeypatch):
    done = crowd.program(2, *SMALL, "--steps", 20, "--log", tmp_path / "log")
    assert done.status == [0, 0], done.err
    assert not done.out[1], "only the first worker prints"
    assert "2 workers" in done.out[0]
    arguments = ["main.py", *SMALL, "--steps", "20", "--log", str(tmp_path / "one")]
    monkeypatch.setattr(sys, "argv", arguments)
    microgpt.run(FOUND[PADDED].load(), recipe="scaled")
    assert losses(tmp_path / "log") == pytest.approx(losses(tmp_path / "one"), rel=1e-12)
    names = [re.findall(r'{"name": .*}', (tmp_path / x).read_text()) for x in ("log", "one")]
    assert names[0] == names[1]
    assert len(names[0]) == 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "RANK is not set: start the program with `torchrun --nproc-per-node 2 main.py`"),
        ({"RANK": "0"}, "WORLD_SIZE is not set"),
        ({"RANK": "two"}, "RANK is 'two'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2: it must be below WORLD_SIZE, 2"),
    ],
    ids=str,
)
def test_an_environment_without_torchrun_is_refused(crowd, variables, said):
    all_of_them = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    given = dict.fromkeys(("RANK", "WORLD_SIZE"), "") | all_of_them | variables
    assert said in refused(crowd.program(1, environment=given))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mixed"], "mixed precision needs --device cuda"),
        (["--backend", "nccl"], "backend nccl needs --device cuda"),
        (["--device", "cuda"], "device cuda: this machine has 0 GPUs, and worker 0 needs one"),
        (["--accumulate", "0"], "accumulate is 0"),
        (["--accumulate", "99999999"], "accumulate is 99999999: it must lie in 1 … 1000"),
        (["--save-every", "0"], "save_every is 0"),
        (["--timeout", "0"], "timeout is 0"),
        (["--dtype", "float16"], "float16"),
        (["--data", "no/such"], "no/such"),
        (["--log", "no/such/log"], "cannot write --log 'no/such/log'"),
        (["--checkpoint", "/dev/null/x", "--save-every", "1"], "cannot write --checkpoint"),
        (["--data", "THREE", "--batch-size", "4"], "batch_size 4 exceeds the 3 documents"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_is_one_line_from_one_worker_and_status_2(crowd, tmp_path, arguments, said):
    (tmp_path / "three.txt").write_text("emma\nolivia\nava\n")
    arguments = [str(tmp_path / "three.txt") if x == "THREE" else x for x in arguments]
    assert said in refused(crowd.program(2, "--steps", 2, *arguments))


def test_one_worker_says_once_that_a_run_has_diverged(crowd):
    for rate, times in (("10", 1), ("0.01", 0)):
        done = crowd.program(2, *SMALL, "--steps", 70, "--learning-rate", rate)
        assert done.status == [0, 0], done.err
        assert "".join(done.out).count("that of a blind guess: try a lower --learning") == times


def test_more_workers_than_documents_are_refused(crowd, tmp_path):
    (tmp_path / "three.txt").write_text("emma\nolivia\nava\n")
    done = crowd.program(4, "--data", tmp_path / "three.txt", "--batch-size", 1)
    assert "4 workers exceed the 3 documents" in refused(done)


def test_a_port_that_is_taken_is_refused(crowd):
    import socket

    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        done = crowd.program(2, "--timeout", 1, port=port)
    assert f"cannot use the workers' store at 127.0.0.1:{port}" in refused(done)


def test_a_worker_with_other_data_is_refused_with_both_digests(crowd, tmp_path):
    (tmp_path / "three.txt").write_text("emma\nolivia\nava\n")
    only = {"1": ["--data", str(tmp_path / "three.txt")]}
    line = refused(crowd.program(3, "--batch-size", 1, only=only))
    digests = [microgpt.digest(["emma", "olivia", "ava"]), microgpt.SHA256["names"]]
    assert "worker 1 found other data" in line
    assert all(digest[:12] in line for digest in digests)


def test_a_worker_with_other_settings_is_refused_with_both_digests(crowd):
    line = refused(crowd.program(3, only={"2": ["--seed", "43"]}))
    settings = r"worker {} got seed {} \(settings (\w{{12}})\)"
    found = re.search(f"{settings.format(2, 43)}, {settings.format(0, 42)}", line)
    assert found, line
    assert found[1] != found[2]


def until(condition, seconds=900):
    """Wait for an event. The limit only ends a test that would wait for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_in(log):
    return log.read_text().count('"step"') if log.exists() else 0


@pytest.fixture
def closed(tmp_path):
    """A folder for files with the names of places, at which workers wait."""
    (tmp_path / "closed").mkdir()
    return tmp_path / "closed"


def test_a_worker_that_does_not_start_is_named(crowd, tmp_path):
    """The clock of worker 0 stands still until workers 0 and 1 are there."""
    from torch import distributed as dist

    port = free_ports(1)[0]

    def here(store):
        tokens = json.loads(store.get("list")) if store.check(["list"]) else [""]
        prefix = FOUND[TORCH].load().workers.short_digest(tokens)
        return all(tokens[:2]) and store.check([f"{prefix}/confirmed/{r}" for r in (0, 1)])

    def jump(_):
        store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
        until(lambda: here(store))
        (tmp_path / "clock").touch()

    ask = {"clock": str(tmp_path / "clock"), "clock_of": [0], "only": {"2": ["--help"]}}
    done = crowd.program(3, port=port, meanwhile=jump, **ask)  # 2 prints its help and ends
    assert done.status == [2, 2, 0]
    (line,) = "".join(done.err).splitlines()
    assert line == "error: worker 2 of 3 did not start within 60 seconds (--timeout)"


@pytest.mark.parametrize(
    ("marks", "alive", "said"),
    [
        ([2, 1, 2], [0, 1, 2], "worker 1 did not reach step 2"),
        ([2, 2, 2], [0, 2], "worker 1 did not reach step 2"),
        ([2, 1, 2], [0], "workers 1, 2 did not reach step 2"),
        ([2, 2, 2], [0, 1, 2], "no worker got past step 2"),
    ],
)
def test_workers_that_are_behind_or_silent_are_named(monkeypatch, marks, alive, said):
    needs(TORCH)
    from torch import distributed as dist

    workers, store, errors = FOUND[TORCH].load().workers, dist.HashStore(), []
    found = [workers.Watch(store, SimpleNamespace(rank=r, world=3), 60) for r in range(3)]
    for watch, count in zip(found, marks):
        for step in range(1, count + 1):
            watch.mark(f"step {step}")
        watch.write()

    def sleep(_):  # meanwhile those that are alive write their progress
        for rank in alive:
            found[rank].write()

    monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(workers, "exit_together", lambda me, store, error: errors.append(error))
    found[0].find_late_workers(1.0)
    assert errors == [f"{said} within 60 seconds (--timeout)"]


def test_a_worker_that_hangs_is_named_and_the_others_end(crowd, tmp_path, closed):
    """All wait before step 6. One is stopped there, then the clock of the others jumps."""
    (closed / "step 6").touch()

    def stop(pids):
        until(lambda: steps_in(tmp_path / "log") >= 5)
        os.kill(pids[1], signal.SIGSTOP)
        (closed / "step 6").unlink()
        (tmp_path / "clock").touch()

    arguments = [*SMALL, "--steps", 50, "--log", tmp_path / "log"]
    ask = {"closed": str(closed), "clock": str(tmp_path / "clock"), "clock_of": [0, 2]}
    done = crowd.program(3, *arguments, meanwhile=stop, stopped=[1], **ask)
    assert done.status == [2, -signal.SIGKILL, 2]
    (line,) = "".join(done.err).splitlines()
    assert re.match(r"error: workers? (\d, )*1(, \d)* did not reach step 6 within 60 seconds", line)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_run_continues_with_another_number_of_workers(
    crowd, tmp_path, closed, number
):
    log, folder = tmp_path / "log", tmp_path / "checkpoint"
    arguments = [*SMALL, "--steps", 60, "--batch-size", 5, "--log", log]
    assert not any(crowd.program(1, *arguments).status)
    whole = losses(log)
    log.unlink()
    arguments += ["--checkpoint", folder, "--save-every", 7]

    (closed / "step 22").touch()

    def interrupt(pids):
        until(lambda: steps_in(log) > 20)
        os.kill(pids[1], number)
        (closed / "step 22").unlink()

    done = crowd.program(2, *arguments, meanwhile=interrupt, closed=str(closed))
    assert done.status == [0, 0], done.err
    taken = len(losses(log))
    assert f"stopped after step {taken}\n" in done.out[0]
    assert 20 < taken < 60
    (folder / "step-000000099.part").mkdir()  # what a killed worker leaves
    (folder / "step-000000088").mkdir()
    done = crowd.program(3, *arguments, "--sharded", "--accumulate", 2)
    assert done.status == [0, 0, 0], done.err
    assert f"continues after step {taken}\n" in done.out[0]
    assert losses(log) == pytest.approx(whole, rel=1e-10)
    assert not list(folder.glob("*.part"))
    line = refused(crowd.program(2, *arguments, "--beta1", 0.8))
    assert "beta1 0.9, this run has 0.8" in line
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name}x\n" for name in microgpt.load_documents()))
    line = refused(crowd.program(2, *arguments, "--data", names))
    other = microgpt.digest(microgpt.load_documents(str(names)))
    assert f"data {microgpt.SHA256['names']}, this run has {other}" in line
    for path in folder.glob("step-000000060/*.distcp"):
        path.write_bytes(path.read_bytes()[:100])
    assert "step-000000060 is damaged" in refused(crowd.program(2, *arguments))


# torchrun forks its workers from a process that has imported this, or each of them would import
# PyTorch anew. Each worker leaves a file with its process id.
PRELOADED = f"""
import os, sys, time
sys.path.insert(0, {str(FOLDER)!r})
import shards, workers
import torch._dynamo, torch.distributed.checkpoint, torch.distributed.fsdp
{GATES}
HERE, GIVE_WAY = os.path.dirname(__file__), True  # torchrun ends the other workers
close_gates(workers, f"{{HERE}}/closed")
mark = workers.Watch.mark

def leave_pid(watch, where):
    open(f"{{HERE}}/pids/{{os.getpid()}}", "w").close()
    mark(watch, where)

workers.Watch.mark = leave_pid
"""
TORCHRUN = """
if __name__ == "__main__":
    import multiprocessing
    from torch.distributed.run import main
    multiprocessing.set_forkserver_preload(["preloaded"])
    main()
"""


def test_a_run_whose_workers_are_killed_has_the_losses_of_an_undisturbed_run(
    crowd, tmp_path, closed, tried
):
    """A worker is killed at random times, each before the step of a gate, and torchrun starts all
    workers anew. MICROGPT_WORKER_KILLS is the number of kills."""
    kills = tried.number("MICROGPT_WORKER_KILLS", 2)
    log, rng = tmp_path / "log", random.Random()
    arguments = [*SMALL, "--steps", 40 * kills + 20, "--batch-size", 5, "--log", log]
    assert not any(crowd.program(2, *arguments).status)
    whole = losses(log)
    log.unlink()
    arguments += ["--checkpoint", tmp_path / "checkpoint", "--save-every", 10]
    (tmp_path / "pids").mkdir()
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    (tmp_path / "torchrun.py").write_text(TORCHRUN)
    command = [sys.executable, tmp_path / "torchrun.py", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={kills}", "--monitor-interval=0.05", "--run-path"]
    command += ["--start-method=forkserver", "--", FOLDER / "main.py", *arguments]
    gates, killed = range(40, 40 * kills + 1, 40), set()
    for gate in gates:
        (closed / f"step {gate}").touch()

    def workers():
        return {int(path.name) for path in (tmp_path / "pids").iterdir()} - killed

    with open(tmp_path / "said", "w") as said:
        run = subprocess.Popen(
            [str(x) for x in command],
            env=os.environ | ALONE | {"PYTHONPATH": str(tmp_path)},
            stdout=said,
            stderr=said,
        )
        try:
            for gate in gates:
                place = rng.randrange(gate - 39, gate)
                until(lambda place=place: steps_in(log) >= place and len(workers()) == 2)
                tried("a worker that is killed under torchrun")
                pids = workers()
                os.kill(rng.choice(sorted(pids)), signal.SIGKILL)
                killed |= pids  # torchrun ends the other one too
                until(lambda: len(workers()) == 2)
                (closed / f"step {gate}").unlink()
            run.wait(timeout=900)
        finally:
            run.kill()
    text = (tmp_path / "said").read_text()
    assert run.returncode == 0, text
    assert text.count("weights, 32,246 documents") == kills + 1, text
    assert losses(log) == whole


# ---------------------------------------------------------------- 10: streamed data


@pytest.fixture
def shards(monkeypatch):
    needs(TORCH)
    found = FOUND[TORCH].load().shards
    monkeypatch.setattr(found, "WINDOW", 20_000)
    monkeypatch.setattr(found, "BLOCK", 1000)
    return found


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The same names as one text file, as text shards, and as text and Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    names = microgpt.load_documents()[:2000]
    folder = tmp_path_factory.mktemp("shards")
    (folder / "one.txt").write_text("\n".join(names))
    (folder / "text").mkdir()
    (folder / "mixed").mkdir()
    for i in range(4):
        part = names[500 * i : 500 * i + 500]
        lines = "".join(f"  {name}\r\n\n" for name in part)  # cleaned as 01 does
        (folder / "text" / f"{i}.txt").write_bytes(lines.encode())
        if i % 2:
            (folder / "mixed" / f"{i}.txt").write_text("\n".join(part))
        else:
            table = pa.table({"text": [*part, None, " "], "length": [*range(502)]})
            parquet.write_table(table, folder / "mixed" / f"{i}.parquet", row_group_size=100)
    return names, folder


@pytest.mark.parametrize("source", ["one.txt", "text", "mixed"])
def test_a_stream_is_a_seeded_permutation_of_the_documents(shards, folders, source):
    names, folder = folders
    docs, letters, digest, _ = shards.documents(folder / source, random.Random(7), 16)
    got = [docs[i] for i in range(len(docs))]
    assert len(docs.windows) > 3
    assert Counter(got) == Counter(names)
    assert digest == microgpt.digest(names)
    assert letters == set("".join(names))
    again = shards.documents(folder / source, random.Random(7), 16)[0]
    assert [again[i] for i in range(len(docs))] == got
    other = shards.documents(folder / source, random.Random(8), 16)[0]
    assert [other[i] for i in range(len(docs))] != got
    where = {name: i for i, name in enumerate(names)}
    first = [where[name] for name in got[:100]]
    assert first != sorted(first)
    assert sorted(first) != [*range(min(first), max(first) + 1)], "not one block after another"


def test_a_stream_holds_one_window_at_a_time(shards, folders):
    docs = shards.documents(folders[1] / "text", random.Random(7), 16)[0]
    read, before = [], shards.read
    shards.read = lambda path, start: read.append((path, start)) or before(path, start)
    try:
        for i in range(len(docs)):
            docs[i]
    finally:
        shards.read = before
    assert len(read) == len(set(read)), "no block is read twice in a pass"
    sizes = [sum(block.size for block in window) for window in docs.windows]
    assert max(sizes) <= shards.WINDOW


@pytest.mark.parametrize("source", ["one.txt", "text", "mixed"])
def test_what_fits_into_a_window_is_shuffled_as_the_reference_does(folders, source):
    needs(TORCH)
    config, (_, folder) = microgpt.Config(), folders
    got = FOUND[TORCH].load().shards.prepare(config, folder / source, 42, "", print)
    want = microgpt.prepare(config, str(folder / "one.txt"), 42, say=print)
    assert got.docs == want.docs
    assert got.digest == want.digest
    assert got.snapshot == want.snapshot


def test_a_stream_is_the_same_for_any_number_of_workers(crowd, folders, tmp_path):
    found = []
    for workers in (1, 2, 3):
        log = tmp_path / f"{workers}"
        arguments = [*SMALL, "--data", folders[1] / "mixed", "--steps", 40, "--log", log]
        done = crowd.program(workers, *arguments, window=(20_000, 1000))
        assert not any(done.status), done.err
        found.append(losses(log))
    assert found[1] == pytest.approx(found[0], rel=1e-12)
    assert found[2] == pytest.approx(found[0], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", None, "has no .txt or .parquet file"),
        ("a.parquet", b"PAR1 but no more", "cannot read data"),
        ("a.txt", b"emma\n\xff\xfe\n", "is not UTF-8 text: byte 5"),
        ("a.txt", b"emma\0\nolivia\n", "is binary"),
        ("a.txt", b"\n\n \n", "0 document(s) with 0 different letter(s)"),
    ],
)
def test_data_that_cannot_be_read_are_refused(tmp_path, name, content, said):
    needs(TORCH)
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(microgpt.InputError, match=re.escape(said)):
        FOUND[TORCH].load().shards.prepare(microgpt.Config(), tmp_path / name, 42, "", print)


def test_a_parquet_file_must_say_which_column_has_the_documents(tmp_path):
    needs(TORCH)
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"name": ["emma", "olivia"], "place": ["x", "y"], "number": [1, 2]}
    parquet.write_table(pa.table(columns), tmp_path / "two.parquet")
    load = FOUND[TORCH].load().shards.prepare
    with pytest.raises(microgpt.InputError, match="has the columns name, place, number"):
        load(microgpt.Config(), tmp_path / "two.parquet", 42, "", print)
    columns.pop("place")
    parquet.write_table(pa.table(columns), tmp_path / "one.parquet")
    assert sorted(load(microgpt.Config(), tmp_path / "one.parquet", 42, "", print).docs) == [
        "emma",
        "olivia",
    ]


# ---------------------------------------------------------------- 10: how to launch it


def launches():
    """(file, the shell's words of its torchrun) of each example, and of the README."""
    import yaml

    folder, scripts = FOLDER / "launch", []
    scripts.append(("slurm.sh", (folder / "slurm.sh").read_text()))
    scripts.append(("skypilot.yaml", yaml.safe_load((folder / "skypilot.yaml").read_text())["run"]))
    service, job = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed"
    container = pod["containers"][0]
    scripts.append(("kubernetes.yaml", shlex.join(container["command"] + container["args"])))
    scripts.append(("README.md", (FOLDER / "README.md").read_text()))
    for name, text in scripts:
        lines = re.findall(r"(torchrun .*)", text.replace("\\\n", " "))
        for line in lines:
            if "main.py" in line and "`" not in line:
                yield name, shlex.split(line)[1:]


def test_every_way_to_launch_it_has_options_that_are_there(monkeypatch):
    needs(TORCH)
    from torch.distributed import run

    seen = set()
    for name, words in launches():
        parsed = run.get_args_parser().parse_args(words)
        assert Path(parsed.training_script).name == "main.py", name
        given = [x for x in parsed.training_script_args if x != "--"]
        monkeypatch.setattr(sys, "argv", ["main.py", *given])
        config, *_ = FOUND[TORCH].load().arguments()
        assert config.batch_size == microgpt.RECIPES["scaled"].batch_size
        seen.add(name)
    assert seen == {"slurm.sh", "skypilot.yaml", "kubernetes.yaml", "README.md"}


@pytest.mark.parametrize("name", ["slurm.sh", "skypilot.yaml"])
def test_launch_scripts_are_shell(name, tmp_path):
    path = FOLDER / "launch" / name
    if path.suffix == ".yaml":
        import yaml

        parsed = yaml.safe_load(path.read_text())
        path = tmp_path / "run.sh"
        path.write_text(parsed["setup"] + parsed["run"])
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
