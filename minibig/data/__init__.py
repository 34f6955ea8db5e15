"""Text and tables to learn from, tokenizers, and the batches made of them."""

from .augmentation import (
    Augmented,
    GaussianNoise,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    affine,
)
from .cleaning import (
    Standardizer,
    clean_text,
    deduplicate,
    near_duplicates,
    remove_boilerplate,
)
from .corpora import (
    Corpus,
    docstrings,
    documentation,
    library_source,
    statements,
)
from .docstring_tasks import TextData, real_or_shuffled, which_library
from .downloads import DownloadError, download, tiny_shakespeare
from .idx import read_idx
from .images import digit_images, fashion_mnist
from .loader import ArrayBatches, Documents, RandomCrops, Windows
from .masking import MaskedRows, mask_tokens
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
