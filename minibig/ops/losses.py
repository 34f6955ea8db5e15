"""Losses, each straight from what a model puts out; one number per row or element."""

from ..backend import array_module, by_rows, row_max, row_sum, use_kernel, zero_rows
from ..kernels import cross_entropy as kernel
from .elementwise import logistic, widen


def cross_entropy(logits, *, ids, ignore_index=-100, label_smoothing=0.0):
    """-log softmax(logits)[id] of each row: (..., V), ids (...) -> (...), nats.

    Of float16 logits the losses are float32, or their sum over a batch would overflow.
    Rows whose id is `ignore_index` cost 0 (None: no row is ignored). With smoothing s
    the target is (1-s) on the id and s/V everywhere (arXiv 1512.00567, section 7). Kept
    for backward are two numbers a row, the largest logit and log Σ e^(logits -
    largest), whose sum would lose digits; the probabilities are never stored. On a GPU
    a kernel does each pass.
    backward: dlogits = dy (softmax(logits) - target).
    """
    served = _by_kernel(
        logits, ids=ids, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    if served:
        return served
    xp = array_module(logits, ids)
    classes = logits.shape[-1]
    rows, flat = logits.reshape(-1, classes), ids.reshape(-1)
    kept = None if ignore_index is None else flat != ignore_index
    chosen = flat if kept is None else xp.where(kept, flat, 0)
    numbers = xp.arange(len(flat))
    top = xp.empty(len(flat), widen(rows[:0]).dtype)  # (N,)
    total = xp.empty_like(top)  # log Σ e^(logits - top)

    def forward_rows(x, top, total):
        x = widen(x)
        largest = row_max(x)
        top[...] = largest[:, 0]
        total[...] = xp.log(row_sum(xp.exp(x - largest))[:, 0])

    by_rows(forward_rows, rows, top, total)
    losses = total - (rows[numbers, chosen] - top) * (1 - label_smoothing)
    if label_smoothing:
        losses -= (widen(rows).mean(-1) - top) * label_smoothing
    if kept is not None:
        losses = xp.where(kept, losses, 0)  # what is ignored may even be NaN

    def backward_rows(x, top, total, dy, chosen, dx):
        p = widen(x) - top[:, None]
        p -= total[:, None]
        xp.exp(p, out=p)
        p -= label_smoothing / classes
        p[xp.arange(len(p)), chosen] -= 1 - label_smoothing
        xp.multiply(p, dy[:, None], out=dx)

    def backward(dy):
        dx = xp.empty_like(rows)
        by_rows(backward_rows, rows, top, total, dy.reshape(-1), chosen, dx)
        if kept is not None:
            zero_rows(dx, ~kept)  # ignored rows learn nothing
        return (dx.reshape(logits.shape),)

    return losses.reshape(ids.shape), backward


def _by_kernel(logits, **settings):
    return use_kernel(logits) and kernel.cross_entropy(logits, **settings)


cross_entropy.in_bfloat16 = _by_kernel


def binary_cross_entropy_with_logits(x, target):
    """-t log σ(x) - (1-t) log(1 - σ(x)), each as max(x, 0) - x t + log(1+e^-|x|).

    backward: dx = dy (σ(x) - t), dt = -dy x.
    """
    xp = array_module(x, target)
    y = xp.maximum(x, 0) - x * target + xp.log1p(xp.exp(-xp.abs(x)))

    def backward(dy):
        return dy * (logistic(x) - target), -dy * x

    return y, backward


def squared_error(a, b):
    """(a - b)², elementwise. backward: da = 2 dy (a - b), db = -da."""
    difference = a - b

    def backward(dy):
        da = 2 * dy * difference
        return da, -da

    return difference * difference, backward
