"""Record every named value of 01's forward pass, without adding a line to 01 itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import microgpt

# What a product with each of these weights is called in the record.
PRODUCTS = {
    "attn_wq": "q",
    "attn_wk": "k",
    "attn_wv": "v",
    "attn_wo": "attn_out",
    "mlp_fc1": "pre_activation",
    "mlp_fc2": "mlp_out",
}


def numbers(values: Any, what: str) -> Any:
    """Nested lists of Values -> the same lists of one attribute: "data" or "grad"."""
    if isinstance(values, microgpt.Value):
        return getattr(values, what)
    return [numbers(value, what) for value in values]


@contextmanager
def patched(**functions: Callable[..., Any]) -> Iterator[None]:
    """Replace functions of 01 inside a `with` block, and restore them after it."""
    before = {name: getattr(microgpt, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(microgpt, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(microgpt, name, function)


class Recorder:
    """01's functions, each with the same result as before, which also record that result.

    `document()` returns the record of the document that is being computed: a dict from a
    value's name to its rows, one for each position. Names are added in order of execution.
    `scores` and `attention` have one row for each head of a position.
    """

    def __init__(self, state: Any, document: Callable[[], dict[str, list[Any]]]):
        self.document = document
        self.n_layer = state.config.n_layer
        self.weight_names = {id(rows): name for name, rows in state.w.items()}
        self.replaced = ("rmsnorm", "linear", "attention", "softmax", "relu")
        self.original = {name: getattr(microgpt, name) for name in self.replaced}
        self.norms = 0  # norms computed so far at this position
        self.layer = 0

    def note(self, name: str, row: Any) -> None:
        self.document().setdefault(name, []).append(row)

    def rmsnorm(self, x: Any) -> Any:
        # Norm 0 follows the embeddings; then each layer has two, before attention and MLP.
        norm, self.layer = self.norms, (self.norms - 1) // 2
        self.norms = (norm + 1) % (1 + 2 * self.n_layer)
        layer = f"layer{self.layer}"
        if norm == 0:
            before, after = "embedding", "embedding_norm"
        elif norm % 2:  # its input is the output of the layer before
            before, after = f"layer{self.layer - 1}.mlp_residual", f"{layer}.attn_norm"
        else:
            before, after = f"{layer}.attn_residual", f"{layer}.mlp_norm"
        if norm != 1:  # the input of the first layer is recorded as embedding_norm already
            self.note(before, x)
        y = self.original["rmsnorm"](x)
        self.note(after, y)
        return y

    def linear(self, x: Any, w: Any) -> Any:
        name = self.weight_names.get(id(w))
        if name == "lm_head":
            self.note(f"layer{self.n_layer - 1}.mlp_residual", x)
        y = self.original["linear"](x, w)
        if name:
            layer, _, short = name.rpartition(".")
            self.note(f"{layer}.{PRODUCTS[short]}" if layer else "logits", y)
            if short == "mlp_fc1":
                self.note(f"{layer}.activation", [])
        return y

    def attention(self, q: Any, *rest: Any) -> Any:
        self.note(f"layer{self.layer}.scores", [])
        self.note(f"layer{self.layer}.attention", [])
        y = self.original["attention"](q, *rest)
        self.note(f"layer{self.layer}.heads", y)
        return y

    def softmax(self, x: Any) -> Any:
        y = self.original["softmax"](x)
        self.document()[f"layer{self.layer}.scores"][-1].append(x)
        self.document()[f"layer{self.layer}.attention"][-1].append(y)
        return y

    def relu(self, x: Any, power: int) -> Any:
        y = self.original["relu"](x, power)
        self.document()[f"layer{self.layer}.activation"][-1].append(y)
        return y


@contextmanager
def recording(state: Any, document: Callable[[], dict[str, list[Any]]]) -> Iterator[None]:
    """Record the forward passes of 01 inside a `with` block; see Recorder."""
    recorder = Recorder(state, document)
    with patched(**{name: getattr(recorder, name) for name in recorder.replaced}):
        yield
