"""Randomness that can be repeated: every draw is a function of (seed, stream, step).

A stream is a name ("init", "dropout", …) with a counter. The n-th draw of one has a
generator of its own: one more dropout call does not shift the initial weights, and a
saved counter is all that resuming needs. Numbers are drawn on the CPU for every device,
so that a model starts from the same weights on both.
"""

import zlib

import numpy as np

from .checks import whole

_state = {"seed": 0, "counters": {}, "replica": 0}


def seed(value):
    """Sets the seed, a whole number ≥ 0, and starts all streams anew."""
    _state["seed"] = whole("a seed", value, 0)
    _state["counters"].clear()


def at(stream, step, seed=None):
    """The NumPy Generator of (seed, stream, step); draws nothing from the stream."""
    value = _state["seed"] if seed is None else whole("a seed", seed, 0)
    return _rng(value, stream, step)


def generator(stream="main"):
    """The next NumPy Generator of `stream`."""
    step = _state["counters"].get(stream, 0)
    _state["counters"][stream] = step + 1
    replica = [_state["replica"]] if _state["replica"] else []
    return _rng(_state["seed"], stream, step, *replica)


def _rng(seed, stream, *numbers):
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), *numbers])


def set_replica(number):
    """Gives this process streams of its own, where several share a batch; 0: the first
    process's, which are those of a process that is alone."""
    _state["replica"] = number


def get_state():
    """Seed and counters, as JSON can hold them; `set_state` goes back to this point."""
    return {"seed": _state["seed"], "counters": dict(_state["counters"])}


def set_state(state):
    """Goes back to what `get_state` returned."""
    _state["seed"] = int(state["seed"])
    _state["counters"] = {name: int(n) for name, n in state["counters"].items()}
