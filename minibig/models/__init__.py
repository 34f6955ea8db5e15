"""Models: one paper, one file."""

from .gpt import GPT, GPTConfig
