"""`microgpt show`: what the model sees in a name, and how its letters come to lie.

Attention is not part of the contract: it is computed again from the weights with 01's own
functions, so that no version needs more than it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from microgpt_lab.base import plots, trace
from microgpt_lab.runs import checkpoints, run_folder
from microgpt_lab.runs.checkpoints import Checkpoint, Plan

END = "·"  # BOS, in text and pictures
SHADES = " ░▒▓█"  # from nothing to all, also where there is no colour


@dataclass(frozen=True)
class Sight:
    """What passes through the model when it reads a name."""

    letters: list[str]  # what may follow, BOS last
    inputs: list[int]  # (T,) tokens
    targets: list[int]  # (T,) what did follow each
    probabilities: np.ndarray  # (T, V) of what may follow, at temperature 1
    attention: np.ndarray  # (layers, heads, T, T), row t is what position t looks at
    beyond: int = 0  # characters that do not fit the block

    @property
    def losses(self) -> np.ndarray:
        """(T,) nats."""
        p = self.probabilities[np.arange(len(self.targets)), self.targets]
        losses: np.ndarray = -np.log(p)
        return losses


def look(checkpoint: Checkpoint, name: str) -> Sight:
    """Read a name with 01's functions. Raises InputError for letters that the data lack."""
    plan, tokenizer = checkpoint.plan, checkpoint.plan.tokenizer
    if unknown := sorted(set(name) - set(tokenizer.letters)):
        raise InputError(f"name {name!r} has {unknown}: no document has these letters")
    if not name:
        raise InputError("name is empty: give one, such as anna")
    tokens = tokenizer.encode(name)[: plan.config.block_size + 1]
    state = microgpt.create(plan.config, checkpoint.snapshot)
    seen: dict[str, list[Any]] = {}
    with trace.recording(state, lambda: seen):
        z = np.array(microgpt.logits(state, tokens[:-1]))
    e = np.exp(z - z.max(axis=1, keepdims=True))
    T, layers = len(z), plan.config.n_layer
    attention = np.zeros((layers, plan.config.n_head, T, T))
    for layer in range(layers):
        for t, heads in enumerate(trace.numbers(seen[f"layer{layer}.attention"], "data")):
            attention[layer, :, t, : t + 1] = heads
    return Sight(
        [*tokenizer.letters, END], tokens[:-1], tokens[1:],
        e / e.sum(axis=1, keepdims=True), attention, len(name) + 1 - T,
    )  # fmt: skip


# ---------------------------------------------------------------- In the terminal


def show(sight: Sight, console: Console) -> None:
    """What may follow at each position, and what each head looks at."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("after")
    table.add_column("came")
    table.add_column("with", justify="right")
    table.add_column("likeliest", overflow="crop", no_wrap=True)
    text = "".join(sight.letters[token] for token in sight.inputs)
    room = max(1, min(7, (console.width - max(5, len(text)) - 15) // 8))
    for t, target in enumerate(sight.targets):
        row = sight.probabilities[t]
        best = np.argsort(-row, kind="stable")[:room]
        likeliest = "  ".join(f"{sight.letters[i]} {row[i]:4.0%}" for i in best)
        table.add_row(text[: t + 1], sight.letters[target], f"{row[target]:.1%}", likeliest)
    console.print(table)
    total = float(sight.losses.sum())
    console.print(
        f"\n{END} start and end; all of it {np.exp(-total):.2e}, "
        f"loss {sight.losses.mean():.4f} nats a character\n",
    )
    if sight.beyond:
        console.print(f"{sight.beyond} characters do not fit the block and are not seen\n")
    for layer, heads in enumerate(sight.attention):
        console.print(f"attention, layer {layer}: each row looks at the columns before it\n")
        fits = len(heads) * (2 * len(text) + 5) - 3 <= console.width
        for line in beside([grid(head, text, 2 if fits else 1) for head in heads], console.width):
            console.print(line, no_wrap=True, overflow="crop")
    steps = [f"{shade} {100 * (i / len(SHADES)) ** 2:.0f}%…" for i, shade in enumerate(SHADES)]
    console.print("  ".join(steps[1:]))


def grid(head: np.ndarray, text: str, wide: int) -> list[str]:
    """A head's attention in shades, `wide` signs a cell; a shade for each step of the root, so
    that small weights show beside large ones."""
    lines = ["  " + "".join(letter.ljust(wide) for letter in text)]
    for letter, row in zip(text, head):
        shades = [SHADES[min(len(SHADES) - 1, int(p**0.5 * len(SHADES)))] for p in row]
        lines.append(f"{letter} " + "".join(shade * wide for shade in shades))
    return lines


def beside(grids: Sequence[list[str]], width: int) -> list[str]:
    """Grids side by side, as many in a row as the width has room for."""
    wide = len(grids[0][0]) + 3
    room = max(1, (width + 3) // wide)
    lines = []
    for first in range(0, len(grids), room):
        some = grids[first : first + room]
        heads = [f"head {first + i}" for i in range(len(some))]
        for parts in [heads, *zip(*some)]:
            lines.append("".join(part.ljust(wide) for part in parts).rstrip())
        lines.append("")
    return lines


# ---------------------------------------------------------------- As pictures


def picture(sight: Sight, title: str, path: Path) -> None:
    """Probabilities above, with what came marked; below, attention, a row a layer."""
    layers, heads, T, _ = sight.attention.shape
    text = [sight.letters[token] for token in sight.inputs]
    figure = Figure(figsize=(9, 1.6 + 0.28 * T + 2.4 * layers))
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2 + 0.28 * T, 2.4 * layers])
    above, below = parts
    axes = above.subplots()
    # of the root, so that small probabilities show beside large ones
    axes.imshow(np.sqrt(sight.probabilities), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(sight.letters)), sight.letters)
    axes.set_yticks(range(T), ["".join(text[: t + 1]) for t in range(T)])
    for t, target in enumerate(sight.targets):
        p = sight.probabilities[t, target]
        box = {"fill": False, "edgecolor": plots.COLOURS[1], "lw": 1.5}
        axes.add_patch(rectangle(target, t, box))
        axes.text(
            target, t, f"{100 * p:.0f}", ha="center", va="center", fontsize=7,
            color="white" if p > 0.4 else "black",
        )  # fmt: skip
    axes.grid(False)
    axes.set(title=f"{title}: what may follow; framed: what came, per cent")
    grids = below.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axes = grids[layer, head]
            axes.imshow(sight.attention[layer, head], cmap="Purples", vmin=0, vmax=1)
            axes.set_xticks(range(T), text, fontsize=8)
            axes.set_yticks(range(T), text, fontsize=8)
            axes.grid(False)
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
    plots.save(figure, path)


def rectangle(x: int, y: int, how: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, **how)


# ---------------------------------------------------------------- Embeddings


@dataclass(frozen=True)
class Paths:
    """Where the letters' embeddings lie in two dimensions, checkpoint by checkpoint."""

    letters: list[str]
    steps: list[int]
    points: np.ndarray  # (checkpoints, V, 2)
    explained: np.ndarray  # (2,) shares of the last checkpoint's variance


