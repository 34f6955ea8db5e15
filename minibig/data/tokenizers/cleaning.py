"""BERT's text cleaning: what is removed, spaced out, stripped and made small.

Source: google-research/bert, tokenization.py, in the reading of the library
`tokenizers`, whose ids the published fast tokenizers have. Categories are those of this
Python's Unicode version; the library's are older (Unicode 8) for control characters,
accents and punctuation.
"""

import unicodedata

from .patterns import SPACE

_REMOVED = ("Cc", "Cf", "Co", "Cs")  # control, format, private use, half a pair
# BERT's own list begins its sixth range at U+2B820; the library's is followed.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class _Table(dict):
    """A table for `str.translate` that asks a rule about each character once."""

    def __init__(self, rule):
        super().__init__()
        self._rule = rule

    def __missing__(self, code):
        self[code] = replacement = self._rule(chr(code))
        return replacement


def clean(text):
    """The text without control characters, its white space all plain spaces.

    The replacement character U+FFFD goes too. Tab and line ends count as white space.
    """
    return text.translate(_CLEAN)


def space_ideographs(text):
    """The text with a space on each side of every Chinese ideograph."""
    return text.translate(_SPACED)


def strip_accents(text):
    """The text without accents: decomposed (NFD), and combining marks left out."""
    return unicodedata.normalize("NFD", text).translate(_WITHOUT_MARKS)


def lower(text):
    """The text in lower case, each character by itself: "Σ" is "σ" everywhere."""
    return text.translate(_LOWER)


def _cleaned(character):
    if character in "\t\n\r":
        return " "
    if character == "\ufffd" or unicodedata.category(character) in _REMOVED:
        return None
    return " " if character in SPACE else character


def _spaced(character):
    code = ord(character)
    chinese = any(first <= code <= last for first, last in _IDEOGRAPHS)
    return f" {character} " if chinese else character


def _without_mark(character):
    return None if unicodedata.category(character) == "Mn" else character


_CLEAN, _SPACED = _Table(_cleaned), _Table(_spaced)
_WITHOUT_MARKS, _LOWER = _Table(_without_mark), _Table(str.lower)
