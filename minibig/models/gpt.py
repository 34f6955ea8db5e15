"""GPT: a stack of causal Transformer layers that predicts the next token.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2, 2019).
Departures: dropout and initialisation as there; biases can be left out, and the output
layer can have a weight of its own. Taught by notebook 11.
"""

import math
from dataclasses import dataclass

from .. import checks, nn
from ..creation import arange
from ..functional import linear
from ..generation import generate
from .inputs import checked_ids, checked_mask
from .published import Published


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT: tokens it knows, tokens it sees, layers, heads, width.

    `tied`: the output layer has the weight of the token embedding.
    """

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = True
    activation: str = "gelu_tanh"
    layer_norm_eps: float = 1e-5
    tied: bool = True

    def __post_init__(self):
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            checks.whole(f"GPTConfig: {name}", getattr(self, name), 1)
        if self.n_embd % self.n_head:
            raise ValueError(
                f"GPTConfig: n_head {self.n_head} does not divide n_embd {self.n_embd}"
            )
        checks.probability("GPTConfig: dropout", self.dropout, without=1)
        checks.choice("GPTConfig: activation", self.activation, nn.ACTIVATIONS)
        checks.number("GPTConfig: layer_norm_eps", self.layer_norm_eps, 0)
        for name in ("bias", "tied"):
            checks.switch(f"GPTConfig: {name}", getattr(self, name))


class GPT(Published):
    """Logits of the next token at every place: ids (B, T) -> (B, T, V)."""

    def __init__(self, config):
        c = self.config = checks.kind("GPT: config", config, GPTConfig)
        self.token_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.position_embedding = nn.Embedding(c.context_length, c.n_embd)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                c.n_embd, c.n_head, 4 * c.n_embd, c.dropout, c.activation,
                c.layer_norm_eps, norm_first=True, bias=c.bias, activation_dropout=0.0,
            )
            for _ in range(c.n_layer)
        )  # fmt: skip
        self.norm = nn.LayerNorm(c.n_embd, c.layer_norm_eps, bias=c.bias)
        self.output = None if c.tied else nn.Linear(c.n_embd, c.vocab_size, bias=False)
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

    def forward(self, ids, cache=None, attention_mask=None):
        """`attention_mask` (B, T), with a cache (B, all tokens): True = real token."""
        return self.logits(self.hidden_states(ids, cache, attention_mask))

    def hidden_states(self, ids, cache=None, attention_mask=None):
        """What the last norm puts out, (B, T, C); the arguments are forward's."""
        start = 0 if cache is None else cache.length
        ids = checked_ids("GPT", ids, self.device, self.config.context_length, start)
        end = start + ids.shape[1]
        mask = checked_mask("GPT", attention_mask, (len(ids), end), self.device)
        places = arange(start, end, device=self.device)
        x = self.token_embedding(ids) + self.position_embedding(places)  # (B, T, C)
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            own = cache.layers[i] if cache else None
            x = block(x, key_padding_mask=mask, is_causal=True, cache=own)
        return self.norm(x)

    def logits(self, hidden):
        """The output layer: (B, T, C) -> (B, T, V)."""
        output = self.token_embedding if self.output is None else self.output
        return linear(hidden, output.weight)

    def generate(self, ids, max_new_tokens, **settings):
        """ids, continued; see `minibig.generation.generate` for the settings."""
        return generate(self, ids, max_new_tokens, **settings)
