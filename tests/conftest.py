"""What all tests share: the devices, a fresh seed, and a count of what needs a GPU."""

import signal
import sys

import pytest
from strict_module import module as strict_module
from strict_module import special

import minibig as mb
from minibig import backend


def _why_no_gpu():
    """Why tests marked `gpu` cannot run here; None if they can."""
    try:
        backend.check_device("cuda")
    except backend.DeviceError as error:
        return f"needs a GPU: {error}"
    return None


def pytest_collection_modifyitems(items):
    waiting = [item for item in items if item.get_closest_marker("gpu")]
    reason = _why_no_gpu() if waiting else None
    for item in waiting if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("gpu" in getattr(report, "keywords", ()) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests were skipped: they need a GPU")


@pytest.fixture(autouse=True)
def fresh_seed():
    mb.seed(0)


@pytest.fixture(autouse=True)
def heard_interrupts():
    """A shell's background job ignores Ctrl-C, and its children begin so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def strict(monkeypatch):
    """Makes the stand-in for CuPy answer for device "cuda"; the stand-in."""
    monkeypatch.setitem(backend._state, "cupy", strict_module)
    monkeypatch.setitem(sys.modules, special.__name__, special)
    with backend.kernels(False):
        yield strict_module


DEVICES = ("cpu", "strict", pytest.param("cuda", marks=pytest.mark.gpu))


@pytest.fixture(params=DEVICES)
def device(request):
    """The name of a device, "cpu" or "cuda"; for "strict" that is the stand-in."""
    if request.param == "strict":
        request.getfixturevalue("strict")
    return "cuda" if request.param == "strict" else request.param


@pytest.fixture(params=["strict", pytest.param("real", marks=pytest.mark.gpu)])
def cuda(request):
    """Makes "cuda" the stand-in or a real GPU; how much looser to compare there."""
    if request.param == "strict":
        request.getfixturevalue("strict")
    return 1 if request.param == "strict" else 100  # other sums, other exp
