"""Options of create(): from the texts of the command line to values, and what is refused."""

from microgpt import RECIPES, InputError

import pytest
from microgpt_lab.base import options, versions

from lab_helpers import NUMPY


class Module:
    """A version's module that has an option of each kind."""

    def create(
        config, snapshot, dtype="float32", device="cpu",
        compile: bool = False, threads: int = 1, share: float = 0.5,
    ):  # fmt: skip
        pass


VERSION = versions.find()[NUMPY]


def given(*texts, dtype=None, device=None):
    return options.for_create(VERSION, Module, dtype, device, texts)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("compile", {"compile": True}),
        ("no-compile", {"compile": False}),
        ("threads=3", {"threads": 3}),
        ("share=0.25", {"share": 0.25}),
    ],
)
def test_a_text_becomes_a_value_of_the_annotated_type(text, value):
    assert given(text) == value


def test_the_last_of_several_counts_and_nothing_else_is_given():
    assert given() == {}
    assert given("compile", "no-compile", "threads=2") == {"compile": False, "threads": 2}
    assert given(dtype="float64", device="cpu") == {"dtype": "float64", "device": "cpu"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("compile=yes", "takes no value, write --option compile or --option no-compile"),
        ("no-compile=1", "takes no value, write --option compile or --option no-compile"),
        ("threads", "option 'threads' has no value: write --option threads=…"),
        ("threads=many", "threads is 'many': it must be a number (int)"),
        ("wurst", "has no option 'wurst': it has dtype, device, compile, threads, share"),
        ("no-threads", "has no option 'no_threads'"),
        ("dtype=float16", "dtype 'float16': 02_numpy_manual_backprop has float32, float64"),
    ],
)
def test_what_is_no_option_or_no_value_is_refused(text, says):
    with pytest.raises(InputError) as refused:
        given(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_version_s_options_are_kept_where_they_are_known():
    other = {"dtype": "float64", "threads": 2, "sharded": True}
    assert options.carried_over(VERSION, Module, other) == {"dtype": "float64", "threads": 2}
    assert options.carried_over(VERSION, Module, {"dtype": "bfloat16"}) == {}


def test_recipes_are_those_of_01():
    assert options.recipe("gist", {"steps": None}) == RECIPES["gist"]
    assert options.recipe("seed", {"zero_init": False}).zero_init is False
