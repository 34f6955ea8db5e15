"""Stochastic gradient descent, plain, with momentum or with Nesterov's momentum."""

from typing import ClassVar

from ..backend import array_module
from .blocks import in_blocks, scratch
from .optimizer import Optimizer, number, switch


class SGD(Optimizer):
    """Steps of -lr times the gradient, or times its running sum with momentum.

    b = momentum b + (1 - dampening) g, starting from the first g; the step is -lr b, or
    -lr (g + momentum b) with `nesterov` (Sutskever et al. 2013). `weight_decay` adds
    that multiple of the parameter to g. PyTorch's variant: lr stands outside b.
    """

    rules: ClassVar = {
        "lr": number,
        "momentum": number,
        "dampening": number,
        "weight_decay": number,
        "nesterov": switch,
    }
    state_names = ("momentum_buffer",)

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
    ):
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def _checked(self, settings):
        settings = super()._checked(settings)
        plain = not settings["momentum"] or settings["dampening"]
        if settings["nesterov"] and plain:
            raise ValueError(
                "nesterov needs momentum above 0 and no dampening; they are "
                f"{settings['momentum']:g} and {settings['dampening']:g}"
            )
        return settings

    def _new_state(self, group, array):
        return {}

    def _fits(self, entry):
        return entry.keys() <= {*self.state_names}

    def _update(self, group, array, gradient, state):
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        momentum = float(group["momentum"])
        fresh = 1 - float(group["dampening"])
        first = "momentum_buffer" not in state
        arrays = [array, gradient]
        if momentum:
            if first:
                state["momentum_buffer"] = array_module(array).empty(
                    array.shape, array.dtype
                )
            arrays.append(state["momentum_buffer"])

        def block(p, g, b=None):
            xp, t, u = array_module(p), scratch(p, 0), scratch(p, 1)
            if decay:
                g = xp.add(xp.multiply(p, decay, out=t), g, out=t)
            if b is not None:
                if first:
                    b[...] = g
                else:
                    b *= momentum
                    b += xp.multiply(g, fresh, out=u)
                if group["nesterov"]:
                    g = xp.add(xp.multiply(b, momentum, out=u), g, out=u)
                else:
                    g = b
            p -= xp.multiply(g, lr, out=u)

        in_blocks(block, *arrays)
