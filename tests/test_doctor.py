"""`minibig.doctor`: each known failure is named with its fix; no GPU is no failure."""

import importlib.metadata
import subprocess
import types

import numpy as np
import pytest

from minibig import backend, cli, doctor, doctor_gpu
from minibig.doctor import Report


def fake_cupy(*, count=1, error=None, kernel_error=None, driver=13000, factor=2):
    """What the doctor asks of CuPy, answered on the CPU: a GPU as it should be, or one
    whose calls raise `error`, or whose compiler raises `kernel_error`."""

    def get_device_count():
        if error is not None:
            raise error
        return count

    class Device:
        def __init__(self, index):
            pass

        __enter__ = __exit__ = lambda *arguments: None

    class RawModule:
        def __init__(self, code):
            if kernel_error is not None:
                raise kernel_error

        def get_function(self, name):
            def launch(grid, block, arguments):
                arguments[0][...] *= factor

            return launch

    properties = {"name": b"Fake GPU", "major": 9, "minor": 0}
    runtime = types.SimpleNamespace(
        getDeviceCount=get_device_count,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceProperties=lambda index: properties,
        memGetInfo=lambda: (3 * 10**9, 8 * 10**9),
    )
    pool = types.SimpleNamespace(
        used_bytes=lambda: 0, total_bytes=lambda: 5 * 10**6, get_limit=lambda: 0,
        n_free_blocks=lambda: 2,
    )  # fmt: skip
    return types.SimpleNamespace(
        __version__="14.2.0", RawModule=RawModule, asarray=np.asarray,
        asnumpy=np.asarray, zeros=np.zeros, get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: pool,
        cuda=types.SimpleNamespace(runtime=runtime, Device=Device),
    )  # fmt: skip


@pytest.fixture
def machine(monkeypatch):
    """Sets what the GPU part finds: CuPy (or the error of its import), packages, the
    answer of nvidia-smi; returns the rows, as a dict, and the advice."""

    def examine(cupy, packages=("cupy-cuda12x",), smi=None):
        def answer():
            if isinstance(cupy, Exception):
                raise backend.DeviceError("no CuPy") from cupy
            return cupy

        def ask(command, **settings):
            return subprocess.CompletedProcess(command, 0, smi, "")

        monkeypatch.setattr(backend, "cupy", answer)
        monkeypatch.setattr(doctor_gpu, "cupy_packages", lambda: list(packages))
        monkeypatch.setattr(doctor_gpu.shutil, "which", lambda name: smi and name)
        monkeypatch.setattr(doctor_gpu.subprocess, "run", ask)
        report = Report()
        doctor_gpu.gpu(report)
        assert report.healthy  # a GPU is never needed
        return dict(report.rows), report.advice

    monkeypatch.delenv("CUDA_PATH", raising=False)
    return examine


# ---- the CPU -------------------------------------------------------------------------


