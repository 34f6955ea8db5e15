"""Tokenizers: seconds of training, MB/s of encoding, beside the library `tokenizers`.

    python benchmarks/tokenizer_speed.py [--vocab-size 10000] [--save]

`--save` writes benchmarks/results/tokenizer_speed-DATE.md. minibig computes in one
thread. The library, written in Rust, trains and encodes batches in two.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from measure import THREADS, machine, save, today

os.environ |= {"RAYON_NUM_THREADS": THREADS, "TOKENIZERS_PARALLELISM": "true"}

import tokenizers as lib

from minibig.data import (  # found by measure
    BPETokenizer,
    WordPieceTokenizer,
    documentation,
    library_source,
)

REPEATS = 5
HEADER = """
| | minibig | tokenizers, text by text | tokenizers, batch in two threads |
|---|---|---|---|"""


def seconds(function, *arguments):
    """(seconds, result) of one call."""
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def megabytes(texts):
    return sum(len(text.encode()) for text in texts) / 1e6


def rate(encode, texts):
    """MB/s of encoding some texts: the median of some passes after a first one."""
    encode(texts)
    passes = [seconds(encode, texts)[0] for _ in range(REPEATS)]
    return megabytes(texts) / statistics.median(passes)


def library_bpe(texts, vocab_size):
    byte_level = lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = lib.Tokenizer(lib.models.BPE())
    tokenizer.pre_tokenizer = byte_level
    trainer = lib.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False,
        initial_alphabet=byte_level.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)


def library_wordpiece(texts, vocab_size):
    tokenizer = lib.Tokenizer(lib.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = lib.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
    trainer = lib.trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)


KINDS = {
    "byte-level BPE": (BPETokenizer.train, library_bpe),
    "WordPiece": (WordPieceTokenizer.train, library_wordpiece),
}


def in_the_library(tokenizer):
    """The library's reading of the file of a tokenizer of ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        tokenizer.save(path)
        return lib.Tokenizer.from_file(str(path))


def row(task, ours, *theirs):
    return f"| {task} | **{ours:.1f}** | {' | '.join(f'{n:.1f}' for n in theirs)} |"


def rows(kind, vocab_size):
    """The lines of the table on one kind of tokenizer, as they are found."""
    source, english = library_source().documents, documentation().documents
    train, library_train = KINDS[kind]
    ours, tokenizer = seconds(train, source, vocab_size)
    theirs = seconds(library_train, source, vocab_size)[0]
    yield f"| {kind}: training, s | **{ours:.1f}** | | {theirs:.1f} |"
    other = in_the_library(tokenizer)

    def one_by_one(texts):
        return [other.encode(text) for text in texts]

    empty = megabytes(source) / seconds(tokenizer.encode_batch, source)[0]
    yield f"| {kind}: source, empty cache, MB/s | **{empty:.1f}** | | |"
    for name, texts in (("source", source), ("English", english)):
        rates = [rate(f, texts) for f in (one_by_one, other.encode_batch_fast)]
        ours = rate(tokenizer.encode_batch, texts)
        yield row(f"{kind}: {name}, MB/s", ours, *rates)
    texts = source + english
    same = map(
        lambda a, b: a == b.ids, tokenizer.encode_batch(texts), one_by_one(texts)
    )
    yield f"| {kind}: texts with equal ids | **{sum(same)} of {len(texts)}** | | |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    source = library_source()
    about = (
        f"{options.vocab_size:,} entries learnt from Python's standard library, "
        f"{len(source)} files, {megabytes(source.documents):.1f} MB; English is its "
        f"language reference. Encoding: medians of {REPEATS} passes over the files "
        "with a warm cache, both from one tokenizer.json; minibig in one thread. Text "
        "by text, the library notes where each token stood as well."
    )
    versions = f"{machine()}; tokenizers {lib.__version__}"
    lines = [f"# Tokenizers, {today()}", "", versions, "", about, HEADER]
    print("\n".join(lines), flush=True)
    for kind in KINDS:
        for line in rows(kind, options.vocab_size):
            lines.append(line)
            print(line, flush=True)
    if options.save:
        save("tokenizer_speed", lines)


if __name__ == "__main__":
    main()