def embeddings(folder: Path) -> Paths:
    """The two axes along which the last checkpoint's embeddings differ most (PCA), and all
    checkpoints' embeddings along these."""
    found = [checkpoints.read(path) for path in run_folder.saved(folder)]
    if not found:
        raise InputError(f"{folder} has no checkpoints")
    plan: Plan = found[-1].plan
    if plan.config.n_embd < 2:
        raise InputError("n_embd is 1: a picture takes 2 dimensions")
    tables = np.array([np.asarray(c.snapshot.weights["wte"], np.float64) for c in found])
    centred = tables[-1] - tables[-1].mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    points = (tables - tables[-1].mean(axis=0)) @ axes[:2].T
    explained = sizes[:2] ** 2 / max(float((sizes**2).sum()), 1e-300)
    return Paths([*plan.letters, END], [c.step for c in found], points, explained)


def show_embeddings(paths: Paths, console: Console) -> None:
    """The letters on a plane of characters, as they lie in the end."""
    width, height = min(console.width - 2, 78), 20
    last = paths.points[-1]
    low, high = last.min(axis=0), last.max(axis=0)
    cells = (last - low) / np.where(high > low, high - low, 1)
    plane = [[" "] * width for _ in range(height)]
    for letter, (x, y) in zip(paths.letters, cells):
        row, column = round((1 - y) * (height - 1)), round(x * (width - 1))
        while column < width - 1 and plane[row][column] != " ":
            column += 1  # beside, where two lie on one place
        plane[row][column] = letter
    share = ", ".join(f"{x:.0%}" for x in paths.explained)
    console.print(
        f"wte after step {paths.steps[-1]:,}, along its two main axes ({share} of the variance)\n",
    )
    for line in plane:
        console.print("".join(line).rstrip())


def picture_embeddings(paths: Paths, title: str, path: Path) -> None:
    """Each letter's way from the first checkpoint to the last."""
    figure = Figure(figsize=(7.2, 6))
    axes = figure.subplots()
    for i, letter in enumerate(paths.letters):
        x, y = paths.points[:, i].T
        colour = plots.COLOURS[1 if letter in "aeiouy" else 0 if letter != END else 2]
        axes.plot(x, y, color=colour, lw=0.8, alpha=0.35)
        axes.text(
            x[-1], y[-1], "BOS" if letter == END else letter, color=colour, fontsize=13,
            weight="bold",
            ha="center", va="center",
        )  # fmt: skip
    share = [f"{x:.0%}" for x in paths.explained]
    axes.set(
        title=f"{title}: wte from step {paths.steps[0]:,} to {paths.steps[-1]:,}",
        xlabel=f"first axis, {share[0]} of the variance",
        ylabel=f"second axis, {share[1]}",
    )
    plots.save(figure, path)
