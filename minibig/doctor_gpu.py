"""The GPU's part of `minibig.doctor`: driver, CuPy, kernels, and why they fail.

The messages looked for are those of CuPy 13 and 14, CUDA's runtime and NVRTC.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import warnings

import numpy as np

from . import backend
from .kernels import attention

CUDA13_DRIVER = 580  # the first driver series that runs CUDA 13
HEADERS = "#include <cuda_fp16.h>\n"
KERNEL = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'

# What CuPy and CUDA say → its cause and what helps; where CuPy must change, the command
# is added.
CAUSES = (
    (
        r"cudaErrorInsufficientDriver|driver version is insufficient",
        "the NVIDIA driver is older than CuPy's CUDA: update it (CUDA 13 needs 580 or "
        "newer), or install a CuPy for it",
    ),
    (
        r"cudaErrorNoDevice|no CUDA-capable device",
        "the driver shows no GPU: see whether CUDA_VISIBLE_DEVICES hides it, and in a "
        "container start it with access to the GPU (docker run --gpus all)",
    ),
    (
        r"nvrtc[-_]builtins|NVRTC_ERROR_BUILTIN",
        "a part of NVRTC is missing, or of another CUDA version than the rest: "
        "reinstall CuPy with its toolkit",
    ),
    (
        r"cannot open source file",
        "NVRTC finds no CUDA headers: install CuPy with its toolkit, which brings them",
    ),
    (
        r"libnvrtc|nvrtc64|nvrtc.*(not found|failed to load)",
        "NVRTC, which compiles kernels, is missing: install CuPy with its toolkit",
    ),
    (
        r"invalid value for --gpu-architecture|NO_BINARY_FOR_GPU|NoKernelImage",
        "NVRTC and the GPU do not know each other: a newer GPU needs a newer CUDA, one "
        "before 7.5 is too old for CUDA 13",
    ),
    (
        r"cudaErrorMemoryAllocation|OutOfMemory|out of memory",
        "another program holds the GPU's memory: nvidia-smi names it",
    ),
    (
        r"No module named '(cuda|fastrlock)\b",
        "CuPy is installed without what it needs: reinstall it",
    ),
    (
        r"cannot open shared object file|DLL load failed|Could not find module",
        "CuPy finds no CUDA library: install CuPy with its toolkit, or set CUDA_PATH",
    ),
)
NO_DRIVER = (
    "there is no NVIDIA driver, so that CuPy finds no GPU: install the driver if this "
    "machine has an NVIDIA GPU, else leave it so"
)


def gpu(report):
    """Adds the driver's and CuPy's view of the GPU; compiles and runs a kernel."""
    path = os.environ.get("CUDA_PATH")
    if path and not os.path.isdir(path):
        report.advise(
            f"CUDA_PATH names {path}, which is no folder: unset or correct it"
        )
    driver = _driver()
    report.add("NVIDIA driver", driver or "none found (no nvidia-smi)")
    packages = cupy_packages()
    install = _install_command(driver, packages)
    if len(packages) > 1:
        names = " ".join(packages)
        report.advise(
            f"several CuPy packages overwrite each other: pip uninstall {names}, then "
            f"{install}"
        )
    usable = _with_cupy(report, packages, install)
    if usable:
        return
    report.add("GPU", "absent: everything runs on the CPU")
    if driver and driver[0].isdigit() and not packages:
        report.advise(f"there is a driver, but not CuPy, to use the GPU: {install}")


def _with_cupy(report, packages, install):
    """Whether CuPy and a GPU are there; what they say is added to the report."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several packages: said above
            cupy = backend.cupy()
    except Exception as error:  # a broken installation fails in many ways: all told
        if packages:
            cause = error.__cause__ or error
            report.add("CuPy", f"{' '.join(packages)}, broken: {first_line(cause)}")
            report.advise(explain(cause, install))
        else:
            report.add("CuPy", "missing: only needed with an NVIDIA GPU")
        return False
    report.add("CuPy", f"{cupy.__version__} ({' '.join(packages) or 'unpackaged'})")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        _describe(report, cupy, count)
    except Exception as error:  # of CuPy's many types: each is told
        report.add("CUDA", first_line(error))
        without = cupy.cuda.runtime.driverGetVersion() == 0
        report.advise(NO_DRIVER if without else explain(error, install))
        return False
    if _try_kernels(report, cupy, install):
        _try_attention(report, cupy)
    return True


