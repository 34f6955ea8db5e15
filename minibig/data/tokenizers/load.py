"""Reading tokenizers: tokenizer.json, and the older vocab.txt and vocab.json."""

import json
from pathlib import Path

from ...files import FileError
from .bpe import BPETokenizer
from .byte_fallback import ByteFallbackTokenizer
from .file_format import entry
from .wordpiece import WordPieceTokenizer
from .words import CharTokenizer, WordTokenizer


def load_tokenizer(path):
    """The tokenizer in a file, or in a folder of a published model.

    Read are tokenizer.json, as `save` or the library `tokenizers` wrote it; BERT's
    vocab.txt; and GPT-2's vocab.json with merges.txt beside it. For the last two a
    tokenizer_config.json in the same folder says how the text is prepared. A file's own
    limits of length and its padding are left to the caller. Raises `FileError`, which
    says what is wrong or not supported.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in _READERS if (path / name).exists()]
        if not found:
            raise FileError(f"{path} holds none of {', '.join(_READERS)}")
        path = found[0]
    try:
        reader = _read_vocab_txt if path.suffix == ".txt" else _read_tokenizer_json
        return _READERS.get(path.name, reader)(path)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def _read_tokenizer_json(path):
    contents = _json(path)
    model = contents.get("model") if isinstance(contents, dict) else None
    if not isinstance(model, dict):
        raise ValueError(
            'not a tokenizer file: it lacks "model"; load_tokenizer reads files that '
            "Tokenizer.save or the library tokenizers wrote"
        )
    return _kind(contents)._from_contents(contents)


def _kind(contents):
    """The class that reads such contents."""
    model = contents["model"]
    # Files of before 2021 leave the model's type out; only BPE has merges.
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind == "WordPiece":
        return WordPieceTokenizer
    if kind == "BPE":
        fallback = entry(model, "byte_fallback", bool, False)
        return ByteFallbackTokenizer if fallback else BPETokenizer
    for words in (CharTokenizer, WordTokenizer):
        if kind == "WordLevel" and words._wrote(contents):
            return words
    raise ValueError(
        f"minibig does not read this {kind!r} model; known are byte-level BPE, BPE "
        "with byte fallback, WordPiece, and the WordLevel files it writes itself"
    )


def _read_vocab_txt(path):
    return WordPieceTokenizer._from_vocabulary(_text(path), _config(path))


def _read_vocab_json(path):
    vocabulary = _json(path)
    if not isinstance(vocabulary, dict):
        raise ValueError("not a vocabulary: it is no JSON object of tokens and ids")
    merges = _text(path.with_name("merges.txt"))
    return BPETokenizer._from_vocabulary(vocabulary, merges, _config(path))


def _config(path):
    beside = path.with_name("tokenizer_config.json")
    return _json(beside) if beside.exists() else {}


def _text(path):
    return path.read_bytes().decode()


def _json(path):
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a tokenizer file: not JSON ({error})") from None


_READERS = {
    "tokenizer.json": _read_tokenizer_json,
    "vocab.txt": _read_vocab_txt,
    "vocab.json": _read_vocab_json,
}
