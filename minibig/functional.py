"""The ops of neural networks as functions of Tensors, named as torch.nn.functional.

Each checks shapes, dtypes and ids before any work.
"""

import math

import numpy as np

from . import backend, checks
from .arguments import beside, check_floats, check_ids, ids_array, known_bounds
from .creation import shape_of, tensor
from .images import avg_pool2d, batch_norm, conv2d, max_pool2d
from .losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
)
from .operators import check_broadcast, maximum, relu, sigmoid, tanh
from .ops import attention, elementwise, feed_forward, indexing, matmul, normalization
from .ops import dropout as masks
from .ops import softmax as scores
from .recurrence import lstm, rnn
from .reductions import checked_dim
from .tensor import Tensor, apply

__all__ = [
    "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "conv2d",
    "cross_entropy", "dropout", "embedding", "gelu", "l1_loss", "layer_norm", "linear",
    "linear_activation", "log_softmax", "lstm", "max_pool2d", "mse_loss", "one_hot",
    "relu", "rms_norm", "rnn", "scaled_dot_product_attention", "sigmoid", "silu",
    "softmax", "tanh",
]  # fmt: skip


def linear(x, weight, bias=None):
    """x Wᵀ + b: x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    _check_linear("linear", x, weight, bias)
    return apply(matmul.linear, x, weight, bias)


def linear_activation(x, weight, bias, activation):
    """activation(x Wᵀ + b), by one kernel less on a GPU: shapes as `linear`'s.

    `activation` is "gelu", "gelu_tanh" or "silu".
    """
    _check_linear("linear_activation", x, weight, bias)
    known = feed_forward.ACTIVATIONS
    checks.choice("linear_activation: activation", activation, known)
    op = feed_forward.linear_activation
    return apply(op, x, weight, bias, activation=activation)


def _check_linear(name, x, weight, bias):
    check_floats(name, weight=weight, input=x, bias=bias)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{name}: input {x.shape} and weight {weight.shape}: the input's last size "
            "must be the weight's second, (out, in)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{name}: bias {bias.shape} must have the {weight.shape[0]} outputs"
        )


def softmax(x, dim):
    """e^x scaled to sum to 1 along `dim`; same shape."""
    check_floats("softmax", input=x)
    return apply(scores.softmax, x, axis=_axis(x, dim, "softmax"))


def log_softmax(x, dim):
    """The logarithm of softmax along `dim`, x - log Σ e^x; same shape."""
    check_floats("log_softmax", input=x)
    return apply(scores.log_softmax, x, axis=_axis(x, dim, "log_softmax"))


def _axis(x, dim, name):
    axis = checked_dim(dim, x.ndim, name, alone=True)
    if not x.shape[axis]:
        raise ValueError(f"{name}: no elements along dim {dim} of shape {x.shape}")
    return axis


def gelu(x, approximate="none"):
    """x Φ(x), Φ the normal distribution function (arXiv 1606.08415).

    `approximate="tanh"` is GPT-2's formula: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    """
    check_floats("gelu", input=x)
    checks.choice("gelu: approximate", approximate, ("none", "tanh"))
    op = elementwise.gelu if approximate == "none" else elementwise.gelu_tanh
    return apply(op, x)


