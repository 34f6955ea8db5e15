"""The layers that Transformers are stacked from. Taught by notebook 09."""

from functools import partial

from .. import functional as F
from ..checks import choice
from .attention import MultiheadAttention
from .layers import Dropout, LayerNorm, Linear
from .module import Module

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


class FeedForward(Module):
    """Two linear layers with an activation between: (..., C) -> (..., C).

    arXiv 1706.03762, equation 2.
    """

    def __init__(self, d_model, dim_feedforward, activation, dropout, bias):
        self.activation = choice("activation", activation, ACTIVATIONS)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)

    def forward(self, x):
        return self.linear2(self.dropout(self._inner(x)))

    def _inner(self, x):
        first = self.linear1
        if self.activation != "relu" and type(first) is Linear:  # not one put there
            return F.linear_activation(x, first.weight, first.bias, self.activation)
        return ACTIVATIONS[self.activation](first(x))

    def extra_repr(self):
        return self.activation


class SwiGLU(Module):
    """A gated feed-forward net, W₂ (silu(G x) · W₁ x): (..., C) -> (..., C).

    arXiv 2002.05202, equation 6. It has three weights, so that it is as large as a
    FeedForward with dim_feedforward 2/3 of that one's.
    """

    def __init__(self, d_model, dim_feedforward, bias=False):
        self.gate = Linear(d_model, dim_feedforward, bias)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.linear2 = Linear(dim_feedforward, d_model, bias)

    def forward(self, x):
        return self.linear2(F.silu(self.gate(x)) * self.linear1(x))


class TransformerEncoderLayer(Module):
    """Self-attention, then a feed-forward net, each added to what came in.

    Post-norm as in arXiv 1706.03762: norm(x + f(x)); with `norm_first` pre-norm:
    x + f(norm(x)) (arXiv 2002.04745). `activation` is "relu", "gelu", "gelu_tanh" or
    "silu"; `activation_dropout` stands between the two linear layers and is `dropout`
    unless given.
    """

    def __init__(
        self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation="relu",
        layer_norm_eps=1e-5, norm_first=False, bias=True, activation_dropout=None,
    ):  # fmt: skip
        inner = dropout if activation_dropout is None else activation_dropout
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias)
        self.feed_forward = FeedForward(
            d_model, dim_feedforward, activation, inner, bias
        )
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias)
        self.dropout = Dropout(dropout)

    def forward(
        self, x, attn_mask=None, key_padding_mask=None, is_causal=False, cache=None
    ):
        """(B, T, C) -> (B, T, C); the masks are those of MultiheadAttention."""

        def attend(x):
            return self.self_attn(
                x, attn_mask=attn_mask, key_padding_mask=key_padding_mask,
                is_causal=is_causal, cache=cache,
            )  # fmt: skip

        x = residual(self, x, attend, self.norm1)
        return residual(self, x, self.feed_forward, self.norm2)

    def extra_repr(self):
        return f"norm_first={self.norm_first}"


class TransformerDecoderLayer(Module):
    """Self-attention, attention to an encoder's output, then a feed-forward net.

    arXiv 1706.03762, section 3.1; settings as those of TransformerEncoderLayer.
    """

    def __init__(
        self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation="relu",
        layer_norm_eps=1e-5, norm_first=False, bias=True, activation_dropout=None,
    ):  # fmt: skip
        inner = dropout if activation_dropout is None else activation_dropout
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias)
        self.cross_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias)
        self.feed_forward = FeedForward(
            d_model, dim_feedforward, activation, inner, bias
        )
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias)
        self.dropout = Dropout(dropout)

    def forward(
        self, x, memory, attn_mask=None, memory_mask=None, key_padding_mask=None,
        memory_key_padding_mask=None, is_causal=False, cache=None, memory_cache=None,
    ):  # fmt: skip
        """x (B, T, C), memory (B, S, C) -> (B, T, C).

        `cache` is that of the self-attention, `memory_cache` keeps what is computed
        from the memory; see MultiheadAttention.
        """

        def attend(x):
            return self.self_attn(
                x, attn_mask=attn_mask, key_padding_mask=key_padding_mask,
                is_causal=is_causal, cache=cache,
            )  # fmt: skip

        def look_up(x):
            return self.cross_attn(
                x, memory, attn_mask=memory_mask,
                key_padding_mask=memory_key_padding_mask, cache=memory_cache,
            )  # fmt: skip

        x = residual(self, x, attend, self.norm1)
        x = residual(self, x, look_up, self.norm2)
        return residual(self, x, self.feed_forward, self.norm3)

    def extra_repr(self):
        return f"norm_first={self.norm_first}"


def residual(layer, x, function, norm):
    """x + f(norm(x)) for a pre-norm layer, norm(x + f(x)) for a post-norm one."""
    if layer.norm_first:
        return x + layer.dropout(function(norm(x)))
    return norm(x + layer.dropout(function(x)))
