"""BPE over characters, with bytes for those it does not know: Llama's first kind.

"▁" stands for the space, and one is put before every text. A character outside the
vocabulary is written as its UTF-8 bytes, "<0xE6>" and so on. Sources: Kudo and
Richardson, arXiv 1808.06226 (SentencePiece); Touvron et al., arXiv 2302.13971, 2.1.
"""

import re

from .base import CachingTokenizer
from .bpe_format import merges_of, refuse_bpe_settings
from .byte_level import check_encodable
from .file_format import document, vocabulary_settings
from .merges import apply_merges, rank_merges

SPACE = "▁"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_TO_SPACES = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
_FROM_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Prepend", "prepend": SPACE}
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


class ByteFallbackTokenizer(CachingTokenizer):
    """Llama's BPE with byte fallback; it is read from files, not trained here.

    With `add_prefix_space`, as Llama has it and Gemma has not, a space is put before
    every text, and the first one is dropped in decoding.
    """

    def __init__(
        self, tokens, merges, special_tokens=(), *, add_prefix_space=True, **settings
    ):
        super().__init__(tokens, special_tokens, **settings)
        missing = [token for token in BYTES if token not in self.token_to_id]
        if missing:
            raise ValueError(
                f"the vocabulary lacks {len(missing)} of the 256 bytes, such as "
                f"{missing[0]!r}, so it could not write every text"
            )
        self.add_prefix_space = add_prefix_space
        self.merges = tuple((left, right) for left, right in merges)
        self._ranks = rank_merges(self.merges, self.token_to_id)
        self._byte_ids = [self.token_to_id[token] for token in BYTES]
        self._bytes = {index: byte for byte, index in enumerate(self._byte_ids)}
        # Where no token holds a space after something else, merges never cross from one
        # word to the next, and words can be remembered.
        made = (left + right for left, right in self.merges)
        inner = any(SPACE in token.lstrip(SPACE) for token in made)
        self._word = re.compile(
            r"[\s\S]+" if inner else f"{SPACE}*[^{SPACE}]+|{SPACE}+"
        )

    def normalize(self, text):
        """The text with "▁" for spaces, and one before it."""
        return (SPACE * self.add_prefix_space) + text.replace(" ", SPACE)

    def _words(self, text):
        check_encodable(text)
        return self._word.findall(text)

    def _encode_word(self, word):
        ids = []
        for character in word:
            known = self.token_to_id.get(character)
            if known is None:
                ids += [self._byte_ids[byte] for byte in character.encode()]
            else:
                ids.append(known)
        return apply_merges(ids, self._ranks)

    def _pieces(self, ids, skip_special_tokens):
        parts = self._joined_bytes(ids, skip_special_tokens)
        if self.add_prefix_space:
            yield next(parts, "").removeprefix(" ")
        yield from parts

    def _joined_bytes(self, ids, skip_special_tokens):
        left_out = self._special_ids if skip_special_tokens else ()
        run = bytearray()
        for index in ids:
            if index in self._bytes:
                run.append(self._bytes[index])
            elif index not in left_out:
                yield from _decoded(run)
                run.clear()
                yield self._written[index].replace(SPACE, " ")
        yield from _decoded(run)

    def _contents(self):
        start = [_PREPEND] if self.add_prefix_space else []
        end = [_STRIP] if self.add_prefix_space else []
        steps = [_TO_SPACES, {"type": "ByteFallback"}, {"type": "Fuse"}, *end]
        return document(
            self,
            {
                "type": "BPE",
                "byte_fallback": True,
                "merges": [list(merge) for merge in self.merges],
            },
            normalizer={"type": "Sequence", "normalizers": [*start, _FROM_SPACES]},
            decoder={"type": "Sequence", "decoders": steps},
        )

    @classmethod
    def _from_contents(cls, contents):
        refuse_bpe_settings(contents["model"])
        normalizer = contents.get("normalizer")
        if normalizer == _FROM_SPACES:
            normalizer = {"type": "Sequence", "normalizers": [normalizer]}
        settings = vocabulary_settings(contents)
        merges = merges_of(contents["model"])
        for add_prefix_space in (True, False):
            tokenizer = cls(
                merges=merges, add_prefix_space=add_prefix_space, **settings
            )
            ours = tokenizer._contents()
            if (
                normalizer == ours["normalizer"]
                and contents.get("decoder") == ours["decoder"]
                and contents.get("pre_tokenizer") is None
            ):
                return tokenizer
        raise ValueError(
            "minibig reads BPE with byte fallback where the normalizer puts ▁ before "
            "the text and for spaces, as Llama 2's, or for spaces alone, and no "
            "pre_tokenizer follows; this file's parts are others"
        )


def _decoded(run):
    """The text of some bytes, or one U+FFFD for each where they are not UTF-8."""
    try:
        return [run.decode()] if run else []
    except UnicodeDecodeError:
        return ["\ufffd"] * len(run)
