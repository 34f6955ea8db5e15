"""Text and tables to learn from, tokenizers, and the batches made of them."""

from .augmentation import (
    Augmented,
    GaussianNoise,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    affine,
)
from .corpora import (
    Corpus,
    docstrings,
    documentation,
    library_source,
    statements,
)
from .downloads import DownloadError, download, tiny_shakespeare
from .images import digit_images
from .loader import ArrayBatches, Documents, RandomCrops, Windows
from .masking import mask_tokens
from .tabular import (
    TabularData,
    breast_cancer,
    diabetes,
    digits,
    stratified_split,
    wine,
)
from .tokenizers import (
    AddedToken,
    BPETokenizer,
    ByteFallbackTokenizer,
    CharTokenizer,
    Encoding,
    Template,
    WordPieceTokenizer,
    WordTokenizer,
    load_tokenizer,
    pad,
)
