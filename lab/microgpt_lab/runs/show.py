"""`microgpt show`: what the model computes for a name, or how the embeddings of the letters moved
during training; as text and as a picture.

No version has a function that returns attention weights. So 01's functions read the name, with the
checkpoint's weights, whichever version trained them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import microgpt
from microgpt import InputError

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.table import Table

from microgpt_lab.base import plots, trace
from microgpt_lab.runs import checkpoints, run_folder
from microgpt_lab.runs.checkpoints import Checkpoint

# T positions, V vocabulary

END = "·"  # how BOS is shown
SHADES = " ░▒▓█"  # for weights from 0 to 1; also readable where a terminal has no colours


@dataclass(frozen=True)
class Reading:
    """What the model computes when it reads a name."""

    letters: list[str]  # (V,) the text of each token, BOS last
    inputs: list[int]  # (T,) tokens
    targets: list[int]  # (T,) the token after each input
    probabilities: np.ndarray  # (T, V) of the next token, at temperature 1
    attention: np.ndarray  # (layers, heads, T, T): row t has the weights of position t
    beyond: int = 0  # how many characters are beyond the block

    @property
    def losses(self) -> np.ndarray:
        """The loss at each position, in nats. (T,)"""
        p = self.probabilities[np.arange(len(self.targets)), self.targets]
        losses: np.ndarray = -np.log(p)
        return losses


def read_name(checkpoint: Checkpoint, name: str) -> Reading:
    """Let 01 read a name with a checkpoint's weights. Raises InputError for an empty name, and for
    a letter that no document has."""
    plan, tokenizer = checkpoint.plan, checkpoint.plan.tokenizer
    if unknown := sorted(set(name) - set(tokenizer.letters)):
        raise InputError(f"name {name!r} has {unknown}: no document has these letters")
    if not name:
        raise InputError("name is empty: give one, such as anna")
    tokens = tokenizer.encode(name)[: plan.config.block_size + 1]
    state = microgpt.create(plan.config, checkpoint.snapshot)
    seen: dict[str, list[Any]] = {}
    with trace.recording(state, lambda: seen):
        z = np.array(microgpt.logits(state, tokens[:-1]))  # (T, V)
    # softmax is shift-invariant: subtracting the maximum only prevents overflow
    e = np.exp(z - z.max(axis=1, keepdims=True))
    T, layers = len(z), plan.config.n_layer
    attention = np.zeros((layers, plan.config.n_head, T, T))
    for layer in range(layers):
        for t, heads in enumerate(trace.numbers(seen[f"layer{layer}.attention"], "data")):
            attention[layer, :, t, : t + 1] = heads
    return Reading(
        [*tokenizer.letters, END], tokens[:-1], tokens[1:],
        e / e.sum(axis=1, keepdims=True), attention, len(name) + 1 - T,
    )  # fmt: skip


# ---------------------------------------------------------------- A reading as text


def show_reading(reading: Reading, console: Console) -> None:
    """Print the most likely next letters at each position, then each head's attention."""
    text = "".join(reading.letters[token] for token in reading.inputs)
    console.print(probability_table(reading, text, console.width))
    total = float(reading.losses.sum())
    console.print(
        f"\n{END} is the start and the end. Probability of the whole name {np.exp(-total):.2e}, "
        f"loss {reading.losses.mean():.4f} nats a character\n",
    )
    if reading.beyond:
        console.print(f"{reading.beyond} characters are beyond the block: the model ignores them\n")
    for layer, heads in enumerate(reading.attention):
        console.print(
            f"attention, layer {layer}: how much each row's position attends to each column\n"
        )
        fits = len(heads) * (2 * len(text) + 5) - 3 <= console.width
        grids = [attention_grid(head, text, 2 if fits else 1) for head in heads]
        for line in grids_in_rows(grids, console.width):
            console.print(line, no_wrap=True, overflow="crop")
    steps = [f"{shade} {100 * (i / len(SHADES)) ** 2:.0f}%…" for i, shade in enumerate(SHADES)]
    console.print("  ".join(steps[1:]))


def probability_table(reading: Reading, text: str, width: int) -> Table:
    """A row for each position: the next letter, its probability, the most likely letters."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("after")
    table.add_column("next")
    table.add_column("p", justify="right")
    table.add_column("most likely", overflow="crop", no_wrap=True)
    shown = max(1, min(7, (width - max(5, len(text)) - 15) // 8))
    for t, target in enumerate(reading.targets):
        row = reading.probabilities[t]
        best = np.argsort(-row, kind="stable")[:shown]
        most_likely = "  ".join(f"{reading.letters[i]} {row[i]:4.0%}" for i in best)
        table.add_row(text[: t + 1], reading.letters[target], f"{row[target]:.1%}", most_likely)
    return table


def attention_grid(head: np.ndarray, text: str, wide: int) -> list[str]:
    """A head's attention as lines of text, `wide` characters for each weight. The shade shows the
    square root of the weight, so that small weights are visible too."""
    lines = ["  " + "".join(letter.ljust(wide) for letter in text)]
    for letter, row in zip(text, head):
        shades = [SHADES[min(len(SHADES) - 1, int(p**0.5 * len(SHADES)))] for p in row]
        lines.append(f"{letter} " + "".join(shade * wide for shade in shades))
    return lines


def grids_in_rows(grids: Sequence[list[str]], width: int) -> list[str]:
    """The lines of the heads' grids, as many side by side as fit the width."""
    wide = len(grids[0][0]) + 3
    in_a_row = max(1, (width + 3) // wide)
    lines = []
    for first in range(0, len(grids), in_a_row):
        some = grids[first : first + in_a_row]
        heads = [f"head {first + i}" for i in range(len(some))]
        for parts in [heads, *zip(*some)]:
            lines.append("".join(part.ljust(wide) for part in parts).rstrip())
        lines.append("")
    return lines


# ---------------------------------------------------------------- A reading as a picture


def draw_reading(reading: Reading, title: str, path: Path) -> None:
    """Draw the probabilities of the next letters above, and attention below, a row for each layer.
    Raises InputError for an unknown suffix."""
    layers, heads, T, _ = reading.attention.shape
    text = [reading.letters[token] for token in reading.inputs]
    figure = Figure(figsize=(9, 1.6 + 0.28 * T + 2.4 * layers))
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2 + 0.28 * T, 2.4 * layers])
    above, below = parts
    axes = above.subplots()
    draw_probabilities(axes, reading, text)
    axes.set(title=f"{title}: probabilities of the next letter; framed: the actual one, per cent")
    grids = below.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axes = grids[layer, head]
            axes.imshow(reading.attention[layer, head], cmap="Purples", vmin=0, vmax=1)
            axes.set_xticks(range(T), text, fontsize=8)
            axes.set_yticks(range(T), text, fontsize=8)
            axes.grid(False)
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
    plots.save(figure, path)


