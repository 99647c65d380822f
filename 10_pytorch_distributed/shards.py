"""Documents that may be larger than memory: text and Parquet files, read in blocks.

A first pass over all blocks counts the documents of each block, collects the letters
and computes the digest. Then the blocks are shuffled and grouped into windows. A window
is what is held in memory at one time; its documents are shuffled once more. The order
depends on the seed alone: it is the same in every worker and for any number of workers.
"""

import hashlib
import random
from bisect import bisect
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import microgpt
from microgpt import InputError

WINDOW = 2**25  # bytes of memory for the documents of one window
BLOCK = 2**18  # bytes of a text file in one block; in Parquet a block is a row group
PARQUET = ".parquet"


class Block(NamedTuple):
    """A part of a file that is read at once."""

    path: Path
    start: int  # text: the position of its first byte; Parquet: its row group
    documents: int  # how many
    size: int  # bytes of memory


def prepare(config, source, seed, prompt, say):
    """The same as microgpt.prepare, for a file or a folder of any size."""
    path = Path(source)
    if source == "names" or not path.exists():
        return microgpt.prepare(config, source, seed, prompt, say)
    rng = random.Random(seed)
    docs, letters, digest, cut = documents(path, rng, config.block_size)
    tokenizer = microgpt.Tokenizer(letters)
    microgpt.refuse_misfits(config, docs, tokenizer, prompt)
    if cut:
        say(f"{cut:,} of {len(docs):,} documents do not fit the block and are cut")
    snapshot = microgpt.initial(config, tokenizer.vocab_size, rng)
    return SimpleNamespace(
        docs=docs, digest=digest, tokenizer=tokenizer, rng=rng, snapshot=snapshot,
        prompt=tokenizer.encode(prompt)[1:-1],
    )  # fmt: skip


# ---------------------------------------------------------------- Order of documents


def documents(source, rng, block_size):
    """(documents in shuffled order, letters, digest, how many will be cut). Documents
    that fit into one window are a list, in the same order as in 01; more are a Stream.
    """
    blocks, letters, sha, cut = [], set(), hashlib.sha256(), 0
    for path in files(source):
        for start, docs in scan(path):
            text = "".join(f"{doc}\n" for doc in docs)
            sha.update(text.encode())
            # a document of a Parquet file may itself contain a newline, as a letter
            letters.update(*(docs if "\n" in "".join(docs) else text.split("\n")))
            cut += sum(len(doc) >= block_size for doc in docs)
            size = len(text) + 64 * len(docs)  # a string object has about 64 bytes more
            blocks.append(Block(path, start, len(docs), size))
    if "\0" in letters:
        raise InputError(
            f"data {source} is binary: it must be text, one document a line"
        )
    total = sum(block.documents for block in blocks)
    if total < 2 or len(letters) < 2:
        found = f"{total} document(s) with {len(letters)} different letter(s)"
        raise InputError(f"data {source} has {found}: it takes at least 2 of each")
    if sum(block.size for block in blocks) > WINDOW:
        return Stream(blocks, rng), letters, sha.hexdigest(), cut
    docs = [doc for block in blocks for doc in read(block.path, block.start)]
    rng.shuffle(docs)
    return docs, letters, sha.hexdigest(), cut


class Stream:
    """All documents in shuffled order. It has len() and [i], as a list has."""

    def __init__(self, blocks, rng):
        blocks = [block for block in blocks if block.documents]
        rng.shuffle(blocks)
        self.windows, free = [], 0
        for block in blocks:  # fill a window until the next block does not fit
            if block.size > free:
                self.windows.append([])
                free = WINDOW
            self.windows[-1].append(block)
            free -= block.size
        sizes = [sum(block.documents for block in window) for window in self.windows]
        self.ends = list(accumulate(sizes))  # ends[w]: documents in windows 0 … w
        self.seed = rng.random()
        # keep one window: training reads the documents in order
        self.window = lru_cache(maxsize=1)(self.load)

    def __len__(self):
        return self.ends[-1]

    def __getitem__(self, i):
        w = bisect(self.ends, i)  # the window that holds document i
        return self.window(w)[i - self.ends[w]]  # a negative index, from the end

    def load(self, w):
        """The documents of window w, shuffled with a seed of its own."""
        blocks = self.windows[w]
        docs = [doc for block in blocks for doc in read(block.path, block.start)]
        random.Random(f"{self.seed} {w}").shuffle(docs)
        return docs


# ---------------------------------------------------------------- Reading files


def files(source):
    """A file, or all text and Parquet files of a folder, sorted by name."""
    if not source.is_dir():
        return [source]
    found = [path for path in source.iterdir() if path.suffix in (".txt", PARQUET)]
    if not found:
        raise InputError(f"data {source} has no .txt or .parquet file: add one")
    return sorted(found)


def scan(path):
    """Read a file block by block: (start, documents) of each."""
    if path.suffix == PARQUET:
        groups = open_parquet(path)[0].num_row_groups
        yield from ((group, read(path, group)) for group in range(groups))
        return
    start, size = 0, size_of(path)
    while start < size:
        raw = read_bytes(path, start)
        yield start, lines(path, start, raw)
        start += len(raw)


def read(path, start):
    """The documents of one block."""
    if path.suffix != PARQUET:
        return lines(path, start, read_bytes(path, start))
    file, column = open_parquet(path)
    try:
        table = file.read_row_group(start, columns=[column])
    except (OSError, ValueError) as e:
        raise cannot_read(path, e) from None
    return clean(table.column(0).to_pylist())


def clean(texts):
    """Without white space at both ends, and without empty documents (S1.1)."""
    return [doc for text in texts if text and (doc := text.strip())]


def lines(path, start, raw):
    """The documents in the bytes of a text block."""
    try:  # utf-8-sig: a file may start with a byte order mark
        return clean(raw.decode("utf-8" if start else "utf-8-sig").split("\n"))
    except UnicodeDecodeError as e:
        place = start + e.start
        raise InputError(f"data {path} is not UTF-8 text: byte {place}") from None


def read_bytes(path, start):
    """BLOCK bytes of a text file, and the rest of the last line."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(BLOCK) + file.readline()
    except OSError as e:
        raise cannot_read(path, e) from None


def size_of(path):
    try:
        return path.stat().st_size
    except OSError as e:
        raise cannot_read(path, e) from None


def open_parquet(path):
    """The file, and the name of the column that has the documents."""
    try:  # imported here because it takes a while and most runs do not need it
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(
            f"data {path} needs the package pyarrow: start with `uv run`"
        ) from None
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as e:
        raise cannot_read(path, e) from None
    strings = (pa.types.is_string, pa.types.is_large_string)
    schema = file.schema_arrow
    names = [f.name for f in schema if any(is_one(f.type) for is_one in strings)]
    if "text" in names:
        return file, "text"
    if len(names) != 1:
        columns = ", ".join(schema.names)
        raise InputError(
            f"data {path} has the columns {columns}: one with strings must be called "
            "text, or be the only one with strings"
        )
    return file, names[0]


def cannot_read(path, error):
    """An InputError with the reason in one line."""
    reason = " ".join(str(getattr(error, "strerror", 0) or error).split())
    return InputError(f"cannot read data {str(path)!r}: {reason}")
