"""The emulator itself: what it computes, and the faults that it must name."""

import numpy as np
import pytest

from minibig.kernels import Module, emulator, parse
from minibig.kernels.emulator import EmulatorError

pytestmark = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)

TEXT = """
__global__ void where(int* out) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int row = threadIdx.z * blockDim.y + threadIdx.y;
  const int thread = row * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

__global__ void block_sum(const float* x, float* y, int n) {
  __shared__ float parts[4];
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  for (int step = 16; step > 0; step /= 2)
    sum += __shfl_xor_sync(0xffffffff, sum, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) *y = parts[0] + parts[1] + parts[2] + parts[3];
}

__global__ void shuffles(const int* x, int* up, int* down, int* to) {
  const int i = threadIdx.x;
  up[i] = __shfl_up_sync(0xffffffff, x[i], 1);
  down[i] = __shfl_down_sync(0xffffffff, x[i], 2);
  to[i] = __shfl_sync(0xffffffff, x[i], 5);
}

__global__ void count(const int* x, int* total, int* most) {
  atomicAdd(total, x[threadIdx.x]);
  atomicMax(most, x[threadIdx.x]);
}

__global__ void reverse(float* x, int n) {
  extern_memory
  memory[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = memory[n - 1 - threadIdx.x];
}

__global__ void some_leave(float* x) {
  if (threadIdx.x < 72)
    __syncthreads();
}

__global__ void two_barriers(float* x) {
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void half_a_warp(float* x) {
  if (threadIdx.x < 16)
    x[threadIdx.x] = __shfl_xor_sync(0xffffffff, x[threadIdx.x], 1);
}

__global__ void part_of_a_mask(float* x) { __shfl_xor_sync(0xffff, x[0], 1); }

__global__ void beyond(float* x, int step) { x[(int)threadIdx.x + step] = 1; }

__global__ void index(float* x, int i) {
  __shared__ float four[4];
  four[i] = 1;
  __syncthreads();
  x[0] = four[0];
}

__global__ void four(float* x, int step) {
  *(float4*)(x + step) = make_float4(1, 2, 3, 4);
}

__global__ void early(float* x) {
  __shared__ float all[2][32];
  all[1][threadIdx.x] = x[threadIdx.x];
  x[32 * (1 + blockIdx.x) + threadIdx.x] = all[0][threadIdx.x];
  all[0][threadIdx.x] = 1;
}

__global__ void unwritten(float* x) {
  extern_memory
  x[threadIdx.x] = memory[threadIdx.x];
}
""".replace("extern_memory", "float* memory = (float*)emulator::shared_memory;")


@pytest.fixture(scope="module")
def kernels():
    return Module(parse("faults.cu", TEXT))


def zeros(n, dtype="float32"):
    return np.zeros(n, dtype)


def test_every_thread_of_every_block_runs_once(kernels):
    out = zeros(2 * 3 * 4 * 5 * 6 * 7, "int32")
    kernels["where"]((2, 3, 4), (5, 6, 7), out)
    expected = 1000 * np.arange(24)[:, None] + np.arange(210)
    np.testing.assert_array_equal(out.reshape(24, 210), expected)


def test_a_block_adds_up_with_shuffles_and_shared_memory(kernels):
    x, y = np.arange(1000, dtype="float32"), zeros(1)
    for seed in range(5):
        with emulator.shuffled(seed):
            kernels["block_sum"]((1,), (128,), x, y, 1000)
        assert y[0] == x.sum()


def test_shuffles_move_along_the_warp_and_stop_at_its_ends(kernels):
    x = np.arange(32, dtype="int32")
    up, down, to = (zeros(32, "int32") for _ in range(3))
    kernels["shuffles"]((1,), (32,), x, up, down, to)
    np.testing.assert_array_equal(up, [0, *range(31)])
    np.testing.assert_array_equal(down, [*range(2, 32), 30, 31])
    np.testing.assert_array_equal(to, np.full(32, 5))


def test_atomics_lose_nothing(kernels):
    x, total, most = np.arange(100, dtype="int32"), zeros(1, "int32"), zeros(1, "int32")
    kernels["count"]((3,), (100,), x, total, most)
    assert total[0] == 3 * 4950 and most[0] == 99


def test_dynamic_shared_memory_is_what_the_launch_gives(kernels):
    x = np.arange(50, dtype="float32")
    kernels["reverse"]((1,), (50,), x, 50, shared=200)
    np.testing.assert_array_equal(x, np.arange(50)[::-1])
    with pytest.raises(
        EmulatorError, match=r"touches shared memory outside: \d+ bytes"
    ):
        kernels["reverse"]((1,), (50,), x, 50, shared=160)


