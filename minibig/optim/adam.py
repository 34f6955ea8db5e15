"""Adam and AdamW: steps scaled by running means of the gradient and of its square."""

import math
from types import SimpleNamespace
from typing import ClassVar

from ..backend import array_module, use_kernel
from ..kernels import parameters as kernel
from .blocks import in_blocks, scratch
from .optimizer import Optimizer, fraction, number


def _betas(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, not {value!r}")
    return tuple(fraction(f"{name}[{i}]", beta) for i, beta in enumerate(value))


def _is_served(group, array, gradient, state):
    return kernel.is_served(array, state["exp_avg"], state["exp_avg_sq"])


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

    def _update_all(self, entries):
        """On a GPU one kernel changes all float32 parameters at once."""
        if entries and use_kernel(entries[0][1]):
            served = [_is_served(*entry) for entry in entries]
            todo = [e for e, yes in zip(entries, served, strict=True) if yes]
            if todo:
                kernel.adam([self._for_kernel(*entry) for entry in todo])
            entries = [e for e, yes in zip(entries, served, strict=True) if not yes]
        super()._update_all(entries)

    def _for_kernel(self, group, array, gradient, state):
        numbers = self._numbers(group, state)
        return array, gradient, state["exp_avg"], state["exp_avg_sq"], numbers

    def _numbers(self, group, state):
        """The numbers of this step, which it counts: a dict of floats.

        The corrections of both means go into two: one pass over the arrays less.
        """
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        beta1, beta2 = (float(beta) for beta in group["betas"])
        state["step"] += 1
        root = math.sqrt(1 - beta2 ** state["step"])
        return {
            "shrink": 1 - lr * decay if self.decoupled else 1.0,
            "decay": 0.0 if self.decoupled else decay,
            "beta1": beta1, "rest1": 1 - beta1, "beta2": beta2, "rest2": 1 - beta2,
            "rate": lr * root / (1 - beta1 ** state["step"]),
            "eps": float(group["eps"]) * root,
        }  # fmt: skip

    def _update(self, group, array, gradient, state):
        n = SimpleNamespace(**self._numbers(group, state))

        def block(p, g, m, v):
            xp, t = array_module(p), scratch(p)
            if n.shrink != 1:
                p *= n.shrink
            if n.decay:
                u = scratch(p, 1)
                g = xp.add(xp.multiply(p, n.decay, out=u), g, out=u)
            m *= n.beta1
            m += xp.multiply(g, n.rest1, out=t)
            v *= n.beta2
            xp.multiply(g, g, out=t)
            t *= n.rest2
            v += t
            xp.sqrt(v, out=t)
            t += n.eps
            xp.divide(m, t, out=t)
            t *= n.rate
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
