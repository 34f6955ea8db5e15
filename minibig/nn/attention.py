"""Multi-head attention as a layer. Taught by notebook 08."""

from .. import checks
from .. import functional as F
from ..creation import eye, tensor
from ..operators import check_broadcast
from ..tensor import Tensor
from .layers import Linear, _positive
from .module import Module


class MultiheadAttention(Module):
    """Attention in `num_heads` heads side by side (arXiv 1706.03762, section 3.2.2).

    The projections to queries, keys and values lie in one weight, (3 C, C): for
    self-attention they are one product. Batch first. Raises ValueError where the heads
    do not divide the width.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True):
        _positive(embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ValueError(
                f"num_heads {num_heads} does not divide embed_dim {embed_dim}: "
                "each head gets an equal share of the width"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.dropout = checks.probability("dropout", dropout, without=1)
        self.in_proj = Linear(embed_dim, 3 * embed_dim, bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias)

    def forward(
        self, query, key=None, value=None, *, attn_mask=None, key_padding_mask=None,
        is_causal=False, cache=None,
    ):  # fmt: skip
        """query (B, T, C), key and value (B, S, C), by default the query -> (B, T, C).

        `attn_mask` broadcasts to (B, H, T, S), `key_padding_mask` is (B, S): True = may
        be attended to. `cache` (a `generation.LayerCache`) holds the keys and values of
        the tokens before; then causal means causal after those. With a key it is a
        `generation.MemoryCache`: keys and values are computed once and stay.
        """
        q, k, v = self._heads(query, key, value, cache)
        offset = 0
        if cache is not None and key is None:
            offset = cache.length
            k, v = cache.append(k, v)
        mask = joined_mask(attn_mask, key_padding_mask, k.shape)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, k, v, mask, dropout, is_causal, offset=offset
        )  # (B, H, T, D)
        return self.out_proj(y.transpose(1, 2).reshape(query.shape))

    def attention_weights(
        self, query, key=None, *, attn_mask=None, key_padding_mask=None, is_causal=False
    ):
        """Where each query looks: (B, H, T, S), rows that sum to 1. For the eye."""
        q, k, _ = self._heads(query, key, key)
        mask = joined_mask(attn_mask, key_padding_mask, k.shape)
        # The mean of unit vectors by the weights: the weights.
        units = eye(k.shape[2], dtype=k.dtype, device=k.device)
        units = units.expand(*k.shape[:3], k.shape[2])
        return F.scaled_dot_product_attention(q, k, units, mask, is_causal=is_causal)

    def _heads(self, query, key, value, cache=None):
        """Queries, keys and values as (B, H, T or S, D)."""
        self._check(query, key, value)
        if key is None:
            width = self.embed_dim // self.num_heads
            joined = self.in_proj(query)  # (B, T, 3 C)
            shape = (*query.shape[:2], 3, self.num_heads, width)
            parts = joined.reshape(shape).unbind(2)  # 3 of (B, T, H, D)
            return tuple(part.transpose(1, 2) for part in parts)
        if cache is None or cache.heads is None:
            q, *heads = self._projected(query, key, key if value is None else value)
            if cache is not None:
                cache.heads = heads
            return q, *heads
        return *self._projected(query), *cache.heads

    def _projected(self, *inputs):
        """The query, and maybe key and value, each by its own part of the weight."""
        weights = self.in_proj.weight.split(self.embed_dim)
        bias = self.in_proj.bias
        biases = (None,) * 3 if bias is None else bias.split(self.embed_dim)
        width = self.embed_dim // self.num_heads
        return [
            F.linear(x, w, b)
            .reshape(*x.shape[:2], self.num_heads, width)
            .transpose(1, 2)
            for x, w, b in zip(inputs, weights, biases, strict=False)
        ]

    def _check(self, query, key, value):
        given = [query, *(x for x in (key, value) if x is not None)]
        for x in given:
            checks.kind("attention: input", x, Tensor)
            if x.ndim != 3 or x.shape[-1] != self.embed_dim:
                raise ValueError(
                    f"attention takes (batch, length, {self.embed_dim}), not {x.shape}"
                )
        if key is None and value is not None:
            raise ValueError("attention: a value needs a key; give both or neither")
        if len({x.shape[0] for x in given}) > 1:
            shapes = ", ".join(str(x.shape) for x in given)
            raise ValueError(f"attention: the batches differ in size: {shapes}")

    def extra_repr(self):
        return f"{self.embed_dim}, num_heads={self.num_heads}"


def joined_mask(attn_mask, key_padding_mask, shape):
    """One mask for both, broadcasting to (B, H, T, S); `shape` is that of the keys."""
    if key_padding_mask is None:
        return attn_mask
    padding = key_padding_mask
    if not isinstance(padding, Tensor) or padding.dtype != bool:
        raise TypeError(
            "key_padding_mask must be a Tensor of booleans, True = real token"
        )
    if padding.shape != (shape[0], shape[2]):
        raise ValueError(
            f"key_padding_mask is {padding.shape}, but the keys are {shape[2]} in "
            f"{shape[0]} rows: (batch, keys) needed"
        )
    padding = Tensor(padding.array[:, None, None, :])  # (B, 1, 1, S)
    if attn_mask is None:
        return padding
    if not isinstance(attn_mask, Tensor):
        attn_mask = tensor(attn_mask, device=padding.device)
    check_broadcast("attention mask and padding", attn_mask.shape, padding.shape)
    if attn_mask.dtype == bool:
        return Tensor(attn_mask.array & padding.array)
    return attn_mask.masked_fill(~padding, -float("inf"))
