"""Gradients are clipped by their norm, and by value."""

import math

import numpy as np
import pytest
from optimizers import parameter, set_gradients

import minibig as mb
from minibig import optim


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("max_norm", [0.5, 1e3, 0.0, math.inf])
def test_clipping_scales_to_the_norm_and_returns_the_old_one(
    max_norm, dtype, tolerance
):
    parameters = [parameter(400, 900, dtype=dtype), parameter(5, dtype=dtype)]
    set_gradients(parameters)
    before = [p.grad.array.astype("float64") for p in parameters]
    arrays = [p.grad.array for p in parameters]
    norm = optim.clip_grad_norm_([*parameters, parameter(2)], max_norm)
    exact = math.sqrt(sum((x * x).sum() for x in before))
    assert norm.shape == () and float(norm) == pytest.approx(exact, rel=tolerance)
    scale = min(1.0, max_norm / (exact + 1e-6))
    for p, x, array in zip(parameters, before, arrays, strict=True):
        assert p.grad.array is array and array.dtype == dtype
        np.testing.assert_allclose(array, x * scale, rtol=tolerance, atol=1e-15)
        assert p.grad.version[0] == (scale < 1)


@pytest.mark.oracle
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_equals_pytorchs(max_norm):
    torch = pytest.importorskip("torch")
    parameters = [parameter(4, 3), parameter(5)]
    set_gradients(parameters)
    theirs = [torch.tensor(p.numpy().copy(), requires_grad=True) for p in parameters]
    for p, q in zip(parameters, theirs, strict=True):
        q.grad = torch.tensor(p.grad.numpy().copy())
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
    norm = float(optim.clip_grad_norm_(parameters, max_norm))
    assert norm == pytest.approx(expected, 1e-12)
    for p, q in zip(parameters, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_norm_is_right_where_squares_overflow():
    for dtype, large in (("float16", 6e4), ("float32", 1e30)):
        p = parameter(3, dtype=dtype)
        p.grad = mb.tensor([large] * 3, dtype=dtype)
        norm = float(optim.clip_grad_norm_(p, 1.0))
        assert norm == pytest.approx(large * math.sqrt(3), rel=1e-3)
        np.testing.assert_allclose(p.grad.numpy(), 1 / math.sqrt(3), rtol=5e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nonfinite_norm_raises_if_asked_and_is_never_hidden(bad):
    p = parameter(3)
    p.grad = mb.tensor([1.0, bad, 2.0], dtype="float64")
    with pytest.raises(RuntimeError, match=f"norm of the gradients is {bad}"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.numpy()[0] == 1.0
    with np.errstate(invalid="ignore"):
        norm = float(optim.clip_grad_norm_([p], 1.0))
    assert norm == pytest.approx(bad, nan_ok=True)
    assert np.isnan(p.grad.numpy()[1])


def test_norm_of_no_gradients_is_zero():
    assert optim.clip_grad_norm_([parameter(3)], 1.0) == 0.0
    assert optim.clip_grad_norm_([], 1.0) == 0.0


@pytest.mark.parametrize("max_norm", [-1.0, math.nan])
def test_max_norm_below_zero_is_refused(max_norm):
    with pytest.raises(ValueError, match="max_norm must be a number from 0"):
        optim.clip_grad_norm_([parameter(3)], max_norm)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_clipping_by_norm_works_on_every_device(device, dtype):
    p = mb.ones(3, dtype=dtype, device=device, requires_grad=True)
    p.grad = mb.tensor([2.0, 3.0, 6.0], dtype=dtype, device=device)
    assert float(optim.clip_grad_norm_([p], 3.5)) == pytest.approx(7, rel=1e-6)
    assert p.grad.dtype == dtype
    np.testing.assert_allclose(p.grad.numpy(), [1, 1.5, 3], rtol=1e-3)


def test_clipping_by_value_cuts_each_number(device):
    p = mb.ones(3, dtype="float64", device=device, requires_grad=True)
    p.grad = mb.tensor([-3.0, 0.25, math.nan], dtype="float64", device=device)
    optim.clip_grad_value_(p, 0.5)
    np.testing.assert_array_equal(p.grad.numpy(), [-0.5, 0.25, math.nan])
    assert p.grad.version[0] == 1
