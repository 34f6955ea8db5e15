"""Text and tables to learn from, tokenizers, and the batches made of them."""

from minibig.data.bpe import BPETokenizer
from minibig.data.corpora import (
    Corpus,
    docstrings,
    documentation,
    library_source,
    statements,
)
from minibig.data.loader import ArrayBatches, Documents, RandomCrops, Windows
from minibig.data.tabular import (
    TabularData,
    breast_cancer,
    diabetes,
    digits,
    stratified_split,
    wine,
)
from minibig.data.tokenizers import CharTokenizer, WordTokenizer, load_tokenizer
