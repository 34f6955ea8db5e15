"""What tests and notebooks share: kernels that import this checkout, in quick runs."""

import os

import pytest

from tools.kernels import ROOT, isolate_kernels


def pytest_configure(config):
    isolate_kernels()
    os.environ.setdefault("MINIBIG_SMOKE", "1")
    everything = config.args_source == config.ArgsSource.TESTPATHS
    if everything and not any(ROOT.glob("notebooks/solutions/*.ipynb")):
        raise pytest.UsageError(
            "notebooks/solutions holds no notebook: build them with `make notebooks`"
        )


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("gpu" in report.keywords for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests were skipped: they need a GPU")
