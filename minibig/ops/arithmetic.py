"""Sums, products, powers: two arrays (or an array and a number) in, one out.

Shapes broadcast as in NumPy. Backward returns gradients of the output's shape; the
engine sums them over the axes that were broadcast.
"""

from numpy import errstate

from ..backend import add as sum_of
from ..backend import array_module


def add(a, b):
    """a + b."""

    def backward(dy):
        return dy, dy

    return sum_of(a, b), backward


def subtract(a, b):
    """a - b."""

    def backward(dy):
        return dy, -dy

    return a - b, backward


def multiply(a, b):
    """a * b.

    backward: da = dy * b, db = dy * a.
    """

    def backward(dy):
        return dy * b, dy * a

    return a * b, backward


def divide(a, b):
    """a / b.

    backward: da = dy / b, db = -dy * a / b².
    """
    y = a / b

    def backward(dy):
        da = dy / b
        return da, -da * y

    return y, backward


def remainder(a, b):
    """a - b ⌊a / b⌋. backward: da = dy, db = -dy ⌊a / b⌋."""

    def backward(dy):
        return dy, -dy * (a // b)

    return a % b, backward


def power(a, b):
    """a ** b; either may be a number. Whole powers 2 to 4 are products (200 x faster).

    backward: da = dy * b * a^(b-1), 0 where b = 0; db = dy * a^b * log a, 0 where a = 0
    and not a number where a < 0, as in PyTorch.
    """
    if not hasattr(b, "dtype"):
        return _fixed_power(a, b)
    xp = array_module(a, b)
    y = a**b

    def backward(dy):
        db = dy * y * _log_or_zero(xp, a, y.dtype)
        if not hasattr(a, "dtype"):
            return None, db
        zero = b == 0
        return dy * b * xp.where(zero, 1, a) ** xp.where(zero, 1, b - 1), db

    return y, backward


def _log_or_zero(xp, a, dtype):
    with errstate(invalid="ignore"):
        return xp.log(xp.where(xp.asarray(a, dtype) == 0, 1, a).astype(dtype))


def _fixed_power(a, b):
    def product(n):
        square = a * a
        return {2: square, 3: square * a, 4: square * square}[n]

    whole = b in (2, 3, 4)
    y = product(int(b)) if whole else a**b

    def backward(dy):
        if b == 0:
            return dy * 0, None
        if whole and b > 2:
            return dy * product(int(b) - 1) * b, None
        return dy * (a if b == 2 else a ** (b - 1)) * b, None

    return y, backward
