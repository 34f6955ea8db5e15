"""CuPy's RawModule for the stand-in: it refuses what CuPy refuses, and emulates."""

import re
import types

import numpy as np
from strict_array import ndarray

from minibig.kernels import emulator, parse
from minibig.kernels.kernel import DTYPES

MOST_SHARED = 64 << 10  # bytes that the oldest chip gives to a block


class RawModule:
    """The parameters are CuPy 14's."""

    def __init__(self, *, code=None, path=None, options=(), backend="nvrtc",
                 translate_cucomplex=False, enable_cooperative_groups=False,
                 name_expressions=None, jitify=False):  # fmt: skip
        assert all(isinstance(option, str) for option in options)
        assert "--std=c++17" in options  # without it CuPy takes no name expressions
        self.source = parse("raw.cu", code)
        self.library = emulator.build(self.source, tuple(name_expressions))

    def get_function(self, name):
        return Function(self, name)


class Function:
    """A kernel: `function(grid, block, args, shared_mem=bytes)`."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        declared = re.findall(r"__shared__ float \w+\[(\d+)\]", module.source.text)
        self.shared_size_bytes = sum(4 * int(count) for count in declared)
        self.max_dynamic_shared_size_bytes = (48 << 10) - self.shared_size_bytes
        kernel, _, given = name.partition("<")
        names = dict(zip(module.source.template, given[:-1].split(", "), strict=False))
        self.parameters = module.source.kernels[kernel]
        self.types = [names.get(p.type, p.type) for p in self.parameters]

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert type(grid) is tuple and type(block) is tuple and type(args) is tuple
        assert all(type(n) is int for n in (*grid, *block))
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= MOST_SHARED
        values = [*map(self._value, self.parameters, self.types, args)]
        self.module.library.launch(
            self.name, self.parameters, grid, block, values, shared_mem
        )

    def _value(self, parameter, kind, given):
        """What CuPy hands on as it is, whatever the kernel reads: so it must fit."""
        if isinstance(given, ndarray):
            assert parameter.pointer and given.dtype.name in DTYPES[kind]
            assert given.flags.c_contiguous  # RawKernel ignores strides
            return given._hidden
        assert isinstance(given, np.generic)  # a Python float would arrive as double
        if parameter.pointer:
            assert type(given) is np.uintp and given == 0
            return None
        assert given.dtype.name == DTYPES[kind][0]
        return given


def device():
    """What the stand-in says of its GPU: as CuPy, a string."""
    return types.SimpleNamespace(compute_capability="75")
