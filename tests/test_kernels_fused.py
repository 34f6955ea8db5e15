"""Kernels beyond attention: each against the plain-array op in float64, both passes.

On the emulator, and on a GPU where there is one, with canaries around what kernels
write; then from `functional` down, on CuPy's side.
"""

import numpy as np
import pytest
import strict_kernels
from strict_array import watched

import minibig as mb
from minibig import backend, kernels
from minibig import functional as F
from minibig.kernels import cross_entropy as cross_entropy_kernels
from minibig.kernels import emulator, norm
from minibig.kernels import softmax as softmax_kernels
from minibig.ops import losses, normalization
from minibig.ops import softmax as softmax_ops

needs_emulator = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)
TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}
DTYPES = tuple(TOLERANCE)


def dtype_of(name):
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, which has bfloat16")
    return np.dtype(name)


def drawn(*shape, seed=0, dtype="float32"):
    x = np.random.default_rng(seed).standard_normal(shape)
    return x.astype("float32").astype(dtype_of(dtype))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request, monkeypatch):
    """ "cpu", that is the emulator, or "cuda", with canaries around all outputs."""
    if request.param == "cpu" and emulator.missing():
        pytest.skip(emulator.missing())
    written = []
    if request.param == "cuda":
        for module in fused_modules():
            monkeypatch.setattr(module, "empty", between_canaries(written))
    yield request.param
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()


def fused_modules():
    return [m for m in vars(kernels).values() if hasattr(m, "empty")]


def between_canaries(written, edge=1024):
    """rows.empty with 1,024 bytes of 255 before and after the array."""

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


# ---- softmax ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 3, 33), (5, 129), (2, 2600)])
def test_softmax_agrees_with_the_op(name, shape, dtype, machine):
    x = (3 * drawn(*shape)).astype(dtype_of(dtype))
    kernel = getattr(softmax_kernels, name)
    agrees(kernel, getattr(softmax_ops, name), [x], machine)


@needs_emulator
def test_softmax_of_what_is_masked_and_of_what_is_large():
    x = drawn(3, 300) * 1000
    x[0, :299], x[1, 5:] = -np.inf, -np.inf
    y, backward = softmax_kernels.softmax(x)
    expected = softmax_ops.softmax(x.astype("float64"))[0]
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert np.isfinite(backward(y)[0]).all()
    x[2, 7] = np.nan
    assert np.isnan(softmax_kernels.softmax(x)[0][2]).all()
    assert np.isnan(softmax_kernels.softmax(np.full((1, 9), -np.inf, "f"))[0]).all()


@needs_emulator
def test_softmax_is_the_same_in_every_order_of_threads():
    x = drawn(2, 1000)
    y, backward = softmax_kernels.softmax(x)
    with emulator.shuffled(3):
        again, backward_again = softmax_kernels.softmax(x)
        np.testing.assert_array_equal(again, y)
        np.testing.assert_array_equal(backward_again(x)[0], backward(x)[0])


# ---- norms --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 33), (70, 129), (200, 5)])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norm_agrees_with_the_op(name, shape, dtype, machine):
    arrays = [drawn(*shape, dtype=dtype), drawn(shape[-1], seed=1, dtype=dtype)]
    if name == "layer_norm":
        arrays.append(drawn(shape[-1], seed=2, dtype=dtype))
    agrees(getattr(norm, name), getattr(normalization, name), arrays, machine)


@pytest.mark.parametrize("given", ["none", "weight", "bias"])
def test_norm_without_some_of_its_parameters(given, machine):
    weight = drawn(33, seed=1) if given == "weight" else None
    bias = drawn(33, seed=2) if given == "bias" else None
    x = drawn(9, 33)
    agrees(norm.layer_norm, normalization.layer_norm, [x, weight, bias], machine)
    agrees(norm.rms_norm, normalization.rms_norm, [x, weight], machine, eps=0.1)


@needs_emulator
def test_layer_norm_of_numbers_far_from_zero_keeps_its_digits():
    x = drawn(4, 300) + 3000
    y, _ = norm.layer_norm(x, None, None)
    expected, _ = normalization.layer_norm(x.astype("float64"), None, None)
    np.testing.assert_allclose(y, expected, atol=1e-3)


@needs_emulator
def test_gradients_of_a_norms_parameters_are_the_same_in_every_order():
    x, weight = drawn(300, 40), drawn(40, seed=1)
    first = passes(norm.layer_norm, [x, weight, weight], {}, x)
    with emulator.shuffled(3):
        again = passes(norm.layer_norm, [x, weight, weight], {}, x)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- cross-entropy ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, ignore_index, label_smoothing", [
    ((3, 1), -100, 0.0), ((2, 5, 33), -100, 0.0), ((9, 129), 4, 0.1),
    ((5, 2600), None, 0.3),
])  # fmt: skip
def test_cross_entropy_agrees_with_the_op(
    shape, ignore_index, label_smoothing, dtype, machine
):
    ids = np.random.default_rng(1).integers(0, shape[-1], shape[:-1])
    if ignore_index is not None:
        ids.flat[1] = ignore_index
    settings = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}

    def kernel(x, **given):
        there = backend.to_device(ids, machine)
        return cross_entropy_kernels.cross_entropy(x, ids=there, **given)

    x, dy = drawn(*shape, dtype=dtype), drawn(*shape[:-1], seed=9)
    loss, dx = passes(kernel, [x], settings, dy, machine)
    exact_settings = {**settings, "ids": ids}
    exact = passes(losses.cross_entropy, [x.astype("float64")], exact_settings, dy)
    assert loss.dtype == "float32" and dx.dtype == x.dtype
    np.testing.assert_allclose(loss, exact[0], atol=3e-6)
    np.testing.assert_allclose(dx.astype("float64"), exact[1], atol=TOLERANCE[dtype])


@needs_emulator
def test_ignored_rows_cost_and_learn_nothing_though_they_are_nan():
    x, ids = drawn(3, 40), np.array([5, -100, 7])
    x[1] = np.nan
    loss, backward = cross_entropy_kernels.cross_entropy(x, ids=ids)
    (dx,) = backward(np.ones(3, "float32"))
    assert loss[1] == 0 and not dx[1].any() and np.isfinite(loss).all()


@needs_emulator
def test_an_id_outside_of_the_classes_is_not_looked_up():
    x = drawn(2, 40)
    loss, backward = cross_entropy_kernels.cross_entropy(x, ids=np.array([40, -7]))
    assert np.isinf(loss).all()
    assert np.isfinite(backward(np.ones(2, "float32"))[0]).all()
