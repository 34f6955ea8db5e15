"""Compiles kernels without a GPU: NVRTC, CUDA's run-time compiler, called with ctypes.

What it says of a kernel (registers a thread, spills, shared memory) decides how many
threads a GPU can hold, and is known before any GPU has seen it.
"""

import ctypes
import functools
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

REPORT = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers"
    r"(?P<rest>[^\n]*)",
    re.DOTALL,
)


class CompilerError(RuntimeError):
    """NVRTC refuses a kernel; the message is the compiler's."""


@dataclass(frozen=True)
class Resources:
    """What one thread, or one block (shared memory), of a compiled kernel takes."""

    registers: int
    spilled: int  # bytes written to memory for want of registers
    stack: int  # bytes of arrays that are not in registers
    shared: int  # bytes of shared memory, without what a launch adds


def missing():
    """Why kernels cannot be compiled here, in a sentence; None if they can."""
    if _library() is None:
        return "NVRTC is not installed: pip install nvidia-cuda-nvrtc (or CuPy's extra)"
    return None


def version():
    """NVRTC's version: (13, 0)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile(source, template=(), arch="sm_80", options=()):
    """(cubin, {kernel: Resources}): a Source's kernels in machine code for one chip.

    With the options that CuPy gives. `template` are the arguments of its templates,
    `arch` is "sm_75" … "sm_90a". Raises CompilerError, with the compiler's message.
    """
    if missing():
        raise CompilerError(missing())
    program = _Program(source, source.expressions(*template))
    flags = (f"-arch={arch}", "--std=c++17", "-default-device", "-ftz=true")
    log = program.compile((*flags, "--ptxas-options=-v", *options))
    names, found = program.names(), {}
    for match in REPORT.finditer(log):
        found[match["name"]] = _resources(match)
    return program.cubin(), {kernel: found[names[kernel]] for kernel in names}


def _resources(match):
    shared = re.search(r"(\d+) bytes smem", match["rest"])
    return Resources(
        int(match["registers"]),
        int(match["stores"]) + int(match["loads"]),
        int(match["stack"]),
        int(shared[1]) if shared else 0,
    )


class _Program:
    """A program of NVRTC's, from its text to its machine code."""

    def __init__(self, source, expressions):
        self.library, self.expressions = _library(), expressions
        self.handle = ctypes.c_void_p()
        text, name = source.text.encode(), source.name.encode()
        self._call("CreateProgram", text, name, 0, None, None, pointer=True)
        for expression in expressions.values():
            self._call("AddNameExpression", expression.encode())

    def __del__(self):
        if self.handle:
            self.library.nvrtcDestroyProgram(ctypes.byref(self.handle))

    def compile(self, options):
        """Compiles; what the compiler said."""
        given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        status = self.library.nvrtcCompileProgram(self.handle, len(options), given)
        log = self._text("ProgramLog")
        log = log.decode(errors="replace").strip("\0 \n")
        # a kernel that is warned of is not done; nor one that the assembler slows down:
        # wgmma serialized, a wait put in, setmaxnreg ignored ("(C7508)")
        if status or re.search(r"warning|\(C75\d\d\)", log):
            raise CompilerError(log)
        return log

    def cubin(self):
        """The machine code."""
        return self._text("CUBIN")

    def names(self):
        """{kernel: its name in the machine code}."""
        found = {}
        for kernel, expression in self.expressions.items():
            lowered = ctypes.c_char_p()
            name = expression.encode()
            self._call("GetLoweredName", name, ctypes.byref(lowered))
            found[kernel] = lowered.value.decode()
        return found

    def _text(self, what):
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", buffer)
        return buffer.raw

    def _call(self, function, *arguments, pointer=False):
        handle = ctypes.byref(self.handle) if pointer else self.handle
        status = getattr(self.library, f"nvrtc{function}")(handle, *arguments)
        if status:
            raise CompilerError(f"nvrtc{function} answers {status}")


@functools.cache
def _library():
    """NVRTC, from its Python package or where the system keeps it; None if absent."""
    for path in (*_packaged(), *_system()):
        try:
            _load_builtins(path)
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    return None


def _load_builtins(path):
    """NVRTC looks for its second half by name alone: loaded before, it is found."""
    for builtins in path.parent.glob(
        path.name.replace("nvrtc", "nvrtc-builtins", 1) + "*"
    ):
        ctypes.CDLL(str(builtins))
    if sys.platform == "win32" and path.is_absolute():
        os.add_dll_directory(str(path.parent))


def _packaged():
    """Its paths inside the package nvidia-cuda-nvrtc."""
    spec = importlib.util.find_spec("nvidia")
    pattern = "nvrtc64_*_0.dll" if sys.platform == "win32" else "libnvrtc.so.*"
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(folder).rglob(pattern), reverse=True)


def _system():
    names = ("libnvrtc.so.13", "libnvrtc.so.12")
    if sys.platform == "win32":
        names = ("nvrtc64_130_0.dll", "nvrtc64_120_0.dll")
    return map(Path, names)
