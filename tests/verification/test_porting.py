"""The templates that a port starts from: each builds with its README's commands, declines every
case, and answers as soon as its functions are filled in."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from microgpt_lab.base.versions import ROOT
from microgpt_lab.verification import checks, porting, ports, vectors

from golden_cases import CASES, NUMPY, TINY
from lab_helpers import Lab

FILLS = Path(__file__).with_name("port_fills")
LANGUAGES = porting.languages()
LEVELS = ["forward", "gradients", "training", "sampling", "stream"]
# What a template needs to run. Where one of REQUIRED is missing, the tests fail; where another
# is missing, they are skipped. .ci/run installs some more, and requires these.
PROGRAMS = {
    "c": "cc", "cpp": "c++", "go": "go", "java": "javac", "javascript": "node",
    "julia": "julia", "ocaml": "ocamlopt", "python": "python3", "rust": "rustc",
}  # fmt: skip
REQUIRED = {"c", "cpp", "javascript", "python", *os.environ.get("MICROGPT_LANGUAGES", "").split()}


def need(language):
    """Skip a test whose compiler is missing, unless it is required."""
    program = PROGRAMS[language]
    if not shutil.which(program):
        assert language not in REQUIRED, f"{program} is missing: {language} is not tested"
        pytest.skip(f"not tried: {program} is missing")


def fill(folder, edits):
    """Replace texts in a template's source; each must stand there exactly once."""
    (path,) = [p for p in folder.iterdir() if p.stem.lower() == "port"]
    text = path.read_text("utf-8")
    for find, replace in edits:
        assert text.count(find) == 1, find
        text = text.replace(find, replace.lstrip())
    path.write_text(text, "utf-8")


def build(tmp_path, language, edits=()):
    """A new port with some edits, built -> (its folder, the command that starts it)."""
    need(language)
    folder = tmp_path / "port"
    porting.create(language, folder)
    fill(folder, edits)
    *commands, verify = porting.commands((folder / "README.md").read_text("utf-8"))
    for command in commands:
        subprocess.run(shlex.split(command), cwd=folder, check=True)
    program = shlex.split(verify)[-1]
    assert verify == f'uv run microgpt verify --program "{program}"'
    return folder, program.replace("python3", sys.executable)


