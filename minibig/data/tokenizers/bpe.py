"""Byte-level byte-pair encoding (BPE), GPT-2's kind of tokenizer.

A text is cut into words by GPT-2's rule, each word written as UTF-8 bytes, and the
learnt merges are applied to each in the order they were learnt: no text is unknown.
Sources: Sennrich et al., arXiv 1508.07909, algorithm 1 (the merges); Radford et al.,
"Language Models are Unsupervised Multitask Learners" (2019), section 2.2 (bytes).
"""

import codecs
import unicodedata
from collections import Counter
from pathlib import Path

from ... import checks
from .added import contents_of
from .base import CachingTokenizer, training_parts, write_json, write_text
from .bpe_format import merges_of, refuse_bpe_settings, word_settings, word_splitter
from .byte_level import (
    BYTE_ORDER,
    CHARACTERS,
    TO_CHARACTER,
    check_encodable,
    hidden,
    visible,
)
from .file_format import (
    document,
    entry,
    in_order,
    refuse_settings,
    vocabulary_settings,
)
from .merges import apply_merges, learn_merges, rank_merges
from .patterns import GPT2, check_pattern, find_words

# Those of GPT-2's and RoBERTa's vocab.json, which does not say which are special.
_SPECIAL_TOKENS = ("<|endoftext|>", "<s>", "<pad>", "</s>", "<unk>", "<mask>")
NORMAL_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


