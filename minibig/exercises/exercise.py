"""What an exercise is: cases, a solution, and the mistakes that people make.

A learner's function is called with the inputs of each case and compared with the
solution. Where it differs, it is compared with functions that make a known mistake too:
if one of them gives the learner's numbers, we can say what went wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..tensor import Tensor

CHANGED = "it changed its input"


@dataclass(frozen=True)
class Case:
    """Inputs to call the learner's function with; `make` builds them anew each time."""

    name: str
    make: Callable
    kind: str = "normal"  # or "edge", "gradient"


@dataclass(frozen=True)
class Mistake:
    """A function with a mistake in it, and what to tell someone who made the same."""

    function: Callable
    hint: str
    also: tuple[Callable, ...] = ()  # the same mistake where it gives other numbers


@dataclass(frozen=True)
class Exercise:
    """One exercise of the course, known as "NN.name"."""

    name: str
    task: str  # one sentence
    solution: Callable
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake, ...] = ()
    hints: tuple[str, ...] = ()  # from gentle to nearly the answer
    tolerance: float = 1e-6
    shown: Callable = field(default=lambda value: value)  # what the table shows


@dataclass(frozen=True)
class Outcome:
    """A case after it was tried: `problem` is "" where it went well."""

    case: Case
    expected: object
    got: object
    problem: str


def attempt(exercise, function):
    """The Outcomes of all cases; raises NotImplementedError from a stub."""
    return [_try(exercise, case, function) for case in exercise.cases]


def _try(exercise, case, function):
    expected = exercise.solution(*case.make())
    inputs = case.make()
    before = [_frozen(x) for x in inputs]
    try:
        got = function(*inputs)
    except NotImplementedError:
        raise
    except Exception as error:  # the learner's code may raise anything
        return Outcome(case, expected, None, _described(error))
    if got is None or got is Ellipsis:
        return Outcome(case, expected, got, "it returned nothing")
    changed = [i for i, (a, x) in enumerate(zip(before, inputs, strict=True), 1)
               if a is not None and not same(a, _frozen(x), 0)]  # fmt: skip
    if changed:
        return Outcome(case, expected, got, f"{CHANGED} {changed[0]}")
    return Outcome(case, expected, got, difference(expected, got, exercise.tolerance))


def _described(error):
    """The type of an error and the first line of what it says."""
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except Exception:  # the learner's own type of error, whose __str__ fails
        lines = []
    return ": ".join([type(error).__name__, *lines[:1]])


def likely_mistake(exercise, outcomes):
    """The hint of the known mistake that explains the learner's numbers, or None."""
    if not any(outcome.problem for outcome in outcomes):
        return None
    for mistake in exercise.mistakes:
        for function in (mistake.function, *mistake.also):
            if all(_explains(function, outcome, exercise) for outcome in outcomes):
                return mistake.hint
    if any(outcome.problem.startswith(CHANGED) for outcome in outcomes):
        return "your function writes into what it was given. Work on a copy: x.copy()."
    return None


def _explains(function, outcome, exercise):
    try:
        made = function(*outcome.case.make())
    except Exception as error:  # a mistake may well raise: then so must the learner's
        return outcome.problem.startswith(type(error).__name__)
    return same(_only_nan(made), _only_nan(outcome.got), exercise.tolerance)


def _only_nan(value):
    """`value` with nan for inf: which of them an overflow leaves is chance."""
    value = plain(value)
    if isinstance(value, tuple):
        return tuple(map(_only_nan, value))
    if isinstance(value, (float, np.floating, np.ndarray)):
        numbers = np.asarray(value)
        if numbers.dtype.kind == "f":
            return np.where(np.isinf(numbers), np.nan, numbers)
    return value


# ---- comparing ----------------------------------------------------------------------


def plain(value):
    """Tensors as arrays, and those inside lists and tuples."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    return value


def _frozen(value):
    value = plain(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple):
        return tuple(map(_frozen, value))
    return value if isinstance(value, (int, float, str, bytes)) else None


def same(a, b, tolerance):
    """Whether two results agree."""
    return not difference(a, b, tolerance)


def difference(expected, got, tolerance):
    """What differs, in a few words; "" for nothing."""
    if isinstance(expected, (tuple, list)):
        return _difference_of_sequences(expected, got, tolerance)
    expected, got = plain(expected), plain(got)
    if expected is None or isinstance(expected, (str, bytes)):
        same = isinstance(got, type(expected)) and got == expected
        return "" if same else "not None" if expected is None else "another text"
    try:
        got = np.asarray(got)
    except Exception:  # other libraries' arrays raise what they like
        return "it is no array of numbers: return a NumPy array"
    expected = np.asarray(expected)
    if got.dtype.kind not in "fiub":
        return f"it is of type {got.dtype}, not numbers"
    if got.shape != expected.shape:
        return f"its shape is {got.shape}, not {expected.shape}"
    if not np.allclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        return "other numbers"
    return ""


def _difference_of_sequences(expected, got, tolerance):
    if not isinstance(got, (tuple, list)):
        kinds = [type(value).__name__ for value in (got, expected)]
        return "it is {}, not {}".format(*map(_with_article, kinds))
    if len(got) != len(expected):
        return f"it has {len(got)} items, not {len(expected)}"
    for number, (a, b) in enumerate(zip(expected, got, strict=True), 1):
        problem = difference(a, b, tolerance)
        if problem:
            return f"result {number}: {problem}"
    return ""


def _with_article(noun):
    return f"{'an' if noun[0] in 'aeiouAEIOU' or noun == 'ndarray' else 'a'} {noun}"