def ask(folder, program, case):
    """The answer of a port to a case; or its status and its line of errors."""
    asked = json.dumps(ports.question(case))
    command = shlex.split(program)
    done = subprocess.run(command, cwd=folder, input=asked, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else (done.returncode, done.stderr)


def edits_of(language, kind):
    return tomllib.loads((FILLS / f"{language}.toml").read_text("utf-8"))[kind]


def busy_case():
    """A case with everything that a template reads: a batch, documents that are cut, a prompt,
    letters beyond ASCII, a start in the middle, and a seed of three words."""
    case = copy.deepcopy(CASES["first-steps"])
    case["config"] |= {"batch_size": 3, "block_size": 4, "schedule": "linear", "temperature": 0.7}
    case["letters"] = "abé𝔸"
    case["documents"] = [doc.replace("n", "𝔸").replace("e", "é") for doc in case["documents"]]
    stream = [doc.replace("n", "𝔸").replace("e", "é") for doc in case["stream"]["documents"]]
    case["stream"] = {"seed": 2**70 + 2**40 + 4294967291, "documents": stream}
    for part in ("weights", "first_moment", "second_moment"):
        case["start"][part]["wpe"] = case["start"][part]["wpe"][:4]
    return case | {"start": case["start"] | {"step": 4}, "prompt": "é𝔸", "count": 3, "steps": 21}


def echo(case):
    """The answer of a port whose functions are filled with the edits called echo."""
    letters, config, start = case["letters"], case["config"], case["start"]
    vocab_size, size = len(letters) + 1, config["batch_size"]
    cut = [tokens[: config["block_size"] + 1] for tokens in case["tokens"]]
    batches = [
        [cut[(step * size + b) % len(cut)] for b in range(size)]
        for step in range(start["step"], start["step"] + case["steps"])
    ]
    first = [x[0] for x in start["weights"]["wte"]]
    drawn = iter(case["uniforms"])
    after = {}
    for s in (1, 2, 3, 20):
        state = copy.deepcopy({key: start[key] for key in start if key != "step"})
        for name in state["weights"]:
            for _ in range(s):
                state["weights"][name][0][0] += 1
            state["first_moment"][name][0][0] = start["step"] + s - 1
            state["second_moment"][name][0][0] = config["temperature"]
        after[str(s)] = state
    return {
        "id": case["id"],
        "levels": LEVELS,
        "dtype": "float64",
        "logits": [[[first[t] + i for i in range(vocab_size)] for t in d[:-1]] for d in batches[0]],
        "loss": sum(len(document) - 1 for document in batches[0]),
        "gradients": start["weights"],
        "losses": [start["step"] + s + len(batch[0]) - 1 for s, batch in enumerate(batches)],
        "after": after,
        "names": [
            case["prompt"] + "".join(letters[int(next(drawn) * len(letters))] for _ in range(2))
            for _ in range(case["count"])
        ],
        "stream": {
            "shuffled": case["stream"]["documents"][::-1],
            "weights": {
                name: [[4294967291.0] * len(row) for row in rows]
                for name, rows in start["weights"].items()
            },
        },
    }


# ---------------------------------------------------------------- Templates


def test_every_template_is_tested():
    assert set(LANGUAGES) == set(PROGRAMS) == {path.stem for path in FILLS.glob("*.toml")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_new_port_declines_every_case(tmp_path, language):
    folder, program = build(tmp_path, language)
    for key in ("hot", "thousand-names"):
        assert ask(folder, program, CASES[key]) == {"id": key, "declined": "not written yet"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_template_reads_and_writes_everything(tmp_path, language):
    folder, program = build(tmp_path, language, edits_of(language, "echo"))
    case = busy_case()
    assert ask(folder, program, case) == echo(case)
    without = {key: value for key, value in case.items() if key != "stream"} | {"steps": 0}
    answer = ask(folder, program, without)
    assert set(answer) == {"id", "levels", "dtype", "names"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_level_that_is_named_but_not_written_is_one_line(tmp_path, language):
    folder, program = build(tmp_path, language, edits_of(language, "echo")[:1])
    status, said = ask(folder, program, CASES["hot"])
    assert status == 2
    assert said == "error: sample" + said.removeprefix("error: sample").splitlines()[0] + "\n"
    assert "is not written yet" in said


@pytest.mark.parametrize("language", ["c", "go", "javascript", "python"])
def test_a_filled_template_passes(tmp_path, monkeypatch, language):
    """All but Python have the level forward only; Python hands everything to 02."""
    folder, program = build(tmp_path, language, edits_of(language, "forward"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / NUMPY.name))
    some = ("first-steps", "last-step", "prompt", "ragged-batch")
    cases = [CASES[key] for key in some] if language == "python" else TINY
    replies = ports.run_program(program, cases, 600)
    assert not [f.line() for reply in replies for f in reply.findings if not f.passed]
    assert ports.passed(replies)
    levels = {level for reply in replies for level in reply.answer["levels"]}
    assert levels == (set(LEVELS) if language == "python" else {"forward"})


# ---------------------------------------------------------------- The bridge


def plain_port(tmp_path, body):
    """The bridge with a port in a line or two of Python, whose input is `words`."""
    (tmp_path / "port.py").write_text(f"import sys\nwords = sys.stdin.read().split()\n{body}\n")
    return f"{sys.executable} {porting.BRIDGE} {sys.executable} {tmp_path / 'port.py'}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print(1)", "its output must begin with a word, not '1'"),
        ("print('hello')", "'hello' is no part of an answer"),
        ("print('gradient:nothing 1')", "there is no weight 'nothing'"),
        ("print('logits 1 2 3')", "logits has 3 numbers: it must have 25"),
        ("print('loss')", "loss has 0 numbers: it must have 1"),
        ("print('loss 1', 'x')", "loss: 'x' is not a number"),
        ("print('name 7')", "name: '7' must be a whole number from 0 to 3"),
        ("print('shuffled 0')", "shuffled: this case does not ask for it"),
        ("sys.stdout.buffer.write(bytes([255]))", "its output is not text"),
    ],
)
def test_output_that_the_bridge_cannot_use_is_one_line(tmp_path, body, said):
    status, line = ask(tmp_path, plain_port(tmp_path, body), CASES["hot"])
    assert status == 2
    assert line.startswith("bridge: ")
    assert said in line
    assert line.count("\n") == 1


def test_a_port_behind_the_bridge_fails_as_it_would_without(tmp_path):
    case = CASES["hot"]
    program = plain_port(tmp_path, "print('error: no', file=sys.stderr); sys.exit(3)")
    assert ask(tmp_path, program, case) == (3, "error: no\n")
    program = plain_port(tmp_path, "import os; os.kill(os.getpid(), 11)")
    assert ask(tmp_path, program, case) == (-11, "")
    status, said = ask(tmp_path, f"{sys.executable} {porting.BRIDGE} ./no-such-port", case)
    assert (status, said) == (
        1,
        "bridge: cannot start './no-such-port': No such file or directory\n",
    )


def test_numbers_that_are_not_finite_reach_the_checks(tmp_path):
    body = "print('levels forward\\ndtype float64\\nloss -nan\\nlogits', 'inf ' * 25)"
    answer = ask(tmp_path, plain_port(tmp_path, body), CASES["hot"])
    (reply,) = ports.judge_all([ports.Reply(CASES["hot"], answer)])
    assert [f.check for f in reply.findings if not f.passed] == ["logits", "loss"]


def test_intermediate_values_pass_through_the_bridge(tmp_path):
    """A right answer, as words and numbers, comes out as JSON that passes every check."""
    case = CASES["ragged-batch"]
    right = case["answer"]

    def numbers(x):
        return " ".join(map(repr, checks.flat(x).tolist()))

    lines = ["levels forward gradients", "dtype float64", f"loss {right['loss']!r}"]
    lines.append("logits " + numbers(right["logits"]))
    lines += [f"gradient:{name} {numbers(rows)}" for name, rows in right["gradients"].items()]
    for inner in right["intermediates"]:
        lines.append(f"value:{inner['name']} {numbers(inner['value'])}")
        lines.append(f"slope:{inner['name']} {numbers(inner['gradient'])}")
    (tmp_path / "answer.txt").write_text("\n".join(lines))
    answer = ask(tmp_path, plain_port(tmp_path, "print(open('answer.txt').read())"), case)
    (reply,) = ports.judge_all([ports.Reply(case, answer)])
    assert [(f.check, f.worst) for f in reply.findings] == [
        (check, 0.0) for check in ("inner", "logits", "loss", "inner grads", "grads")
    ]


def test_without_a_program_the_bridge_prints_the_case():
    path = vectors.FOLDER / "first-steps.json"
    command = [sys.executable, str(porting.BRIDGE)]
    done = subprocess.run(command, stdin=path.open(), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "n_embd 4"
    assert lines[-2:] == ["seed 1 1", "shuffle 7"]


# ---------------------------------------------------------------- The command


@pytest.fixture
def lab(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Lab(monkeypatch, capsys)


def test_port_new_writes_a_folder_and_says_how_to_go_on(lab, tmp_path):
    assert lab("port", "new", "C++") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["port-cpp"]
    files = sorted(p.name for p in (tmp_path / "port-cpp").iterdir())
    assert files == ["README.md", "bridge.py", "port.cpp"]
    assert 'uv run microgpt verify --program "python3 bridge.py ./port"' in lab.out
    assert lab("port", "new", "go", "--out", "deep") == 0
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"README.md", "go.mod", "port.go"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new"], "which language? c, cpp, go,"),
        (["new", "pyton"], "did you mean python?"),
        (["new", "kotlin"], "there is c, cpp, go,"),
        (["old", "c"], "it must be port new LANGUAGE"),
        (["new", "c", "--out", "no/such/folder"], "cannot write 'no/such/folder'"),
    ],
)
def test_port_new_refuses_what_it_cannot_do(lab, tmp_path, arguments, said):
    assert said in lab.refuses("port", *arguments)
    assert not list(tmp_path.iterdir())


def test_port_new_leaves_an_existing_folder_alone(lab, tmp_path):
    (tmp_path / "mine").mkdir()
    assert "exists: choose another folder" in lab.refuses("port", "new", "c", "--out", "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_port_new_writes_all_or_nothing(lab, tmp_path, monkeypatch):
    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(porting.shutil, "copyfile", fail)
    assert "No space left on device" in lab.refuses("port", "new", "c")
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_built_in_a_template_is_not_copied(tmp_path, monkeypatch):
    shutil.copytree(porting.TEMPLATES, tmp_path / "ports")
    (tmp_path / "ports" / "c" / "port").write_text("built")
    monkeypatch.setattr(porting, "TEMPLATES", tmp_path / "ports")
    assert "port" not in {path.name for path in porting.template_files(porting.template_of("c"))}


def test_the_page_shows_what_the_command_prints(lab):
    page = (ROOT / "docs" / "porting.md").read_text("utf-8")
    lab("port", "new", "c")
    assert f"```\n$ uv run microgpt port new c\n{lab.out}```" in page
    shown = re.findall(r"^\| .* \| `microgpt port new (\w+)` \| (JSON|words)", page, re.MULTILINE)
    reads = {
        language: porting.template_files(porting.template_of(language)) for language, _ in shown
    }
    assert sorted(reads) == LANGUAGES
    assert all((how == "words") == (porting.BRIDGE in reads[name]) for name, how in shown)
