"""GPT: a stack of causal Transformer layers that predicts the next token.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2, 2019).
Departures: dropout and initialisation as there; biases can be left out. Taught by
notebook 11.
"""

import math
from dataclasses import dataclass
from numbers import Integral

from .. import nn
from ..creation import arange, tensor
from ..functional import linear
from ..generation import generate


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT: tokens it knows, tokens it sees, layers, heads, width."""

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self):
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            n = getattr(self, name)
            if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
                raise ValueError(f"GPTConfig: {name} must be at least 1, not {n!r}")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"GPTConfig: n_head {self.n_head} does not divide n_embd {self.n_embd}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"GPTConfig: dropout must be at least 0 and below 1, not {self.dropout}"
            )


class GPT(nn.Module):
    """Logits of the next token at every place: ids (B, T) -> (B, T, V).

    The weight of the token embedding is also that of the output layer.
    """

    def __init__(self, config):
        c = self.config = config
        self.token_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.position_embedding = nn.Embedding(c.context_length, c.n_embd)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                c.n_embd, c.n_head, 4 * c.n_embd, c.dropout, "gelu_tanh",
                norm_first=True, bias=c.bias, activation_dropout=0.0,
            )
            for _ in range(c.n_layer)
        )  # fmt: skip
        self.norm = nn.LayerNorm(c.n_embd, bias=c.bias)
        self._initialise()

    def _initialise(self):
        """Normal weights of deviation 0.02; those that write into the residual stream,
        2 a layer, are divided by √(2 layers), so that its variance does not grow."""
        shrink = 1 / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, std=0.02 * (shrink if into_stream else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids, cache=None):
        ids = tensor(ids, device=self.device)
        start = 0 if cache is None else cache.length
        if ids.ndim != 2 or not ids.shape[1]:
            raise ValueError(f"GPT takes ids of (batch, length), not {ids.shape}")
        if start + ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"GPT: {start + ids.shape[1]} tokens are more than the context of "
                f"{self.config.context_length}"
            )
        places = arange(start, start + ids.shape[1], device=self.device)
        x = self.token_embedding(ids) + self.position_embedding(places)  # (B, T, C)
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, is_causal=True, cache=cache.layers[i] if cache else None)
        return linear(self.norm(x), self.token_embedding.weight)  # (B, T, V)

    def generate(self, ids, max_new_tokens, **settings):
        """ids, continued; see `minibig.generation.generate` for the settings."""
        return generate(self, ids, max_new_tokens, **settings)