def _describe(report, cupy, count):
    runtime = cupy.cuda.runtime
    driver, own = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    report.add("CUDA", f"driver for {_dotted(driver)}, CuPy's runtime {_dotted(own)}")
    for index in range(count):
        properties = runtime.getDeviceProperties(index)
        with cupy.cuda.Device(index):
            free, total = runtime.memGetInfo()
        report.add(
            "GPU" if index == 0 else f"GPU {index}",
            f"{properties['name'].decode()}, compute capability "
            f"{properties['major']}.{properties['minor']}, {total / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB free",
        )
    _describe_memory(report, cupy)


def _describe_memory(report, cupy):
    """What CuPy holds on the GPU, and the memory through which transfers go: that of
    this machine which is pinned, so that a copy to the GPU need not be waited for."""
    pool = cupy.get_default_memory_pool()
    limit = pool.get_limit()
    report.add(
        "memory pool",
        f"{pool.used_bytes() / 1e6:.0f} MB used of {pool.total_bytes() / 1e6:.0f} MB "
        f"held in {pool.n_free_blocks()} free blocks and those in use, "
        f"{f'limit {limit / 1e9:.1f} GB' if limit else 'no limit'}",
    )
    pinned = cupy.get_default_pinned_memory_pool()
    report.add("pinned memory", f"{pinned.n_free_blocks()} free blocks, for transfers")


def _try_kernels(report, cupy, install):
    """Compiles and runs a kernel that needs nothing, then one that needs headers;
    whether both were right."""
    all_right = True
    for name, code in (("CUDA kernel", KERNEL), ("CUDA headers", HEADERS + KERNEL)):
        try:
            x = cupy.asarray(np.arange(32, dtype=np.float32))
            cupy.RawModule(code=code).get_function("twice")((1,), (32,), (x,))
            right = bool((cupy.asnumpy(x) == 2 * np.arange(32)).all())
        except Exception as error:  # of CuPy's many types: each is told
            report.add(name, first_line(error))
            report.advise(explain(error, install))
            all_right = False
            continue
        report.add(name, "compiled, ran, right" if right else "ran, with wrong numbers")
        if not right:
            report.advise("the GPU computes wrongly: update its driver and CuPy")
            all_right = False
    return all_right


def _try_attention(report, cupy):
    """Which rung serves a GPT in 16 bits here, and why no better one."""
    try:
        q = cupy.zeros((1, 1, 64, 64), "float16")
        report.add("attention", f"float16 by {attention.explain(q, q, q)}")
    except Exception as error:  # of CuPy's many types: each is told
        report.add("attention", first_line(error))


def _dotted(version):
    return f"{version // 1000}.{version % 1000 // 10}" if version else "none"


def _driver():
    """ "NVIDIA H200, driver 580.65" as nvidia-smi tells it; None without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    ask = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer: {type(error).__name__}"
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return f"nvidia-smi fails: {(done.stderr or done.stdout).strip()[:120]}"
    name, _, version = lines[0].rpartition(", ")
    return f"{version} ({name}{f' and {len(lines) - 1} more' * (len(lines) > 1)})"


def _install_command(driver, packages):
    """The pip command for the CuPy that fits the driver, or like the one installed."""
    series = re.match(r"(\d+)\.", driver or "")
    if series:
        old = int(series[1]) < CUDA13_DRIVER
    else:
        old = any("cuda12" in name for name in packages)
    return f'pip install "minibig[{"gpu12" if old else "gpu13"}]"'


def cupy_packages():
    """The installed distributions that hold the module cupy."""
    names = {
        distribution.metadata["Name"].lower()
        for distribution in importlib.metadata.distributions()
        if distribution.metadata["Name"]
    }
    return sorted(n for n in names if re.fullmatch(r"(amd-)?cupy(-(cuda|rocm).*)?", n))


def explain(error, install):
    """The known cause of what CuPy or CUDA says, and the fix; else what it says."""
    text = f"{type(error).__name__}: {error}"
    for pattern, advice in CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{advice}: {install}" if "CuPy" in advice else advice
    return f"a cause that this doctor does not know: {first_line(error)}"


def first_line(error):
    """The type and the first line of an error's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip("= \t")]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:160]
