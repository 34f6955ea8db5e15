"""What the benchmarks share: threads, the clock, memory, and the machine's name.

Imported before NumPy: it sets how many threads both libraries use.
"""

import datetime
import importlib.util
import os
import platform
import sys
import time
from pathlib import Path

THREADS = os.environ.get("MINIBIG_THREADS", "2")
# What a comparison of training steps says of itself: threads are PyTorch's alone.
CORES = (
    f"PyTorch has {THREADS} threads, minibig {THREADS} processes that share each batch."
)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MINIBIG_THREADS"):
    os.environ.setdefault(variable, THREADS)

import numpy as np  # noqa: E402 (the threads must be set before)

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def libraries():
    """The names of those to compare: minibig, and torch where it is installed."""
    return ["minibig"] + ["torch"] * bool(importlib.util.find_spec("torch"))


def times(steps, count, turn=1):
    """Seconds of `count` calls each, {name: [...]}, the functions {name: step} taking
    turns of `turn` calls.

    Of a turn of several the first does not count: the threads of the one before may
    still be waiting for work, and a short call would be measured beside them.
    """
    for step in steps.values():
        for _ in range(3):
            step()
    seconds = {name: [] for name in steps}
    while min(map(len, seconds.values())) < count:
        for name, step in steps.items():
            found = []
            for _ in range(turn):
                began = time.perf_counter()
                step()
                found.append(time.perf_counter() - began)
            seconds[name] += found[1:] if turn > 1 else found
    return seconds


def machine():
    """One line: processor, cores, load, versions."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    if importlib.util.find_spec("torch"):
        import torch

        versions += f", PyTorch {torch.__version__}"
    load = os.getloadavg()[0]
    return (
        f"{names[0]}, {len(names)} cores, load {load:.1f}; {versions}; "
        f"{THREADS} threads each"
    )


def today():
    return datetime.date.today().isoformat()


def save(name, lines):
    """Writes benchmarks/results/NAME-DATE.md."""
    path = HERE / "results" / f"{name}-{today()}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
