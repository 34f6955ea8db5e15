"""Tokenizers: text to ids and back, and the JSON file they are kept in.

`CharTokenizer` and `WordTokenizer` stand here, byte-level BPE in `bpe.py`. Each gives
back exactly the text it was given, except for words it had to replace by "<unk>".
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..files import FileError, atomic_write
from .fingerprint import fingerprint

_FORMAT = "minibig.tokenizer"


class Tokenizer:
    """What all tokenizers share: a list of tokens, whose place in it is their id.

    Special tokens are entries of that list which stand for themselves: `encode` finds
    them in a text before anything else, and training never looks inside them.
    """

    def __init__(self, tokens, special_tokens=()):
        self.tokens = tuple(tokens)
        self.token_to_id = {token: index for index, token in enumerate(self.tokens)}
        if len(self.token_to_id) < len(self.tokens):
            twice = next(t for t, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"the token {twice!r} stands in the vocabulary twice")
        check_special_tokens(special_tokens)
        missing = [token for token in special_tokens if token not in self.token_to_id]
        if missing:
            raise ValueError(f"special tokens missing from the vocabulary: {missing}")
        self.special_tokens = {
            token: self.token_to_id[token] for token in special_tokens
        }
        self._special_ids = frozenset(self.special_tokens.values())

    @property
    def vocab_size(self):
        """The number of tokens, special ones included; ids are 0 to vocab_size - 1."""
        return len(self.tokens)

    @functools.cached_property
    def hash(self):
        """16 hexadecimal digits that change with the vocabulary or the merges."""
        return fingerprint(json.dumps(self._contents(), sort_keys=True))

    def __repr__(self):
        special = f", special: {' '.join(self.special_tokens)}" * bool(
            self._special_ids
        )
        return f"{type(self).__name__}({self.vocab_size:,} tokens{special})"

    def encode(self, text):
        """The ids of a string, a list; special tokens in the text become their ids."""
        check_text(text)
        ids = []
        for is_special, part in split_special(text, self.special_tokens):
            ids += [self.token_to_id[part]] if is_special else self._encode(part)
        return ids

    def decode(self, ids, *, skip_special_tokens=False):
        """The text of a list or 1-d array of ids; `IndexError` names an unknown id."""
        parts, run = [], []
        for index in self._checked(ids):
            if index in self._special_ids:
                parts.append(self._decode(run))
                parts.append("" if skip_special_tokens else self.tokens[index])
                run = []
            else:
                run.append(index)
        return "".join(parts) + self._decode(run)

    def save(self, path):
        """Write the tokenizer to a JSON file, atomically; `load_tokenizer` reads it."""
        contents = {"format": _FORMAT, "version": 1, **self._contents()}
        text = json.dumps(contents, indent=1) + "\n"
        with atomic_write(path) as file:
            file.write(text.encode("ascii"))

    def _checked(self, ids):
        array = np.asarray(ids)
        if array.size == 0:
            return []
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                "decode takes a list or 1-d array of integer ids, got "
                f"shape {array.shape} of dtype {array.dtype}"
            )
        for bad in array[(array < 0) | (array >= self.vocab_size)][:1]:
            raise IndexError(
                f"id {bad} is not in this vocabulary of {self.vocab_size} tokens "
                f"(ids 0 to {self.vocab_size - 1}); did another tokenizer encode it?"
            )
        return array.tolist()

    def _contents(self):
        """What the file holds, but for its format and version."""
        return {
            "type": type(self).__name__,
            "tokens": list(self.tokens),
            "special_tokens": list(self.special_tokens),
        }

    @classmethod
    def _from_contents(cls, contents):
        return cls(contents["tokens"], contents["special_tokens"])


class CharTokenizer(Tokenizer):
    """One token a character."""

    @classmethod
    def train(cls, text, *, special_tokens=()):
        """A tokenizer of the characters of a text, or of several, sorted.

        Special tokens follow them. Raises `ValueError` for an empty text.
        """
        parts = training_parts(text, special_tokens)
        return cls([*sorted(set().union(*parts)), *special_tokens], special_tokens)

    def __init__(self, tokens, special_tokens=()):
        super().__init__(tokens, special_tokens)
        for token in self.tokens:
            if len(token) != 1 and token not in self.special_tokens:
                raise ValueError(f"the token {token!r} is not one character")

    def _encode(self, text):
        try:
            return [self.token_to_id[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"character {character!r} (U+{ord(character):04X}, position "
                f"{text.index(character)}) is not in this vocabulary of "
                f"{self.vocab_size} tokens; train on a text that has it, or use "
                "BPETokenizer, which can write any text"
            ) from None

    def _decode(self, ids):
        return "".join(self.tokens[index] for index in ids)


class WordTokenizer(Tokenizer):
    """One token a word, punctuation mark or white-space character.

    A word or mark carries the space before it (" the"), and a text is read as if a
    space stood before it too, so that a word is the same token wherever it stands in a
    sentence. Joining the tokens and dropping that first space gives the text back.
    """

    unknown_token = "<unk>"
    _pieces = re.compile(r" ?\w+| ?[^\w\s]|\s")

    @classmethod
    def train(cls, text, *, max_size=None, unknown=True, special_tokens=()):
        """A tokenizer of the words of a text, or of several, the most frequent first.

        `max_size` bounds the vocabulary. With `unknown`, words outside it become
        "<unk>"; without, they are an error. Raises `ValueError` for an empty text.
        """
        check_special_tokens(special_tokens)
        special_tokens = [*([cls.unknown_token] if unknown else []), *special_tokens]
        if max_size is not None and max_size <= len(special_tokens) + 1:
            raise ValueError(
                f"max_size {max_size} leaves no room for words beside the space and "
                f"{len(special_tokens)} special tokens"
            )
        parts = training_parts(text, special_tokens)
        counts = Counter(piece for part in parts for piece in cls._split(part))
        counts.pop(" ", None)  # always kept, so that every text has a first piece
        words = sorted(counts, key=lambda word: (-counts[word], word))
        if max_size is not None:
            words = words[: max_size - len(special_tokens) - 1]
        return cls([*special_tokens, " ", *words], special_tokens)

    @classmethod
    def _split(cls, text):
        return cls._pieces.findall(" " + text) if text else []

    def _encode(self, text):
        unknown = self.special_tokens.get(self.unknown_token)
        ids = [self.token_to_id.get(piece, unknown) for piece in self._split(text)]
        if None in ids:
            word = self._split(text)[ids.index(None)]
            raise ValueError(
                f"word {word!r} is not in this vocabulary of {self.vocab_size} tokens; "
                "train with unknown=True to replace such words by '<unk>'"
            )
        return ids

    def _decode(self, ids):
        return "".join(self.tokens[index] for index in ids).removeprefix(" ")


def load_tokenizer(path):
    """The tokenizer in a file written by `save`, of the class that wrote it.

    Raises `FileError`, which says what is wrong, for a file that is not such a one.
    """
    from .bpe import BPETokenizer  # stands on this module

    kinds = {
        kind.__name__: kind for kind in (CharTokenizer, WordTokenizer, BPETokenizer)
    }
    try:
        contents = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not a tokenizer file: not JSON ({error})") from None
    if not isinstance(contents, dict) or contents.get("format") != _FORMAT:
        raise FileError(
            f'{path} is not a tokenizer file: it lacks "format": "{_FORMAT}"; '
            "load_tokenizer reads files that Tokenizer.save wrote"
        )
    if contents.get("version") != 1 or str(contents.get("type")) not in kinds:
        raise FileError(
            f"{path} holds a {contents.get('type')!r} of version "
            f"{contents.get('version')!r}; known are version 1 of {', '.join(kinds)}"
        )
    try:
        check_strings(contents, "tokens")
        check_strings(contents, "special_tokens")
        return kinds[contents["type"]]._from_contents(contents)
    except ValueError as error:
        raise FileError(f"{path} is damaged: {error}") from None


def check_text(text):
    """Refuse what is not a string, naming what it is."""
    if not isinstance(text, str):
        raise TypeError(f"a tokenizer encodes a string, got {type(text).__name__}")


def check_special_tokens(special_tokens):
    """Refuse what is not a collection of distinct, non-empty strings."""
    tokens = [] if isinstance(special_tokens, str) else list(special_tokens)
    named = all(isinstance(token, str) and token for token in tokens)
    if isinstance(special_tokens, str) or not named or len(set(tokens)) < len(tokens):
        raise ValueError(
            "special_tokens is a list of distinct, non-empty strings, got "
            f"{special_tokens!r}"
        )


def check_strings(contents, name):
    """Refuse file contents whose entry `name` is not a list of strings."""
    value = contents.get(name)
    if not isinstance(value, list) or not all(isinstance(t, str) for t in value):
        raise ValueError(f'"{name}" is not a list of strings')


def split_special(text, special_tokens):
    """(is it a special token, part of the text) from left to right, longest first."""
    if not special_tokens:
        return [(False, text)]
    by_length = sorted(special_tokens, key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, by_length))})", text)
    return [(bool(index % 2), part) for index, part in enumerate(parts) if part]


def training_parts(text, special_tokens):
    """The pieces of a text, or of several, that lie between special tokens."""
    check_special_tokens(special_tokens)
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise TypeError(f"a tokenizer trains on strings, got {type(text).__name__}")
    parts = []
    for one in texts:
        check_text(one)
        pieces = split_special(one, special_tokens)
        parts += [part for is_special, part in pieces if not is_special]
    if not any(parts):
        raise ValueError("cannot train a tokenizer on an empty text")
    return parts
