"""`run`: launches the kernel whose text a learner's function returns."""

import numpy as np

from .. import backend
from ..kernels import Module, emulator, parse

ORDERS = (0, 1, 2)  # of the threads: a missing barrier shows in one of them


def run(source_function, name, grid, block, *arrays_and_numbers, shared=0):
    """A tuple of the arrays as they are after a launch; those given stay as they were.

    `source_function()` returns CUDA text with a kernel `name`. NumPy arrays in and out.
    The emulator launches it, several times, with the threads in another order each
    time; where it is missing, a GPU does, once.

    Raises SyntaxError with the compiler's first message, IndexError for an address
    outside of an array, RuntimeError where the result depends on the order of threads,
    EmulatorError for a barrier that not all threads reach, OSError where there is
    neither a C++ compiler nor a GPU.
    """
    kernel = _kernel(source_function(), name)
    if emulator.missing():
        return _on_gpu(kernel, grid, block, arrays_and_numbers, shared)
    results = []
    for order in ORDERS:
        values = [x.copy() if _is_array(x) else x for x in arrays_and_numbers]
        with emulator.shuffled(order):
            _on_cpu(kernel, grid, block, values, shared)
        results.append(tuple(filter(_is_array, values)))
    _check_agreement(name, results)
    return results[0]


def _kernel(text, name):
    if not isinstance(text, str):
        raise TypeError(
            f"the function must return the kernel's text, not {type(text).__name__}"
        )
    module = Module(parse(f"{name}.cu", text))
    if name not in module.kernels:
        raise ValueError(
            f"no kernel named {name} in the text, but {', '.join(module.kernels)}"
        )
    return module[name]


def _is_array(value):
    return isinstance(value, np.ndarray)


def _on_cpu(kernel, grid, block, values, shared):
    try:
        kernel(grid, block, *values, shared=shared)
    except emulator.EmulatorError as error:
        message = str(error)
        if "failed:\n" in message:
            raise SyntaxError(_first_error(message)) from None
        if "outside" in message:
            raise IndexError(message) from None
        raise


def _first_error(message):
    """The compiler's first complaint, "scale.cu:3:5: error: …"."""
    lines = message.splitlines()[1:]
    return next((line for line in lines if "error" in line), lines[0]).strip()


def _check_agreement(name, results):
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            if not np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise RuntimeError(
                    f"{name}: another order of the threads gives another result: "
                    "a barrier is missing, or two threads write one place"
                )


def _on_gpu(kernel, grid, block, values, shared):
    """A wrong address ends the work with the GPU here: CUDA asks for a new start."""
    try:
        backend.check_device("cuda")
    except backend.DeviceError:
        raise OSError(emulator.missing()) from None
    moved = [backend.to_device(x, "cuda") if _is_array(x) else x for x in values]
    kernel(grid, block, *moved, shared=shared)
    return tuple(backend.to_device(x, "cpu") for x in moved if backend.is_array(x))
