"""The ops of neural networks as functions of Tensors, named as torch.nn.functional.

Each checks shapes, dtypes and ids before any work.
"""

import math

import numpy as np

from . import backend
from .creation import tensor
from .operators import check_broadcast, maximum, operands, relu, sigmoid, tanh
from .ops import attention, elementwise, indexing, losses, matmul, normalization
from .ops import dropout as masks
from .ops import softmax as scores
from .reductions import checked_dim
from .tensor import Tensor, apply

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "dropout", "embedding", "gelu",
    "l1_loss", "layer_norm", "linear", "log_softmax", "mse_loss", "one_hot", "relu",
    "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu", "softmax", "tanh",
]  # fmt: skip


def _floats(name, **tensors):
    """Raises unless all are Tensors of one floating dtype on one device."""
    given = {key: x for key, x in tensors.items() if x is not None}
    for key, x in given.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: {key} must be a Tensor, not {type(x).__name__}")
    dtypes = {key: x.dtype for key, x in given.items()}
    if len(set(dtypes.values())) > 1 or next(iter(dtypes.values())).kind != "f":
        said = ", ".join(f"{key} {dtype}" for key, dtype in dtypes.items())
        raise TypeError(f"{name} needs one floating dtype throughout, not {said}")
    backend.array_module(*(x.array for x in given.values()))


def _ids(ids, name):
    """Ids as an array of whole numbers."""
    array = ids.array.copy() if isinstance(ids, Tensor) else ids  # for backward
    array = array if backend.is_array(array) else np.asarray(array)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: ids must be whole numbers (int64), not {array.dtype}; shape "
            f"{array.shape}"
        )
    return array


def _check_ids(array, count, name, what):
    if not array.size:
        return
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= count:
        raise IndexError(
            f"{name}: id {low if low < 0 else high} is outside 0 … {count - 1}: "
            f"there are {count} {what}"
        )


def linear(x, weight, bias=None):
    """x Wᵀ + b: x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    _floats("linear", input=x, weight=weight, bias=bias)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: input {x.shape} and weight {weight.shape}: the input's last size "
            "must be the weight's second, (out, in)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias {bias.shape} must have the {weight.shape[0]} outputs"
        )
    return apply(matmul.linear, x, weight, bias)


def softmax(x, dim):
    """e^x scaled to sum to 1 along `dim`; same shape."""
    _floats("softmax", input=x)
    return apply(scores.softmax, x, axis=_axis(x, dim, "softmax"))


def log_softmax(x, dim):
    """The logarithm of softmax along `dim`, x - log Σ e^x; same shape."""
    _floats("log_softmax", input=x)
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
    _floats("gelu", input=x)
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')
    op = elementwise.gelu if approximate == "none" else elementwise.gelu_tanh
    return apply(op, x)


def silu(x):
    """x σ(x), also called swish (arXiv 1702.03118)."""
    _floats("silu", input=x)
    return apply(elementwise.silu, x)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / √(variance + eps) · weight + bias over the last axes.

    `normalized_shape`: their sizes, (C,) for one; weight and bias have that shape
    (arXiv 1607.06450).
    """
    _floats("layer_norm", input=x, weight=weight, bias=bias)
    shape = _check_norm("layer_norm", x, normalized_shape, weight, bias)
    if len(shape) > 1:
        lead, size = x.shape[: x.ndim - len(shape)], math.prod(shape)
        flat = [None if p is None else p.reshape(size) for p in (weight, bias)]
        y = apply(normalization.layer_norm, x.reshape(*lead, size), *flat, eps=eps)
        return y.reshape(x.shape)
    return apply(normalization.layer_norm, x, weight, bias, eps=eps)


def rms_norm(x, normalized_shape, weight=None, eps=1e-6):
    """x / √(mean(x²) + eps) · weight over the last axis (arXiv 1910.07467)."""
    _floats("rms_norm", input=x, weight=weight)
    shape = _check_norm("rms_norm", x, normalized_shape, weight)
    if len(shape) > 1:
        raise ValueError(f"rms_norm normalises the last axis alone, not {shape}")
    return apply(normalization.rms_norm, x, weight, eps=eps)


