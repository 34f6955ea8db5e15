"""What the tests of tokenizers share: a small text, and one of each kind."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from minibig.data import BPETokenizer, CharTokenizer, WordPieceTokenizer, WordTokenizer

END = "<|endoftext|>"
TEXT = "the cat sat on the mat, and the dog didn't. " * 3 + "\n\tin 1984 – 日本語 ²½!"
BPE = BPETokenizer.train(TEXT, 279, special_tokens=[END])
CHARS = CharTokenizer.train(TEXT, special_tokens=[END])
WORDS = WordTokenizer.train(TEXT, special_tokens=[END])
PIECES = WordPieceTokenizer.train(TEXT, 90)
ALL = pytest.mark.parametrize(
    "tokenizer", [BPE, CHARS, WORDS], ids=lambda t: str(t)[:5]
)
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
capped = settings(max_examples=150, deadline=None, derandomize=True, database=None)
