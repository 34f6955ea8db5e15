"""What the benchmarks on a GPU share: the clock, the chip's ceilings, measuring in a
process of its own, and the report with its picture.

A kernel that crashes or hangs takes its process along, and with it all that the process
holds on the GPU. So each contender is measured in a process of its own, which prints a
JSON object a line; what it had found before its end is kept.
"""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from measure import HERE, today

import numpy as np  # isort: skip (measure sets the threads, and finds minibig)
from minibig import backend

# float32 is float32: NVIDIA's containers switch TF32 on in PyTorch
os.environ |= {"CUPY_TF32": "0", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "0"}
FLUSH = 1 << 30  # bytes written before a call that is timed: more than any L2 cache has
SIDE = 8192  # of the matrices whose product is the ceiling
RESULTS = HERE / "results"
LONGEST = 150  # seconds of one contender: one that hangs must not take all minutes


def require():
    """CuPy, where there is a GPU; else a sentence, and the end with exit code 1."""
    try:
        backend.check_device("cuda")
    except backend.DeviceError as error:
        sys.exit(f"This benchmark needs a GPU: {error}")
    return backend.cupy()


def chip():
    """The compute capability in one number: 90 for 9.0."""
    return int(backend.cupy().cuda.Device().compute_capability)


def sixteen_bits():
    """The 16-bit dtype to measure: "bfloat16", "float16" where that is missing."""
    known = chip() >= 80 and importlib.util.find_spec("ml_dtypes")
    return "bfloat16" if known else "float16"


def dtype_of(name):
    """The dtype of a name; NumPy has bfloat16 from ml_dtypes."""
    if name == "bfloat16":
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return np.dtype(name)


def has_torch():
    """Whether PyTorch is installed and sees the GPU."""
    if not importlib.util.find_spec("torch"):
        return False
    return importlib.import_module("torch").cuda.is_available()


def normal(shape, seed, dtype):
    """Normal random numbers on the GPU; drawn on the CPU, so without cuRAND."""
    drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return backend.cupy().asarray(drawn).astype(dtype_of(dtype))


# ---- the clock ----------------------------------------------------------------------