def _check_norm(name, x, normalized_shape, *parameters):
    shape = normalized_shape
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
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
    _floats("dropout", input=x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, not {p}")
    return apply(masks.dropout, x, p=p) if training and p else x


def embedding(ids, weight):
    """Rows of `weight` (V, C) by `ids` of any shape: ids.shape + (C,).

    IndexError for an id that is not in 0 … V - 1.
    """
    _floats("embedding", weight=weight)
    array = _ids(ids, "embedding")
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must be (V, C), not {weight.shape}")
    _check_ids(array, len(weight), "embedding", "rows in the table (the vocabulary)")
    return apply(indexing.embedding, weight, ids=_beside(array, weight))


def _beside(array, x):
    """Ids given as plain numbers go where the tensor lies."""
    return backend.to_device(array, x.device)


def one_hot(ids, num_classes):
    """Zeros with a 1 at each id: ids (...) -> (..., num_classes), int64."""
    array = _ids(ids, "one_hot")
    _check_ids(array, num_classes, "one_hot", "classes")
    xp = backend.array_module(array)
    return Tensor((array[..., None] == xp.arange(num_classes)).astype("int64"))


def cross_entropy(
    logits, ids, *, ignore_index=-100, label_smoothing=0.0, reduction="mean"
):
    """-log softmax(logits)[id] in nats: logits (..., V), ids (...).

    "mean" is over the ids that are not `ignore_index`, "sum" adds them up, "none" gives
    (...). Smoothing s puts s of the target evenly on all V (arXiv 1512.00567).
    IndexError for an id outside 0 … V - 1, ValueError if all are ignored: no mean.
    """
    _floats("cross_entropy", logits=logits)
    array = _ids(ids, "cross_entropy")
    if not logits.ndim or logits.shape[:-1] != array.shape or not logits.shape[-1]:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} and ids {array.shape}: the ids must "
            "have the shape of the logits without their last axis, the classes"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: label_smoothing {label_smoothing} not in 0 … 1"
        )
    array = _beside(array, logits)
    kept = array != ignore_index
    _check_ids(array[kept], logits.shape[-1], "cross_entropy", "classes")
    costs = apply(
        losses.cross_entropy, logits, ids=array, ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )  # fmt: skip
    if reduction != "mean":
        return _reduced(costs, reduction)
    count = int(kept.sum())
    if not count:
        raise ValueError(
            "cross_entropy: every id is ignored (or there is none): no mean"
        )
    return costs.sum() / count


def _reduced(costs, reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    return {"mean": costs.mean, "sum": costs.sum, "none": lambda: costs}[reduction]()


def _pair(name, x, target):
    _floats(name, input=x)
    target = target if isinstance(target, Tensor) else tensor(target, device=x.device)
    x, target = operands(x, target.to(x.dtype), name)
    _floats(name, input=x, target=target)
    if x.shape != target.shape:
        raise ValueError(f"{name}: input {x.shape} and target {target.shape} differ")
    if not x.numel():
        raise ValueError(f"{name}: no elements in shape {x.shape}")
    return x, target


def binary_cross_entropy_with_logits(logits, target, *, reduction="mean"):
    """-t log σ(x) - (1 - t) log(1 - σ(x)) in nats; target in 0 … 1, same shape."""
    name = "binary_cross_entropy_with_logits"
    pair = _pair(name, logits, target)
    return _reduced(apply(losses.binary_cross_entropy_with_logits, *pair), reduction)


def mse_loss(x, target, *, reduction="mean"):
    """The mean of (x - target)²; equal shapes."""
    return _reduced(
        apply(losses.squared_error, *_pair("mse_loss", x, target)), reduction
    )


def l1_loss(x, target, *, reduction="mean"):
    """The mean of |x - target|; equal shapes."""
    x, target = _pair("l1_loss", x, target)
    return _reduced((x - target).abs(), reduction)


def scaled_dot_product_attention(
    q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, offset=0
):
    """softmax(q kᵀ · scale) v, the attention of arXiv 1706.03762, equation 1.

    q (..., T, D), k (..., S, D), v (..., S, E) -> (..., T, E).

    `attn_mask` broadcasts to (..., T, S): booleans, True = may attend, or numbers added
    to the scores. `is_causal` aligns top-left as PyTorch: query t sees keys 0 … t +
    `offset`, where a KV cache passes the number of keys before its first query. A query
    that may see nothing gets zeros, and so do its gradients. `scale` is 1/√D unless
    given. Dropout is applied to the weights whenever p > 0.
    """
    name = "scaled_dot_product_attention"
    _floats(name, q=q, k=k, v=v)
    _check_attention(q, k, v)
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{name}: dropout_p is a probability below 1, not {dropout_p}")
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    flat = not lead
    lead = lead or (1,)
    q, k, v = (x.expand(*lead, *x.shape[-2:]) for x in (q, k, v))
    bias, mask = _split_mask(attn_mask, (*lead, q.shape[-2], k.shape[-2]), q)
    out = apply(
        attention.scaled_dot_product_attention, q, k, v, bias, mask=mask,
        is_causal=is_causal, offset=offset, scale=scale, dropout_p=dropout_p,
    )  # fmt: skip
    return out[0] if flat else out


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
    if mask.dtype.kind != "f":
        raise TypeError(f"attention: a mask holds booleans or floats, not {mask.dtype}")
    return mask.to(q.dtype), None


def normalize(x, p=2.0, dim=1, eps=1e-12):
    """x divided by its p-norm along `dim`, or by eps if that is larger."""
    total = (x.abs() ** p).sum(dim, keepdim=True)
    # Bounded before the root, whose slope at 0 is infinite.
    least = max(eps**p, float(np.finfo(x.dtype).tiny))
    return x / maximum(total, least) ** (1 / p)
