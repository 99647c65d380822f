"""--help fits a terminal, and the lab spells its options as the versions' programs do."""

import argparse
import sys

import microgpt

import pytest
import tyro
from microgpt_lab.base import options
from microgpt_lab.commands import arguments, main

import lab_helpers

COMMANDS = ["train", "compare", "sample"]  # those that have options of the programs
# nothing is shuffled and no weight is drawn, so its --seed has a meaning of its own
OWN_MEANING = {("sample", "--seed")}


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_help_fits_a_terminal_and_names_every_option(lab, command):
    assert lab(*[command][: bool(command)], "--help") == 0
    assert max(map(len, lab.out.splitlines())) <= 80
    assert "{None}" not in lab.out
    assert "default: None" not in lab.out


def test_without_a_command_it_compares():
    assert isinstance(main.parse([]), main.COMMANDS["compare"])
    assert main.parse(["--seed", "7"]) == main.COMMANDS["compare"](seed=7)


# ---------------------------------------------------------------- One spelling


class Seen(Exception):
    """Carries a program's parser out of 01's parse_options."""


def program_parser(module, monkeypatch):
    """The parser of a version's program."""

    def stop(parser, *_):
        raise Seen(parser)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Seen) as seen:
            microgpt.parse_options(module, "seed")
    return seen.value.args[0]


@pytest.mark.filterwarnings("ignore:get_parser")
def lab_parser(command):
    return tyro.extras.get_parser(main.COMMANDS[command], config=(tyro.conf.FlagCreatePairsOff,))


def helps(parser):
    """{option: its help}, in small letters and without the lab's full stops."""
    found = {}
    for action in parser._actions:
        text = (action.help or "").strip().lower().replace(". (", " (").rstrip(".")
        found |= dict.fromkeys(action.option_strings, text)
    return found


@pytest.mark.filterwarnings("ignore:get_parser")
@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_of_the_programs_has_the_same_meaning_here(monkeypatch, command):
    programs, lab = helps(program_parser(microgpt, monkeypatch)), helps(lab_parser(command))
    shared = [name for name in programs if name in lab and (command, name) not in OWN_MEANING]
    assert len(shared) >= 4
    for name in shared:
        meaning, _, _ = programs[name].partition("default: ")
        if meaning and not name.startswith("--no-"):
            assert lab[name].partition(" (")[0] == programs[name].partition(" (")[0]


@pytest.mark.filterwarnings("ignore:get_parser")
@pytest.mark.parametrize("command", ["train", "compare"])
def test_every_number_of_a_recipe_is_spelled_and_explained_as_in_the_programs(monkeypatch, command):
    programs, lab = helps(program_parser(microgpt, monkeypatch)), helps(lab_parser(command))
    for name, option in microgpt.OPTIONS.items():
        flag = "--" + name.replace("_", "-")
        assert lab[flag] == programs[flag]
        assert option.meaning.lower() in lab[flag]
        assert microgpt.in_recipes(name).lower() in lab[flag]
    assert {name for name in programs if name.startswith("--no-")} <= lab.keys()


@pytest.mark.parametrize("version", lab_helpers.HERE, ids=lambda version: version.name)
def test_an_option_of_create_is_the_same_word_for_program_and_lab(monkeypatch, version):
    """--compile of the program is --option compile here, --threads 3 is --option threads=3."""
    module = lab_helpers.module_of(version.name)
    for name, parameter in options.parameters(module).items():
        if name in ("dtype", "device"):
            continue
        flag = name.replace("_", "-")
        if parameter.annotation is bool:
            spellings = {f"--{flag}": flag, f"--no-{flag}": f"no-{flag}"}
        else:
            spellings = {f"--{flag}=3": f"{flag}=3"}
        for program, lab in spellings.items():
            monkeypatch.setattr(sys, "argv", ["main.py", program])
            _, _, own = microgpt.parse_options(module, "seed")
            given = options.for_create(version, module, None, None, [lab])
            assert given == {name: own[name]}


@pytest.mark.parametrize("command", ["train 02", "compare"])
@pytest.mark.parametrize(
    ("flags", "value"), [("", None), ("--zero-init", True), ("--no-zero-init", False)]
)
def test_a_number_that_is_yes_or_no_has_two_flags(command, flags, value):
    numbers = main.parse([*command.split(), *flags.split()]).numbers
    assert arguments.given_numbers(numbers)["zero_init"] is value


@pytest.mark.parametrize("command", ["train 02", "compare 02"])
def test_both_flags_at_once_are_refused(lab, command):
    said = lab.refuses(*command.split(), "--zero-init", "--no-zero-init")
    assert "--zero-init and --no-zero-init contradict each other" in said


def test_a_flag_reaches_the_recipe():
    gist = arguments.given_numbers(main.parse(["compare", "--zero-init"]).numbers)
    assert options.recipe("gist", gist).zero_init is True
    seed = arguments.given_numbers(main.parse(["compare", "--no-zero-init"]).numbers)
    assert options.recipe("seed", seed).zero_init is False
    default = arguments.given_numbers(main.parse(["compare"]).numbers)
    assert options.recipe("gist", default) == microgpt.RECIPES["gist"]
