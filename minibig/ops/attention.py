"""Scaled dot-product attention: softmax(Q Kᵀ / √D) V (arXiv 1706.03762, equation 1).

Queries are served in blocks, and of the scores one number a row is kept, log Σ e^s:
memory grows with T, not T², and a causal mask lets us skip the keys that no query of a
block may see. Backward computes a block's probabilities once more (arXiv 2205.14135);
those of short texts, which take no more memory than their vectors, are kept.
"""

import math

import numpy as np

from .. import kernels
from ..backend import array_module, by_rows, row_dot, row_max, row_sum, use_kernel
from .dropout import keep_mask
from .elementwise import widen
from .narrow import turned_product

QUERIES = 128  # queries a block


def scaled_dot_product_attention(
    q,
    k,
    v,
    bias=None,
    *,
    mask=None,
    is_causal=False,
    offset=0,
    scale=None,
    dropout_p=0.0,
):
    """Each query's mean of the values, weighted by the softmax of its scores.

    q (B, …, T, D), k (B, …, S, D), v (B, …, S, E) -> (B, …, T, E); the axes in front
    broadcast. `bias` is added to the scores, `mask` is True where attention is allowed;
    both broadcast to (B, …, T, S). Causal: query t sees keys 0 … t + offset. A query
    that may see nothing gets zeros. backward: with P the probabilities, dV = Pᵀ dO,
    dS = P (dO Vᵀ - Σ dO O), dQ = dS K / √D, dK = dSᵀ Q / √D, dbias = dS. On a GPU a
    kernel does it where one can: no bias, no dropout, no mask but one of keys.
    """
    xp = array_module(q, k, v, bias, mask)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    served = _by_kernel(
        q, k, v, bias, mask=mask, is_causal=is_causal, offset=offset, scale=scale,
        dropout_p=dropout_p,
    )  # fmt: skip
    if served:
        return served
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    shape = (*q.shape[:-1], k.shape[-2])  # of the scores
    blocks = _query_blocks(*shape[-2:], offset if is_causal else None)
    causal = [_causal_bias(xp, q.dtype, *block, offset) for block in blocks]
    extra = _added_scores(xp, q.dtype, bias, mask, shape)
    if dropout_p:
        keep = keep_mask(shape, dropout_p, q)
        extra.append(keep)
    out = xp.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))
    wide = widen(q[:0]).dtype
    short = len(blocks) == 1 and shape[-1] <= 4 * q.shape[-1]
    total = xp.empty((*shape[:-1], 1), wide)  # log Σ e^scores, or their divisor
    kept = xp.empty(shape if short else (*shape[:-1], 0), wide)  # e^(scores - largest)

    def scores(q, k, kept, extra, i):
        start, stop, seen = blocks[i]
        q, k = widen(q[..., start:stop, :]) * scale, widen(k[..., :seen, :])
        s = turned_product(q, k, kept[..., :seen] if short else None)
        if is_causal:
            s += causal[i]
        for added in extra[:-1] if dropout_p else extra:
            s += added[..., start:stop, :seen]
        return s

    def dropped(p, extra, i):
        """p, or p after dropout, which touches the weights of the values alone."""
        if not dropout_p:
            return p
        start, stop, seen = blocks[i]
        return p * extra[-1][..., start:stop, :seen] * (1 / (1 - dropout_p))

    def probabilities(q, k, total, kept, extra, i):
        """Those of a block: kept, without their divisor, or computed once more."""
        start, stop, seen = blocks[i]
        if short:
            return kept[..., :seen]
        p = scores(q, k, kept, extra, i)
        p -= total[..., start:stop, :]
        return xp.exp(p, out=p)

    def forward_rows(q, k, v, out, total, kept, *extra):
        for i, (start, stop, seen) in enumerate(blocks):
            s = scores(q, k, kept, extra, i)
            top = xp.maximum(row_max(s), xp.finfo(s.dtype).min)
            s -= top
            p = xp.exp(s, out=s)
            weight = xp.maximum(row_sum(p), 1)  # less only where nothing may be seen
            total[..., start:stop, :] = weight if short else xp.log(weight) + top
            o = dropped(p, extra, i) @ widen(v[..., :seen, :])
            xp.divide(o, weight, out=out[..., start:stop, :])

    def backward_rows(q, k, v, out, total, kept, do, dq, dk, dv, *extra):
        dscores = extra[-1] if bias is not None else None
        extra = extra[:-1] if bias is not None else extra
        if short:
            do = do / total  # p was kept without its divisor
        delta = row_dot(do, out)
        dk[..., blocks[-1][2] :, :] = dv[..., blocks[-1][2] :, :] = 0  # never seen
        for i in reversed(range(len(blocks))):  # the last sees all that any block sees
            start, stop, seen = blocks[i]
            p = probabilities(q, k, total, kept, extra, i)
            do_block = do[..., start:stop, :]
            add = i + 1 < len(blocks)
            _product(_t(dropped(p, extra, i)), do_block, dv[..., :seen, :], add)
            ds = turned_product(widen(do_block), widen(v[..., :seen, :]))
            ds = dropped(ds, extra, i)
            ds -= delta[..., start:stop, :]
            ds *= p
            if dscores is not None:
                dscores[..., start:stop, :seen] = ds
            ds *= scale
            _product(_t(ds), q[..., start:stop, :], dk[..., :seen, :], add)
            _product(ds, k[..., :seen, :], dq[..., start:stop, :])

    def backward(do):
        dq, dk, dv = xp.empty_like(q), xp.empty_like(k), xp.empty_like(v)
        arrays = [q, k, v, out, total, kept, do, dq, dk, dv, *extra]
        dbias = None
        if bias is not None:
            dbias = xp.zeros(shape, q.dtype)
            arrays.append(dbias)
        by_rows(backward_rows, *arrays, size=_count(shape))
        return dq, dk, dv, dbias

    by_rows(forward_rows, q, k, v, out, total, kept, *extra, size=_count(shape))
    return out, backward


def _by_kernel(q, k, v, bias, **settings):
    """(out, backward) by a kernel, in the dtype of q; None or False without one."""
    return use_kernel(q) and kernels.attention.serve(q, k, v, bias, **settings)


scaled_dot_product_attention.in_bfloat16 = _by_kernel  # the formula wants float32


def _product(a, b, out, add=False):
    """a @ b, written into `out` or added to it."""
    if add:
        out += a @ b
    else:
        array_module(out).matmul(a, b, out=out)


def _query_blocks(length, source, offset):
    """(first query, last + 1, keys seen) of each block; `offset` None: not causal."""
    blocks = []
    for start in range(0, max(length, 1), QUERIES):
        stop = min(start + QUERIES, length)
        seen = source if offset is None else min(source, max(stop + offset, 1))
        blocks.append((start, stop, seen))
    return blocks


def _causal_bias(xp, dtype, start, stop, seen, offset):
    """0 where a query may look, -inf where a key lies ahead of it: (queries, keys)."""
    ahead = xp.arange(seen) > xp.arange(start, stop)[:, None] + offset
    return xp.where(ahead, -math.inf, 0.0).astype(widen(xp.empty(0, dtype)).dtype)


def _added_scores(xp, dtype, bias, mask, shape):
    """`bias` and `mask` as arrays to add, seen in the shape of the scores."""
    added = [] if bias is None else [xp.broadcast_to(bias, shape)]
    if mask is not None:
        penalty = xp.where(mask, 0.0, -math.inf).astype(dtype)
        added.append(xp.broadcast_to(penalty, shape))
    return added


def _count(shape):
    return math.prod(shape)


def _t(x):
    return widen(x).swapaxes(-1, -2)
