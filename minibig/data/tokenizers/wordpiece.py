"""WordPiece, BERT's kind of tokenizer: words, or the longest pieces of them it knows.

"tokenizers" may become "token", "##izer", "##s"; "##" says that a piece goes on a word.
Sources: Schuster and Nakajima, "Japanese and Korean voice search" (2012); Devlin et
al., arXiv 1810.04805, section 3.
"""

from collections import Counter
from pathlib import Path

from ... import checks
from . import cleaning
from .added import contents_of
from .base import CachingTokenizer, training_parts, write_json, write_text
from .file_format import document, entry, refuse_settings, vocabulary_settings
from .merges import learn_merges
from .patterns import BERT, find_matches
from .template import BERT as BERT_TEMPLATE
from .template import PLAIN

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# What the library's decoder undoes of the cutting at punctuation, token by token.
_CLEANUPS = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"),
    (" 're", "'re"),
)  # fmt: skip


class WordPieceTokenizer(CachingTokenizer):
    """WordPiece after BERT's cleaning; what it cannot write becomes "[UNK]".

    With `lowercase` accents go too, unless `strip_accents` says otherwise. A word of
    more than `max_input_chars_per_word` characters is "[UNK]" as a whole. Decoding
    gives words with spaces between them, not the text: with `cleanup`, fewer before
    punctuation.
    """

    def __init__(
        self,
        tokens,
        special_tokens=(),
        *,
        lowercase=True,
        strip_accents=None,
        clean_text=True,
        handle_chinese_chars=True,
        unk_token="[UNK]",
        prefix="##",
        max_input_chars_per_word=100,
        cleanup=True,
        **settings,
    ):
        super().__init__(tokens, special_tokens, **settings)
        if unk_token not in self.token_to_id:
            raise ValueError(f"the vocabulary lacks the unknown token {unk_token!r}")
        self.lowercase, self.strip_accents = lowercase, strip_accents
        self.clean_text, self.handle_chinese_chars = clean_text, handle_chinese_chars
        self.unk_token, self.prefix, self.cleanup = unk_token, prefix, cleanup
        self.max_input_chars_per_word = max_input_chars_per_word

    @classmethod
    def train(
        cls,
        text,
        vocab_size,
        *,
        special_tokens=SPECIAL_TOKENS,
        min_frequency=2,
        limit_alphabet=1000,
        **settings,
    ):
        """A tokenizer whose pieces are merged like BPE's from the words of a text.

        Special tokens come first, then the `limit_alphabet` most frequent characters,
        alone and with "##", then merges: the most frequent pair first, as the library
        `tokenizers` does it (Google never published theirs). Words with other
        characters are left out. Raises `ValueError` for an empty text and for too
        small a vocabulary.
        """
        checks.whole("vocab_size", vocab_size, 1)
        checks.whole("min_frequency", min_frequency, 1)
        checks.whole("limit_alphabet", limit_alphabet, 1)
        special = contents_of(special_tokens)
        template = BERT_TEMPLATE
        if not set(template.tokens) <= set(special):
            raise ValueError(f"special_tokens lack one of {template.tokens}")
        cleaner = cls(special, special_tokens, **settings)
        counts = Counter()
        for part in training_parts(text, special_tokens):
            counts.update(cleaner._words(cleaner.normalize(part)))
        first, words = _characters(counts, limit_alphabet, cleaner.prefix)
        smallest = len(special) + len(first)
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size {vocab_size} is too small: {len(special)} special tokens "
                f"and {len(first)} characters need at least {smallest}; or lower "
                "limit_alphabet"
            )

        def join(left, right):
            return left + right.removeprefix(cleaner.prefix)

        size = vocab_size - len(special)
        tokens, _ = learn_merges(first, words, size, min_frequency, join)
        return cls([*special, *tokens], special_tokens, template=template, **settings)

    def normalize(self, text):
        """The text as BERT cleans it, before it is cut into words."""
        if self.clean_text:
            text = cleaning.clean(text)
        if self.handle_chinese_chars:
            text = cleaning.space_ideographs(text)
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = cleaning.strip_accents(text)
        return cleaning.lower(text) if self.lowercase else text

    def save_vocabulary(self, folder):
        """Write vocab.txt, one token a line, and tokenizer_config.json, BERT's files.

        Raises `ValueError` for settings that these cannot express; `save` can.
        """
        lines = "\n".join(self.tokens) + "\n"
        config = {
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.handle_chinese_chars,
        }
        if self._from_vocabulary(lines, config).hash != self.hash:
            raise ValueError("vocab.txt holds BERT's kind alone; use save")
        write_text(Path(folder) / "vocab.txt", lines)
        write_json(Path(folder) / "tokenizer_config.json", config)

    @classmethod
    def _from_vocabulary(cls, lines, config):
        """A tokenizer of the contents of the two files of `save_vocabulary`."""
        tokens = [line.rstrip() for line in lines.removesuffix("\n").split("\n")]
        special = [token for token in SPECIAL_TOKENS if token in tokens]
        framed = set(BERT_TEMPLATE.tokens) <= set(special)
        return cls(
            tokens,
            special,
            lowercase=entry(config, "do_lower_case", bool, True),
            strip_accents=entry(config, "strip_accents", bool, None),
            handle_chinese_chars=entry(config, "tokenize_chinese_chars", bool, True),
            template=BERT_TEMPLATE if framed else PLAIN,
        )

    def _words(self, text):
        return find_matches(BERT, text)

    def _encode_word(self, word):
        """The ids of the longest tokens that fit, from the left; else "[UNK]" alone."""
        ids, start = [], 0
        while start < len(word) <= self.max_input_chars_per_word:
            prefix = self.prefix if start else ""
            for end in range(len(word), start, -1):
                index = self.token_to_id.get(prefix + word[start:end])
                if index is not None:
                    break
            else:
                break
            ids.append(index)
            start = end
        return ids if start == len(word) else [self.token_to_id[self.unk_token]]

    def _pieces(self, ids, skip_special_tokens):
        left_out = self._special_ids if skip_special_tokens else ()
        at_start = True
        for index in ids:
            if index in left_out:
                continue
            piece = self._written[index]
            if not at_start:
                joined = piece.startswith(self.prefix)
                piece = piece.removeprefix(self.prefix) if joined else " " + piece
            for before, after in _CLEANUPS if self.cleanup else ():
                piece = piece.replace(before, after)
            yield piece
            at_start = False

    def _contents(self):
        return document(
            self,
            {
                "type": "WordPiece",
                "unk_token": self.unk_token,
                "continuing_subword_prefix": self.prefix,
                "max_input_chars_per_word": self.max_input_chars_per_word,
            },
            normalizer={
                "type": "BertNormalizer",
                "clean_text": self.clean_text,
                "handle_chinese_chars": self.handle_chinese_chars,
                "strip_accents": self.strip_accents,
                "lowercase": self.lowercase,
            },
            pre_tokenizer={"type": "BertPreTokenizer"},
            decoder={
                "type": "WordPiece",
                "prefix": self.prefix,
                "cleanup": self.cleanup,
            },
        )

    @classmethod
    def _from_contents(cls, contents):
        model = contents["model"]
        normalizer, decoder = contents.get("normalizer"), contents.get("decoder") or {}
        words = contents.get("pre_tokenizer")
        prefix = entry(model, "continuing_subword_prefix", str, "##")
        refuse_settings("normalizer", normalizer, type=("BertNormalizer",))
        refuse_settings("pre_tokenizer", words, type=("BertPreTokenizer",))
        refuse_settings("decoder", decoder, type=("WordPiece",), prefix=(prefix,))
        flags = ("clean_text", "handle_chinese_chars", "lowercase")
        return cls(
            **{name: entry(normalizer, name, bool, True) for name in flags},
            strip_accents=entry(normalizer, "strip_accents", bool, None),
            unk_token=entry(model, "unk_token", str, "[UNK]"),
            prefix=prefix,
            max_input_chars_per_word=entry(model, "max_input_chars_per_word", int, 100),
            cleanup=entry(decoder, "cleanup", bool, True),
            **vocabulary_settings(contents),
        )


def _characters(counts, limit, prefix):
    """(first pieces, words): characters, alone and with the prefix; words as ids."""
    characters = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    by_count = sorted(characters, key=lambda c: (-characters[c], c))
    alphabet = sorted(by_count[:limit])
    going_on = sorted({c for word in counts for c in word[1:]} & set(alphabet))
    tokens = [*alphabet, *(prefix + c for c in going_on)]
    ids = {token: index for index, token in enumerate(tokens)}
    words = []
    for word, count in counts.items():
        pieces = [ids.get(prefix * bool(place) + c) for place, c in enumerate(word)]
        if None not in pieces:
            words.append((pieces, count))
    return tokens, words
