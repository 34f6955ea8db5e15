"""`scaled` and `result`: long enough for a true number, short enough for every test."""

import math
import os
import platform
import sys

from .. import random

OFF = ("", "0", "false", "no", "off")


def in_smoke_mode():
    """Whether this is a quick run (MINIBIG_SMOKE=1): every cell, few steps."""
    return os.environ.get("MINIBIG_SMOKE", "").strip().lower() not in OFF


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
    text = f"{value:.4g}" if in_smoke_mode() else _judged(value, at_least, at_most)
    kept = {
        "name": name, "value": value, "at_least": at_least, "at_most": at_most,
        "seed": random.get_state()["seed"], "python": platform.python_version(),
        "corpus": corpus, "smoke": in_smoke_mode(),
    }  # fmt: skip
    _display(f"{name}: {text}", kept)
    return value


def _judged(value, at_least, at_most):
    """The value, its bounds, and whether they hold."""
    bounds, missed = [], []
    if at_least is not None:
        bounds.append(f"at least {at_least:g}")
        missed += [at_least] if value < at_least else []
    if at_most is not None:
        bounds.append(f"at most {at_most:g}")
        missed += [at_most] if value > at_most else []
    verdict = f"{', '.join(bounds)}: {'MISSED' if missed else 'reached'}"
    return _digits(value, missed) + f" ({verdict})" * bool(bounds)


def _digits(value, missed):
    """`value` with so many digits that no bound it missed is written alike."""
    for digits in range(4, 17):
        text = f"{value:.{digits}g}"
        if all(float(text) != bound for bound in missed):
            return text
    return repr(value)


def _display(text, kept):
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(text)
        return
    from IPython.display import display

    # The builder moves the metadata from the output to the cell.
    display({"text/plain": text}, raw=True, metadata={"minibig_result": kept})
