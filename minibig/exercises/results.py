"""`scaled` and `result`: long enough for a true number, short enough for every test."""

import math
import os
import platform
import sys

from .. import random


def in_smoke_mode():
    """Whether this is a quick run (MINIBIG_SMOKE=1): every cell, few steps."""
    return os.environ.get("MINIBIG_SMOKE", "") not in ("", "0")


def scaled(full, *, smoke):
    """`full`, or in a quick run `smoke`: how many steps, rows, stories."""
    return smoke if in_smoke_mode() else full


def result(name, value, *, at_least=None, at_most=None, corpus=None):
    """Prints a result beside its bound and keeps it in the notebook; returns the value.

    In a full run a missed bound says so, and a test of the repository fails; a quick
    run asks for a finite number only. `corpus`: the hash of what was learnt from.
    """
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}: the run behind it went wrong")
    bounds = [f"at least {at_least:g}"] if at_least is not None else []
    bounds += [f"at most {at_most:g}"] if at_most is not None else []
    text = f"{name}: {value:.4g}"
    if bounds and not in_smoke_mode():
        held = (at_least is None or value >= at_least) and (
            at_most is None or value <= at_most
        )
        text += f" ({', '.join(bounds)}: {'reached' if held else 'MISSED'})"
    kept = {
        "name": name, "value": value, "at_least": at_least, "at_most": at_most,
        "seed": random.get_state()["seed"], "python": platform.python_version(),
        "corpus": corpus, "smoke": in_smoke_mode(),
    }  # fmt: skip
    _display(text, kept)
    return value


def _display(text, kept):
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(text)
        return
    from IPython.display import display

    # The builder moves the metadata from the output to the cell.
    display({"text/plain": text}, raw=True, metadata={"minibig_result": kept})
