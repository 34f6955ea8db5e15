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
    """A line for each notebook: what tests/test_notebooks.py counts, never enforces."""
    passed = terminalreporter.stats.get("passed", [])
    rows = [dict(report.user_properties) for report in passed]
    rows = sorted(
        (row for row in rows if "notebook" in row), key=lambda r: r["notebook"]
    )
    if rows:
        width = max(len(row["notebook"]) for row in rows)
        terminalreporter.section("notebooks")
    for row in rows:
        line = f"{row['notebook']:{width}}  {row['words']:5} words of prose"
        line += f"  {row['figures']:2} figures"
        line += "  built with an older library" if row["older"] else ""
        terminalreporter.write_line(line)
