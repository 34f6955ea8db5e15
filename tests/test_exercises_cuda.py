"""`run`: what a learner's kernel gives, and what is said of one that is wrong."""

import numpy as np
import pytest

from minibig import backend, exercises
from minibig.exercises.cuda import run
from minibig.kernels import emulator

needs_compiler = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)

SCALE = r"""
__global__ void scale(const float* x, float* y, float factor, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = factor * x[i];
}
"""
REVERSE = r"""
__global__ void reverse(float* x) {
  __shared__ float all[64];
  all[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = all[63 - threadIdx.x];
}
"""


def scaled(text, n=100):
    x, y = np.arange(n, dtype="float32"), np.zeros(n, "float32")
    return run(lambda: text, "scale", (2,), (64,), x, y, 3.0, n)


def reversed_by(text):
    return run(lambda: text, "reverse", (1,), (64,), np.arange(64, dtype="float32"))[0]


@needs_compiler
def test_all_arrays_come_back_and_those_given_stay():
    x, y = np.arange(100, dtype="float32"), np.zeros(100, "float32")
    before, after = run(lambda: SCALE, "scale", (2,), (64,), x, y, 3.0, 100)
    np.testing.assert_array_equal(before, x)
    np.testing.assert_array_equal(after, 3 * x)
    assert not y.any()


@needs_compiler
def test_the_compilers_first_message_has_the_learners_line():
    with pytest.raises(SyntaxError, match=r"^scale\.cu:4:\d+: error: .*factr") as info:
        scaled(SCALE.replace("= factor", "= factr"))
    assert "\n" not in str(info.value)


@needs_compiler
def test_a_missing_guard_is_an_index_error():
    with pytest.raises(IndexError, match=r"thread \(\d+, 0, 0\): touches .* outside"):
        scaled(SCALE.replace("if (i < n)", ""))


@needs_compiler
def test_a_missing_barrier_is_an_error():
    np.testing.assert_array_equal(reversed_by(REVERSE), np.arange(64)[::-1])
    for _ in range(2):  # the second time, too: shared memory holds no old results
        with pytest.raises(RuntimeError, match="another order of the threads"):
            reversed_by(REVERSE.replace("__syncthreads();", ""))


@needs_compiler
def test_a_barrier_in_a_branch_is_an_error():
    with pytest.raises(emulator.EmulatorError, match="threads that never come"):
        reversed_by(REVERSE.replace("__sync", "if (threadIdx.x < 32) __sync"))


def test_no_text_and_another_kernel_are_clear_errors():
    with pytest.raises(TypeError, match="kernel's text, not NoneType"):
        scaled(None)
    with pytest.raises(ValueError, match="no kernel named scale in the text, but rev"):
        scaled(REVERSE)


def test_a_stub_raises_not_implemented():
    def stub():
        raise NotImplementedError("your turn")

    with pytest.raises(NotImplementedError, match="your turn"):
        run(stub, "scale", (1,), (32,))


def test_without_a_compiler_and_a_gpu_it_says_so(monkeypatch):
    def no_gpu(device):
        raise backend.DeviceError("no GPU")

    monkeypatch.setattr("minibig.kernels.emulator.builder.compiler", lambda: None)
    monkeypatch.setattr(backend, "check_device", no_gpu)
    with pytest.raises(OSError, match=r"needs Linux .* C\+\+ compiler"):
        scaled(SCALE)


def test_no_hint_is_offered_where_no_kernel_can_run(capsys):
    def absent(*_):
        raise OSError("the emulator needs a C++ compiler")

    exercises.check("16.axpy", absent)
    printed = capsys.readouterr().out
    assert "OSError: the emulator needs" in printed and "hint" not in printed


def test_without_a_compiler_a_gpu_launches_it(monkeypatch):
    """Over a stand-in for the GPU, which takes what is launched there."""
    launched = []
    monkeypatch.setattr("minibig.kernels.emulator.builder.compiler", lambda: None)
    monkeypatch.setattr(backend, "check_device", lambda device: device)
    monkeypatch.setattr(backend, "to_device", lambda x, device: x)
    monkeypatch.setattr(
        "minibig.kernels.kernel.Kernel.__call__",
        lambda self, grid, block, *values, shared: launched.append((grid, values)),
    )
    x, y = scaled(SCALE, n=5)
    assert launched[0][0] == (2,) and launched[0][1] == (x, y, 3.0, 5)