def silu(x):
    """x σ(x), also called swish (arXiv 1702.03118)."""
    check_floats("silu", input=x)
    return apply(elementwise.silu, x)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / √(variance + eps) · weight + bias over the last axes.

    `normalized_shape`: their sizes, (C,) for one; weight and bias have that shape
    (arXiv 1607.06450).
    """
    check_floats("layer_norm", input=x, weight=weight, bias=bias)
    shape = _check_norm("layer_norm", x, normalized_shape, eps, weight, bias)
    if len(shape) > 1:
        lead, size = x.shape[: x.ndim - len(shape)], math.prod(shape)
        flat = [None if p is None else p.reshape(size) for p in (weight, bias)]
        y = apply(normalization.layer_norm, x.reshape(*lead, size), *flat, eps=eps)
        return y.reshape(x.shape)
    return apply(normalization.layer_norm, x, weight, bias, eps=eps)


def rms_norm(x, normalized_shape, weight=None, eps=1e-6):
    """x / √(mean(x²) + eps) · weight over the last axis (arXiv 1910.07467)."""
    check_floats("rms_norm", input=x, weight=weight)
    shape = _check_norm("rms_norm", x, normalized_shape, eps, weight)
    if len(shape) > 1:
        raise ValueError(f"rms_norm normalises the last axis alone, not {shape}")
    return apply(normalization.rms_norm, x, weight, eps=eps)


def _check_norm(name, x, normalized_shape, eps, *parameters):
    shape = shape_of((normalized_shape,))
    checks.number(f"{name}: eps", eps, 0)
    if not shape or x.shape[-len(shape) :] != shape or not math.prod(shape):
        raise ValueError(f"{name}: input {x.shape} does not end in {shape}")
    for p in parameters:
        if p is not None and p.shape != shape:
            raise ValueError(f"{name}: weight or bias {p.shape} should be {shape}")
    return shape


def dropout(x, p=0.5, training=True):
    """x with elements zeroed with probability p and the others divided by 1 - p.

    Unchanged outside of training or for p = 0. Drawn from the stream "dropout".
    """
    check_floats("dropout", input=x)
    checks.probability("dropout: p", p)
    return apply(masks.dropout, x, p=p) if training and p else x


def embedding(ids, weight):
    """Rows of `weight` (V, C) by `ids` of any shape: ids.shape + (C,).

    IndexError for an id that is not in 0 … V - 1.
    """
    check_floats("embedding", weight=weight)
    array = ids_array(ids, "embedding")
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must be (V, C), not {weight.shape}")
    what = "rows in the table (the vocabulary)"
    check_ids(array, len(weight), "embedding", what, known_bounds(ids))
    return apply(indexing.embedding, weight, ids=beside(array, weight))


def one_hot(ids, num_classes):
    """Zeros with a 1 at each id: ids (...) -> (..., num_classes), int64."""
    array = ids_array(ids, "one_hot")
    checks.whole("one_hot: num_classes", num_classes, 1)
    check_ids(array, num_classes, "one_hot", "classes", known_bounds(ids))
    xp = backend.array_module(array)
    return Tensor((array[..., None] == xp.arange(num_classes)).astype("int64"))


def scaled_dot_product_attention(
    q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
    enable_gqa=False, offset=0,
):  # fmt: skip
    """softmax(q kᵀ · scale) v, the attention of arXiv 1706.03762, equation 1.

    q (..., T, D), k (..., S, D), v (..., S, E) -> (..., T, E).

    `attn_mask` broadcasts to (..., T, S): booleans, True = may attend, or numbers added
    to the scores. `is_causal` aligns top-left as PyTorch: query t sees keys 0 … t +
    `offset`, where a KV cache passes the number of keys before its first query. A query
    that may see nothing gets zeros, and so do its gradients. `scale` is 1/√D unless
    given. Dropout is applied to the weights whenever p > 0. With `enable_gqa` k and v
    may have fewer heads (axis -3), each for a group of q's (arXiv 2305.13245).
    """
    name = "scaled_dot_product_attention"
    check_floats(name, q=q, k=k, v=v)
    if enable_gqa and _group_size(q, k, v) > 1:
        q, k, v, attn_mask = _by_groups(q, k, v, attn_mask)
        out = scaled_dot_product_attention(
            q, k, v, attn_mask, dropout_p, is_causal, scale=scale, offset=offset
        )
        return out.flatten(-4, -3)
    _check_attention(q, k, v)
    checks.probability(f"{name}: dropout_p", dropout_p, without=1)
    checks.whole(f"{name}: offset", offset)
    checks.switch(f"{name}: is_causal", is_causal)
    if scale is not None:
        checks.number(f"{name}: scale", scale)
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    if not lead:
        q, k, v = (x.unsqueeze(0) for x in (q, k, v))
    shape = (*(lead or (1,)), q.shape[-2], k.shape[-2])
    bias, mask = _split_mask(attn_mask, shape, q)
    out = apply(
        attention.scaled_dot_product_attention, q, k, v, bias, mask=mask,
        is_causal=is_causal, offset=offset, scale=scale, dropout_p=dropout_p,
    )  # fmt: skip
    return out if lead else out[0]


def _group_size(q, k, v):
    """How many heads of q share a head of k and v."""
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 3 or k.shape[-3] != v.shape[-3]:
        raise ValueError(f"attention: k and v need as many heads (axis -3): {shapes}")
    if not k.shape[-3] or q.shape[-3] % k.shape[-3]:
        raise ValueError(
            f"attention: the heads of k do not divide those of q: {shapes}"
        )
    return q.shape[-3] // k.shape[-3]


def _by_groups(q, k, v, mask):
    """(..., heads, groups, T, D): a view of each, with which k and v broadcast."""
    groups = (k.shape[-3], q.shape[-3] // k.shape[-3])
    if mask is not None:
        mask = mask if isinstance(mask, Tensor) else tensor(mask)
        if mask.ndim > 2:
            heads = groups if mask.shape[-3] == q.shape[-3] else (mask.shape[-3], 1)
            mask = mask.reshape(*mask.shape[:-3], *heads, *mask.shape[-2:])
    q = q.reshape(*q.shape[:-3], *groups, *q.shape[-2:])
    return q, k.unsqueeze(-3), v.unsqueeze(-3), mask


def _check_attention(q, k, v):
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"attention: at least 2 dimensions (T, D) needed: {shapes}")
    if q.shape[-1] != k.shape[-1] or not q.shape[-1]:
        raise ValueError(f"attention: q and k need one head width above 0: {shapes}")
    if k.shape[-2] != v.shape[-2] or not k.shape[-2]:
        raise ValueError(
            f"attention: k and v need as many rows, one at least: {shapes}"
        )
    for a, b in ((q, k), (q, v), (k, v)):
        check_broadcast("attention, batch axes", a.shape[:-2], b.shape[:-2])


def _split_mask(attn_mask, shape, q):
    """(scores to add, booleans): one of the two, or neither."""
    if attn_mask is None:
        return None, None
    mask = attn_mask if isinstance(attn_mask, Tensor) else tensor(attn_mask)
    check_broadcast("attention mask", mask.shape, shape)
    if mask.ndim > len(shape) or np.broadcast_shapes(mask.shape, shape) != shape:
        raise ValueError(f"attention: mask {mask.shape} is larger than scores {shape}")
    backend.array_module(mask.array, q.array)
    if mask.dtype == bool:
        return None, mask.array
    if not mask.is_floating_point():
        raise TypeError(f"attention: a mask holds booleans or floats, not {mask.dtype}")
    return mask.to(q.dtype), None


def normalize(x, p=2.0, dim=1, eps=1e-12):
    """x divided by its p-norm along `dim`, or by eps if that is larger."""
    check_floats("normalize", input=x)
    checks.number("normalize: p", p, 0, without=0)
    checks.number("normalize: eps", eps, 0)
    total = (x.abs() ** p).sum(dim, keepdim=True)
    # Bounded before the root, whose slope at 0 is infinite.
    least = max(eps**p, float(np.finfo(x.dtype).tiny))
    return x / maximum(total, least) ** (1 / p)
