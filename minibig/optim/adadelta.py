"""Adadelta: steps in the parameter's own unit, from running means of squares."""

from typing import ClassVar

from ..backend import array_module
from .blocks import in_blocks, scratch
from .optimizer import Optimizer, fraction, number


class Adadelta(Optimizer):
    """Steps of -lr d with d = g sqrt(E[d²] + eps) / sqrt(E[g²] + eps).

    E[·] are running means with weight `rho` on the old value (arXiv 1212.5701,
    algorithm 1). `weight_decay` adds that multiple of the parameter to g; `lr` is
    PyTorch's addition to the paper.
    """

    rules: ClassVar = {
        "lr": number,
        "rho": fraction,
        "eps": number,
        "weight_decay": number,
    }
    state_names = ("square_avg", "acc_delta")

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def _update(self, group, array, gradient, state):
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        rho, eps = float(group["rho"]), float(group["eps"])
        state["step"] += 1

        def block(p, g, square, delta):
            xp, t, d = array_module(p), scratch(p, 0), scratch(p, 1)
            if decay:
                g = xp.add(xp.multiply(p, decay, out=d), g, out=d)
            _mean_of_squares(square, g, rho, t)
            xp.sqrt(xp.add(delta, eps, out=t), out=t)
            xp.multiply(t, g, out=d)
            d /= xp.sqrt(xp.add(square, eps, out=t), out=t)
            _mean_of_squares(delta, d, rho, t)
            p -= xp.multiply(d, lr, out=d)

        in_blocks(block, array, gradient, state["square_avg"], state["acc_delta"])


def _mean_of_squares(mean, x, weight, t):
    """mean = weight mean + (1 - weight) x², in place; t is overwritten."""
    array_module(x).multiply(x, x, out=t)
    t *= 1 - weight
    mean *= weight
    mean += t
