r"""Where a text is cut into words: patterns with Unicode's categories.

GPT-2 wrote its rule for the package `regex`, which knows \p{L} (letters), \p{N}
(numbers) and so on. Python's `re` does not: here the characters of a category are
listed for it, as `unicodedata` of this Python has them.
"""

import functools
import re
import unicodedata
from itertools import groupby

# Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): English
# contractions; letters, numbers or other marks, each with one space before them; white
# space, whose last space goes to the word that follows.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Words without punctuation, of which each mark is a word of its own: BERT's rule. The
# ASCII marks listed are symbols by Unicode, punctuation to BERT.
BERT = r"[^\s\p{P}$+<=>^`|~]+|[\p{P}$+<=>^`|~]"
# Words, marks, white-space characters: the rule of `WordTokenizer`.
WORDS = r" ?[\p{L}\p{N}_]+| ?[^\s\p{L}\p{N}_]|\s"

# Unicode's White_Space; Python's \s would add the separators U+001C to U+001F.
SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_LAST_ASCII, _LAST_BMP, _LAST = 0x7F, 0xFFFF, 0x10FFFF
_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")
_CATEGORY = "L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?|C[cfson]?"
_PLAIN_ESCAPES = frozenset("dfnrtuUvx")  # mean the same in both kinds of pattern


def find_words(pattern, text):
    """The words of a text, from left to right; joined they are the text again.

    What lies between two matches of `pattern` is a word too.
    """
    return find_matches(rf"{pattern}|(?:(?!{pattern})(?s:.))+", text)


def find_matches(pattern, text):
    """The parts of a text that match, from left to right."""
    return _compiled(pattern, _last_character(text)).findall(text)


def check_pattern(pattern):
    """Refuse, by `ValueError`, a pattern that `find_words` cannot follow exactly."""
    try:
        compiled = _compiled(pattern, _LAST_ASCII)
    except (re.error, OverflowError) as error:
        raise ValueError(f"the pattern {pattern!r} is not valid: {error}") from None
    unlike = re.search(r"\(\?(?!i?:|[=!>]|<[=!])", pattern)  # other flags, names
    if compiled.groups or compiled.match("") or unlike:
        raise ValueError(
            f"the pattern {pattern!r} has a capturing group or a flag other than i, or "
            "matches the empty string; write groups as (?:…), and + for *"
        )


@functools.cache
def _compiled(pattern, last):
    # For texts without characters beyond the code point `last`: fewer make the search
    # several times faster, and English needs no Chinese letters.
    return re.compile(translated(pattern, last))


def translated(pattern, last):
    r"""`pattern` for Python's `re`: \p{…}, \s and \S written out up to `last`."""
    parts, inside = [], False
    for piece in re.findall(r"\\p\{\w+\}|\\.|.", pattern, re.DOTALL):
        category = re.fullmatch(rf"\\p\{{({_CATEGORY})\}}", piece)
        if category or piece == r"\s":
            listed = _category(category[1], last) if category else SPACE
            parts.append(listed if inside else f"[{listed}]")
        elif piece == r"\S" and not inside:
            parts.append(f"[^{SPACE}]")
        elif _means_another_thing(piece, inside):
            raise ValueError(
                f"the pattern {pattern!r} holds {piece!r} in a place where Python's "
                "re reads it otherwise"
            )
        else:
            inside = piece == "[" or (inside and piece != "]")
            parts.append(piece)
    return "".join(parts)


def _means_another_thing(piece, inside):
    if piece[0] == "\\":
        return piece[1:2].isalnum() and piece[1:] not in _PLAIN_ESCAPES
    return piece in ("[&" if inside else "^$")


@functools.cache
def _category(name, last):
    """The characters of a category, "L" or "Lu", as the inside of a [set]."""
    ranges = [
        f"\\U{first:08x}-\\U{final:08x}"
        for first, final, category in _categories(last)
        if category.startswith(name)
    ]
    return "".join(ranges) or "\U0010ffff"  # a set may not be empty; no one has this


@functools.cache
def _categories(last):
    """(first, last, category) of each run of characters of one category."""
    runs, first = [], 0
    for category, run in groupby(map(chr, range(last + 1)), unicodedata.category):
        following = first + sum(1 for _ in run)
        runs.append((first, following - 1, category))
        first = following
    return runs


def _last_character(text):
    if text.isascii():
        return _LAST_ASCII
    return _LAST if _BEYOND_BMP.search(text) else _LAST_BMP
