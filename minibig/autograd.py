"""The graph of operations and the one loop that walks it backwards.

Every recorded op is a Node that knows its parents and its backward function. Nodes are
numbered as they are made, so the highest number first is an order in which a node's
gradient is complete before it is used: no sorting, no recursion. Notebook 02 builds a
small one from nothing.
"""

import copy
import heapq
import itertools
import math
import threading
import traceback
from contextlib import ContextDecorator

import numpy as np

from .backend import add, array_module, is_array, total
from .checks import is_float

_orders = itertools.count()


class _Mode(threading.local):
    recording = True
    debugging = None  # or what to look for
    bfloat16 = False  # whether tensors may be of it


mode = _Mode()


class _Switch(ContextDecorator):
    """A context that each call of a decorated function enters anew."""

    def _recreate_cm(self):
        return copy.copy(self)


class no_grad(_Switch):
    """Within it (or in the function it decorates) no graph is recorded."""

    def __enter__(self):
        self.before, mode.recording = mode.recording, False
        return self

    def __exit__(self, *error):
        mode.recording = self.before


class debug(_Switch):
    """Within it the op that makes the first NaN raises FloatingPointError.

    With `infinite` the first infinity counts too. Forward and backward are watched; the
    error names the op, the shapes it was given and the line that called it. Slow: meant
    for the search.
    """

    def __init__(self, infinite=False):
        self.wanted = "NaN or infinity" if infinite else "NaN"

    def __enter__(self):
        self.before, mode.debugging = mode.debugging, self.wanted
        return self

    def __exit__(self, *error):
        mode.debugging = self.before


class Node:
    """One recorded op; its parents are (Node, number of the output) or leaf Tensors."""

    __slots__ = (
        "backward",
        "hooks",
        "made_at",
        "op",
        "order",
        "outputs",
        "parents",
        "versions"
    )  # fmt: skip

    def __init__(self, op, parents, backward, versions, outputs):
        self.order = next(_orders)
        self.op = op
        self.parents = parents
        self.backward = backward
        self.versions = versions  # (version list, its count when the op ran)
        self.outputs = outputs  # (shape, dtype) of each output
        self.hooks = None
        self.made_at = _calling_line() if mode.debugging else None

    def __repr__(self):
        return f"<{self.op}>"

    def release(self):
        self.parents, self.backward, self.versions = (), None, ()


def next_order():
    """A number above those of all Nodes so far, and below those of the ones to come."""
    return next(_orders)


def run_backward(node, index, gradient, retain_graph):
    """Walks the graph from output `index` of `node`; returns [(leaf, gradient, owned)].

    Nothing is written into arrays that this pass did not make itself: the first of
    several gradients is kept as it came, the second makes a new sum, and further ones
    are added to that. `owned` says that no one else holds the array.
    """
    pending = {node: {index: (gradient, False)}}
    heap = [(-node.order, node)]
    leaves = {}
    while heap:
        node = heapq.heappop(heap)[1]
        slots = pending.pop(node)
        if node.backward is None:
            raise RuntimeError(
                f"backward through `{node.op}` a second time: the first backward() "
                "freed the graph; call the first one with retain_graph=True to keep it"
            )
        _check_versions(node)
        upstream = [_complete(node, slots, i) for i in range(len(node.outputs))]
        gradients = [_as_array(dx) for dx in node.backward(*upstream)]
        if mode.debugging:
            _watch(f"the backward of `{node.op}`", gradients, upstream, node.made_at)
        for i, parent in enumerate(node.parents):
            if parent is None:
                continue
            dx, owned = _fit(node, i, parent, gradients, upstream)
            if type(parent) is tuple:
                owner, number = parent
                if owner not in pending:
                    pending[owner] = {}
                    heapq.heappush(heap, (-owner.order, owner))
                _add(pending[owner], number, dx, owned)
            else:
                _add(leaves, parent, dx, owned)
        if not retain_graph:
            node.release()
        del slots, upstream, gradients, node
    return [(leaf, dx, owned) for leaf, (dx, owned) in leaves.items()]


