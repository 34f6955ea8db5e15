"""What an argument may be: a check returns it, or says in a sentence what it must be.

TypeError for another kind of thing, ValueError for a number or word that will not do.
`name` begins the sentence: "generate: top_k" say.
"""

import math
import operator
from numbers import Real

import numpy as np


def whole(name, value, low=-math.inf):
    """`value` as an int, if it is a whole number of at least `low`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low:
        least = "" if low == -math.inf else f" of at least {low}"
        raise _error(value)(f"{name} must be a whole number{least}, not {shown(value)}")
    return number


def number(name, value, low=-math.inf, high=math.inf, *, without=None, finite=True):
    """`value` as a Python number from `low` to `high`, one of them excluded maybe."""
    if (
        _error(value) is TypeError
        or not low <= value <= high
        or value == without
        or (finite and math.isinf(value))
    ):
        rule = "a finite number" if finite and high == math.inf else "a number"
        rule += f" from {low:g}" * (low > -math.inf) + f" to {high:g}" * (
            high < math.inf
        )
        rule += "" if without is None else f" ({without:g} excluded)"
        raise _error(value)(f"{name} must be {rule}, not {shown(value)}")
    return value.item() if isinstance(value, np.generic) else value


def probability(name, value, *, without=None):
    """`value` as a number from 0 to 1, one of the two excluded maybe."""
    return number(f"{name} is a probability and", value, 0, 1, without=without)


def switch(name, value):
    """`value`, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def choice(name, value, words):
    """`value`, if it is one of a few words."""
    if not isinstance(value, str) or value not in words:
        said = ", ".join(f'"{word}"' for word in words)
        raise ValueError(f"{name} is one of {said}, not {shown(value)}")
    return value


def is_float(dtype):
    """Whether a dtype is of floating-point numbers, which bfloat16 does not say."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def dtype(value):
    """The NumPy dtype that `value` names, if it is one of numbers or booleans."""
    if isinstance(value, np.dtype) and is_float(value):
        return value
    try:
        found = np.dtype(value) if isinstance(value, (str, type, np.dtype)) else None
    except TypeError:
        found = None
    if found is None or found.kind not in "fiub":
        raise TypeError(
            'a dtype is "float32", "float64", "float16", "int64", "bool" or another of '
            f"NumPy's numbers, not {shown(value)}"
        )
    return found


def kind(name, value, *kinds):
    """`value`, if it is of one of these classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise TypeError(f"{name} must be a {wanted}, not {type(value).__name__}")
    return value


def shown(value):
    """`value` in one line of at most 60 characters; of arrays the kind and shape."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _error(value):
    number = isinstance(value, Real) and not isinstance(value, bool)
    return ValueError if number else TypeError
