"""What the tests of optimizers share: all of them, parameters, gradients."""

import numpy as np

import minibig as mb
from minibig import optim

ALL = (optim.SGD, optim.Adadelta, optim.Adam, optim.AdamW)


def parameter(*shape, seed=0, dtype="float64"):
    array = np.random.default_rng(seed).normal(size=shape)
    return mb.tensor(np.asarray(array, dtype), requires_grad=True)


def set_gradients(parameters, seed=1):
    rng = np.random.default_rng(seed)
    for p in parameters:
        p.grad = mb.tensor(np.asarray(rng.normal(size=p.shape), p.dtype))


def settings_of(kind):
    return {"momentum": 0.9} if kind is optim.SGD else {}
