"""Llama: what changed in language models since GPT-2.

Touvron et al., arXiv 2302.13971 and 2307.09288. Against GPT-2: RMS norms without means
(arXiv 1910.07467), positions as rotations (2104.09864), a gated feed-forward net
(2002.05202), heads that share keys and values (2305.13245), no biases. Departure: the
weights start as GPT-2's. Taught by notebook 11.
"""

import math
from dataclasses import dataclass

from .. import checks, nn
from .. import functional as F
from ..generation import generate
from .inputs import checked_ids, checked_mask
from .published import Published


@dataclass(frozen=True)
class RopeScaling:
    """Rotations slowed down for texts longer than `original_context`, as Llama 3.1's.

    Pairs that go round less than `low` times in the original context turn `factor`
    times slower, those with more than `high` as before, the others in between
    (arXiv 2407.21783; the formula is that of the published code).
    """

    factor: float
    original_context: int
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self):
        checks.number("RopeScaling: factor", self.factor, 1)
        checks.whole("RopeScaling: original_context", self.original_context, 1)
        checks.number("RopeScaling: low", self.low, 0, without=0)
        checks.number("RopeScaling: high", self.high, self.low, without=self.low)

    def slowed(self, frequencies):
        """The frequencies (radians a place) of the stretched model."""
        return tuple(self._slowed(f) for f in frequencies)

    def _slowed(self, frequency):
        rounds = self.original_context * frequency / (2 * math.pi)
        kept = (rounds - self.low) / (self.high - self.low)
        kept = min(max(kept, 0.0), 1.0)
        return frequency * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama. Without `n_kv_head` each head has its own keys and values.

    `rope_base` sets how slowly the slowest pair of numbers turns with place. The
    `head_width` is n_embd / n_head unless given. `tied`: the output layer is the token
    embedding.
    """

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dim_feedforward: int
    n_kv_head: int | None = None
    head_width: int | None = None
    rope_base: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    tied: bool = False

    def __post_init__(self):
        sizes = ("vocab_size", "context_length", "n_layer", "n_head", "n_embd",
                 "dim_feedforward")  # fmt: skip
        for name in sizes:
            checks.whole(f"LlamaConfig: {name}", getattr(self, name), 1)
        if self.n_kv_head is None:
            object.__setattr__(self, "n_kv_head", self.n_head)  # frozen for others
        if self.head_width is None:
            self._check_share("n_head", self.n_head, "n_embd", self.n_embd)
            object.__setattr__(self, "head_width", self.n_embd // self.n_head)
        checks.whole("LlamaConfig: n_kv_head", self.n_kv_head, 1)
        self._check_share("n_kv_head", self.n_kv_head, "n_head", self.n_head)
        if checks.whole("LlamaConfig: head_width", self.head_width, 1) % 2:
            raise ValueError(
                f"LlamaConfig: heads of width {self.head_width} cannot turn; an even "
                "width is needed"
            )
        checks.number("LlamaConfig: rope_base", self.rope_base, 0, without=0)
        checks.number("LlamaConfig: norm_eps", self.norm_eps, 0)
        if self.rope_scaling is not None:
            checks.kind("LlamaConfig: rope_scaling", self.rope_scaling, RopeScaling)
        checks.switch("LlamaConfig: tied", self.tied)

    def _check_share(self, part, count, whole, size):
        if size % count:
            raise ValueError(
                f"LlamaConfig: {part} {count} does not divide {whole} {size}"
            )


class Llama(Published):
    """Logits of the next token at every place: ids (B, T) -> (B, T, V)."""

    def __init__(self, config):
        c = self.config = checks.kind("Llama: config", config, LlamaConfig)
        self.token_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.blocks = nn.ModuleList(LlamaBlock(c) for _ in range(c.n_layer))
        self.norm = nn.RMSNorm(c.n_embd, c.norm_eps)
        self.output = None if c.tied else nn.Linear(c.n_embd, c.vocab_size, bias=False)
        self._initialise()

    def _initialise(self):
        """Deviation 0.02, over √(2 layers) where a weight writes into the stream."""
        shrink = 1 / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, std=0.02 * (shrink if into_stream else 1))

    def forward(self, ids, cache=None, attention_mask=None):
        """`attention_mask` (B, T), with a cache (B, all tokens): True = real token."""
        return self.logits(self.hidden_states(ids, cache, attention_mask))

    def hidden_states(self, ids, cache=None, attention_mask=None):
        """What the last norm puts out, (B, T, C); the arguments are forward's."""
        start = 0 if cache is None else cache.length
        most = self.config.context_length
        ids = checked_ids("Llama", ids, self.device, most, start)
        shape = (len(ids), start + ids.shape[1])
        mask = checked_mask("Llama", attention_mask, shape, self.device)
        x = self.token_embedding(ids)  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, mask, cache.layers[i] if cache else None)
        return self.norm(x)

    def logits(self, hidden):
        """The output layer: (B, T, C) -> (B, T, V)."""
        output = self.token_embedding if self.output is None else self.output
        return F.linear(hidden, output.weight)

    def generate(self, ids, max_new_tokens, **settings):
        """ids, continued; see `minibig.generation.generate` for the settings."""
        return generate(self, ids, max_new_tokens, **settings)


class LlamaBlock(nn.Module):
    """Attention and a gated feed-forward net, each x + f(norm(x))."""

    def __init__(self, config):
        self.attention_norm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.attention = GroupedQueryAttention(config)
        self.feed_forward_norm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.feed_forward = nn.SwiGLU(config.n_embd, config.dim_feedforward)

    def forward(self, x, mask=None, cache=None):
        x = x + self.attention(self.attention_norm(x), mask, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class GroupedQueryAttention(nn.Module):
    """Causal attention where groups of heads share keys and values (arXiv 2305.13245).

    Queries and keys are turned by place. What a cache holds, and what each new token
    must read, is smaller by the size of a group.
    """

    def __init__(self, config):
        c = config
        self.num_heads, self.num_kv_heads = c.n_head, c.n_kv_head
        width = c.head_width
        frequencies = nn.rotary_frequencies(width, c.rope_base)
        if c.rope_scaling is not None:
            frequencies = c.rope_scaling.slowed(frequencies)
        self.rotary = nn.RotaryPositions(width, frequencies=frequencies)
        self.q_proj = nn.Linear(c.n_embd, c.n_head * width, bias=False)
        self.k_proj = nn.Linear(c.n_embd, c.n_kv_head * width, bias=False)
        self.v_proj = nn.Linear(c.n_embd, c.n_kv_head * width, bias=False)
        self.out_proj = nn.Linear(c.n_head * width, c.n_embd, bias=False)

    def forward(self, x, key_padding_mask=None, cache=None):
        """(B, T, C) -> (B, T, C); the mask (B, S) is True at real tokens."""
        start = 0 if cache is None else cache.length
        q = self.rotary(self._heads(self.q_proj(x), self.num_heads), start)
        k = self.rotary(self._heads(self.k_proj(x), self.num_kv_heads), start)
        v = self._heads(self.v_proj(x), self.num_kv_heads)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = key_padding_mask
        y = F.scaled_dot_product_attention(
            q, k, v, None if mask is None else mask.reshape(len(mask), 1, 1, -1),
            is_causal=True, offset=start, enable_gqa=True,
        )  # fmt: skip
        return self.out_proj(y.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, C)

    def _heads(self, x, count):
        return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)  # (B, H, T, D)
