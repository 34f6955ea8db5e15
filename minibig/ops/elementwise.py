"""Functions of each number by itself: exponentials, activations, choices.

float16 input is computed in float32 and rounded once at the end. On a GPU a kernel does
each pass of silu and gelu.
"""

import math

import numpy as np

from ..backend import LARGE, array_module, by_rows, erf, use_kernel
from ..kernels.activation import activation


def cast(x, *, dtype):
    """x in another dtype; the gradient comes back in x's own."""
    before = x.dtype

    def backward(dy):
        return (dy.astype(before),)

    return x.astype(dtype), backward


def negative(x):
    """-x."""
    return -x, lambda dy: (-dy,)


def exp(x):
    """e to the power x. backward: dx = dy * y."""
    y = array_module(x).exp(x)
    return y, lambda dy: (dy * y,)


def log(x):
    """Natural logarithm; x > 0. backward: dx = dy / x."""
    return array_module(x).log(x), lambda dy: (dy / x,)


def sqrt(x):
    """Square root; x ≥ 0. backward: dx = dy / (2 y)."""
    y = array_module(x).sqrt(x)
    return y, lambda dy: (dy / (y + y),)


def sin(x):
    """Sine of x in radians. backward: dx = dy * cos x."""
    xp = array_module(x)
    return xp.sin(x), lambda dy: (dy * xp.cos(x),)


def cos(x):
    """Cosine of x in radians. backward: dx = -dy * sin x."""
    xp = array_module(x)
    return xp.cos(x), lambda dy: (-dy * xp.sin(x),)


def absolute(x):
    """|x|. backward: dx = dy * sign(x), 0 at 0."""
    xp = array_module(x)
    return xp.abs(x), lambda dy: (dy * xp.sign(x),)


def maximum(a, b):
    """The larger of a and b, place by place. backward: halves where they are equal."""
    return _larger(a, b, array_module(a, b).maximum)


def minimum(a, b):
    """The smaller of a and b, place by place. backward: halves where they are equal."""
    return _larger(a, b, array_module(a, b).minimum)


def _larger(a, b, choose):
    y = choose(a, b)

    def backward(dy):
        from_a, from_b = y == a, y == b
        tie = (from_a & from_b) * dy.dtype.type(0.5)
        return dy * (from_a - tie), dy * (from_b - tie)

    return y, backward


def clip(x, *, low=None, high=None):
    """x, with what lies below `low` or above `high` moved there.

    backward: dx = dy inside the bounds and on them, 0 outside.
    """
    y = x
    if low is not None:
        y = array_module(x).maximum(y, low)
    if high is not None:
        y = array_module(x).minimum(y, high)
    y = y.copy() if y is x else y
    return y, lambda dy: (dy * (x == y),)


def where(a, b, *, condition):
    """a where `condition` holds, else b."""
    xp = array_module(condition, a, b)

    def backward(dy):
        return dy * condition, dy * ~condition

    return xp.where(condition, a, b), backward


def tanh(x):
    """Hyperbolic tangent, between -1 and 1. backward: dx = dy (1 - y²)."""
    y = array_module(x).tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


def sigmoid(x):
    """1 / (1 + e^-x), between 0 and 1. backward: dx = dy * y (1 - y)."""
    y = logistic(x)
    return y, lambda dy: (dy * y * (1 - y),)


def logistic(x):
    """The sigmoid by itself, from e^-|x| ≤ 1, which cannot overflow."""
    xp = array_module(x)
    small = xp.exp(-xp.abs(x))
    return xp.maximum(small, x >= 0) / (1 + small)


def relu(x):
    """max(x, 0). backward: dx = dy where x > 0, else 0."""
    xp = array_module(x)
    y = xp.maximum(x, 0)

    def backward_rows(y, dy, dx):
        xp.multiply(dy, y > 0, out=dx)

    def backward(dy):
        dx = xp.empty_like(y)
        by_rows(backward_rows, y, dy, dx, block=LARGE)
        return (dx,)

    return y, backward


def silu(x):
    """x * sigmoid(x) (arXiv 1702.03118). backward: dx = dy s (1 + x (1 - s))."""
    served = silu.in_bfloat16(x)
    if served:
        return served
    xp, shape = array_module(x), x.shape
    x = xp.atleast_1d(x)  # of 0-d arrays NumPy makes numbers, which have no place
    y = xp.empty_like(x)

    def divisor(x):
        """1 + e^-x, far below 0 infinite."""
        t = xp.negative(x)
        with np.errstate(over="ignore"):
            xp.exp(t, out=t)
        t += 1
        return t

    def forward_rows(x, y):
        x = widen(x)
        xp.divide(x, divisor(x), out=y)

    def backward_rows(x, dy, dx):
        x = widen(x)
        s = divisor(x)
        xp.divide(1, s, out=s)
        factor = 1 - s
        factor *= x
        factor += 1
        factor *= s
        xp.multiply(factor, dy, out=dx)

    by_rows(forward_rows, x, y)

    def backward(dy):
        dx = xp.empty_like(x)
        by_rows(backward_rows, x, dy.reshape(x.shape), dx)
        return (dx.reshape(shape),)

    return y.reshape(shape), backward


