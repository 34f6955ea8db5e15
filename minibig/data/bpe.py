"""Byte-level byte-pair encoding (BPE), GPT-2's kind of tokenizer.

A text is cut into words by GPT-2's rule, each word written as UTF-8 bytes, and the
learnt merges are applied to each in the order they were learnt: no text is unknown.
Sources: Sennrich et al., arXiv 1508.07909, algorithm 1 (the merges); Radford et al.,
"Language Models are Unsupervised Multitask Learners" (2019), section 2.2 (bytes).
"""

import functools
import heapq
import re
from collections import Counter, defaultdict
from itertools import pairwise

from .tokenizers import (
    Tokenizer,
    check_special_tokens,
    check_strings,
    training_parts,
)

# Files write a byte as a character that can be seen, as GPT-2's do: printable bytes
# stand for themselves, the others are moved to U+0100 and up. Ids 0 to 255 follow it.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTE_ORDER = bytes([*_PRINTABLE, *_OTHERS])
_CHARACTERS = [*map(chr, _PRINTABLE), *(chr(256 + n) for n in range(len(_OTHERS)))]
_TO_CHARACTER = dict(zip(_BYTE_ORDER, _CHARACTERS, strict=True))
_TO_BYTE = dict(zip(_CHARACTERS, _BYTE_ORDER, strict=True))

# Unicode's White_Space; Python's \s would add the separators U+001C to U+001F.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CACHE_SIZE = 2**16


class BPETokenizer(Tokenizer):
    """Byte-level BPE: any text and any bytes come back exactly.

    `tokens` are in GPT-2's visible form ("Ġthe" is " the"), `merges` pairs of them,
    most important first. Notebook 10 builds it.
    """

    def __init__(self, tokens, merges, special_tokens=()):
        super().__init__(tokens, special_tokens)
        missing = [c for c in _CHARACTERS if c not in self.token_to_id]
        if missing:
            raise ValueError(
                f"the vocabulary lacks {len(missing)} of the 256 bytes, such as "
                f"{missing[0]!r}, so it could not write every text"
            )
        self.merges = tuple((left, right) for left, right in merges)
        self._ranks = self._rank_merges()
        self._byte_ids = [self.token_to_id[_TO_CHARACTER[byte]] for byte in range(256)]
        self._bytes = [self._bytes_of(token) for token in self.tokens]
        self._cache = {}  # word -> ids

    @classmethod
    def train(cls, text, vocab_size, *, special_tokens=(), min_frequency=2):
        """A tokenizer whose merges are the most frequent pairs in a text, or several.

        256 bytes, then merges, then special tokens; fewer than `vocab_size` in all when
        no pair is left that occurs `min_frequency` times. Of equal counts the pair of
        smaller ids is merged first. Raises `ValueError` for an empty text and for too
        small a vocabulary.
        """
        check_special_tokens(special_tokens)
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size {vocab_size} is too small: 256 bytes and "
                f"{len(special_tokens)} special tokens need at least {smallest}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, not {min_frequency}")
        words = Counter()
        for part in training_parts(text, special_tokens):
            _check_encodable(part)
            words.update(split_words(part))
        counts = {word.encode(): count for word, count in words.items()}
        learnt, pairs = learn_merges(
            counts, vocab_size - len(special_tokens), min_frequency
        )
        tokens = [_visible(token) for token in learnt]
        merges = [(_visible(left), _visible(right)) for left, right in pairs]
        return cls([*tokens, *special_tokens], merges, special_tokens)

    def encode_bytes(self, data):
        """The ids of any bytes, valid UTF-8 or not; special tokens are not sought."""
        return self._encode_words(bytes(data).decode("utf-8", "surrogateescape"))

    def decode_bytes(self, ids):
        """The bytes of a list or 1-d array of ids."""
        return b"".join(self._bytes[index] for index in self._checked(ids))

    def _encode(self, text):
        _check_encodable(text)
        return self._encode_words(text)

    def _decode(self, ids):
        # A model may write half a character: U+FFFD then stands in its place.
        return b"".join(self._bytes[index] for index in ids).decode(errors="replace")

    def _encode_words(self, text):
        ids = []
        for word in split_words(text):
            known = self._cache.get(word)
            if known is None:
                known = self._encode_word(word)
            ids += known
        return ids

    def _encode_word(self, word):
        data = word.encode("utf-8", "surrogateescape")
        ids = [self._byte_ids[byte] for byte in data]
        while len(ids) > 1:
            pair = min(
                pairwise(ids), key=lambda p: self._ranks.get(p, (len(self.merges),))
            )
            if pair not in self._ranks:
                break
            ids = replace_pair(ids, pair, self._ranks[pair][1])
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[word] = ids
        return ids

    def _rank_merges(self):
        """Pair of ids -> (its place among the merges, the id it becomes)."""
        ranks = {}
        for place, (left, right) in enumerate(self.merges):
            missing = {left, right, left + right} - self.token_to_id.keys()
            if missing:
                raise ValueError(
                    f"merge {left!r} + {right!r} needs {sorted(missing)}, which the "
                    "vocabulary lacks"
                )
            pair = self.token_to_id[left], self.token_to_id[right]
            ranks.setdefault(pair, (place, self.token_to_id[left + right]))
        return ranks

    def _bytes_of(self, token):
        if token in self.special_tokens:
            return token.encode()
        try:
            return bytes(_TO_BYTE[character] for character in token)
        except KeyError as error:
            raise ValueError(
                f"token {token!r} holds {error.args[0]!r}, which is no byte's character"
            ) from None

    def _contents(self):
        return super()._contents() | {"merges": [" ".join(m) for m in self.merges]}

    @classmethod
    def _from_contents(cls, contents):
        check_strings(contents, "merges")
        merges = [tuple(merge.split(" ")) for merge in contents["merges"]]
        for merge in merges:
            if len(merge) != 2:
                raise ValueError(f"merge {' '.join(merge)!r} is not two tokens")
        return cls(contents["tokens"], merges, contents["special_tokens"])


