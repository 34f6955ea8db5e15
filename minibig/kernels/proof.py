"""The proof of a rung that no GPU has confirmed: it must agree with the rung below.

On the GPU itself, once a process, for each GPU and each template of its kernel.
"""

import functools

import numpy as np

from .. import backend
from .problem import problem as posed

TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2}  # of what both round to 16 bits
SMALL = (  # queries, keys, offset, padding: odd sizes; several rounds of all stages
    (150, 700, 520, True),
    (1, 33, 32, False),
)


def doubt(rung, below, problem, chip):
    """Why `rung` is not trusted with `problem`'s dtype and width; None if it is.

    Both rungs compute two small problems on the current GPU; what does not load or run
    is not trusted either. None, too, where that GPU is no such chip, and where there is
    none: the emulator, as bfloat16 by its bits, is the tests' affair.
    """
    if problem.xp is np or problem.dtype.name not in TOLERANCE:
        return None
    device = problem.xp.cuda.Device()
    if int(device.compute_capability) != chip:
        return None
    return _doubt(rung, below, problem.xp, device.id, problem.dtype, problem.width)


@functools.cache
def _doubt(rung, below, xp, device, dtype, width):
    del device  # the current one: a proof holds for that alone
    try:
        errors = [_error(rung, below, xp, dtype, width, *sizes) for sizes in SMALL]
    except MemoryError:
        raise
    except Exception as error:  # whatever the driver or the compiler objects to
        lines = str(error).strip().splitlines() or [""]
        return f"failed its first run on this GPU: {type(error).__name__}: {lines[0]}"
    error = float(np.max(errors))  # NaN stays NaN
    if error <= TOLERANCE[dtype.name]:
        return None
    return (
        f"disagrees with {below.name} on this GPU: by {error:.1e} of the largest "
        f"number, more than {TOLERANCE[dtype.name]}"
    )


def _error(rung, below, xp, dtype, width, queries, keys, offset, padding):
    """The largest difference of all results, in parts of 1 or of the largest."""
    draw = np.random.default_rng(0)
    query, key = (1, 2, queries, width), (1, 1, keys, width)
    arrays = [draw.standard_normal(s, "float32") for s in (query, key, key, query)]
    *arrays, dout = [xp.asarray(x).astype(dtype) for x in arrays]
    mask = xp.asarray(draw.random((1, keys)) < 0.8) if padding else None
    p = posed(*arrays, mask, True, offset, None)
    found, expected = (
        [*kept, *solver.backward(p, *arrays, mask, *kept, dout)]
        for solver in (rung, below)
        for kept in [solver.forward(p, *arrays, mask)]
    )
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = (
            backend.to_device(x, "cpu").astype("float32") for x in (ours, theirs)
        )
        size = max(1, np.abs(theirs).max())
        errors.append(np.abs(ours - theirs).max() / size)
    return np.max(errors)
