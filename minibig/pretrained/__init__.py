"""Weights that others have published: read into our models, and written from them."""

from .loading import load, save
from .sentences import SentenceEncoder
