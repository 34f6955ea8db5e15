"""Multi-head attention as a layer. Taught by notebook 08."""

from .. import functional as F
from ..creation import tensor
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
        self.dropout = dropout
        self.in_proj = Linear(embed_dim, 3 * embed_dim, bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias)

    def forward(
        self, query, key=None, value=None, *, attn_mask=None, key_padding_mask=None,
        is_causal=False, cache=None,
    ):  # fmt: skip
        """query (B, T, C), key and value (B, S, C), by default the query -> (B, T, C).

        `attn_mask` broadcasts to (B, H, T, S), `key_padding_mask` is (B, S): True = may
        be attended to. `cache` (a `generation.LayerCache`) holds the keys and values of
        the tokens before; then causal means causal after those.
        """
        q, k, v = self._heads(query, key, value)
        offset = 0
        if cache is not None:
            offset = cache.length
            k, v = cache.append(k, v)
        mask = joined_mask(attn_mask, key_padding_mask, k.shape)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, k, v, mask, dropout, is_causal, offset=offset
        )  # (B, H, T, D)
        return self.out_proj(y.transpose(1, 2).reshape(query.shape))

    def _heads(self, query, key, value):
        """Queries, keys and values as (B, H, T or S, D)."""
        self._check(query, key, value)
        width = self.embed_dim // self.num_heads
        if key is None:
            joined = self.in_proj(query)  # (B, T, 3 C)
            shape = (*query.shape[:2], 3, self.num_heads, width)
            parts = joined.reshape(shape).unbind(2)  # 3 of (B, T, H, D)
        else:
            value = key if value is None else value
            inputs = (query, key, value)
            weights = self.in_proj.weight.split(self.embed_dim)
            bias = self.in_proj.bias
            biases = (None,) * 3 if bias is None else bias.split(self.embed_dim)
            parts = [
                F.linear(x, w, b).reshape(*x.shape[:2], self.num_heads, width)
                for x, w, b in zip(inputs, weights, biases, strict=True)
            ]
        return tuple(part.transpose(1, 2) for part in parts)

    def _check(self, query, key, value):
        given = [x for x in (query, key, value) if x is not None]
        for x in given:
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
