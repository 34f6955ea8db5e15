"""Tensor: an array that remembers how it was made.

`apply` is the only place where the graph grows: it runs an op on arrays and, where a
gradient will be wanted, records a Node. The functions that are also methods (`sum`,
`reshape`, …) stand in `operators.py`, `reductions.py`, `shaping.py`, `conversions.py`
and `inplace.py`. Taught by notebooks 01 and 02.
"""

import weakref

import numpy as np

from . import backend, checks
from .autograd import Node, mode, owner_of, run_backward, watch_forward
from .ops import bfloat16, indexing


class Tensor:
    """An array, and with `requires_grad` the gradient that backward leaves in `.grad`.

    Made by `minibig.tensor`; the constructor takes a NumPy or CuPy array as it is.
    """

    __slots__ = (
        "__weakref__",
        "array",
        "grad",
        "hooks",
        "index",
        "node",
        "requires_grad",
        "version",
    )  # fmt: skip
    __array_ufunc__ = None  # NumPy leaves `array * tensor` to the tensor

    def __init__(self, array, requires_grad=False):
        if not backend.is_array(array):
            raise TypeError(
                f"Tensor takes an array, not {type(array).__name__}: "
                "minibig.tensor(data) makes one from numbers and lists"
            )
        self.array = array
        self.requires_grad = False
        self.grad = None
        self.node = None
        self.index = 0  # which output of the node
        # Changes in place, whose memory they hit, and of ids that came from the CPU
        # (lowest, next, highest): to check them nobody needs to wait for a GPU.
        self.version = [0, None, None]
        self.hooks = None
        if requires_grad:
            self.requires_grad_()

    # ---- what it is ----

    @property
    def shape(self):
        return self.array.shape

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def ndim(self):
        return self.array.ndim

    @property
    def device(self):
        return backend.device_of(self.array)

    @property
    def is_leaf(self):
        return self.node is None

    @property
    def grad_fn(self):
        return self.node

    @property
    def T(self):
        return self.permute(*range(self.ndim)[::-1])

    def size(self, dim=None):
        if dim is None:
            return self.shape
        try:
            return self.shape[dim]
        except (IndexError, TypeError):
            raise IndexError(
                f"size: a tensor of {self.shape} has no dimension {dim!r}"
            ) from None

    def dim(self):
        return self.ndim

    def numel(self):
        return self.array.size

    def is_floating_point(self):
        return checks.is_float(self.dtype)

    def __len__(self):
        if not self.ndim:
            raise TypeError("a 0-d tensor has no length")
        return len(self.array)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("a 0-d tensor cannot be iterated over: use .item()")
        return (self[i] for i in range(len(self)))

    def __format__(self, spec):
        return format(self.item(), spec) if spec and not self.ndim else repr(self)

    def __repr__(self):
        from .display import text_of

        return text_of(self)

    __hash__ = object.__hash__

    def detach(self):
        """The same numbers, outside the graph; memory is shared."""
        out = Tensor(self.array)
        out.version = self.version
        return out

    # ---- gradients ----

    def requires_grad_(self, requires_grad=True):
        """Asks for a gradient (or no longer); returns the tensor."""
        if requires_grad and not self.is_floating_point():
            raise TypeError(
                f"only floating-point tensors have gradients, this one is {self.dtype}"
            )
        if not requires_grad and self.node is not None:
            raise RuntimeError(
                "only a leaf can stop requiring a gradient: use detach()"
            )
        self.requires_grad = requires_grad
        return self

    def backward(self, gradient=None, retain_graph=False):
        """Adds the gradient of this tensor by every leaf to the leaf's `.grad`.

        `gradient`: the gradient by this tensor; ones for a tensor of one element.
        The graph is freed unless `retain_graph`.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() on a tensor that needs no gradient: none of the tensors it "
                "was computed from has requires_grad=True, or no_grad() was on"
            )
        dy = self._upstream(gradient)
        if self.node is None:
            found = [(self, dy, False)]
        else:
            found = run_backward(self.node, self.index, dy, retain_graph)
        for leaf, dx, owned in found:
            leaf._accumulate(dx, owned)

    def _upstream(self, gradient):
        xp = backend.array_module(self.array)
        if gradient is None:
            if self.array.size != 1:
                raise RuntimeError(
                    f"backward() on a tensor of shape {self.shape} needs a gradient of "
                    "that shape: reduce it to one number first, with .sum() or .mean()"
                )
            return xp.ones_like(self.array)
        given = gradient.array if isinstance(gradient, Tensor) else gradient
        given = given if backend.is_array(given) else xp.asarray(given)
        backend.array_module(self.array, given)
        if given.shape != self.shape:
            raise ValueError(
                f"the gradient has shape {given.shape}, the tensor {self.shape}"
            )
        return given.astype(self.dtype, copy=False)

    def _accumulate(self, dx, owned):
        for _, hook in self.hooks or ():
            dx, owned = hook(dx), False
        if self.grad is not None:
            self.grad.array += dx
        else:
            self.grad = Tensor(dx if owned else dx.copy())

    def register_hook(self, hook):
        """Calls `hook(gradient)` in each backward; what it returns, if anything, is
        used instead. Returns a function that takes the hook off."""
        if not self.requires_grad:
            raise RuntimeError("a hook on a tensor that needs no gradient never runs")
        if not callable(hook):
            raise TypeError(f"a hook is a function, not {type(hook).__name__}")

        def on_array(dy):
            replaced = hook(Tensor(dy))
            return dy if replaced is None else _like(replaced, dy)

        holder = self if self.node is None else self.node
        entry = (self.index, on_array)
        holder.hooks = [*(holder.hooks or ()), entry]

        def remove():
            holder.hooks = [kept for kept in holder.hooks if kept is not entry]

        return remove

    def retain_grad(self):
        """Lets a tensor inside the graph keep its gradient in `.grad` too."""
        if self.node is not None:
            me = weakref.ref(self)

            def keep(gradient):
                if me() is not None:
                    me()._accumulate(gradient.array, owned=False)

            self.register_hook(keep)

    def changed(self):
        """Notes that the array was changed in place; backward checks this."""
        self.version[0] += 1
        self.version[1:] = owner_of(self.array), None

    def __getitem__(self, index):
        try:
            return apply(indexing.getitem, self, index=bare_index(index))
        except IndexError as error:
            raise IndexError(f"index for a tensor of {self.shape}: {error}") from None


def apply(op, *inputs, **settings):
    """Runs `op` on tensors (or plain numbers, arrays) and records what backward needs.

    Returns a Tensor, or a tuple of them for an op with several outputs. A tensor is
    recorded as a parent if it requires a gradient, or was computed from one that does.
    """
    arrays = [x.array if isinstance(x, Tensor) else x for x in inputs]
    if mode.bfloat16:
        results, backward = bfloat16.computed(op, arrays, settings)
    else:
        results, backward = op(*arrays, **settings)
    several = type(results) is tuple
    if not several:
        results = (results,)
    # NumPy answers a number where CuPy answers a 0-d array
    results = [x if backend.is_array(x) else np.asarray(x) for x in results]
    if mode.debugging:
        watch_forward(op.__name__, results, arrays)
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    out = [_wrap(x, tensors) for x in results]
    if mode.recording and any(x.requires_grad for x in tensors):
        _record(op.__name__, inputs, tensors, out, backward)
    return tuple(out) if several else out[0]


def _wrap(array, tensors):
    """A Tensor of a result; a view shares the version of the tensor it looks into."""
    out = Tensor(array)
    memory = array if array.base is None else array.base
    for x in tensors:
        if memory is x.array or memory is x.array.base:
            out.version = x.version
    return out


def _record(op, inputs, tensors, out, backward):
    parents = tuple(
        None
        if not isinstance(x, Tensor) or not x.requires_grad
        else (x if x.node is None else (x.node, x.index))
        for x in inputs
    )
    versions = tuple((x.version, x.version[0]) for x in (*tensors, *out))
    outputs = tuple((x.array.shape, x.array.dtype) for x in out)
    node = Node(op, parents, backward, versions, outputs)
    for i, x in enumerate(out):
        if checks.is_float(x.array.dtype):
            x.requires_grad, x.node, x.index = True, node, i


def bare_index(index):
    """An index with arrays in the place of tensors and of lists."""
    if isinstance(index, tuple):
        return tuple(bare_index(part) for part in index)
    if isinstance(index, Tensor):
        return index.array.copy()  # backward needs it as it is now
    return (
        np.asarray(index, dtype=None if index else np.int64)
        if isinstance(index, list)
        else index
    )


def _like(gradient, dy):
    """What a hook returned, as an array that can stand for `dy`."""
    replaced = gradient.array if isinstance(gradient, Tensor) else gradient
    if not backend.is_array(replaced) or replaced.shape != dy.shape:
        raise ValueError(
            f"a gradient hook must return a tensor of shape {dy.shape} or None"
        )
    backend.array_module(dy, replaced)
    return replaced.astype(dy.dtype, copy=False)
