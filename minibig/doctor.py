"""What this machine has for the course, and what to do about what it lacks.

`examine()` never fails on a missing part: it names the cause and the fix. Without a GPU
everything but the GPU benchmarks works, so only a broken CPU part is unhealthy.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import __version__, backend, threads
from .doctor_gpu import gpu

PACKAGES = {  # name → what it is for, and how to get it
    "scipy": ("exact GELU", "pip install scipy"),
    "tqdm": ("progress bars", "pip install tqdm"),
    "threadpoolctl": ("BLAS threads that do not fight", "pip install threadpoolctl"),
    "matplotlib": ("plots", 'pip install "minibig[notebooks]"'),
    "jupyterlab": ("the notebooks", 'pip install "minibig[notebooks]"'),
    "scikit-learn": (
        "its data sets and the presets mlp, cnn and vit",
        'pip install "minibig[data]"',
    ),
    "pooch": ("files from the network", 'pip install "minibig[data]"'),
    "torch": ("comparisons", 'pip install "minibig[oracles]"'),
}
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
LITTLE_MEMORY = 1.5e9  # bytes


@dataclass
class Report:
    """Rows of a table, and advice; `healthy` when the CPU part works."""

    rows: list = field(default_factory=list)  # (name, value)
    advice: list = field(default_factory=list)
    healthy: bool = True

    def add(self, name, value):
        self.rows.append((name, str(value)))

    def advise(self, text):
        if text not in self.advice:
            self.advice.append(text)

    def __str__(self):
        width = max(len(name) for name, _ in self.rows)
        lines = [f"{name:<{width}}  {value}" for name, value in self.rows]
        if self.advice:
            lines += ["", "What to do:", *(f"  * {text}" for text in self.advice)]
        return "\n".join(lines)


def examine():
    """The Report of this machine; takes a second or two."""
    report = Report()
    for look in (versions, cpu, memory, check_cpu, gpu):
        look(report)
    return report


def versions(report):
    """Python, minibig and the packages it works with."""
    report.add("Python", f"{platform.python_version()}, {platform.platform()}")
    if sys.version_info < (3, 11):  # noqa: UP036, a checkout runs without pip's check
        report.healthy = False
        report.advise(
            "minibig needs Python 3.11 or newer: install one, make a new venv"
        )
    report.add("minibig", __version__)
    report.add("numpy", np.__version__)
    if int(np.__version__.split(".")[0]) < 2:
        report.healthy = False
        report.advise('minibig needs NumPy 2: pip install "numpy>=2,<3"')
    for name, (use, how) in PACKAGES.items():
        report.add(name, _version(name) or f"missing: {use} ({how})")


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu(report):
    """Cores, BLAS libraries and their threads, and minibig's."""
    cores = threads.usable_cores()
    report.add("cores", f"{os.cpu_count()}, of which minibig uses {cores}")
    allowed = _container_cores()
    if allowed and allowed < cores:
        report.advise(
            f"this container may use {allowed:.2g} cores: set MINIBIG_THREADS and "
            f"OPENBLAS_NUM_THREADS to {max(round(allowed), 1)}"
        )
    libraries = _blas_libraries()
    for name, count in libraries:
        report.add("BLAS", f"{name}, {count} thread{'s' * (count != 1)}")
        if count > (os.cpu_count() or 1):
            report.advise(
                f"{name} starts {count} threads on {os.cpu_count()} cores, which then "
                f"wait for each other: set OPENBLAS_NUM_THREADS={cores}"
            )
    if not libraries:
        report.add("BLAS", f"{_built_with()}, threads unknown without threadpoolctl")
        if cores > 1 and not any(map(os.environ.get, THREADS)):
            report.advise(
                "BLAS threads may fight with minibig's: pip install threadpoolctl, or "
                "set OPENBLAS_NUM_THREADS=1"
            )


def _blas_libraries():
    """(name and version, threads) of every BLAS that is loaded."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    found = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
    return [
        (
            f"{entry['internal_api']} {entry['version']} "
            f"({entry.get('architecture', 'any CPU')})",
            entry["num_threads"],
        )
        for entry in found
    ]


def _built_with():
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _container_cores():
    """How many cores a Linux container's quota is worth; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return None


def memory(report):
    """Memory in all and available."""
    total, available = _memory()
    if total is None:
        report.add("memory", "unknown")
        return
    report.add("memory", f"{total / 1e9:.1f} GB, {available / 1e9:.1f} GB available")
    if available < LITTLE_MEMORY:
        report.advise(
            f"only {available / 1e9:.1f} GB of memory are available: close other "
            "programs and notebooks before the larger ones"
        )


def _memory():
    """(total, available) bytes, or (None, None)."""
    if importlib.util.find_spec("psutil"):
        import psutil

        seen = psutil.virtual_memory()
        return seen.total, seen.available
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None, None
    sizes = {
        name: int(rest.split()[0]) * 1024
        for name, rest in (line.split(":") for line in lines)
    }
    return sizes["MemTotal"], sizes["MemAvailable"]


def check_cpu(report):
    """Computes a product on all threads and a gradient, and compares them."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((384, 384), np.float32) for _ in range(2))
    error = np.abs(backend.matmul(a, b) - a.astype("float64") @ b).max()
    from . import functional, tensor
    from .gradcheck import gradcheck

    x = tensor(rng.standard_normal((4, 5)), requires_grad=True)
    ids = tensor(np.array([0, 4, 2, 2]))
    problem = None
    if not error < 1e-3:
        problem = f"a product of matrices is wrong by {error:.3g}"
    try:
        gradcheck(lambda x: functional.cross_entropy(x, ids), [x])
    except AssertionError as found:
        problem = str(found)
    report.add("CPU check", problem or "a product and a gradient are right")
    if problem:
        report.healthy = False
        report.advise("the CPU computes wrongly: reinstall NumPy, in a new venv")