def test_shared_memory_that_nobody_wrote_holds_nan(kernels):
    x = zeros(8)
    kernels["unwritten"]((1,), (8,), x, shared=32)
    assert np.isnan(x).all()


def test_declared_shared_memory_holds_nan_at_the_start_of_every_block(kernels):
    for _ in range(2):
        x = zeros(4 * 32)
        kernels["early"]((3,), (32,), x)
        assert np.isnan(x[32:]).all()


def test_declared_shared_memory_of_templates_holds_nan_in_every_library():
    text = """
template <int N>
__global__ void f(float* x) {
  __shared__ float all[N], other[N];
  x[blockIdx.x] = all[0] * other[0];
  all[0] = other[0] = 1;
}
"""
    for name in ("one.cu", "two.cu"):
        x = zeros(2)
        Module(parse(name, text), 4)["f"]((2,), (1,), x)
        assert np.isnan(x).all()


@pytest.mark.parametrize("name, arguments, message", [
    ("some_leave", (), r"faults.cu:\d+ .* 72 wait at a barrier .* 56 have left"),
    ("two_barriers", (), r"faults.cu:\d+, while thread 0 .* faults.cu:\d+: all"),
    ("half_a_warp", (), "16 at one of their warp, 112 have left"),
    ("part_of_a_mask", (), "full warps only, not mask 0xffff"),
    ("beyond", (1,), r"thread \(127, 0, 0\): touches x outside: 0 bytes behind"),
    ("beyond", (10**6,), "touches x outside: 3999[0-9]+ bytes behind its end"),
    ("beyond", (-(1 << 12),), "touches x outside: .* before its start"),
    ("four", (3,), r"faults.cu:\d+: address \w+ is not aligned"),
    ("index", (4,), r"faults.cu:\d+: index 4 is outside of the array"),
])  # fmt: skip
def test_faults_are_named_with_block_thread_and_line(kernels, name, arguments, message):
    with pytest.raises(EmulatorError, match=message) as raised:
        kernels[name]((1,), (128,), zeros(128), *arguments)
    assert f"{name}: block (0, 0, 0), thread (" in str(raised.value)


def test_an_absent_array_that_is_used_is_noticed(kernels):
    with pytest.raises(EmulatorError, match=r"touches address .* belongs to no array"):
        kernels["beyond"]((1,), (128,), None, 0)


def test_a_write_just_before_an_array_is_noticed(kernels):
    with pytest.raises(EmulatorError, match="x was written to outside: -4 bytes"):
        kernels["beyond"]((1,), (128,), zeros(128), -1)


def test_a_launch_after_a_fault_is_sound(kernels):
    with pytest.raises(EmulatorError):
        kernels["beyond"]((1,), (128,), zeros(128), 1)
    x, y = np.arange(1000, dtype="float32"), zeros(1)
    kernels["block_sum"]((1,), (128,), x, y, 1000)
    assert y[0] == x.sum()


def test_compiler_errors_are_passed_on():
    broken = Module(parse("broken.cu", "__global__ void f(float* x) { x[0] = y; }"))
    with pytest.raises(EmulatorError, match=r"broken.cu:1:.*'?y.*"):
        broken["f"]((1,), (1,), zeros(1))


def test_grids_that_cuda_refuses_are_refused(kernels):
    for grid, block in (((1,), (1025,)), ((0,), (32,)), ((1, 65536), (32,))):
        with pytest.raises(EmulatorError, match="1 to 1024 threads"):
            kernels["some_leave"](grid, block, zeros(1))


@pytest.mark.parametrize("bits", [np.arange(0x7C00), np.arange(0x8000, 0xFC00)])
def test_float16_and_back_are_those_of_numpy(bits):
    text = """
__global__ void there(const float16* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = to_float(x[i]);
}
__global__ void back(const float* x, float16* y, bfloat16* z, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) from_float(x[i], y[i]), from_float(x[i], z[i]);
}
"""
    module = Module(parse("halves.cu", '#include "ptx.cuh"\n' + text))
    half, n = bits.astype("uint16").view("float16"), len(bits)
    wide = zeros(n)
    grid = (-(-n // 256),)
    module["there"](grid, (256,), half, wide, n)
    np.testing.assert_array_equal(wide, half.astype("float32"))
    between = np.nextafter(wide * np.float32(1.0003), np.float32(np.inf))
    between = np.concatenate([wide, between, (wide[1:] + wide[:-1]) / 2])
    again, brain = zeros(len(between), "float16"), zeros(len(between), "uint16")
    module["back"]((-(-len(between) // 256),), (256,), between, again, brain,
                   len(between))  # fmt: skip
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(again, between.astype("float16"))
    near = (brain.astype("uint32") << 16).view("float32")
    assert (np.abs(near - between) <= np.abs(between) / 256 + 1e-38).all()
