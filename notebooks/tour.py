"""From tokens to names: a tour with the NumPy version.

uv run --all-packages marimo edit notebooks/tour.py     in the browser, with sliders
uv run --all-packages python notebooks/tour.py          as a script, without a browser
"""

import marimo

app = marimo.App(width="medium", app_title="microGPT: from tokens to names")


@app.cell
def _():
    import random
    from dataclasses import replace
    from functools import partial
    from itertools import islice

    import microgpt

    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np
    from microgpt_lab.base import versions
    from microgpt_lab.verification import vectors

    (numpy_version,) = versions.pick(["02"])
    program = numpy_version.load()
    return islice, microgpt, mo, np, partial, plt, program, random, replace, vectors


@app.cell
def _(mo):
    mo.md(r"""
    # From tokens to names

    A tiny GPT learns from thirty thousand names, letter by letter, and then makes up new ones. This page shows
    each part of that: tokens, training, sampling and attention. The program is `02_numpy_manual_backprop`. The
    rules of the model are in `SPEC.md`.

    ## Letters become tokens

    The model computes with numbers, so every letter gets one: its **token**. One more token, **BOS**, marks the
    beginning and the end of a name. At each position the model reads the tokens so far and predicts the next
    one, the **target**.
    """)
    return


@app.cell
def _(microgpt, mo):
    docs = microgpt.load_documents()
    tokenizer = microgpt.Tokenizer(docs)
    word = mo.ui.text(value="emma", label="a name")
    word
    return docs, tokenizer, word


@app.cell
def _(mo, tokenizer, word):
    known = "".join(letter for letter in word.value.lower() if letter in tokenizer.ids)
    tokens = tokenizer.encode(known)
    show = ["BOS" if t == tokenizer.bos else tokenizer.letters[t] for t in tokens]
    rows = [f"| {i} | {a} | {t} | {b} |" for i, (a, t, b) in enumerate(zip(show, tokens, show[1:]))]
    mo.md("\n".join(["| position | input | token | target |", "|---|---|---|---|", *rows]))
    return


@app.cell
def _(mo):
    mo.md(r"""
    ## Training

    Before training, all 27 tokens are about equally likely, so the loss is near $\ln 27 = 3.30$. Each step
    takes one name and computes the gradient of its loss for each weight. Then Adam moves each weight a little
    in the direction that lowers the loss.
    """)
    return


@app.cell
def _(mo):
    width = mo.ui.slider(steps=[4, 8, 16, 32, 64], value=16, label="width", show_value=True)
    steps = mo.ui.slider(100, 2000, step=100, value=500, label="steps", show_value=True)
    mo.hstack([width, steps], justify="start", gap=2)
    return steps, width


@app.cell
def _(np, plt):
    def loss_curve(losses, steps):
        figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
        axes.plot(losses, color="0.8", linewidth=0.7, label="each name")
        if len(losses) >= 50:
            smooth = np.convolve(losses, np.ones(50) / 50, mode="valid")
            axes.plot(np.arange(49, len(losses)), smooth, label="mean of 50")
        axes.axhline(np.log(27), color="0.5", linestyle=":", label="ln 27: all equally likely")
        axes.set(xlabel="step", ylabel="loss, nats per token", xlim=(0, steps), ylim=(1.4, 4.6))
        axes.legend(frameon=False, ncols=3, loc="upper right")
        axes.spines[["top", "right"]].set_visible(False)
        plt.close(figure)  # the cell shows the figure; pyplot need not keep it
        return figure

    return (loss_curve,)


@app.cell
def _(docs, islice, loss_curve, microgpt, mo, program, random, replace, steps, tokenizer, width):
    config = replace(microgpt.RECIPES["seed"], n_embd=width.value, steps=steps.value)
    rng = random.Random(42)
    shuffled = list(docs)
    rng.shuffle(shuffled)
    start = microgpt.initial(config, tokenizer.vocab_size, rng)
    state = program.create(config, start)
    training = program.train(state, microgpt.batches(config, tokenizer, shuffled))
    losses = []
    while chunk := [float(loss) for loss in islice(training, config.steps // 20)]:
        losses += chunk
        mo.output.replace(loss_curve(losses, config.steps))  # redraw during training
    uniforms = [rng.random() for _ in range(1000)]
    return config, state, uniforms


@app.cell
def _(mo):
    mo.md(r"""
    ## Sampling

    A name starts with BOS. The model gives the probability of each next token; one token is drawn and added
    to the name. This repeats until BOS is drawn again. Before softmax turns the logits into probabilities, they
    are divided by the **temperature**. Below 1, likely letters become likelier; above 1, the draw becomes more
    random.
    """)
    return


@app.cell
def _(mo):
    temperature = mo.ui.slider(0.1, 2.0, step=0.1, value=0.5, label="temperature", show_value=True)
    temperature
    return (temperature,)


@app.cell
def _(
    config,
    docs,
    islice,
    microgpt,
    mo,
    partial,
    program,
    replace,
    state,
    temperature,
    tokenizer,
    uniforms,
):
    _drawn = iter(uniforms)
    _names = microgpt.generate(
        partial(program.logits, state),
        replace(config, temperature=temperature.value),
        tokenizer.bos,
        lambda: next(_drawn),
    )
    names = [tokenizer.decode(tokens) for tokens in islice(_names, 20)]
    _known = set(docs)
    mo.md(" · ".join(f"**{n}**" if n not in _known else n for n in names) + "\n\n(bold: not in the data)")
    return (names,)


@app.cell
def _(mo):
    mo.md(r"""
    ## Attention

    At each position, each of the four heads averages the values of the positions so far. The **attention
    weights** say how much each position counts. Each row below is a position, and each column is a position
    that it attends to. The weights of a row add up to 1.
    """)
    return


@app.cell
def _(config, microgpt, np, plt, program, state, tokenizer, vectors, word):
    def attention():
        text = "".join(c for c in word.value.lower() if c in tokenizer.ids)[: config.block_size - 1]
        inputs = tokenizer.encode(text)[:-1]
        snapshot = program.export(state)
        plain = snapshot._replace(weights={k: np.asarray(w).tolist() for k, w in snapshot.weights.items()})
        seen = vectors.first_batch(config, plain, [[*inputs, tokenizer.bos]])
        weights = next(i for i in seen["intermediates"] if i["name"] == "layer0.attention")["value"][0]
        labels = ["BOS", *text]
        figure, axes = plt.subplots(1, config.n_head, figsize=(8, 2.4), layout="constrained")
        for head, panel in enumerate(np.atleast_1d(axes)):
            grid = np.full((len(inputs), len(inputs)), np.nan)
            for t, heads in enumerate(weights):
                grid[t, : t + 1] = heads[head]
            panel.imshow(grid, vmin=0, vmax=1, cmap="Blues")
            panel.set_xticks(range(len(labels)), labels, fontsize=7)
            panel.set_yticks(range(len(labels)), labels, fontsize=7)
            panel.set_title(f"head {head}", fontsize=9)
        return figure

    assert microgpt.tape == []
    attention()
    return


if __name__ == "__main__":
    app.run()
