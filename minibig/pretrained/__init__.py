"""Weights that others have published: read into our models, and written from them."""

from .bundled import PYTHON_BERT
from .loading import load, save
from .sentences import SentenceEncoder
