"""How a Tensor shows itself: the numbers first, then what is not ordinary about it."""

import numpy as np

from .backend import to_device

ORDINARY = ("float32", "int64", "bool")


def text_of(x):
    """`tensor([[1., 2.], [3., 4.]], grad_fn=<add>)`, with the shape where rows are left
    out, and dtype and device where they are not the usual."""
    array = to_device(x.array, "cpu")
    with np.printoptions(precision=4, threshold=200, edgeitems=3, linewidth=88):
        body = np.array2string(array, separator=", ", prefix="tensor(")
    notes = []
    if array.size > 200 or not array.size:
        notes.append(f"shape={x.shape}")
    if str(x.dtype) not in ORDINARY:
        notes.append(f"dtype={x.dtype}")
    if x.device != "cpu":
        notes.append(f"device={x.device!r}")
    if x.node is not None:
        notes.append(f"grad_fn={x.node!r}")
    elif x.requires_grad:
        notes.append("requires_grad=True")
    return f"tensor({', '.join([body, *notes])})"
