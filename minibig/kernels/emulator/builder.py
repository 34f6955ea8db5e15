"""Builds a .cu text into a library for the CPU, kept among temporary files."""

import functools
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from .launch import EmulatorError, Library

FOLDER = Path(__file__).parent
HEADERS = (
    "emulator.h", "fibers.h", "memory.h", "machine.h", "ptx.h", "tma.h", "wgmma.h",
)  # fmt: skip
FLAGS = (
    "-std=c++17", "-nostdinc++", "-O2", "-fPIC", "-w", "-fno-strict-aliasing",
    "-fsanitize=bounds,alignment", "-U_FORTIFY_SOURCE", f"-I{FOLDER.parent}",
    "-fvisibility=hidden",  # or libraries share what their templates declare
)  # fmt: skip
FIRST = '#include "emulator/emulator.h"\n'
LAST = """
#include "emulator/machine.h"
extern "C" __attribute__((visibility("default"))) const char* emulator_launch(
    int kernel, const unsigned* grid, const unsigned* block, size_t shared,
    unsigned long long seed, int n, void** given, const long long* bytes,
    const char* writable, void** maps, const char** names) {
  static void (*const kernels[])(void**) = {%s};
  return emulator::launch(kernels[kernel], grid, block, shared, seed, n, given, bytes,
                          writable, maps, names);
}
"""


def compiler():
    """The path of a C++ compiler; None if the machine has none that serves."""
    if not sys.platform.startswith("linux"):
        return None  # fibers and guard pages are tried there alone
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def missing():
    """Why the emulator cannot run here, in a sentence; None if it can."""
    if compiler():
        return None
    return (
        "kernels on NumPy arrays need the emulator: that needs Linux (or WSL) and a "
        "C++ compiler, g++ or clang++, which was not found"
    )


@functools.lru_cache(maxsize=256)
def _built(text, expressions, command):
    body = text + LAST % ", ".join(
        f"[](void** a) {{ emulator::call({name}, a); }}" for name in expressions
    )
    headers = "".join((FOLDER / name).read_text("utf-8") for name in HEADERS)
    key = hashlib.sha256("\0".join((body, headers, *command)).encode()).hexdigest()
    library = _folder() / f"{key[:32]}.so"
    if not library.exists():
        _compile(FIRST + body, library, command)
    return Library(library, expressions)


def build(source, expressions):
    """The Library of a Source's kernels; EmulatorError says what the compiler said."""
    if missing():
        raise EmulatorError(missing())
    return _built(source.text, expressions, (compiler(), *FLAGS))


def _folder():
    """A folder for temporary files that is this user's alone."""
    folder = Path(tempfile.gettempdir()) / f"minibig-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise EmulatorError(f"{folder} belongs to someone else: set TMPDIR")
    return folder


def _compile(text, library, command):
    """Compiles, then links without the sanitizer's runtime: its one call is ours."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        path = Path(folder, "kernels.cpp")
        path.write_text(text, "utf-8")
        steps = (
            (*command, "-c", str(path), "-o", f"{path}.o"),
            (command[0], "-shared", f"{path}.o", "-o", f"{path}.so"),
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                raise EmulatorError(f"{command[0]} failed:\n{done.stderr[:4000]}")
        os.replace(f"{path}.so", library)  # at once: others may look for it
