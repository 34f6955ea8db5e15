"""Tokenizers: text to ids and back, and the tokenizer.json they are kept in.

Read in this order: `words` (characters and words), `merges` and `bpe` (what GPT-2
made of it), `wordpiece` (BERT's way). `base` holds what they share.
"""

from .added import AddedToken
from .base import Tokenizer, pad
from .bpe import BPETokenizer
from .byte_fallback import ByteFallbackTokenizer
from .load import load_tokenizer
from .template import Encoding, Template
from .wordpiece import WordPieceTokenizer
from .words import CharTokenizer, WordTokenizer