def gelu(x):
    """x * Φ(x), Φ the normal distribution function (arXiv 1606.08415).

    backward: dx = dy (Φ(x) + x φ(x)), φ(x) = e^(-x²/2) / √(2π).
    """
    served = gelu.in_bfloat16(x)
    if served:
        return served
    xp, shape = array_module(x), x.shape
    x = xp.atleast_1d(x)  # of 0-d arrays NumPy makes numbers, which have no place
    y, cdf = xp.empty_like(x), xp.empty_like(widen(x))

    def forward_rows(x, y, cdf):
        x = widen(x)
        normal_cdf(x, cdf)
        xp.multiply(x, cdf, out=y)

    def backward_rows(x, cdf, dy, dx):
        x = widen(x)
        t = xp.clip(x, -64, 64)  # further out the density is 0
        t *= t
        t *= -0.5
        xp.exp(t, out=t)
        t *= 1 / math.sqrt(2 * math.pi)
        t *= x
        t += cdf
        xp.multiply(t, dy, out=dx)

    by_rows(forward_rows, x, y, cdf)

    def backward(dy):
        dx = xp.empty_like(x)
        by_rows(backward_rows, x, cdf, dy.reshape(x.shape), dx)
        return (dx.reshape(shape),)

    return y.reshape(shape), backward


def normal_cdf(x, out):
    """Fills `out` with Φ(x) = (1 + erf(x / √2)) / 2.

    Of float32 in NumPy as (1 + tanh(x p(x²))) / 2, the form of `gelu_tanh` with a
    longer polynomial: within 1e-7, in a fifth of the time of SciPy's erf.
    """
    xp = array_module(x)
    if xp is not np or x.dtype != "float32":
        out[...] = erf(x * math.sqrt(0.5))
    else:
        near = np.clip(x, -6, 6)  # further out tanh is 1
        square = near * near
        np.multiply(square, _PHI[0], out=out)
        for coefficient in _PHI[1:-1]:
            out += coefficient
            out *= square
        out += _PHI[-1]
        out *= near
        np.tanh(out, out=out)
    out += 1
    out *= 0.5


# p of `normal_cdf`: the polynomial of degree 6 whose tanh comes closest to erf, 5.8e-8
_PHI = (1.756212433e-09, -1.322647005e-07, 3.964759794e-06, -5.530626823e-05,
        -3.259482015e-05, 3.633308445e-02, 0.7978849415)  # fmt: skip


def gelu_tanh(x):
    """0.5 x (1 + tanh u), u = √(2/π) (x + 0.044715 x³): what GPT-2 uses for `gelu`.

    backward: dx = dy (1 + t) (0.5 + 0.5 x u' (1 - t)), t = tanh u computed once more:
    cheaper than keeping it.
    """
    served = gelu_tanh.in_bfloat16(x)
    if served:
        return served
    xp, shape = array_module(x), x.shape
    x = xp.atleast_1d(x)  # of 0-d arrays NumPy makes numbers, which have no place
    y = xp.empty_like(x)

    def forward_rows(x, y):
        x = widen(x)
        t = x * x
        t *= 0.044715 * _GELU
        t += _GELU
        t *= x  # u
        xp.tanh(t, out=t)
        t += 1
        t *= x
        xp.multiply(t, 0.5, out=y)

    by_rows(forward_rows, x, y)

    def backward(dy):
        dx = xp.empty_like(x)
        by_rows(backward_rows, x, dy.reshape(x.shape), dx)
        return (dx.reshape(shape),)

    def backward_rows(x, dy, dx):
        x = widen(x)
        factor = x * x
        factor *= 0.044715 * _GELU
        factor += _GELU
        t = factor * x  # u
        xp.tanh(t, out=t)
        factor *= 1.5
        factor -= _GELU
        factor *= x  # x u' / 2
        factor *= 1 - t
        factor += 0.5
        t += 1
        factor *= t
        xp.multiply(factor, dy, out=dx)

    return y.reshape(shape), backward


_GELU = math.sqrt(2 / math.pi)


def _by_kernel(name):
    return lambda x: use_kernel(x) and activation(name, x)


silu.in_bfloat16 = _by_kernel("silu")
gelu.in_bfloat16 = _by_kernel("gelu")
gelu_tanh.in_bfloat16 = _by_kernel("gelu_tanh")


def widen(x):
    """x, in float32 if it was float16: sums and exponentials need the range."""
    return x.astype("float32") if x.dtype == "float16" else x
