"""Weights that come with the package."""

from pathlib import Path

# A small BERT that has read Python's documentation and docstrings: a folder as
# `from_pretrained` takes it, made by `make pretrain-bert`; its config.json says how.
PYTHON_BERT = Path(__file__).resolve().parent / "python-bert"