def _complete(node, slots, i):
    """The gradient of output i, zeros if nothing used it, after the hooks."""
    shape, dtype = node.outputs[i]
    if i in slots:
        dy = slots[i][0]
    else:
        like = next(iter(slots.values()))[0]
        dy = array_module(like).zeros(shape, dtype)
    for number, hook in node.hooks or ():
        if number == i:
            dy = hook(dy)
    return dy


def _as_array(dx):
    """NumPy answers a number where CuPy answers a 0-d array."""
    return np.asarray(dx) if isinstance(dx, np.generic) else dx


def _fit(node, i, parent, gradients, upstream):
    """Gradient i summed to its input's shape, and whether it is ours alone."""
    shape, dtype = (
        parent[0].outputs[parent[1]]
        if type(parent) is tuple
        else (parent.shape, parent.dtype)
    )
    dx = gradients[i]
    owned = not any(dx is dy for dy in upstream) and dx.base is None
    owned = owned and sum(dx is other for other in gradients) == 1
    if dx.shape != shape:
        dx, owned = unbroadcast(dx, shape), True
    assert dx.shape == shape and dx.dtype == dtype, (
        f"op `{node.op}` returned a gradient of {dx.shape}, {dx.dtype} "
        f"for an input of {shape}, {dtype}"
    )
    return dx, owned


def _add(slots, key, dx, owned):
    if key not in slots:
        slots[key] = (dx, owned)
        return
    total, ours = slots[key]
    if ours:
        total += dx
    else:
        total = _as_array(add(total, dx))
    slots[key] = (total, True)


def unbroadcast(dx, shape):
    """`dx` summed over the axes that broadcasting added to or stretched in `shape`."""
    extra = dx.ndim - len(shape)
    stretched = tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and dx.shape[i + extra] != 1
    )
    dx = total(dx, (*range(extra), *stretched), keepdims=True)
    return dx.reshape(dx.shape[max(extra, 0) :])


# ---- what guards the graph ----------------------------------------------------------


def _check_versions(node):
    """Raises if an array that backward needs was changed in place since forward."""
    for version, seen in node.versions:
        if version[0] != seen and version[1] in _captured(node.backward):
            raise RuntimeError(
                f"a tensor that `{node.op}` needs for its backward was changed in "
                f"place after the forward pass (version {version[0]}, expected {seen})"
                ": change a copy, or do it before the forward pass"
            )


def owner_of(array):
    """The identity of the memory behind an array: of its base, if it is a view."""
    return id(array if array.base is None else array.base)


def _captured(function):
    """Owners of all arrays that a function holds, also through functions and lists."""
    owners, seen, todo = set(), set(), [function]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if is_array(item):
            owners.add(owner_of(item))
        elif isinstance(item, (tuple, list)):
            todo.extend(item)
        elif getattr(item, "__closure__", None):
            todo.extend(_contents(item.__closure__))
    return owners


def _contents(cells):
    return [cell.cell_contents for cell in cells]


def watch_forward(op, results, arrays):
    """In debug mode: raises if `op` made a NaN from inputs that had none."""
    _watch(f"`{op}`", results, arrays, _calling_line())


def _watch(what, results, given, line):
    if _is_bad(results) and not _is_bad(given):
        shapes = ", ".join(str(x.shape) for x in given if is_array(x))
        raise FloatingPointError(
            f"{what} made the first {mode.debugging} from {shapes}\n  {line}"
        )


def _is_bad(arrays):
    if mode.debugging == "NaN":
        return any(_any_nan(x) for x in arrays)
    return any(not math.isfinite(x) for x in arrays if isinstance(x, float)) or any(
        not array_module(x).isfinite(x).all() for x in arrays if is_array(x)
    )


def _any_nan(x):
    return is_array(x) and is_float(x.dtype) and array_module(x).isnan(x).any()


def _calling_line():
    """The innermost line outside this package, as a traceback shows it."""
    package = __name__.rpartition(".")[0]
    frames = traceback.walk_stack(None)
    for frame, number in frames:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in (package, "numpy", "contextlib"):
            code = frame.f_code
            return f"at {code.co_filename}, line {number}, in {code.co_name}"
    return ""
