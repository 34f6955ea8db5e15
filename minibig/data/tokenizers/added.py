"""Tokens that are found in a text before anything else is done to it."""

import re
from dataclasses import asdict, dataclass

from .patterns import SPACE

_WHITE_SPACE = re.compile(f"[{SPACE}]*")


@dataclass(frozen=True)
class AddedToken:
    """A token that stands for itself, such as "[MASK]" or "<|endoftext|>"."""

    content: str
    special: bool = True  # `decode` can leave it out
    lstrip: bool = False  # takes along the white space before it
    rstrip: bool = False  # takes along the white space after it
    normalized: bool = False  # sought in the normalised text, after the others

    def contents(self, index):
        """What a tokenizer.json says of this token."""
        return {"id": index, "single_word": False, **asdict(self)}


def added_tokens(tokens):
    """`AddedToken`s of strings or of `AddedToken`s.

    Raises `ValueError` for what is not a collection of distinct, non-empty ones.
    """
    listed = [] if isinstance(tokens, str) else list(tokens)
    added = [AddedToken(t) if isinstance(t, str) else t for t in listed]
    named = all(isinstance(token, AddedToken) and token.content for token in added)
    if (
        isinstance(tokens, str)
        or not named
        or len({t.content for t in added}) < len(added)
    ):
        raise ValueError(
            f"special_tokens is a list of distinct, non-empty strings, got {tokens!r}"
        )
    return tuple(added)


def contents_of(tokens):
    """The strings of strings or `AddedToken`s."""
    return [token.content for token in added_tokens(tokens)]


class AddedTokenFinder:
    """Cuts texts at tokens; of two that begin at one place the longer one counts.

    They are sought as `normalize` writes them.
    """

    def __init__(self, tokens, normalize=str):
        self.tokens = {normalize(token.content): token for token in tokens}
        self.tokens.pop("", None)  # nothing was left of it
        by_length = sorted(self.tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, by_length)))

    def split(self, text):
        """(token or None, part of the text) from left to right."""
        if not self.tokens:
            return [(None, text)] if text else []
        parts, end = [], 0
        for match in self._pattern.finditer(text):
            token = self.tokens[match.group()]
            start = max(match.start(), end)  # white space may be taken already
            before = text[end:start]
            if token.lstrip:
                before = before.rstrip(SPACE)
            parts += [(None, before)] if before else []
            parts.append((token, token.content))
            end = match.end()
            if token.rstrip:
                end = _WHITE_SPACE.match(text, end).end()
        return parts + ([(None, text[end:])] if text[end:] else [])
