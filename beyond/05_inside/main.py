"""Inside: what the heads and the embeddings of a trained model hold.

Trains with 09 and reads with a forward pass of its own, which keeps what 02 keeps for
its backward pass: each head's attention and output. New here are three measurements.
Mean ablation puts a head's average in place of its output, and measures what that
costs. A probe asks whether a plane separates the vowels from the consonants in `wte`.
And a text that repeats itself shows induction heads: they look for what followed the
same token the last time.

    uv run python main.py          trains recipe `scaled`, then shows what each head is
                                   worth, and which letters lie near each other
"""

import argparse
import random

import microgpt  # 01_pure_python/microgpt.py; "uv run python main.py" finds it

import numpy as np
from microgpt_lab.base.versions import pick
from microgpt_lab.runs.documents import split

# T tokens, C n_embd, H heads, D head_dim, V vocabulary, B documents

compiled = pick(["09_numba"])[0].load()
PAD = -1  # not a token: it fills documents up to the same length
VOWELS = "aeiou"
LETTERS = "abcdefghijklmnopqrstuvwxz"  # y is both, and is left out

# ---------------------------------------------------------------- Training


def train(config, vocab_size, seed, batches):
    """The weights of 09 after these batches. -> {name: array}"""
    snapshot = microgpt.initial(config, vocab_size, random.Random(seed))
    state = compiled.create(config, snapshot)
    for _ in compiled.train(state, batches):
        pass
    weights = compiled.export(state).weights
    return {name: np.array(rows, float) for name, rows in weights.items()}


def train_on_names(config, tokenizer, docs, seed):
    docs = random.Random(seed).sample(docs, len(docs))
    batches = microgpt.batches(config, tokenizer, docs)
    return train(config, tokenizer.vocab_size, seed, batches)


def pad(documents, T):
    """Lists of tokens -> (B, T + 1), cut to T inputs, filled up with PAD"""
    rows = np.full((len(documents), T + 1), PAD)
    for row, tokens in zip(rows, documents):
        row[: len(tokens)] = tokens[: T + 1]
    return rows


# ---------------------------------------------------------------- Forward


def rmsnorm(x):
    """Scale each row to a mean square of 1 (S5). (B, T, C) -> (B, T, C)"""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def forward(config, w, tokens, replaced=None):
    """Logits, and of each layer the attention and what each head put out. `replaced` is
    {(layer, head): vector}: what stands in place of that head's output.
    (B, T) -> (B, T, V), layers of (B, H, T, T), layers of (B, H, T, D)"""
    (B, T), H = tokens.shape, config.n_head
    mask = np.where(np.tri(T, dtype=bool), 0, -np.inf)
    x, attention, outputs = rmsnorm(w["wte"][tokens] + w["wpe"][:T]), [], []
    for i in range(config.n_layer):
        h = rmsnorm(x)
        q, k, v = (
            (h @ w[f"layer{i}.attn_w{name}"].T).reshape(B, T, H, -1).swapaxes(1, 2)
            for name in "qkv"
        )  # (B, H, T, D) each
        p = softmax(q @ k.mT / np.sqrt(q.shape[-1]) + mask)  # (B, H, T, T)
        heads = p @ v  # (B, H, T, D)
        for (layer, head), vector in (replaced or {}).items():
            if layer == i:
                heads[:, head] = vector
        attention.append(p)
        outputs.append(heads)
        joined = heads.swapaxes(1, 2).reshape(B, T, -1)  # (B, T, C)
        x = x + joined @ w[f"layer{i}.attn_wo"].T
        h = np.maximum(rmsnorm(x) @ w[f"layer{i}.mlp_fc1"].T, 0) ** config.relu_power
        x = x + h @ w[f"layer{i}.mlp_fc2"].T
    return x @ w["lm_head"].T, attention, outputs


def token_losses(config, w, documents, replaced=None):
    """The loss of each target, 0 for a PAD. (B, T + 1) -> (B, T)"""
    # PAD is -1, so it picks a last row: no token before it sees it, and it is no target
    z, _, _ = forward(config, w, documents[:, :-1], replaced)
    targets = documents[:, 1:]
    p = np.take_along_axis(softmax(z), targets[..., None], axis=-1)[..., 0]  # (B, T)
    return np.where(targets == PAD, 0, -np.log(p))


# ---------------------------------------------------------------- Heads


def head_means(config, w, documents):
    """What each head puts out on average over all real tokens. {(layer, head): (D,)}"""
    _, _, outputs = forward(config, w, documents[:, :-1])
    real = documents[:, :-1] != PAD  # (B, T)
    return {
        (i, head): outputs[i][:, head][real].mean(axis=0)
        for i in range(config.n_layer)
        for head in range(config.n_head)
    }


