"""Documents that need not fit into memory: text and Parquet files, read in blocks.

One pass over all blocks finds how many documents each has, which letters there are, and
the digest. After that documents come window by window: the blocks are shuffled, as many
as fit into a window follow one another, and the documents of a window are shuffled once
more. The seed decides and nothing else, so that the order is the same in every worker,
and for any number of them."""

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

WINDOW = 2**25  # bytes of documents, as Python holds them, that are shuffled at once
BLOCK = 2**18  # bytes of a text file that are read at once; Parquet has its row groups
PARQUET = ".parquet"


class Block(NamedTuple):
    path: Path
    start: int  # its first byte, or the number of its row group
    documents: int
    size: int  # bytes in memory


def prepare(config, source, seed, prompt, say):
    """As microgpt.prepare, but a file or a folder of files may be of any size."""
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


# ---------------------------------------------------------------- The order


def documents(source, rng, block_size):
    """(documents in their order, letters, digest as of 01, how many will be cut). What
    fits into one window is a list, in the order of 01."""
    blocks, letters, sha, cut = [], set(), hashlib.sha256(), 0
    for path in files(source):
        for start, docs in scan(path):
            text = "".join(f"{doc}\n" for doc in docs)
            sha.update(text.encode())
            letters.update(*(docs if "\n" in "".join(docs) else text.split("\n")))
            cut += sum(len(doc) >= block_size for doc in docs)
            size = len(text) + 64 * len(docs)
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
    """Documents in shuffled order, as a list has them: len() and [i]."""

    def __init__(self, blocks, rng):
        blocks = [block for block in blocks if block.documents]
        rng.shuffle(blocks)
        self.windows, room = [], 0
        for block in blocks:
            if block.size > room:
                self.windows.append([])
                room = WINDOW
            self.windows[-1].append(block)
            room -= block.size
        sizes = [sum(block.documents for block in window) for window in self.windows]
        self.ends = list(accumulate(sizes))
        self.seed = rng.random()
        # only the last one is kept: documents are asked for in order
        self.window = lru_cache(maxsize=1)(self.load)

    def __len__(self):
        return self.ends[-1]

    def __getitem__(self, i):
        which = bisect(self.ends, i)
        return self.window(which)[i - self.ends[which]]  # counted from the window's end

    def load(self, which):
        """The documents of a window, shuffled by a seed of its own."""
        blocks = self.windows[which]
        docs = [doc for block in blocks for doc in read(block.path, block.start)]
        random.Random(f"{self.seed} {which}").shuffle(docs)
        return docs


# ---------------------------------------------------------------- The files


def files(source):
    """A file, or all text and Parquet files of a folder, by their names."""
    if not source.is_dir():
        return [source]
    found = [path for path in source.iterdir() if path.suffix in (".txt", PARQUET)]
    if not found:
        raise InputError(f"data {source} has no shards: it takes .txt or .parquet")
    return sorted(found)


def scan(path):
    """(start, documents) of each block of a file."""
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
    """The documents of one block, without those that are empty (S1.1)."""
    if path.suffix != PARQUET:
        return lines(path, start, read_bytes(path, start))
    file, column = open_parquet(path)
    try:
        table = file.read_row_group(start, columns=[column])
    except (OSError, ValueError) as e:
        raise cannot_read(path, e) from None
    return clean(table.column(0).to_pylist())


def clean(texts):
    return [doc for text in texts if text and (doc := text.strip())]


def lines(path, start, raw):
    try:
        return clean(raw.decode("utf-8" if start else "utf-8-sig").split("\n"))
    except UnicodeDecodeError as e:
        place = start + e.start
        raise InputError(f"data {path} is not UTF-8 text: byte {place}") from None


def read_bytes(path, start):
    """A block of whole lines."""
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
    try:  # not at the top: most runs need none of it, and it takes a while
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(f"data {path} needs pyarrow: `uv run` brings it") from None
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as e:
        raise cannot_read(path, e) from None
    strings = (pa.types.is_string, pa.types.is_large_string)
    schema = file.schema_arrow
    named = [f.name for f in schema if any(is_one(f.type) for is_one in strings)]
    if "text" in named:
        return file, "text"
    if len(named) != 1:
        columns = ", ".join(schema.names)
        raise InputError(
            f"data {path} has the columns {columns}: it takes a column of strings "
            "called text, or only one of strings"
        )
    return file, named[0]


def cannot_read(path, error):
    reason = " ".join(str(getattr(error, "strerror", 0) or error).split())
    return InputError(f"cannot read data {str(path)!r}: {reason}")
