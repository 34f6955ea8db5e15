"""The proof of a rung that no GPU has confirmed: it must agree with the rung below.

On the GPU itself, once for each process, GPU and template of its kernel. It runs in a
process of its own: where a kernel touches a wrong address or comes upon an unknown
instruction, every later call of CUDA in that process fails, too.

It proves numbers, not speed. That the compiler leaves wgmma asynchronous the tests read
off the report of NVRTC 13.0; a newer one may serialize it, and nobody is told.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from .. import backend
from .problem import problem as posed

SECONDS = 120  # for CuPy to load, compile both rungs and run them
PROGRAM = "from minibig.kernels import proof; proof.main()"
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2}  # of what both round to 16 bits
SMALL = (  # batch, queries, keys, offset (None: not causal), padding: odd sizes, …
    (1, 150, 700, 520, True),  # … several rounds of all stages, …
    (1, 1, 33, 32, False),
    (2, 140, 200, None, True),  # … and more than one sequence
)


def doubt(rung, below, problem, chip):
    """Why `rung` is not trusted with `problem`'s dtype and width; None if it is.

    Both rungs compute small problems on the current GPU; what does not load or run, or
    not in time, is not trusted either. None, too, where that GPU is no such chip, and
    where there is none: the emulator, as bfloat16 by its bits, is the tests' affair.
    """
    if problem.xp is np or problem.dtype.name not in TOLERANCE:
        return None
    device = problem.xp.cuda.Device()
    if int(device.compute_capability) != chip:
        return None
    dtype, width = problem.dtype.name, problem.width
    return _doubt(rung.name, below.name, device.id, dtype, width)


@functools.cache
def _doubt(*job):
    return _in_own_process(*job)


def _in_own_process(*job):
    """What `verdict` answers there; how the process ended where it does not."""
    inherited = os.environ.get("PYTHONPATH")
    folders = [str(Path(__file__).parents[2]), *([inherited] if inherited else [])]
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(job)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"did not end its first run on this GPU within {SECONDS} s"
    except OSError as error:
        return f"could not be tried on this GPU: {error}"
    found = [x for x in done.stdout.splitlines() if x.startswith('{"doubt": ')]
    if found:
        return json.loads(found[-1])["doubt"]
    return f"ended the process of its first run on this GPU with code {done.returncode}"


def main():
    """Prints the verdict on the rung, GPU and template that the command line names."""
    print(json.dumps({"doubt": verdict(*json.loads(sys.argv[1]))}), flush=True)


def verdict(rung, below, device, dtype, width):
    """Why the rung of that name is not trusted on GPU `device`; None if it is."""
    from .attention import RUNGS  # which imports this file

    try:
        xp = backend.cupy()
        xp.cuda.Device(device).use()
        if dtype == "bfloat16":
            importlib.import_module("ml_dtypes")  # NumPy then knows the name
        given = RUNGS[rung], RUNGS[below], xp, np.dtype(dtype), width
        errors = [_error(*given, *sizes) for sizes in SMALL]
    except Exception as error:  # whatever the driver or the compiler objects to
        lines = str(error).strip().splitlines() or [""]
        return f"failed its first run on this GPU: {type(error).__name__}: {lines[0]}"
    error = float(np.max(errors))  # NaN stays NaN
    if error <= TOLERANCE[dtype]:
        return None
    return (
        f"disagrees with {below} on this GPU: by {error:.1e} of the largest number, "
        f"more than {TOLERANCE[dtype]}"
    )


def _error(rung, below, xp, dtype, width, batch, queries, keys, offset, padding):
    """The largest difference of all results, in parts of 1 or of the largest.

    Heads lie side by side, as after a projection, two of q for each of k and v.
    """
    draw = np.random.default_rng(0)
    query, key = (batch, queries, 4, width), (batch, keys, 2, width)
    arrays = [draw.standard_normal(s, "float32") for s in (query, key, key, query)]
    arrays = [xp.asarray(x).astype(dtype).swapaxes(1, 2) for x in arrays]
    mask = xp.asarray(draw.random((batch, keys)) < 0.8) if padding else None
    p = posed(*arrays[:3], mask, offset is not None, offset, None)
    found, expected = (_results(solver, p, arrays, mask) for solver in (rung, below))
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = (
            backend.to_device(x, "cpu").astype("float32") for x in (ours, theirs)
        )
        size = max(1, np.abs(theirs).max())
        with np.errstate(invalid="ignore"):  # of what was never written: NaN will do
            errors.append(np.abs(ours - theirs).max() / size)
    return np.max(errors)


def _results(solver, p, arrays, mask):
    """out, the rows' log Σ e^score, dq, dk, dv."""
    *arrays, dout = map(solver.readable, arrays)
    kept = solver.forward(p, *arrays, mask)
    return [*kept, *solver.backward(p, *arrays, mask, *kept, dout)]
