"""What a tokenizer puts around a text, or around two: "[CLS] first [SEP] second [SEP]".

A template has one entry a piece: (a special token, or "$A" or "$B" for a text, type
id).
"""

from dataclasses import dataclass
from typing import NamedTuple


class Encoding(NamedTuple):
    """What BERT reads of a text or of two: three lists of equal length."""

    ids: list
    type_ids: list  # 0 for the first text and what belongs to it, 1 for the second
    attention_mask: list  # 1 for every token; padding gets 0


@dataclass(frozen=True)
class Template:
    """How one text is framed, and how two are; `tokens` are those it adds."""

    single: tuple = (("$A", 0),)
    pair: tuple = (("$A", 0), ("$B", 1))

    def __post_init__(self):
        for entries, texts in ((self.single, ["$A"]), (self.pair, ["$A", "$B"])):
            if sorted(name for name, _ in entries if name in ("$A", "$B")) != texts:
                raise ValueError(f"a template needs each of {texts} once: {entries}")

    @classmethod
    def parse(cls, single, pair):
        """The template of two strings such as "[CLS] $A [SEP] $B:1 [SEP]:1"."""
        return cls(*(tuple(map(_entry, text.split())) for text in (single, pair)))

    @property
    def tokens(self):
        """The special tokens in it, each once."""
        names = [name for name, _ in self.single + self.pair]
        return tuple(dict.fromkeys(n for n in names if n not in ("$A", "$B")))

    def cut(self, first, second, max_length):
        """The ids of a text, or of two, cut so that the whole has `max_length` ids.

        Raises `ValueError` where the template alone is longer.
        """
        entries = self.single if second is None else self.pair
        texts = 1 + (second is not None)
        room = max_length - (len(entries) - texts)
        if room < 0:
            raise ValueError(f"max_length {max_length} is less than the template's own")
        if second is None:
            return first[:room], None
        short, long = sorted((len(first), len(second)))
        if short + long > room:  # the longer gives first, then both the same
            long = max(short, room - short)
            if short + long > room:
                short, long = room // 2, room - room // 2
        sizes = (long, short) if len(first) > len(second) else (short, long)
        return first[: sizes[0]], second[: sizes[1]]

    def fill(self, token_to_id, first, second=None):
        """The `Encoding` of the ids of a text, or of two."""
        texts = {"$A": first, "$B": second}
        ids, type_ids = [], []
        for name, type_id in self.single if second is None else self.pair:
            part = texts[name] if name in texts else [token_to_id[name]]
            ids += part
            type_ids += [type_id] * len(part)
        return Encoding(ids, type_ids, [1] * len(ids))


def _entry(text):
    name, _, type_id = text.partition(":")
    return name, int(type_id or 0)


PLAIN = Template()
BERT = Template.parse("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
