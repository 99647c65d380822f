"""01's forward pass, recorded: every named value, without a line of its own in 01."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import microgpt


def numbers(values: Any, what: str) -> Any:
    """Nested lists of Values -> nested lists of one of their numbers."""
    if isinstance(values, microgpt.Value):
        return getattr(values, what)
    return [numbers(value, what) for value in values]


@contextmanager
def patched(**functions: Callable[..., Any]) -> Iterator[None]:
    """Put functions in the place of 01's for a while."""
    before = {name: getattr(microgpt, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(microgpt, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(microgpt, name, function)


@contextmanager
def recording(state: Any, document: Callable[[], dict[str, list[Any]]]) -> Iterator[None]:
    """Note what passes between 01's functions, under a name each, a row a position.

    The names stand in order of execution. `scores` and `attention` have a row a head.
    """
    weights = {id(rows): name for name, rows in state.w.items()}
    renamed = {"attn_wo": "attn_out", "mlp_fc1": "pre_activation", "mlp_fc2": "mlp_out"}
    renamed |= {"attn_wq": "q", "attn_wk": "k", "attn_wv": "v"}
    inner = {
        name: getattr(microgpt, name)
        for name in ("rmsnorm", "linear", "attention", "softmax", "relu")
    }
    now = {"norms": 0, "layer": 0}

    def note(name: str, row: Any) -> None:
        document().setdefault(name, []).append(row)

    def rmsnorm(x: Any) -> Any:
        norm, now["layer"] = now["norms"], (now["norms"] - 1) // 2
        now["norms"] = (norm + 1) % (1 + 2 * state.config.n_layer)
        layer = f"layer{now['layer']}"
        if norm == 0:
            before, after = "embedding", "embedding_norm"
        elif norm % 2:  # its input is what the layer before left
            before, after = (
                f"layer{now['layer'] - 1}.mlp_residual",
                f"{layer}.attn_norm",
            )
        else:
            before, after = f"{layer}.attn_residual", f"{layer}.mlp_norm"
        if norm != 1:  # what the first layer starts from is embedding_norm
            note(before, x)
        y = inner["rmsnorm"](x)
        note(after, y)
        return y

    def linear(x: Any, w: Any) -> Any:
        name = weights.get(id(w))
        if name == "lm_head":
            note(f"layer{state.config.n_layer - 1}.mlp_residual", x)
        y = inner["linear"](x, w)
        if name:
            layer, _, short = name.rpartition(".")
            note(f"{layer}.{renamed[short]}" if layer else "logits", y)
            if short == "mlp_fc1":
                note(f"{layer}.activation", [])
        return y

    def attention(q: Any, *rest: Any) -> Any:
        note(f"layer{now['layer']}.scores", [])
        note(f"layer{now['layer']}.attention", [])
        y = inner["attention"](q, *rest)
        note(f"layer{now['layer']}.heads", y)
        return y

    def softmax(x: Any) -> Any:
        y = inner["softmax"](x)
        document()[f"layer{now['layer']}.scores"][-1].append(x)
        document()[f"layer{now['layer']}.attention"][-1].append(y)
        return y

    def relu(x: Any, power: int) -> Any:
        y = inner["relu"](x, power)
        document()[f"layer{now['layer']}.activation"][-1].append(y)
        return y

    with patched(rmsnorm=rmsnorm, linear=linear, attention=attention, softmax=softmax, relu=relu):
        yield
