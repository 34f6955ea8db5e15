"""Holds a backward pass against finite differences, in float64."""

import math

import numpy as np

from .autograd import no_grad
from .tensor import Tensor


def gradcheck(function, inputs, *, eps=1e-5, atol=1e-7, rtol=1e-5, seed=0):
    """True if the gradients of `function(*inputs)` agree with central differences.

    `inputs`: Tensors; those that require a gradient (at least one, all float64) are
    checked. The output is weighted with random numbers first: with ones, many wrong
    gradients would pass. Inputs of up to 64 numbers are checked one by one, larger ones
    along 3 random directions. Raises AssertionError with the input, the place and both
    numbers where they differ by more than atol + rtol · |difference quotient|.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(inputs) if x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: none of the inputs requires a gradient")
    for i in checked:
        if inputs[i].dtype != np.float64:
            raise TypeError(
                f"gradcheck: input {i} is {inputs[i].dtype}; in less than float64, "
                "differences say nothing"
            )
    rng = np.random.default_rng(seed)
    weights = {}

    def value():
        """Σ weights · output, over all outputs."""
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        total = 0.0
        for n, y in enumerate(outputs):
            if n not in weights:
                weights[n] = Tensor(_like(y, rng.standard_normal(y.shape)))
            total = total + (y * weights[n]).sum()
        return total

    before = [inputs[i].grad for i in checked]
    for i in checked:
        inputs[i].grad = None
    value().backward()
    gradients = [inputs[i].grad for i in checked]
    for i, gradient, kept in zip(checked, gradients, before, strict=True):
        inputs[i].grad = kept
        if gradient is None:
            raise AssertionError(
                f"input {i} of shape {inputs[i].shape} got no gradient"
            )
        _compare(i, inputs[i], gradient.numpy(), value, eps, atol, rtol, rng)
    return True


def _like(x, array):
    from .backend import to_device

    return to_device(np.asarray(array, "float64"), x.device)


def _compare(number, x, gradient, value, eps, atol, rtol, rng):
    for place, direction in _directions(x, rng):
        expected = _slope(x, direction, value, eps)
        found = float((gradient * direction).sum())
        if not abs(found - expected) <= atol + rtol * abs(expected):
            raise AssertionError(
                f"gradient of input {number}, {x.shape}, {place}: backward says "
                f"{found:.10g}, the difference quotient {expected:.10g}"
            )


def _directions(x, rng):
    if x.numel() <= 64:
        for place in np.ndindex(*x.shape):
            direction = np.zeros(x.shape)
            direction[place] = 1
            yield f"at {place}", direction
    else:
        for n in range(3):
            direction = rng.standard_normal(x.shape)
            yield f"random direction {n}", direction / math.sqrt(x.numel())


def _slope(x, direction, value, eps):
    """Central difference of `value` along `direction`; x is put back as it was."""
    home = x.array
    step = _like(x, direction * eps)
    try:
        with no_grad():
            x.array = home + step
            up = float(value())
            x.array = home - step
            down = float(value())
    finally:
        x.array = home
    return (up - down) / (2 * eps)
