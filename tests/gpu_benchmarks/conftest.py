"""The stand-in for CuPy as the benchmarks for a GPU need it."""

import types

import pytest
import strict_kernels

from minibig import backend, kernels
from minibig.kernels import emulator


class Event:
    """A moment on a GPU that takes a millisecond between any two."""

    def record(self):
        pass

    def synchronize(self):
        pass


@pytest.fixture
def cuda(strict, monkeypatch):
    """The stand-in with kernels, events and a memory pool; the module."""
    if emulator.missing():
        pytest.skip(emulator.missing())
    for owner, name, value in (
        (strict, "RawModule", strict_kernels.RawModule),
        (strict, "get_default_memory_pool", pool),
        (strict.cuda, "Device", strict_kernels.device),
        (strict.cuda, "Event", Event),
        (strict.cuda, "get_elapsed_time", lambda began, ended: 1.0),
    ):
        monkeypatch.setattr(owner, name, value, raising=False)
    kernels.load.cache_clear()
    with backend.kernels(True):
        yield strict
    kernels.load.cache_clear()


def pool():
    return types.SimpleNamespace(total_bytes=lambda: 3 * 10**9)
