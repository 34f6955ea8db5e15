"""Where arrays live, which module owns them, and what asking for a GPU says."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import minibig as mb
from minibig import backend

ALONE = """
import sys
import minibig
heavy = {"scipy", "matplotlib", "cupy", "torch", "sklearn", "tqdm", "safetensors"}
print(sorted(heavy & set(sys.modules)))
"""


def test_core_imports_with_numpy_alone():
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_arrays_name_their_module(strict):
    here, there = np.ones(2), strict.ones(2)
    assert backend.array_module(here, None, 2.0) is np is backend.array_module(1)
    assert backend.array_module(there, 1) is strict
    assert backend.is_array(here) and backend.is_array(there)
    assert not backend.is_array([1]) and not backend.is_array(np.float32(1))
    assert backend.device_of(here) == "cpu" and backend.device_of(there) == "cuda"
    with pytest.raises(mb.DeviceError, match=r"two devices, cpu and cuda.*\.to\("):
        backend.array_module(here, there)


def test_arrays_travel_both_ways(strict):
    here = np.arange(6.0).reshape(2, 3).T
    there = backend.to_device(here, "cuda")
    back = backend.to_device(there, "cpu")
    assert type(there) is strict.ndarray and type(back) is np.ndarray
    assert np.array_equal(back, here) and not np.shares_memory(back, here)
    assert backend.to_device(here, "cpu") is here
    assert backend.to_device(there, "cuda") is there


def test_module_of_a_device(strict):
    assert backend.module_of("cpu") is np and backend.module_of("cuda") is strict


def test_unknown_device_is_named():
    for use in (mb.set_default_device, backend.check_device, mb.ones(1).to):
        with pytest.raises((ValueError, TypeError), match="tpu"):
            use("tpu")


def test_missing_cupy_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(backend._state, "cupy", None)
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    for use in (mb.ones(1).cuda, lambda: mb.ones(1, device="cuda")):
        with pytest.raises(mb.DeviceError, match=r'pip install "minibig\[gpu13\]"'):
            use()


def test_cupy_without_a_gpu_says_who_finds_the_cause(strict, monkeypatch):
    monkeypatch.setattr(strict.cuda, "is_available", lambda: False)
    with pytest.raises(mb.DeviceError, match="minibig doctor"):
        mb.set_default_device("cuda")
    assert mb.default_device() == "cpu"


def test_kernels_are_switched_on_and_off(strict):
    there = strict.ones(1)
    with backend.kernels(True):
        assert backend.use_kernel(there) and not backend.use_kernel(np.ones(1))
        with backend.kernels(False):
            assert not backend.use_kernel(there)
        assert backend.use_kernel(there)


def test_erf_on_both_devices(strict):
    x = np.linspace(-3, 3, 7)
    there = backend.erf(strict.asarray(x))
    assert type(there) is strict.ndarray
    assert np.allclose(there.get(), backend.erf(x))
    assert backend.erf(x)[-1] == pytest.approx(0.9999779095030014)


# ---- blocks of rows -----------------------------------------------------------------


def _large(rows=1024, columns=512):
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


def test_blocks_cover_all_rows_once_and_come_in_order():
    x, out = _large(), np.empty((1024, 1), np.float32)

    def double_first(x, out):
        out[...] = x[:, :1] * 2
        return len(x), x[0, 0]

    found = backend.by_rows(double_first, x, out)
    assert len(found) > 1 and sum(n for n, _ in found) == 1024
    assert [start for _, start in found] == sorted(start for _, start in found)
    assert np.array_equal(out[:, 0], x[:, 0] * 2)


def test_small_arrays_and_the_gpu_are_served_in_one_call(strict):
    assert backend.by_rows(len, np.ones((4, 4))) == [4]
    assert backend.by_rows(len, strict.ones((1024, 512))) == [1024]
    assert backend.by_rows(len, np.ones((4, 4)), size=1 << 20) == [1] * 4


def test_an_error_in_a_block_reaches_the_caller_and_work_goes_on():
    def fail(x):
        raise ZeroDivisionError(f"{len(x)} rows")

    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="rows"):
            backend.by_rows(fail, _large())
    assert sum(backend.by_rows(len, _large())) == 1024


def test_blocks_within_blocks_and_in_other_threads_do_not_wait_for_each_other():
    def nested(x):
        return sum(backend.by_rows(len, _large()))

    found = []
    others = [
        threading.Thread(target=lambda: found.extend(backend.by_rows(nested, _large())))
        for _ in range(3)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join(timeout=60)
    assert len(found) >= 3 and set(found) == {1024}


def test_products_of_large_matrices_equal_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((333, 200)), rng.standard_normal((200, 150))
    np.testing.assert_allclose(backend.matmul(a, b), a @ b, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(backend.matmul(b.T, a.T), b.T @ a.T, atol=1e-12)