def ablation(config, w, documents, replacements):
    """What each document costs more with each of the replacements. -> (n, B) nats"""
    right = token_losses(config, w, documents).sum(axis=-1)  # (B,)
    wrong = [token_losses(config, w, documents, r).sum(axis=-1) for r in replacements]
    return np.array(wrong) - right


# ---------------------------------------------------------------- Embeddings


def plane(x, labels):
    """The weights of a linear probe: ridge regression of -1 and 1 on the embeddings.
    (n, C), (n,) -> (C + 1,)"""
    x = np.hstack([x, np.ones((len(x), 1))])
    return np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ labels)


def probe(x, labels):
    """The share of letters on the right side of a plane that was fitted without them:
    the mean over vowels and over consonants. With more numbers in an embedding than
    there are letters, a plane fits any labels of the letters that it has seen."""
    right = []
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        w = plane(x[others], labels[others])
        right.append((x[i] @ w[:-1] + w[-1]) * labels[i] > 0)
    right = np.array(right)
    return (right[labels > 0].mean() + right[labels < 0].mean()) / 2


def letter_embeddings(tokenizer, w):
    """Rows of wte, and 1 for a vowel, -1 for a consonant. (25, C), (25,)"""
    rows = w["wte"][[tokenizer.ids[letter] for letter in LETTERS]]
    return rows, np.array([1 if letter in VOWELS else -1 for letter in LETTERS])


# ---------------------------------------------------------------- Induction

SYMBOLS = 16
SHORTEST, LONGEST = 6, 12  # of a piece; it is repeated until the block is full
REPEATS = microgpt.Config(
    n_embd=64, block_size=24, init_std=0.08, zero_init=False, learning_rate=0.005,
    steps=1200, batch_size=32,
)  # fmt: skip


def repeated(rng):
    """(a document: random symbols, which are repeated; how many before they repeat)"""
    n = rng.randint(SHORTEST, LONGEST)
    piece = [rng.randrange(SYMBOLS) for _ in range(n)]
    T = REPEATS.block_size
    return [SYMBOLS, *piece * (T // n + 1)][: T + 1], n


def train_on_repeats(config, seed):
    rng = random.Random(seed)
    batches = (
        ([repeated(rng)[0] for _ in range(config.batch_size)], rate)
        for rate in (microgpt.learning_rate(config, i) for i in range(config.steps))
    )
    return train(config, SYMBOLS + 1, seed, batches)


def repeats(config, w, n):
    """Of n new documents: (nats a symbol in the repeats; {(layer, head): the share of
    attention there that goes to the token after the same symbol's last occurrence})"""
    rng = random.Random(0)
    documents, lengths = zip(*(repeated(rng) for _ in range(n)))
    documents, lengths = np.array(documents), np.array(lengths)[:, None]
    _, attention, _ = forward(config, w, documents[:, :-1])
    places = np.arange(config.block_size)
    # the input at place t, t > n, is a repeat: it stood at t - n, and after that came
    # the token at t - n + 1, which is the target
    b, t = np.nonzero(places > lengths)
    looked_at = t - lengths[b, 0] + 1
    shares = {
        (i, head): p[b, head, t, looked_at].mean()
        for i, p in enumerate(attention)
        for head in range(config.n_head)
    }
    return token_losses(config, w, documents)[b, t].mean(), shares


# ---------------------------------------------------------------- Running it


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="default: 42")
    seed, config = parser.parse_args().seed, microgpt.RECIPES["scaled"]
    docs = microgpt.load_documents()
    tokenizer, (train_docs, held_out) = microgpt.Tokenizer(docs), split(docs, 0.1)
    w = train_on_names(config, tokenizer, train_docs, seed)
    documents = pad([tokenizer.encode(doc) for doc in held_out], config.block_size)
    targets = (documents[:, 1:] != PAD).sum()
    loss = token_losses(config, w, documents).sum() / targets
    print(f"held out: {loss:.3f} nats a letter; more when a head gives its average:")
    means = head_means(config, w, documents)
    more = ablation(config, w, documents, [{head: means[head]} for head in means])
    for (layer, head), nats in zip(means, more.sum(axis=-1)):
        print(f"  layer {layer} head {head}  {nats / targets:+.4f}")
    x, labels = letter_embeddings(tokenizer, w)
    print(f"vowels and consonants told apart in wte: {probe(x, labels):.0%}")
    near = x / np.linalg.norm(x, axis=-1, keepdims=True)
    for letter, row in zip(LETTERS, near @ near.T):
        print(f"  {letter}:", *(LETTERS[i] for i in np.argsort(-row)[1:5]))


if __name__ == "__main__":
    main()
