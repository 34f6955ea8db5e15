"""Kernels as Python functions, on two machines: a GPU through CuPy, or the emulator.

The arrays decide: CuPy arrays go to the GPU, NumPy arrays to the emulator. Before every
launch the arguments are held against the kernel's own parameters, because CUDA does
not: a float64 array where float32 is read gives wrong numbers, and no error.
"""

import functools

import numpy as np

from .. import backend
from . import source
from .tensor_map import TensorMap

DTYPES = {
    "bool": ("bool",),
    "unsigned char": ("uint8",),
    "int": ("int32",),
    "unsigned": ("uint32",),
    "long long": ("int64",),
    "float16": ("float16",),
    "bfloat16": ("bfloat16", "uint16"),  # NumPy has no bfloat16: its bits will do
    "float": ("float32",),
    "double": ("float64",),
}
SHARED = 48 << 10  # bytes of shared memory that a launch gets without asking


class Module:
    """The kernels of a Source, compiled when first launched: `module["name"]`.

    `template` are the arguments of its templates, such as ("float", 64); `options` go
    to NVRTC, such as "-arch=sm_90a".
    """

    def __init__(self, text, *template, options=()):
        self.source, self.template, self.options = text, template, tuple(options)
        self.expressions = text.expressions(*template)
        self.kernels = {name: Kernel(self, name) for name in text.kernels}

    def __getitem__(self, name):
        return self.kernels[name]

    @functools.cached_property
    def on_cpu(self):
        """The emulator's build of it."""
        from . import emulator  # with what starts a compiler: not for every import

        return emulator.build(self.source, tuple(self.expressions.values()))

    @functools.cached_property
    def on_gpu(self):
        """CuPy's, which keeps one for each GPU, and compiles for the one in use."""
        # CuPy writes the text to a file in the system's encoding: comments may not fit
        return backend.cupy().RawModule(
            code=self.source.text.encode("ascii", "replace").decode(),
            options=("--std=c++17", *self.options),
            name_expressions=list(self.expressions.values()),
        )


@functools.cache
def load(name, *template, options=()):
    """The Module of `name`, a .cu file of this folder, made once."""
    return Module(source.read(name), *template, options=options)


class Kernel:
    """A `__global__` function: `kernel(grid, block, *arguments, shared=bytes)`.

    Grid and block are one to three numbers, arguments arrays, numbers, or None for an
    absent array. Raises TypeError for another dtype than the kernel reads, ValueError
    for arrays with gaps, DeviceError for arrays on the CPU and a GPU. Of several GPUs
    it is the current one that must hold them.
    """

    def __init__(self, module, name):
        self.module, self.name = module, name
        self.parameters = module.source.kernels[name]
        self._known = dict(zip(module.source.template, module.template, strict=True))
        self._function = None

    def __call__(self, grid, block, *arguments, shared=0):
        if len(arguments) != len(self.parameters):
            names = ", ".join(p.name for p in self.parameters)
            raise TypeError(
                f"{self.name} takes {len(self.parameters)} arguments ({names}), "
                f"not {len(arguments)}"
            )
        xp = backend.array_module(*map(_array_of, arguments))
        values = [*map(self._checked, self.parameters, arguments)]
        grid, block = (tuple(int(n) for n in size) for size in (grid, block))
        if xp is np:
            expression = self.module.expressions[self.name]
            self.module.on_cpu.launch(
                expression, self.parameters, grid, block, values, shared
            )
        else:
            self._launch_on_gpu(grid, block, values, shared)

    def _launch_on_gpu(self, grid, block, values, shared):
        if self._function is None:
            expression = self.module.expressions[self.name]
            self._function = self.module.on_gpu.get_function(expression)
        # Each GPU wants to be asked. What the kernel itself declares counts, too.
        if shared and shared + self._function.shared_size_bytes > SHARED:
            self._function.max_dynamic_shared_size_bytes = shared
        values = [np.uintp(0) if x is None else x for x in values]
        values = [x.encoded() if isinstance(x, TensorMap) else x for x in values]
        self._function(grid, block, tuple(values), shared_mem=shared)

    def _checked(self, parameter, value):
        """`value` as a machine takes it: an array, None, or a number of its C type."""
        kind = str(self._known.get(parameter.type, parameter.type))
        if kind == "TensorMap":
            if not isinstance(value, TensorMap):
                found = type(value).__name__
                raise TypeError(
                    f"{self.name}: {parameter.name} is a TensorMap, not {found}"
                )
            return value
        if kind not in DTYPES:
            raise TypeError(
                f"{self.name}: {parameter.name} is of type {kind}; kernels take "
                f"TensorMap, {', '.join(DTYPES)}"
            )
        expected = DTYPES[kind]
        if not parameter.pointer:
            return self._number(parameter, value, np.dtype(expected[0]))
        if value is None:
            return None
        if not backend.is_array(value) or value.dtype.name not in expected:
            found = value.dtype if backend.is_array(value) else type(value).__name__
            raise TypeError(
                f"{self.name}: {parameter.name} must be an array of {expected[0]}, "
                f"not {found}"
            )
        if not value.flags.c_contiguous:
            raise ValueError(
                f"{self.name}: {parameter.name} {value.shape} lies in memory with gaps "
                f"or in another order (strides {value.strides}): pass "
                "xp.ascontiguousarray(…)"
            )
        return value

    def _number(self, parameter, value, dtype):
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if not limits.min <= value <= limits.max or value != int(value):
                raise ValueError(
                    f"{self.name}: {parameter.name} = {value} does not fit {dtype}"
                )
        return dtype.type(value)


def _array_of(value):
    return value.array if isinstance(value, TensorMap) else value
