"""Sums over rows by a kernel: against NumPy's in float64, and where ops ask for it."""

import numpy as np
import pytest
from kernel_passes import DTYPES, TOLERANCE, between_canaries, drawn, dtype_of

from minibig import backend, kernels
from minibig.kernels import columns, emulator, source
from minibig.ops.feed_forward import linear_activation
from minibig.ops.matmul import linear
from minibig.ops.reduction import over_rows

needs_emulator = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request):
    if request.param == "cpu" and emulator.missing():
        pytest.skip(emulator.missing())
    return request.param


def agrees(shape, dtype="float32", machine="cpu"):
    x, written = drawn(*shape, dtype=dtype), []
    with pytest.MonkeyPatch.context() as patch:
        if machine == "cuda":
            patch.setattr(columns, "empty", between_canaries(written))
        found = columns.column_sums(backend.to_device(x, machine))
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()
    assert found.dtype == dtype_of(dtype) and found.shape == shape[1:]
    exact = x.astype("float64").sum(0)
    error = np.abs(backend.to_device(found, "cpu").astype("float64") - exact).max()
    assert error <= TOLERANCE[dtype] * np.abs(x.astype("float64")).sum(0).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 33), (64, 32), (65, 5), (700, 70), (9000, 3)]
)
def test_sums_over_rows_agree_with_float64(shape, dtype, machine):
    agrees(shape, dtype, machine)


@needs_emulator
def test_sums_over_rows_are_the_same_in_every_order_of_threads():
    x = drawn(700, 40)
    first = columns.column_sums(x)
    with emulator.shuffled(3):
        np.testing.assert_array_equal(columns.column_sums(x), first)


@needs_emulator
def test_sums_of_a_turned_matrix_are_those_of_its_columns():
    x = drawn(40, 90)
    np.testing.assert_allclose(columns.column_sums(x.T), x.sum(1), atol=1e-5)


def test_what_no_kernel_serves_is_left_to_array_code():
    for x in (drawn(3), drawn(2, 3, 4), np.zeros((2, 3)), np.zeros((0, 3), "f")):
        assert columns.column_sums(x) is None
    assert columns.column_sums(np.broadcast_to(np.float32(0), (2**31, 1))) is None
    np.testing.assert_array_equal(over_rows(np.ones((4, 3))), [4, 4, 4])


def bias_gradient(op, x):
    weight, bias, dy = drawn(5, x.shape[-1], seed=1), drawn(5, seed=2), drawn(7, 5)
    return op(x, weight, bias)[1](dy)[2]


@needs_emulator
@pytest.mark.parametrize("op", [
    linear, lambda *arrays: linear_activation(*arrays, activation="silu"),
], ids=["linear", "linear_activation"])  # fmt: skip
def test_a_bias_learns_from_the_kernel(op, monkeypatch):
    expected, asked = bias_gradient(op, drawn(7, 3)), []

    def column_sums(x):
        asked.append(x.shape)
        return columns.column_sums(x)

    monkeypatch.setattr("minibig.ops.reduction.use_kernel", lambda x: True)
    monkeypatch.setattr("minibig.ops.reduction.column_sums", column_sums)
    np.testing.assert_allclose(bias_gradient(op, drawn(7, 3)), expected, atol=1e-6)
    assert asked == [(7, 5)]


FAULTS = [
    ("of_warps[warp][lane] = x;\n  __syncthreads();", "of_warps[warp][lane] = x;"),
    ("r < rows", "r <= rows"),
    ("column < width)\n    for", "true)\n    for"),
    ("threadIdx.x < 32 && column < width) from", "threadIdx.x < 32) from"),
]


@needs_emulator
@pytest.mark.parametrize("right, wrong", FAULTS)
def test_a_planted_fault_shows(right, wrong, monkeypatch):
    text = source.read("column_sums.cu").text
    assert right in text
    parsed = source.parse("column_sums.cu", text.replace(right, wrong))
    monkeypatch.setattr(
        columns, "load", lambda name, *template: kernels.Module(parsed, *template)
    )
    with pytest.raises((emulator.EmulatorError, AssertionError)):
        for seed in range(4):
            with emulator.shuffled(seed):
                agrees((70, 33))