def split_words(text):
    """The words of a text by GPT-2's rule; joined they are the text again.

    Letters, digits or other marks, each with one space before them; English
    contractions; white space, whose last space goes to the word that follows.
    """
    return _word_pattern().findall(text)


def learn_merges(counts, vocab_size, min_frequency=2):
    """(tokens, merges): byte strings in id order, and the pairs of them to be merged.

    `counts` says how often each word (a byte string) occurs. The most frequent pair of
    neighbours becomes a token until there are `vocab_size`, or no pair occurs
    `min_frequency` times.
    """
    tokens = [bytes([byte]) for byte in _BYTE_ORDER]
    ids = {token: index for index, token in enumerate(tokens)}
    words = [[ids[bytes([byte])] for byte in word] for word in counts]
    pairs = _Pairs(words, list(counts.values()))
    merges = []
    while len(tokens) < vocab_size:
        count, pair = pairs.most_frequent()
        if count < min_frequency:
            break
        left, right = tokens[pair[0]], tokens[pair[1]]
        merges.append((left, right))
        pairs.merge(pair, len(tokens))
        tokens.append(left + right)
    return tokens, merges


class _Pairs:
    """The pairs of neighbours in all words, counted anew only where a word changes."""

    def __init__(self, words, frequencies):
        self.words, self.frequencies = words, frequencies
        self.counts = Counter()
        self.places = defaultdict(set)  # pair -> words that hold it, or did once
        for index, word in enumerate(words):
            for pair in pairwise(word):
                self.counts[pair] += frequencies[index]
                self.places[pair].add(index)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self):
        """(count, pair), of equal counts the one with the smaller ids."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if -count == self.counts[pair]:
                return -count, pair
            # Counts fall without notice here; the entry goes back where it belongs.
            heapq.heappush(self.heap, (-self.counts[pair], pair))
        return 0, None

    def merge(self, pair, merged):
        """Put the id `merged` for `pair` in all words."""
        created = set()
        for index in self.places.pop(pair):
            word = replace_pair(self.words[index], pair, merged)
            for old in pairwise(self.words[index]):
                self.counts[old] -= self.frequencies[index]
            for new in pairwise(word):
                self.counts[new] += self.frequencies[index]
                if merged in new:
                    self.places[new].add(index)
                    created.add(new)
            self.words[index] = word
        for new in created:
            heapq.heappush(self.heap, (-self.counts[new], new))


def replace_pair(ids, pair, merged):
    """`ids` with `merged` in place of each `pair` of neighbours, from the left."""
    result, position = [], 0
    while position < len(ids):
        if ids[position] == pair[0] and ids[position + 1 : position + 2] == [pair[1]]:
            result.append(merged)
            position += 2
        else:
            result.append(ids[position])
            position += 1
    return result


@functools.cache
def _word_pattern():
    # `re` has no \p{L} and \p{N}: \w is both and "_", \d only the decimal digits.
    numbers = "".join(
        character
        for character in map(chr, range(0x110000))
        if character.isnumeric() and not (character.isalpha() or character.isdecimal())
    )
    # ASCII is tried first, which makes the search 15 times faster.
    letter = rf"(?:[A-Za-z]+|(?![\0-\x7f])[^\W\d_{numbers}])"
    number = rf"(?:[0-9]+|(?![\0-\x7f])[\d{numbers}])"
    mark = rf"(?:[^\w{_SPACE}]+|_+)"
    return re.compile(
        rf"'(?:[sdmt]|ll|ve|re)| ?{letter}+| ?{number}+| ?{mark}+"
        rf"|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+"
    )


def _visible(data):
    return "".join(_TO_CHARACTER[byte] for byte in data)


def _check_encodable(text):
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"U+{ord(text[error.start]):04X} at position {error.start} is half of a "
            "surrogate pair, which UTF-8 cannot write; read the text with "
            'errors="replace", or pass the file\'s bytes to encode_bytes'
        ) from None
