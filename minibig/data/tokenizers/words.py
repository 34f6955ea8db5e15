"""The two simplest tokenizers: one token a character, one token a word."""

from collections import Counter

from ... import checks
from .added import contents_of
from .base import Tokenizer, training_parts
from .file_format import document, split_at, vocabulary_settings
from .patterns import WORDS, find_words

_CHARACTER_PARTS = {
    "normalizer": None,
    "pre_tokenizer": split_at(r"[\s\S]"),
    "decoder": {"type": "Fuse"},
}
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_WORD_PARTS = {
    "normalizer": {"type": "Prepend", "prepend": " "},
    "pre_tokenizer": split_at(WORDS),
    "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, _STRIP]},
}


class _WholeTokens(Tokenizer):
    """A tokenizer whose tokens are not made of smaller ones.

    `_parts` is what its files say beside the vocabulary; by it they are recognised.
    """

    unknown_token = ""
    _parts = None

    def _contents(self):
        model = {"type": "WordLevel", "unk_token": self.unknown_token}
        return document(self, model, **self._parts)

    @classmethod
    def _wrote(cls, contents):
        """Whether a tokenizer of this class wrote such contents."""
        unknown = contents["model"].get("unk_token")
        return unknown == cls.unknown_token and all(
            contents.get(name) == part for name, part in cls._parts.items()
        )

    @classmethod
    def _from_contents(cls, contents):
        return cls(**vocabulary_settings(contents))


class CharTokenizer(_WholeTokens):
    """One token a character."""

    _parts = _CHARACTER_PARTS

    @classmethod
    def train(cls, text, *, special_tokens=()):
        """A tokenizer of the characters of a text, or of several, sorted.

        Special tokens follow them. Raises `ValueError` for an empty text.
        """
        characters = sorted(set().union(*training_parts(text, special_tokens)))
        return cls([*characters, *contents_of(special_tokens)], special_tokens)

    def __init__(self, tokens, special_tokens=(), **settings):
        super().__init__(tokens, special_tokens, **settings)
        for index, token in enumerate(self.tokens):
            if len(token) != 1 and index not in self._added_ids:
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

    def _pieces(self, ids, skip_special_tokens):
        left_out = self._special_ids if skip_special_tokens else ()
        return (self._written[index] for index in ids if index not in left_out)


class WordTokenizer(_WholeTokens):
    """One token a word, punctuation mark or white-space character.

    A word or mark carries the space before it (" the"), and a text is read as if a
    space stood before it too, so that a word is the same token wherever it stands in a
    sentence. Joining the tokens and dropping that first space gives the text back.
    """

    unknown_token = "<unk>"
    _parts = _WORD_PARTS

    @classmethod
    def train(cls, text, *, max_size=None, unknown=True, special_tokens=()):
        """A tokenizer of the words of a text, or of several, the most frequent first.

        `max_size` bounds the vocabulary. With `unknown`, words outside it become
        "<unk>"; without, they are an error. Raises `ValueError` for an empty text.
        """
        parts = training_parts(text, special_tokens)
        special_tokens = [*([cls.unknown_token] if unknown else []), *special_tokens]
        if (
            max_size is not None
            and checks.whole("max_size", max_size) <= len(special_tokens) + 1
        ):
            raise ValueError(
                f"max_size {max_size} leaves no room for words beside the space and "
                f"{len(special_tokens)} special tokens"
            )
        counts = Counter(word for part in parts for word in _words(" " + part))
        counts.pop(" ", None)  # always kept, so that every text has a first piece
        words = sorted(counts, key=lambda word: (-counts[word], word))
        if max_size is not None:
            words = words[: max_size - len(special_tokens) - 1]
        return cls([*contents_of(special_tokens), " ", *words], special_tokens)

    def normalize(self, text):
        """The text with a space before it."""
        return " " + text

    def _encode(self, text):
        words = _words(text)
        unknown = self.special_tokens.get(self.unknown_token)
        ids = [self.token_to_id.get(word, unknown) for word in words]
        if None in ids:
            word = words[ids.index(None)]
            raise ValueError(
                f"word {word.removeprefix(' ') or word!r} is not in this vocabulary of "
                f"{self.vocab_size} tokens; train with unknown=True to replace such "
                "words by '<unk>'"
            )
        return ids

    def _pieces(self, ids, skip_special_tokens):
        at_start = True
        for index in ids:
            token = self._written[index]
            if index not in self._added_ids:
                yield token.removeprefix(" ") if at_start else token
            elif not (skip_special_tokens and index in self._special_ids):
                yield token
            at_start = index in self._added_ids


def _words(text):
    return find_words(WORDS, text)