def draw_probabilities(axes: Any, reading: Reading, text: Sequence[str]) -> None:
    """Draw a row for each position; the actual next letter has a frame and its probability."""
    # the square root makes small probabilities visible beside large ones
    axes.imshow(np.sqrt(reading.probabilities), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(reading.letters)), reading.letters)
    axes.set_yticks(range(len(text)), ["".join(text[: t + 1]) for t in range(len(text))])
    for t, target in enumerate(reading.targets):
        p = reading.probabilities[t, target]
        corner = (target - 0.5, t - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=plots.COLOURS[1], lw=1.5))
        axes.text(
            target, t, f"{100 * p:.0f}", ha="center", va="center", fontsize=7,
            color="white" if p > 0.4 else "black",
        )  # fmt: skip
    axes.grid(False)


# ---------------------------------------------------------------- Embeddings


@dataclass(frozen=True)
class EmbeddingPaths:
    """The letters' embeddings in two dimensions, at each checkpoint of a run."""

    letters: list[str]  # (V,)
    steps: list[int]  # of the checkpoints
    points: np.ndarray  # (checkpoints, V, 2)
    explained: np.ndarray  # (2,) share of the last checkpoint's variance along each axis


def embedding_paths(folder: Path) -> EmbeddingPaths:
    """Project the embeddings of all checkpoints onto the two axes along which those of the last
    checkpoint vary most (principal component analysis). Raises InputError."""
    saved = run_folder.saved_checkpoints(folder)
    found = [checkpoints.read_checkpoint(path) for path in saved]
    if not found:
        raise InputError(f"{folder} has no checkpoints")
    plan = found[-1].plan
    if plan.config.n_embd < 2:
        raise InputError("n_embd is 1: a picture of the embeddings needs at least 2")
    tables = np.array([np.asarray(c.snapshot.weights["wte"], np.float64) for c in found])
    mean = tables[-1].mean(axis=0)
    _, sizes, axes = np.linalg.svd(tables[-1] - mean, full_matrices=False)
    points = (tables - mean) @ axes[:2].T  # (checkpoints, V, C) -> (checkpoints, V, 2)
    explained = sizes[:2] ** 2 / max(float((sizes**2).sum()), 1e-300)
    return EmbeddingPaths([*plan.letters, END], [c.step for c in found], points, explained)


def show_embeddings(paths: EmbeddingPaths, console: Console) -> None:
    """Print the letters in a plane of characters, at their places in the last checkpoint."""
    width, height = min(console.width - 2, 78), 20
    last = paths.points[-1]
    low, high = last.min(axis=0), last.max(axis=0)
    cells = (last - low) / np.where(high > low, high - low, 1)
    plane = [[" "] * width for _ in range(height)]
    for letter, (x, y) in zip(paths.letters, cells):
        row, column = round((1 - y) * (height - 1)), round(x * (width - 1))
        while column < width - 1 and plane[row][column] != " ":
            column += 1  # the place is taken: use the next free one to the right
        plane[row][column] = letter
    share = ", ".join(f"{x:.0%}" for x in paths.explained)
    console.print(
        f"wte after step {paths.steps[-1]:,}, along its two main axes ({share} of the variance)\n",
    )
    for line in plane:
        console.print("".join(line).rstrip())


def draw_embeddings(paths: EmbeddingPaths, title: str, path: Path) -> None:
    """Draw each letter's path from the first checkpoint to the last; vowels have another colour.
    Raises InputError for an unknown suffix."""
    figure = Figure(figsize=(7.2, 6))
    axes = figure.subplots()
    for i, letter in enumerate(paths.letters):
        x, y = paths.points[:, i].T
        colour = plots.COLOURS[1 if letter in "aeiouy" else 0 if letter != END else 2]
        axes.plot(x, y, color=colour, lw=0.8, alpha=0.35)
        axes.text(
            x[-1], y[-1], "BOS" if letter == END else letter, color=colour, fontsize=13,
            weight="bold", ha="center", va="center",
        )  # fmt: skip
    share = [f"{x:.0%}" for x in paths.explained]
    axes.set(
        title=f"{title}: wte from step {paths.steps[0]:,} to {paths.steps[-1]:,}",
        xlabel=f"first axis, {share[0]} of the variance",
        ylabel=f"second axis, {share[1]}",
    )
    plots.save(figure, path)
