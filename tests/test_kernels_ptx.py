"""The functions of ptx.cuh: the emulator's twins against NumPy, and NVRTC's word."""

import numpy as np
import pytest
from kernel_cases import from_bfloat16, to_bfloat16

from minibig import backend
from minibig.kernels import Module, emulator, nvrtc, parse

TEXT = """
#include "ptx.cuh"

// y = a b, with a (16, 16) and b (8, 16), the transpose of what is meant.
template <typename Number>
__global__ void product(const Number* a, const Number* b, float* y) {
  __shared__ __align__(16) Number left[16 * 16], right[8 * 16];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) left[i] = a[i];
  for (int i = lane; i < 128; i += 32) right[i] = b[i];
  __syncthreads();
  unsigned x[4], z[4];
  float sum[4] = {};
  // matrices: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15
  ldmatrix_x4(x, left + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x4(z, right + lane % 8 * 16 + lane / 8 % 2 * 8);
  const unsigned w[2] = {z[0], z[1]};
  mma_m16n8k16<Number>(sum, x, w);
  for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// The same, but b is (16, 8): its columns are loaded by turning it.
template <typename Number>
__global__ void turned(const Number* a, const Number* b, float* y) {
  __shared__ __align__(16) Number left[16 * 16], right[16 * 8];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) left[i] = a[i];
  for (int i = lane; i < 128; i += 32) right[i] = b[i];
  __syncthreads();
  unsigned x[4], z[4];
  float sum[4] = {};
  ldmatrix_x4(x, left + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x4_transposed(z, right + lane % 16 * 8);
  const unsigned w[2] = {z[0], z[1]};
  mma_m16n8k16<Number>(sum, x, w);
  for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

template <typename Number>
__global__ void packed(const float* x, unsigned* y) {
  y[threadIdx.x] = pack<Number>(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
}

// y = x, through shared memory in two groups; the last 16 bytes are zeros.
template <typename Number>
__global__ void copied(const Number* x, Number* y) {
  __shared__ __align__(16) Number memory[32 * 16];
  const int lane = threadIdx.x, other = 31 - lane;
  copy_async_16(memory + lane * 8, x + lane * 8, true);
  copy_async_commit();
  copy_async_16(memory + 256 + lane * 8, x + 256 + lane * 8, lane < 31);
  copy_async_commit();
  copy_async_wait<1>();
  __syncthreads();
  for (int i = 0; i < 8; i++) y[other * 8 + i] = memory[other * 8 + i];
  copy_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 8; i++) y[256 + other * 8 + i] = memory[256 + other * 8 + i];
}
"""
KINDS = ("float16", "bfloat16")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request):
    """ "cpu", that is the emulator, or "cuda"."""
    if request.param == "cpu" and emulator.missing():
        pytest.skip(emulator.missing())
    return request.param


def narrow(x, kind):
    return to_bfloat16(x) if kind == "bfloat16" else x.astype("float16")


def wide(x):
    return from_bfloat16(x) if x.dtype == "uint16" else x.astype("float32")


def run(name, kind, machine, *arrays, text=TEXT):
    """The last of the arrays after the kernel, one warp, has run."""
    arrays = [backend.to_device(x, machine) for x in arrays]
    Module(parse("ptx_test.cu", text), kind)[name]((1,), (32,), *arrays)
    return backend.to_device(arrays[-1], "cpu")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["product", "turned"])
def test_mma_multiplies_what_ldmatrix_loads(name, kind, machine):
    rng = np.random.default_rng(0)
    a = narrow(rng.standard_normal((16, 16), "float32"), kind)
    b = narrow(rng.standard_normal((16, 8), "float32"), kind)
    given = np.ascontiguousarray(b.T) if name == "product" else b
    found = run(name, kind, machine, a, given, np.zeros((16, 8), "float32"))
    np.testing.assert_allclose(found, wide(a) @ wide(b), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pack_puts_the_first_number_into_the_lower_half(kind, machine):
    x = np.random.default_rng(1).standard_normal(64, "float32")
    found = run("packed", kind, machine, x, np.zeros(32, "uint32"))
    np.testing.assert_array_equal(found.view("uint16"), narrow(x, kind).view("uint16"))


def test_asynchronous_copies_arrive_after_their_wait(machine):
    x = np.random.default_rng(2).standard_normal(512).astype("float16")
    found = run("copied", "float16", machine, x, np.zeros(512, "float16"))
    np.testing.assert_array_equal(found, np.where(np.arange(512) < 504, x, 0))


@pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))
@pytest.mark.parametrize("wait, after", [
    ("copy_async_wait<1>();", ""),
    ("copy_async_wait<1>();", "copy_async_wait<2>();"),
    ("copy_async_wait<0>();", "copy_async_wait<1>();"),
])  # fmt: skip
def test_a_missing_wait_shows(wait, after):
    x, y = np.ones(512, "float16"), np.zeros(512, "float16")
    found = run("copied", "float16", "cpu", x, y, text=TEXT.replace(wait, after))
    assert np.isnan(found).any()


@pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))
@pytest.mark.parametrize("exact, moved, message", [
    ("left + lane % 16 * 16", "left + 1 + lane % 16 * 16", "is not aligned"),
    ("memory + lane * 8", "memory + 4 + lane * 8", "must be multiples of 16"),
])  # fmt: skip
def test_addresses_that_are_not_aligned_are_noticed(exact, moved, message):
    name = "product" if "left" in exact else "copied"
    text = TEXT.replace(exact, moved)
    arrays = [np.zeros(512, "float16"), np.zeros(512, "float16")]
    if name == "product":
        arrays.append(np.zeros(512, "float32"))
    with pytest.raises(emulator.EmulatorError, match=message):
        run(name, "float16", "cpu", *arrays, text=text)


@pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_nvrtc_takes_the_instructions(kind, chip):
    _, found = nvrtc.compile(parse("ptx_test.cu", TEXT), (kind,), chip)
    assert found.keys() == {"product", "turned", "packed", "copied"}