class Clock:
    """Times calls on the GPU, by events in CuPy's stream, which is PyTorch's too.

    Before each call 1 GB is written: the L2 cache then holds nothing of use, and while
    the GPU writes, the CPU launches what is timed, so that its own time does not count.
    """

    def __init__(self, flush=FLUSH):
        self.cuda = backend.cupy().cuda
        self.scratch = backend.cupy().empty(flush // 4, "float32")

    def milliseconds(self, call, seconds=0.4, most=30):
        """(median of some calls, their number) after one that warms up.

        As many calls as fit into `seconds`, at least 3; of a call that takes longer
        than that, one.
        """
        call()
        first = self._times(call, 1)
        if first[0] > 1e3 * seconds:
            return first[0], 1
        count = min(most, max(3, int(1e3 * seconds / max(first[0], 1e-3))))
        return statistics.median(self._times(call, count)), count

    def _times(self, call, count):
        spans = []
        for _ in range(count):
            self.scratch.fill(1)
            began = self.mark()
            call()
            spans.append((began, self.mark()))
        return [self.between(*span) for span in spans]

    def mark(self):
        """An event that happens when the GPU has done all it was given so far."""
        event = self.cuda.Event()
        event.record()
        return event

    def between(self, began, ended):
        """Milliseconds between two events; waits for the second."""
        ended.synchronize()
        return self.cuda.get_elapsed_time(began, ended)


# ---- the chip -----------------------------------------------------------------------


def ceilings(dtypes, side=SIDE, flush=FLUSH):
    """What the chip does at best, measured: {"products": {dtype: {library: TFLOP/s}},
    "copy": TB/s read and written}.

    A product is cuBLAS's, of random matrices of `side` rows and columns.
    """
    clock = Clock(flush)
    products = {dtype: _products(clock, dtype, side) for dtype in dtypes}
    source, target = clock.scratch, backend.cupy().empty_like(clock.scratch)
    time, _ = clock.milliseconds(lambda: backend.cupy().copyto(target, source))
    return {"products": products, "copy": 2e-9 * source.nbytes / time}


def _products(clock, dtype, side):
    a, b = (normal((side, side), seed, dtype) for seed in (0, 1))
    calls = {"CuPy": lambda: a @ b}
    if has_torch():
        torch = importlib.import_module("torch")
        c, d = torch.from_dlpack(a), torch.from_dlpack(b)
        calls["PyTorch"] = lambda: c @ d
    flops = 2e-9 * side**3
    return {name: flops / clock.milliseconds(f)[0] for name, f in calls.items()}


def peak(found, dtype):
    """The best product of `dtype` in what `ceilings` found, TFLOP/s."""
    return max(found["products"][dtype].values())


def about(side=SIDE):
    """What a report says of the machine: its name, what it can, its ceilings."""
    sixteen = sixteen_bits()
    found = ceilings(list(dict.fromkeys([sixteen, "float16", "float32"])), side)
    return {"machine": machine(), "sixteen": sixteen, "chip": chip(),
            "torch": has_torch(), "ceilings": found}  # fmt: skip


def machine():
    """One line: GPU, driver, versions."""
    cupy = backend.cupy()
    runtime = cupy.cuda.runtime
    properties, cuda = runtime.getDeviceProperties(0), runtime.runtimeGetVersion()
    memory = properties["totalGlobalMem"] / 1e9
    parts = [
        f"{properties['name'].decode()}, compute capability {chip() / 10}, "
        f"{memory:.0f} GB, driver {driver()}",
        f"CUDA {cuda // 1000}.{cuda % 1000 // 10}, CuPy {cupy.__version__}, "
        f"NumPy {np.__version__}, Python {platform.python_version()}",
    ]
    if has_torch():
        torch = importlib.import_module("torch")
        cudnn = torch.backends.cudnn.version()
        parts.append(f"PyTorch {torch.__version__}, cuDNN {cudnn}")
    return "; ".join(parts)


def driver():
    """The NVIDIA driver's version, as nvidia-smi tells it."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def unmeasured(options, ways, todo):
    """Lines for what was not asked for, and for a missing bfloat16."""
    lines = [f"{name}: not asked for" for way, name in ways.items() if way not in todo]
    if options.quick:
        lines.append("--quick: fewer shapes or steps, shorter measurements")
    if chip() >= 80 and sixteen_bits() == "float16":
        lines.append("bfloat16: the package ml_dtypes is not installed")
    return list(dict.fromkeys(lines))


def chosen(names, ways):
    """Those of `ways`, {way: its name}, that are named; all where none is."""
    unknown = [name for name in names or () if name not in ways.values()]
    if unknown or not ways:
        known = "; ".join(dict.fromkeys(ways.values()))
        sys.exit(f"--ways names {'; '.join(unknown)}, but here are: {known}")
    return [way for way, name in ways.items() if not names or name in names]


# ---- processes of their own ---------------------------------------------------------


def in_own_process(script, job, seconds):
    """(rows, why it ended early or None) of `python SCRIPT --job JSON`, within a time.

    `rows` are the JSON objects that it printed, a line each.
    """
    command = [sys.executable, str(script), "--job", json.dumps(job)]
    with tempfile.TemporaryFile("w+") as out:
        try:
            code = subprocess.run(command, stdout=out, timeout=seconds).returncode
            end = f"its process ended with code {code}" if code else None
        except subprocess.TimeoutExpired:
            end = f"stopped after {seconds:.0f} s"
        out.seek(0)
        lines = [line.strip() for line in out]
    rows = [json.loads(x) for x in lines if x.startswith('{"') and x.endswith("}")]
    return [row for row in rows if "failed" not in row], next(
        (row["failed"] for row in rows if "failed" in row), end
    )


def serve(rows):
    """Prints what an iterator of rows gives; at an error, its first line, and ends."""
    try:
        for row in rows:
            print(json.dumps(row), flush=True)
    except Exception as error:  # of CUDA's, CuPy's, PyTorch's many types: told, raised
        traceback.print_exc()
        print(json.dumps({"failed": first_line(error)}), flush=True)
        raise SystemExit(1) from error


def first_line(error):
    """An error in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:200]


# ---- the report ---------------------------------------------------------------------


def report_path(folder, name):
    """Where a report of today goes; makes the folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / f"{name}-{today()}.md"


def write_report(path, title, machine, not_run, body):
    """Writes the report: what ran where, what did not run, then `body`, its lines."""
    lines = [f"# {title}, {today()}", "", f"{machine}.", ""]
    if not_run:
        lines += ["**Not run, or not right:**", "", *(f"- {x}" for x in not_run)]
    else:
        lines += ["Everything that this benchmark has ran."]
    path.write_text("\n".join([*lines, "", *body]) + "\n", "utf-8")


def ceiling_lines(found):
    """What `ceilings` found, as a sentence."""
    products = "; ".join(
        f"{dtype} " + ", ".join(f"{rate:.0f} by {name}" for name, rate in rates.items())
        for dtype, rates in found["products"].items()
    )
    return (
        f"Ceilings, measured in the same run: {SIDE}³ product of random matrices, "
        f"TFLOP/s: {products}; copy of ones {found['copy']:.2f} TB/s, read and written."
    )


def table(header, rows):
    """A Markdown table's lines."""
    cells = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(str, row)) + " |" for row in cells]
