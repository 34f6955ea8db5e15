"""Activations computed a second time instead of kept: memory for time.

    forward   x ──► f ──► y          kept: x, and the random state
    backward  x ──► f ──► … ──► dx   what is inside f is made again, used, and let go

About a third more work; of a stack of such parts only their inputs stay, and the inside
of one part at a time (Chen et al., arXiv 1604.06174).
"""

from contextlib import contextmanager

from . import random
from .autograd import mode, next_order, run_backward
from .backend import array_module
from .tensor import Tensor, _record, _wrap, apply


def checkpoint(function, *inputs, **settings):
    """function(*inputs, **settings), whose inside is not kept but computed again.

    Named as torch.utils.checkpoint. `function` gives a Tensor or a tuple of them.
    Backward calls it once more, with the same random numbers: it must do the same twice
    (a batch norm in training moves its running statistics twice). Its parameters get
    their gradients too. Raises RuntimeError where it uses a result computed outside of
    it, which must be one of the `inputs` instead.
    """
    if not callable(function):
        raise TypeError(
            f"checkpoint takes a function and its inputs, not {type(function).__name__}"
        )
    if not mode.recording:
        return function(*inputs, **settings)
    state, start = random.get_state(), next_order()
    given = [x for x in inputs if isinstance(x, Tensor)]
    arrays = [x.array for x in given]
    outputs, copies = _run(function, inputs, arrays, settings)
    places = {id(copy): i for i, copy in enumerate(copies)}
    leaves = _leaves(outputs, start)
    if not leaves:
        return outputs
    sources = [places.get(id(leaf), leaf) for leaf in leaves]
    parents = [given[x] if type(x) is int else x for x in sources]
    held = [x.array for x in parents]  # whether they change, the engine watches

    def backward(*dys):
        with _random_state(state), _recording():
            again, copies = _run(function, inputs, arrays, settings)
            found = _gradients(_as_tuple(again), dys)
        if len(found) != len(held):
            raise RuntimeError("checkpoint: the function did not do the same twice")
        return tuple(found[id(copies[x] if type(x) is int else x)] for x in sources)

    out = [_wrap(y.array, given) for y in _as_tuple(outputs)]
    _record("checkpoint", parents, [*given, *parents], out, backward)
    return tuple(out) if isinstance(outputs, tuple) else out[0]


def _run(function, inputs, arrays, settings):
    """What the function gives for leaves in the place of its Tensors, and these."""
    copies, rest = [], iter(arrays)

    def leaf(x):
        if not isinstance(x, Tensor):
            return x
        copy = Tensor(next(rest))
        copy.version, copy.requires_grad = x.version, x.requires_grad
        copies.append(copy)
        return copy

    outputs = function(*[leaf(x) for x in inputs], **settings)
    for y in _as_tuple(outputs):
        if not isinstance(y, Tensor):
            raise TypeError(
                "checkpoint: the function must give a Tensor or a tuple of them, not "
                f"{type(y).__name__}"
            )
    return outputs, copies


def _as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _leaves(outputs, start):
    """The leaves that the outputs depend on; RuntimeError for nodes before `start`."""
    todo = [y if y.node is None else y.node
            for y in _as_tuple(outputs) if y.requires_grad]  # fmt: skip
    leaves, seen = [], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            leaves.append(item)
            continue
        if item.order < start:
            raise RuntimeError(
                f"checkpoint: the function uses a result of `{item.op}` computed "
                "outside of it: pass that as an input"
            )
        parents = (p[0] if type(p) is tuple else p for p in item.parents)
        todo.extend(p for p in parents if p is not None)
    return leaves


def _gradients(outputs, dys):
    """{id of a leaf: its gradient}, from those of the outputs."""
    pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if y.requires_grad]
    ends, gradients = zip(*pairs, strict=True)
    end = apply(_joined, *ends, gradients=gradients)
    one = array_module(end.array).ones_like(end.array)
    return {id(leaf): dx for leaf, dx, _ in run_backward(end.node, 0, one, False)}


def _joined(*ys, gradients):
    """0. backward: the given gradients, so that one pass serves all the outputs."""
    return array_module(*ys).zeros((), ys[0].dtype), lambda dy: gradients


@contextmanager
def _random_state(state):
    now = random.get_state()
    random.set_state(state)
    try:
        yield
    finally:
        random.set_state(now)


@contextmanager
def _recording():
    before, mode.recording = mode.recording, True
    try:
        yield
    finally:
        mode.recording = before
