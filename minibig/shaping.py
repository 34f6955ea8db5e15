"""The same numbers in other shapes and combinations, as functions and methods."""

import builtins
import math

import numpy as np

from . import backend, checks
from .arguments import known_bounds
from .creation import shape_of, tensor
from .operators import promote
from .ops import indexing, matmul, shape
from .reductions import checked_dim
from .tensor import Tensor, apply


def reshape(x, *sizes):
    """x in another shape; one size may be -1, which means what is left."""
    sizes = shape_of(sizes)
    known = math.prod(n for n in sizes if n != -1)
    whole = (
        known == x.array.size if -1 not in sizes else known and not x.numel() % known
    )
    if not whole or sizes.count(-1) > 1 or builtins.any(n < -1 for n in sizes):
        raise ValueError(
            f"reshape: {x.numel()} elements of {x.shape} do not fill {sizes}"
        )
    return apply(shape.reshape, x, shape=sizes)


def flatten(x, start_dim=0, end_dim=-1):
    """The axes from `start_dim` to `end_dim` joined into one."""
    if not x.ndim:
        return reshape(x, 1)
    start = checked_dim(start_dim, x.ndim, "flatten", alone=True)
    end = checked_dim(end_dim, x.ndim, "flatten", alone=True)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} lies after end_dim {end_dim}")
    joined = math.prod(x.shape[start : end + 1])
    return reshape(x, *x.shape[:start], joined, *x.shape[end + 1 :])


def permute(x, *dims):
    """x with its axes in the order `dims`, as a view."""
    axes = checked_dim(shape_of(dims), x.ndim, "permute")
    if len(axes) != x.ndim:
        raise ValueError(f"permute: {x.ndim} dimensions need as many, not {axes}")
    return apply(shape.permute, x, axes=axes)


def transpose(x, dim0, dim1):
    """x with two axes exchanged, as a view."""
    axes = list(range(x.ndim))
    i, j = (checked_dim(d, x.ndim, "transpose", alone=True) for d in (dim0, dim1))
    axes[i], axes[j] = j, i
    return apply(shape.permute, x, axes=tuple(axes))


def squeeze(x, dim=None):
    """x without its axes of length 1, or without those in `dim` that have length 1."""
    axes = range(x.ndim) if dim is None else checked_dim(dim, x.ndim, "squeeze")
    axes = {axes} if isinstance(axes, int) else set(axes)
    sizes = [n for i, n in enumerate(x.shape) if n != 1 or i not in axes]
    return apply(shape.reshape, x, shape=tuple(sizes))


def unsqueeze(x, dim):
    """x with a new axis of length 1 before axis `dim`."""
    i = checked_dim(dim, x.ndim + 1, "unsqueeze", alone=True)
    return apply(shape.reshape, x, shape=(*x.shape[:i], 1, *x.shape[i:]))


def expand(x, *sizes):
    """x repeated along axes of length 1 to `sizes`, as a view; -1 keeps a size."""
    sizes = shape_of(sizes)
    if len(sizes) < x.ndim:
        raise ValueError(f"expand: {x.shape} has more dimensions than {sizes}")
    ours = (1,) * (len(sizes) - x.ndim) + x.shape
    sizes = tuple(n if m == -1 else m for n, m in zip(ours, sizes, strict=True))
    if builtins.any(n not in (1, m) for n, m in zip(ours, sizes, strict=True)):
        raise ValueError(f"expand: {x.shape} cannot be repeated to {sizes}")
    return apply(shape.broadcast_to, x, shape=sizes)


def flip(x, dims):
    """x in reverse order along `dims`."""
    return apply(shape.flip, x, axis=checked_dim(dims, x.ndim, "flip"))


def contiguous(x):
    """x with its elements in memory in the order of the axes; itself if they are."""
    return x if x.array.flags.c_contiguous else x * 1


def _together(tensors, name):
    if not hasattr(tensors, "__iter__"):
        raise TypeError(
            f"{name} takes a list of tensors, not {type(tensors).__name__}: "
            f"{name}([a, b])"
        )
    tensors = [x if isinstance(x, Tensor) else tensor(x) for x in tensors]
    if not tensors:
        raise ValueError(f"{name} needs at least one tensor")
    backend.array_module(*(x.array for x in tensors))
    dtype = promote(*(x.dtype for x in tensors))
    return [x.to(dtype) for x in tensors]


def cat(tensors, dim=0):
    """The tensors one after the other along `dim`; the other sizes must agree."""
    tensors = _together(tensors, "cat")
    axis = checked_dim(dim, tensors[0].ndim, "cat", alone=True)
    shapes = [x.shape for x in tensors]
    others = {s[:axis] + s[axis + 1 :] + (len(s),) for s in shapes}
    if len(others) > 1 or not tensors[0].ndim:
        raise ValueError(f"cat: shapes {shapes} differ outside dim {dim}")
    return apply(shape.concatenate, *tensors, axis=axis)