def test_doctor_prints_an_aligned_table_and_exits_with_0(capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = "Python", "minibig", "numpy", "scipy", "jupyterlab", "cores", "BLAS"
    for name in (*names, "memory", "CPU check", "NVIDIA driver", "CuPy", "GPU"):
        assert any(line.startswith(name) for line in lines), name
    table = lines[: lines.index("") if "" in lines else None]
    width = len("threadpoolctl")
    assert all(line[width : width + 2] == "  " != line[width + 2] for line in table)


def test_a_wrong_product_is_unhealthy_and_exits_with_1(capsys, monkeypatch):
    monkeypatch.setattr(backend, "matmul", lambda a, b: a @ b + 1)
    assert cli.main(["doctor"]) == 1
    assert "a product of matrices is wrong by 1" in capsys.readouterr().out


def test_an_old_python_and_an_old_numpy_are_named(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(doctor.np, "__version__", "1.26.4")
    report = Report()
    doctor.versions(report)
    assert not report.healthy
    assert "Python 3.11 or newer" in report.advice[0]
    assert "needs NumPy 2" in report.advice[1]


def test_a_missing_package_says_what_it_is_for(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    report = Report()
    doctor.versions(report)
    assert dict(report.rows)["jupyterlab"] == (
        'missing: the notebooks (pip install "minibig[notebooks]")'
    )


def test_only_packages_that_minibig_uses_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    report = Report()
    doctor.versions(report)
    rows = dict(report.rows)
    assert "safetensors" not in rows  # minibig reads and writes the format itself
    assert rows["pooch"] == (
        'missing: files from the network (pip install "minibig[data]")'
    )
    assert "presets mlp, cnn and vit" in rows["scikit-learn"]


def test_more_blas_threads_than_cores_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "_blas_libraries", lambda: [("openblas 0.3", 64)])
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 2)
    report = Report()
    doctor.cpu(report)
    assert ("BLAS", "openblas 0.3, 64 threads") in report.rows
    assert "64 threads on 2 cores" in report.advice[0]
    assert "OPENBLAS_NUM_THREADS=" in report.advice[0]


def test_without_threadpoolctl_the_blas_is_named_from_numpy(monkeypatch):
    monkeypatch.setattr(doctor, "_blas_libraries", lambda: [])
    monkeypatch.setattr(doctor.threads, "usable_cores", lambda: 4)
    monkeypatch.setattr(doctor, "_container_cores", lambda: 1.5)
    for name in doctor.THREADS:
        monkeypatch.delenv(name, raising=False)
    report = Report()
    doctor.cpu(report)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert blas in dict(report.rows)["BLAS"]
    assert "may use 1.5 cores: set MINIBIG_THREADS" in report.advice[0]
    assert "pip install threadpoolctl" in report.advice[1]


def test_little_memory_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_memory", lambda: (4e9, 0.5e9))
    report = Report()
    doctor.memory(report)
    assert report.rows == [("memory", "4.0 GB, 0.5 GB available")]
    assert "only 0.5 GB" in report.advice[0]


def test_memory_is_read_without_psutil(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    total, available = doctor._memory()
    assert total is None or total > available > 0


# ---- the GPU -------------------------------------------------------------------------


def test_a_gpu_is_described_and_its_kernels_run(machine):
    rows, advice = machine(fake_cupy(), smi="Fake GPU, 580.65\n")
    assert rows["NVIDIA driver"] == "580.65 (Fake GPU)"
    assert rows["CUDA"] == "driver for 13.0, CuPy's runtime 12.9"
    assert rows["GPU"] == "Fake GPU, compute capability 9.0, 8.0 GB, 3.0 GB free"
    held = "0 MB used of 5 MB held in 2 free blocks and those in use, no limit"
    assert rows["memory pool"] == held
    assert rows["pinned memory"] == "2 free blocks, for transfers"
    assert rows["CUDA kernel"] == rows["CUDA headers"] == "compiled, ran, right"
    assert rows["attention"].startswith("float16 by mma; hopper needs compute")
    assert advice == []


def test_wrong_numbers_from_a_kernel_are_noticed(machine):
    rows, advice = machine(fake_cupy(factor=3))
    assert rows["CUDA kernel"] == "ran, with wrong numbers" and "wrongly" in advice[0]


def test_a_driver_without_cupy_gets_the_command_that_fits_it(machine):
    missing = ModuleNotFoundError("No module named 'cupy'")
    for smi, extra in (("A, 580.65\n", "gpu13"), ("A, 570.1\nB, 570.1\n", "gpu12")):
        rows, advice = machine(missing, packages=(), smi=smi)
        assert rows["CuPy"].startswith("missing") and rows["GPU"].startswith("absent")
        assert advice[0].endswith(f'pip install "minibig[{extra}]"')
    assert rows["NVIDIA driver"] == "570.1 (A and 1 more)"


def test_neither_driver_nor_cupy_is_said_plainly_and_needs_nothing_done(machine):
    rows, advice = machine(ModuleNotFoundError("No module named 'cupy'"), packages=())
    assert rows["GPU"] == "absent: everything runs on the CPU" and advice == []


def test_cupy_without_a_driver_is_told_from_an_old_driver(machine):
    error = RuntimeError(
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA "
        "runtime version"
    )
    rows, advice = machine(fake_cupy(error=error, driver=0))
    assert rows["GPU"].startswith("absent") and "no NVIDIA driver" in advice[0]
    rows, advice = machine(fake_cupy(error=error, driver=12080), smi="A, 570.1\n")
    assert "older than CuPy's CUDA" in advice[0] and "gpu12" in advice[0]


def test_several_cupy_packages_are_named(machine):
    _, advice = machine(fake_cupy(), packages=("cupy-cuda12x", "cupy-cuda13x"))
    assert "pip uninstall cupy-cuda12x cupy-cuda13x" in advice[0]


def test_a_cuda_path_that_leads_nowhere_is_named(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_PATH", str(tmp_path / "gone"))
    report = Report()
    doctor_gpu.gpu(report)
    assert "gone, which is no folder" in report.advice[0]


@pytest.mark.parametrize(
    ("message", "fact"),
    [
        ("cudaErrorNoDevice: no CUDA-capable device is detected", "shows no GPU"),
        ("CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open "
         "shared object file: No such file or directory", "NVRTC, which compiles"),
        ('Failure finding "libnvrtc.so.13": No such file', "NVRTC, which compiles"),
        ("nvrtc: error: failed to open nvrtc-builtins64_121.dll.", "a part of NVRTC"),
        ('x.cu(1): catastrophic error: cannot open source file "vector_types.h"',
         "no CUDA headers"),
        ("nvrtc: error: invalid value for --gpu-architecture (-arch)", "newer CUDA"),
        ("Out of memory allocating 512 bytes", "nvidia-smi names it"),
        ("libcudart.so.12: cannot open shared object file", "set CUDA_PATH"),
        ("No module named 'cuda'", "without what it needs"),
        ("something else", "this doctor does not know: RuntimeError: something else"),
    ],
)  # fmt: skip
def test_each_known_message_gets_its_cause(machine, message, fact):
    rows, advice = machine(fake_cupy(kernel_error=RuntimeError(message)))
    assert rows["CUDA kernel"].startswith("RuntimeError") and len(advice) == 1
    assert fact in advice[0]


def test_a_cupy_that_does_not_start_is_explained(machine):
    broken = ImportError("\n=====\nlibcublas.so.12: cannot open shared object file")
    rows, advice = machine(broken)
    assert rows["CuPy"].startswith("cupy-cuda12x, broken: ImportError: libcublas")
    assert rows["GPU"].startswith("absent") and "CUDA library" in advice[0]


@pytest.mark.parametrize("failure", [OSError("gone"), None])
def test_an_nvidia_smi_that_fails_is_reported(monkeypatch, failure):
    def ask(command, **settings):
        if failure:
            raise failure
        return subprocess.CompletedProcess(command, 9, "no driver is running", "")

    monkeypatch.setattr(doctor_gpu.shutil, "which", lambda name: name)
    monkeypatch.setattr(doctor_gpu.subprocess, "run", ask)
    monkeypatch.setattr(doctor_gpu, "cupy_packages", lambda: [])
    report = Report()
    doctor_gpu.gpu(report)
    assert dict(report.rows)["NVIDIA driver"].startswith("nvidia-smi ")
    assert not any("there is a driver" in text for text in report.advice)


def test_cupy_packages_are_found_by_name(monkeypatch):
    names = "cupy-cuda12x", "CuPy", "cupyx-tools", "numpy", "cupy-rocm-7-0"
    monkeypatch.setattr(
        importlib.metadata,
        "distributions",
        lambda: [types.SimpleNamespace(metadata={"Name": name}) for name in names],
    )
    assert doctor_gpu.cupy_packages() == ["cupy", "cupy-cuda12x", "cupy-rocm-7-0"]
