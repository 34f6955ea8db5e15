"""Both passes of a kernel against the plain-array op in float64; a GPT by kernels."""

import numpy as np
import pytest

import minibig as mb
from minibig import backend, data, models, optim, training

TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}
DTYPES = ("float32", "float16")  # bfloat16: where the kernels are trained with


def dtype_of(name):
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, which has bfloat16")
    return np.dtype(name)


def drawn(*shape, seed=0, dtype="float32"):
    x = np.random.default_rng(seed).standard_normal(shape)
    return x.astype("float32").astype(dtype_of(dtype))


def between_canaries(written, edge=1024):
    """arrays.empty with 1,024 bytes of 255 before and after the array."""

    def empty(like, shape=None, dtype=None):
        shape = like.shape if shape is None else shape
        dtype = like.dtype if dtype is None else np.dtype(dtype)
        stop = edge + int(np.prod(shape)) * dtype.itemsize
        whole = backend.array_module(like).full(stop + edge, 255, "uint8")
        written.append((whole, edge, stop))
        return whole[edge:stop].view(dtype).reshape(shape)

    return empty


def passes(op, arrays, settings, dy, machine="cpu"):
    """Result and gradients of an op or a kernel, as NumPy arrays, None left out."""
    arrays = [None if x is None else backend.to_device(x, machine) for x in arrays]
    y, backward = op(*arrays, **settings)
    dy = backend.to_device(dy.astype(y.dtype), machine)
    found = [y, *backward(dy)]
    return [backend.to_device(x, "cpu") for x in found if x is not None]


def agrees(kernel, op, arrays, machine="cpu", **settings):
    """Holds both passes of a kernel against those of the op in float64."""
    dtype = arrays[0].dtype
    wide = [None if x is None else x.astype("float64") for x in arrays]
    y, _ = op(*wide, **settings)
    dy = drawn(*y.shape, seed=9).astype(dtype)
    expected = passes(op, wide, settings, dy)
    ours = passes(kernel, arrays, settings, dy, machine)
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == b.shape
        error = np.abs(a.astype("float64") - b).max() / max(1, np.abs(b).max())
        assert error < TOLERANCE[dtype.name], settings  # NaN where nothing was written
    assert ours[1].dtype == dtype


def losses_of_gpt(precision, context_length, **sizes):
    """The losses of two steps on device "cuda", by array code and by kernels."""
    losses = []
    for enabled in (False, True):
        mb.seed(3)
        config = models.GPTConfig(11, context_length, n_head=2, **sizes)
        model, text = models.GPT(config).to("cuda"), [1, 2, 3] * 30
        loader = data.RandomCrops(text, context_length=context_length, batch_size=2)
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        with backend.kernels(enabled):
            history = training.fit(
                model, loader, training.next_token_loss, optimizer, steps=2,
                clip_norm=1.0, precision=precision,
            )  # fmt: skip
        losses.append(history.loss)
    return losses