def stack(tensors, dim=0):
    """The tensors, of equal shape, along a new axis `dim`."""
    tensors = _together(tensors, "stack")
    shapes = [x.shape for x in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(f"stack: shapes {shapes} differ")
    axis = checked_dim(dim, tensors[0].ndim + 1, "stack", alone=True)
    return apply(shape.stack, *tensors, axis=axis)


def split(x, split_size, dim=0):
    """Pieces of x along `dim`, as views: of `split_size`, the last maybe smaller, or of
    the sizes listed."""
    axis = checked_dim(dim, x.ndim, "split", alone=True)
    length = x.shape[axis]
    if hasattr(split_size, "__index__"):
        split_size = checks.whole("split: the size of a piece", split_size, 1)
        whole, rest = divmod(length, split_size)
        sizes = [split_size] * whole + [rest] * bool(rest) or [0]
    else:
        sizes = list(shape_of((split_size,)))
    if builtins.sum(sizes) != length or builtins.any(n < 0 for n in sizes):
        raise ValueError(f"split: sizes {sizes} do not add up to {length} (dim {dim})")
    return apply(shape.split, x, sizes=tuple(sizes), axis=axis)


def chunk(x, chunks, dim=0):
    """At most `chunks` equal pieces of x along `dim`, the last maybe smaller."""
    chunks = checks.whole("chunk: the number of pieces", chunks, 1)
    length = x.shape[checked_dim(dim, x.ndim, "chunk", alone=True)]
    return split(x, builtins.max(1, -(-length // chunks)), dim)


def unbind(x, dim=0):
    """All slices of x along `dim`, as views, that axis removed."""
    return apply(shape.unbind, x, axis=checked_dim(dim, x.ndim, "unbind", alone=True))


def tril(x, diagonal=0):
    """x with zeros above the diagonal of the last two axes."""
    return apply(shape.tril, _matrix(x, "tril"), diagonal=_diagonal(diagonal))


def triu(x, diagonal=0):
    """x with zeros below the diagonal of the last two axes."""
    return apply(shape.triu, _matrix(x, "triu"), diagonal=_diagonal(diagonal))


def _diagonal(diagonal):
    return checks.whole("tril, triu: the diagonal", diagonal)


def _matrix(x, name):
    if x.ndim < 2:
        raise ValueError(f"{name} needs at least 2 dimensions, not shape {x.shape}")
    return x


def gather(x, dim, index):
    """y[i][j] = x[i][index[i][j]] (dim 1): `index` picks along `dim`.

    `index` (whole numbers) has x's shape but for `dim`. IndexError where it reaches out
    of x.
    """
    axis = checked_dim(dim, x.ndim, "gather", alone=True)
    array = index.array.copy() if isinstance(index, Tensor) else np.asarray(index)
    if array.dtype.kind not in "iu" or array.ndim != x.ndim:
        raise ValueError(
            f"gather: index needs whole numbers and {x.ndim} dimensions, not "
            f"{array.dtype} of {array.shape}"
        )
    for i, (n, m) in enumerate(zip(x.shape, array.shape, strict=True)):
        if i != axis and n != m:
            raise ValueError(
                f"gather: shapes {x.shape} and {array.shape} differ outside dim {dim}"
            )
    length = x.shape[axis]
    if array.size:  # a GPU must be waited for where nothing is known
        bounds = known_bounds(index)
        if not bounds or bounds[0] < -length or bounds[2] >= length:
            bounds = int(array.min()), 0, int(array.max())
        if bounds[0] < -length or bounds[2] >= length:
            raise IndexError(f"gather: an index lies outside 0 … {length - 1}")
    return apply(indexing.gather, x, axis=axis, index=array)


def einsum(equation, *operands):
    """Sums of products by Einstein's rule, as torch.einsum: "bik,bkj->bij".

    Without "->" the axes that occur once remain, in alphabetical order. Raises
    ValueError for an axis with two sizes, a wrong number of axes or operands.
    """
    tensors = builtins.all(isinstance(x, Tensor) for x in operands)
    if not isinstance(equation, str) or not tensors:
        raise TypeError("einsum takes an equation and Tensors")
    full = _complete_equation(equation.replace(" ", ""), [x.shape for x in operands])
    return apply(matmul.einsum, *_together(operands, "einsum"), equation=full)


def _complete_equation(equation, shapes):
    left, arrow, output = equation.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(shapes):
        raise ValueError(f"einsum: {equation!r} names {len(inputs)} operands, "
                         f"{len(shapes)} given")  # fmt: skip
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation]
    most = 0
    for i, (names, sizes) in enumerate(zip(inputs, shapes, strict=True)):
        if "..." in names:
            count = len(sizes) - len(names) + 3
            most = builtins.max(most, count)
            inputs[i] = names.replace("...", "".join(reversed(free[:count])))
    if not arrow:
        letters = "".join(inputs)
        output = "..." * bool(most) + "".join(
            sorted(c for c in set(left) if c.isalpha() and letters.count(c) == 1)
        )
    output = output.replace("...", "".join(reversed(free[:most])))
    _check_equation(equation, inputs, output, shapes)
    return ",".join(inputs) + "->" + output


def _check_equation(equation, inputs, output, shapes):
    lengths = {}
    for names, sizes in zip(inputs, shapes, strict=True):
        if len(names) != len(sizes) or len(set(names)) < len(names):
            raise ValueError(
                f"einsum: {names!r} in {equation!r} must name the {len(sizes)} axes of "
                f"{sizes} once each"
            )
        for name, n in zip(names, sizes, strict=True):
            if lengths.setdefault(name, n) != n:
                raise ValueError(
                    f"einsum: axis {name!r} in {equation!r} has {lengths[name]} and {n}"
                )
    if not builtins.all(name.isalpha() for name in lengths):
        raise ValueError(f"einsum: {equation!r}: axes are named by letters")
    if set(output) - set(lengths) or len(set(output)) < len(output):
        raise ValueError(f"einsum: output {output!r} in {equation!r} is not to be had")


for _function in (
    reshape, flatten, permute, transpose, squeeze, unsqueeze, expand, flip, contiguous,
    split, chunk, unbind, tril, triu, gather,
):  # fmt: skip
    setattr(Tensor, _function.__name__, _function)
Tensor.view = reshape