class BPETokenizer(CachingTokenizer):
    """Byte-level BPE: any text and any bytes come back exactly.

    `tokens` are in GPT-2's visible form ("Ġthe" is " the"), `merges` pairs of them,
    most important first. Notebook 10 builds it.

    The settings are those of published tokenizers: with `add_prefix_space` a text is
    read as if a space stood before it (RoBERTa); another `pattern` says what a word is
    (Llama 3, Qwen); with `ignore_merges` a word that is a token is never taken apart
    (Llama 3); `normal_form` "NFC" puts accents together first (Qwen), which decoding
    cannot undo.
    """

    def __init__(
        self,
        tokens,
        merges,
        special_tokens=(),
        *,
        add_prefix_space=False,
        pattern=GPT2,
        ignore_merges=False,
        normal_form=None,
        **settings,
    ):
        super().__init__(tokens, special_tokens, **settings)
        if add_prefix_space and pattern != GPT2:
            raise ValueError("add_prefix_space goes with GPT-2's pattern alone")
        if normal_form not in (None, *NORMAL_FORMS):
            raise ValueError(
                f"normal_form is one of {NORMAL_FORMS}, not {normal_form!r}"
            )
        check_pattern(pattern)
        self.add_prefix_space, self.pattern = add_prefix_space, pattern
        self.ignore_merges, self.normal_form = ignore_merges, normal_form
        self.merges = tuple((left, right) for left, right in merges)
        self._ranks = rank_merges(self.merges, self.token_to_id)
        missing = [c for c in CHARACTERS if c not in self.token_to_id]
        if missing:
            raise ValueError(
                f"the vocabulary lacks {len(missing)} of the 256 bytes, such as "
                f"{missing[0]!r}, so it could not write every text"
            )
        self._byte_ids = [self.token_to_id[TO_CHARACTER[byte]] for byte in range(256)]
        self._bytes = [self._bytes_of(index) for index in range(self.vocab_size)]

    @classmethod
    def train(cls, text, vocab_size, *, special_tokens=(), min_frequency=2):
        """A tokenizer whose merges are the most frequent pairs in a text, or several.

        256 bytes, then merges, then special tokens; fewer than `vocab_size` in all when
        no pair is left that occurs `min_frequency` times. Of equal counts the pair of
        smaller ids is merged first. Raises `ValueError` for an empty text and for too
        small a vocabulary.
        """
        checks.whole("vocab_size", vocab_size, 1)
        checks.whole("min_frequency", min_frequency, 1)
        special = contents_of(special_tokens)
        if vocab_size < 256 + len(special):
            raise ValueError(
                f"vocab_size {vocab_size} is too small: 256 bytes and {len(special)} "
                f"special tokens need at least {256 + len(special)}"
            )
        counts = Counter()
        for part in training_parts(text, special_tokens):
            check_encodable(part)
            counts.update(split_words(part))
        byte_ids = {byte: index for index, byte in enumerate(BYTE_ORDER)}
        words = [
            ([byte_ids[byte] for byte in word.encode()], count)
            for word, count in counts.items()
        ]
        tokens, merges = learn_merges(
            CHARACTERS, words, vocab_size - len(special), min_frequency
        )
        return cls([*tokens, *special], merges, special_tokens)

    def encode_bytes(self, data):
        """The ids of any bytes, valid UTF-8 or not; special tokens are not sought."""
        return super()._encode(bytes(data).decode("utf-8", "surrogateescape"))

    def decode_bytes(self, ids):
        """The bytes of a list or 1-d array of ids."""
        return b"".join(self._bytes[index] for index in self._checked(ids))

    def normalize(self, text):
        """The text in the normal form that was asked for, if one was."""
        return (
            unicodedata.normalize(self.normal_form, text) if self.normal_form else text
        )

    def save_vocabulary(self, folder):
        """Write vocab.json, merges.txt and tokenizer_config.json, GPT-2's files.

        Raises `ValueError` for settings that these cannot express; `save` can.
        """
        merges = "\n".join(["#version: 0.2", *map(" ".join, self.merges)]) + "\n"
        config = {
            "add_prefix_space": self.add_prefix_space,
            "additional_special_tokens": list(self.special_tokens),
        }
        if self._from_vocabulary(self.token_to_id, merges, config).hash != self.hash:
            raise ValueError("vocab.json holds GPT-2's kind alone; use save")
        write_json(Path(folder) / "vocab.json", self.token_to_id)
        write_text(Path(folder) / "merges.txt", merges)
        write_json(Path(folder) / "tokenizer_config.json", config)

    @classmethod
    def _from_vocabulary(cls, vocabulary, merges, config):
        """A tokenizer of the contents of the three files of `save_vocabulary`."""
        lines = [line for line in merges.split("\n") if line.strip()]
        lines = [line for line in lines if not line.startswith("#version")]
        special = entry(config, "additional_special_tokens", list, [])
        return cls(
            in_order(vocabulary),
            merges_of({"merges": lines}),
            [t for t in vocabulary if t in _SPECIAL_TOKENS or t in special],
            add_prefix_space=entry(config, "add_prefix_space", bool, False),
        )

    def _encode(self, text):
        check_encodable(text)
        if self.add_prefix_space and not text.startswith(" "):
            text = " " + text
        return super()._encode(text)

    def _words(self, text):
        return find_words(self.pattern, text)

    def _encode_word(self, word):
        data = word.encode("utf-8", "surrogateescape")
        if self.ignore_merges and visible(data) in self.token_to_id:
            return [self.token_to_id[visible(data)]]
        return apply_merges([self._byte_ids[byte] for byte in data], self._ranks)

    def _pieces(self, ids, skip_special_tokens):
        # A model may write half a character: U+FFFD then stands in its place.
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        for index in ids:
            if index not in self._added_ids:
                yield utf8.decode(self._bytes[index])
                continue
            yield utf8.decode(b"", final=True)
            # Its text as it is; `tokenizers` takes its "é" for the byte 0xE9.
            if not (skip_special_tokens and index in self._special_ids):
                yield self._written[index]
        yield utf8.decode(b"", final=True)

    def _bytes_of(self, index):
        token = self.tokens[index]
        if index in self._added_ids:
            return token.encode()
        try:
            return hidden(token)
        except KeyError as error:
            raise ValueError(
                f"token {token!r} holds {error.args[0]!r}, which is no byte's character"
            ) from None

    def _contents(self):
        model = {
            "type": "BPE",
            "ignore_merges": self.ignore_merges,
            "merges": [list(merge) for merge in self.merges],
        }
        return document(
            self,
            model,
            normalizer={"type": self.normal_form} if self.normal_form else None,
            pre_tokenizer=word_splitter(self.pattern, self.add_prefix_space),
            decoder={
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
        )

    @classmethod
    def _from_contents(cls, contents):
        model, normalizer = contents["model"], contents.get("normalizer")
        refuse_bpe_settings(model)
        if normalizer is not None:
            refuse_settings("normalizer", normalizer, type=NORMAL_FORMS)
            normalizer = entry(normalizer, "type", str)
        if contents.get("decoder") is not None:
            refuse_settings("decoder", contents["decoder"], type=("ByteLevel",))
        return cls(
            merges=merges_of(model),
            **word_settings(entry(contents, "pre_tokenizer", dict)),
            ignore_merges=entry(model, "ignore_merges", bool, False),
            normal_form=normalizer,
            **vocabulary_settings(contents),
        )


def split_words(text):
    """The words of a text by GPT-2's rule; joined they are the text again.

    Letters, digits or other marks, each with one space before them; English
    contractions; white space, whose last space goes to the word that follows.
    """
    return find_words(GPT2, text)
