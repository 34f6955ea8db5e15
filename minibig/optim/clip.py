"""Gradient clipping: by the norm of all gradients together, or number by number."""

import math

import numpy as np

from .. import checks
from ..backend import array_module, use_kernel
from ..kernels import parameters as kernel
from ..kernels.arrays import address_of
from ..tensor import Tensor
from .blocks import in_blocks, writable
from .optimizer import number


def clip_grad_norm_(parameters, max_norm, *, error_if_nonfinite=False):
    """The Euclidean norm of all gradients together, before clipping: a Tensor, 0-d.

    Gradients are scaled in place by max_norm / (norm + 1e-6) where that is below 1
    (arXiv 1211.5063, algorithm 1; the 1e-6 is PyTorch's). Parameters without a gradient
    are passed over. A norm that is NaN or infinite spoils all gradients, visibly; with
    `error_if_nonfinite` it raises RuntimeError before any is changed (and on a GPU
    waits for it, which otherwise nothing here does).
    """
    max_norm = float(checks.number("max_norm", max_norm, 0, finite=False))
    gradients = _gradients(parameters)
    norm = grad_norm(gradients)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the norm of the gradients is {float(norm)}, they cannot be clipped: the "
            "loss diverged; minibig.debug() finds the op that made the first NaN"
        )
    if array_module(norm) is np:
        scale = max_norm / (float(norm) + 1e-6)
        scale_gradients(gradients, 1.0 if scale >= 1 else scale)
    else:
        _clip_on_gpu(gradients, norm, max_norm)
    return Tensor(norm)


def _clip_on_gpu(gradients, norm, max_norm):
    """What the factor is, the CPU need not know."""
    served, others = _by_kernel(gradients)
    if served:
        kernel.clip_gradients(served, norm, max_norm)
    if others:
        scale = array_module(norm).minimum(max_norm / (norm + 1e-6), 1)
        for gradient in others:
            gradient.array *= scale.astype(gradient.dtype)
    for gradient in gradients:
        gradient.changed()


def scale_gradients(gradients, factor):
    """Multiplies gradients (Tensors) in place by a number."""
    if factor == 1:
        return
    served, others = _by_kernel(gradients)
    if served:
        kernel.scale_gradients(served, factor)
    for gradient in others:
        in_blocks(lambda g: _multiply(g, factor), writable(gradient), once=True)
    for gradient in gradients:
        gradient.changed()


def _by_kernel(gradients):
    """(arrays that a kernel scales in one launch, the gradients that are left).

    One that is given twice is left the second time: two blocks would change it at once.
    """
    served, others = {}, []
    for gradient in gradients:
        array = gradient.array
        new = address_of(array) not in served
        if new and use_kernel(array) and kernel.is_served(array):
            served[address_of(array)] = array
        else:
            others.append(gradient)
    return list(served.values()), others


def clip_grad_value_(parameters, clip_value):
    """Cuts every number of the gradients, in place, to [-clip_value, clip_value]."""
    limit = number("clip_value", clip_value)
    for gradient in _gradients(parameters):
        array = writable(gradient)
        in_blocks(lambda g: array_module(g).clip(g, -limit, limit, out=g), array)
        gradient.changed()


def _gradients(parameters):
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    return [p.grad for p in parameters if p.grad is not None]


def grad_norm(gradients):
    """The Euclidean norm of all numbers of some Tensors, float64, as a 0-d array.

    On a GPU it is infinite from 1.8e19 on for float32, as in PyTorch.
    """
    arrays = [gradient.array for gradient in gradients]
    xp = array_module(*arrays)
    if xp is not np:
        served = kernel.gradient_norm(arrays) if use_kernel(arrays[0]) else None
        return xp.sqrt(_sum_of_squares(arrays)) if served is None else served
    total = float(_sum_of_squares(arrays))
    if not math.isfinite(total):  # float32 squares overflow there
        total = float(_sum_of_squares(arrays, "float64"))
    return np.asarray(math.sqrt(total))


def _sum_of_squares(arrays, dtype=None):
    """Of all numbers: one dot a block in its dtype, the blocks added up in float64."""

    def square(x):
        wide = dtype or ("float32" if x.dtype == "float16" else x.dtype)
        x = x.astype(wide, copy=False)
        return array_module(x).vdot(x, x).astype("float64")

    parts = (part for x in arrays for part in in_blocks(square, x, once=True))
    return sum(parts)


def _multiply(x, factor):
    x *= factor
