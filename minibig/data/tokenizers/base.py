"""What all tokenizers share: special tokens, framing, batches, pairs, the file."""

import functools
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ... import checks
from ...files import atomic_write
from ..fingerprint import fingerprint
from .added import AddedTokenFinder, added_tokens
from .template import PLAIN


class Tokenizer:
    """A list of tokens, whose place in it is their id, and the way to and from them.

    Special tokens are entries of that list which stand for themselves: `encode` finds
    them in a text before anything else, and training never looks inside them. They are
    strings, or `AddedToken`s where more is to be said of them. A `Template` says which
    of them are put around every text.

    A kind of tokenizer adds `_encode` (text to ids), `_pieces` (ids to parts of text)
    and `_contents` (what its file says), and `normalize` where it changes the text.
    """

    def __init__(self, tokens, special_tokens=(), *, template=PLAIN):
        self.tokens = tuple(tokens)
        self.token_to_id = {token: index for index, token in enumerate(self.tokens)}
        self.added_tokens = added_tokens(special_tokens)
        self.template = template
        self._check_vocabulary()
        self.special_tokens = {
            token.content: self.token_to_id[token.content]
            for token in self.added_tokens
            if token.special
        }
        self._added_ids = {self.token_to_id[t.content] for t in self.added_tokens}
        self._special_ids = frozenset(self.special_tokens.values())

    @property
    def vocab_size(self):
        """The number of tokens, special ones included; ids are 0 to vocab_size - 1."""
        return len(self.tokens)

    @functools.cached_property
    def hash(self):
        """16 hexadecimal digits that change with whatever changes the ids."""
        return fingerprint(json.dumps(self._contents(), sort_keys=True))

    def __repr__(self):
        special = f", special: {' '.join(self.special_tokens)}" * bool(
            self.special_tokens
        )
        return f"{type(self).__name__}({self.vocab_size:,} tokens{special})"

    def encode(self, text, *, add_special_tokens=True, max_length=None):
        """The ids of a string, a list; special tokens in the text become their ids.

        With `add_special_tokens` the template's stand around them. The text's end is
        cut off where all of it has more than `max_length` ids.
        """
        if add_special_tokens:
            return self.encode_pair(text, max_length=max_length).ids
        check_length(max_length)
        return self._ids(text)[:max_length]

    def encode_batch(self, texts, **settings):
        """The ids of each of several strings, a list of lists; `pad` makes it square.

        Takes the settings of `encode`. Raises `TypeError` for one string, whose
        characters nobody wants separately.
        """
        if isinstance(texts, str):
            raise TypeError("encode_batch takes several strings; got one, use encode")
        return [self.encode(text, **settings) for text in texts]

    def encode_pair(self, first, second=None, *, max_length=None):
        """The `Encoding` of two texts, or of one: ids, type ids, attention mask.

        With `max_length` the longer of the two is cut first, until all fits.
        """
        check_length(max_length)
        first, second = self._ids(first), None if second is None else self._ids(second)
        if max_length is not None:
            first, second = self.template.cut(first, second, max_length)
        return self.template.fill(self.token_to_id, first, second)

    def decode(self, ids, *, skip_special_tokens=False):
        """The text of a list or 1-d array of ids; `IndexError` names an unknown id."""
        return "".join(self._pieces(self._checked(ids), skip_special_tokens))

    def decode_stream(self, ids, *, skip_special_tokens=False):
        """Parts of the text while the ids come in; joined they are what `decode` gives.

        A part holds whole characters only: one whose bytes are spread over several
        tokens comes with the last of them.
        """
        one_by_one = (self._checked([index])[0] for index in ids)
        return self._pieces(one_by_one, skip_special_tokens)

    def normalize(self, text):
        """The text as it is cut into tokens; most tokenizers leave it as it was."""
        return text

    def save(self, path):
        """Write a tokenizer.json, atomically; `load_tokenizer` reads it.

        It is the format of the library `tokenizers`, which reads it as well.
        """
        write_json(path, self._contents())

    @functools.cached_property
    def _finders(self):
        first = [token for token in self.added_tokens if not token.normalized]
        then = [token for token in self.added_tokens if token.normalized]
        return AddedTokenFinder(first), AddedTokenFinder(then, self.normalize)

    @functools.cached_property
    def _written(self):
        """The tokens as `decode` writes them: as they were found in a text.

        The library `tokenizers` writes them so too, but does not know such a token for
        a special one where it leaves these out; here special is special.
        """
        names = (token.content for token in self.added_tokens if token.normalized)
        found = {name: self.normalize(name) for name in names}
        return [found.get(token, token) for token in self.tokens]

    def _ids(self, text):
        check_text(text)
        finder, finder_in_normalized = self._finders
        ids = []
        for token, part in finder.split(text):
            pieces = [(token, part)]
            if token is None:
                pieces = finder_in_normalized.split(self.normalize(part))
            for token, piece in pieces:
                if token is None:
                    ids += self._encode(piece)
                else:
                    ids.append(self.token_to_id[token.content])
        return ids

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

    def _check_vocabulary(self):
        if len(self.token_to_id) < len(self.tokens):
            twice = next(t for t, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"the token {twice!r} stands in the vocabulary twice")
        added = [token.content for token in self.added_tokens]
        for what, names in (("special", added), ("template", self.template.tokens)):
            missing = [name for name in names if name not in self.token_to_id]
            if missing:
                raise ValueError(
                    f"{what} tokens missing from the vocabulary: {missing}"
                )


