"""Adam and AdamW: steps scaled by running means of the gradient and of its square."""

import math
from typing import ClassVar

from ..backend import array_module
from .blocks import in_blocks, scratch
from .optimizer import Optimizer, fraction, number


def _betas(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, not {value!r}")
    return tuple(fraction(f"{name}[{i}]", beta) for i, beta in enumerate(value))


class Adam(Optimizer):
    """Steps of -lr m' / (sqrt(v') + eps): the mean gradient by its usual size.

    m and v are the running means of g and g² with weights `betas` on the old values;
    m' = m / (1 - beta1^t) and v' likewise undo their start at zero (arXiv 1412.6980,
    algorithm 1). `weight_decay` adds that multiple of the parameter to g.
    """

    rules: ClassVar = {
        "lr": number,
        "betas": _betas,
        "eps": number,
        "weight_decay": number,
    }
    state_names = ("exp_avg", "exp_avg_sq")
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, group, array, gradient, state):
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        beta1, beta2 = (float(beta) for beta in group["betas"])
        state["step"] += 1
        # Both corrections go into two numbers: one pass over the arrays less.
        root = math.sqrt(1 - beta2 ** state["step"])
        rate = lr * root / (1 - beta1 ** state["step"])
        eps = float(group["eps"]) * root

        def block(p, g, m, v):
            xp, t = array_module(p), scratch(p)
            if decay and self.decoupled:
                p *= 1 - lr * decay
            elif decay:
                u = scratch(p, 1)
                g = xp.add(xp.multiply(p, decay, out=u), g, out=u)
            m *= beta1
            m += xp.multiply(g, 1 - beta1, out=t)
            v *= beta2
            xp.multiply(g, g, out=t)
            t *= 1 - beta2
            v += t
            xp.sqrt(v, out=t)
            t += eps
            xp.divide(m, t, out=t)
            t *= rate
            p -= t

        in_blocks(block, array, gradient, state["exp_avg"], state["exp_avg_sq"])


class AdamW(Adam):
    """Adam whose weight decay is decoupled: each step also takes lr weight_decay p off.

    arXiv 1711.05101, algorithm 2, with the schedule multiplier inside lr as in PyTorch.
    """

    decoupled = True

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2
    ):
        super().__init__(params, lr, betas, eps, weight_decay)