class CachingTokenizer(Tokenizer):
    """A tokenizer that cuts a text into words and remembers the ids of each.

    A kind of it adds `_words` (text to words) and `_encode_word` (word to ids). The
    same few thousand words make up most of a text, so that hardly any is worked out
    twice.
    """

    cache_size = 2**16  # words
    longest_cached = 256  # characters

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self._cache = {}  # word -> ids

    def _encode(self, text):
        ids, cache = [], self._cache
        for word in self._words(text):
            known = cache.get(word)
            if known is None:
                known = self._encode_word(word)
                self._remember(word, known)
            ids += known
        return ids

    def _remember(self, word, ids):
        if len(word) <= self.longest_cached:
            if len(self._cache) >= self.cache_size:
                self._cache.clear()
            self._cache[word] = ids


def write_text(path, text):
    """Write a UTF-8 file, atomically."""
    with atomic_write(Path(path)) as file:
        # A character tokenizer may have seen half a surrogate pair; JSON's reader
        # takes it back.
        file.write(text.encode("utf-8", "surrogatepass"))


def write_json(path, contents):
    """Write a JSON file that people can read, atomically."""
    write_text(path, json.dumps(contents, indent=1, ensure_ascii=False) + "\n")


def pad(sequences, value=0):
    """(ids, mask): lists of ids of any lengths as two arrays, both (B, T).

    ids are int64, `value` after the end of each; mask is True where there is an id.
    """
    width = max(map(len, sequences), default=0)
    ids = np.full((len(sequences), width), value, np.int64)
    mask = np.zeros(ids.shape, bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return ids, mask


def check_text(text):
    """Refuse what is not a string, naming what it is."""
    if not isinstance(text, str):
        raise TypeError(f"a tokenizer encodes a string, got {type(text).__name__}")


def check_length(max_length):
    """Refuse what cannot be the number of ids to keep; None keeps all."""
    if max_length is not None:
        checks.whole("max_length", max_length, 0)


def training_parts(text, special_tokens):
    """The pieces of a text, or of several, that lie between special tokens."""
    finder = AddedTokenFinder(added_tokens(special_tokens))
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise TypeError(f"a tokenizer trains on strings, got {type(text).__name__}")
    parts = []
    for one in texts:
        check_text(one)
        parts += [part for token, part in finder.split(one) if token is None]
    if not parts:
        raise ValueError("cannot train a tokenizer on an empty text")
    return parts
