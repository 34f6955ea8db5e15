"""`check` and `hint`: what learners call in the notebooks."""

import importlib
import json
import pkgutil
import textwrap
from pathlib import Path

import numpy as np

from ..files import FileError, atomic_write
from .exercise import Exercise, attempt, likely_mistake, plain

MARK = "minibig-course"  # the file that tells a learner's folder, and keeps progress
_hints_given = {}


def exercises():
    """All exercises, {name: Exercise}, in the order of the course."""
    from . import course

    found = {}
    for module in sorted(pkgutil.iter_modules(course.__path__), key=lambda m: m.name):
        values = vars(importlib.import_module(f"{course.__name__}.{module.name}"))
        found |= {x.name: x for x in values.values() if isinstance(x, Exercise)}
    return found


def _find(name):
    known = exercises()
    if isinstance(name, str) and name in known:
        return known[name]
    number = str(name).split(".")[0]
    notebook = [other for other in known if other.split(".")[0] == number]
    text = f"There is no exercise {name!r}; there is {', '.join(notebook or known)}."
    print(textwrap.fill(text, 88, break_on_hyphens=False))
    return None


def check(name, function):
    """Tries `function` on the cases of an exercise; True if all is well.

    Prints a table, and where a known mistake explains the numbers, its name.
    Never raises for what the function does.
    """
    exercise = _find(name)
    if exercise is None:
        return False
    if not callable(function):
        print(f"{name}: give the function itself, as in check({name!r}, my_function).")
        return False
    try:
        outcomes = attempt(exercise, function)
    except NotImplementedError:
        print(f"{name}: not attempted yet.\n{exercise.task}")
        return False
    passed = not any(outcome.problem for outcome in outcomes)
    print(table(exercise, outcomes))
    if passed:
        print(f"{name}: all {len(outcomes)} cases pass.")
        _keep(name)
        return True
    found = likely_mistake(exercise, outcomes)
    # where there is no compiler, say, no hint helps
    lacking = any((outcome.problem or "").startswith("OSError") for outcome in outcomes)
    if found:
        print(f"Likely: {found}")
    elif exercise.hints and not lacking:
        print(f"Stuck? hint({name!r})")
    return False


def hint(name):
    """Prints the next hint of an exercise, from a gentle one to nearly the answer."""
    exercise = _find(name)
    if exercise is None:
        return
    if not exercise.hints:
        print(f"{name} has no hints.\n{exercise.task}")
        return
    number = min(_hints_given.get(name, 0), len(exercise.hints) - 1)
    _hints_given[name] = number + 1
    print(f"Hint {number + 1} of {len(exercise.hints)}: {exercise.hints[number]}")


# ---- the table ----------------------------------------------------------------------


def table(exercise, outcomes):
    """Case, expected, yours, verdict; plain text within 88 columns."""
    rows, told = [("case", "expected", "yours", "")], set()
    for outcome in outcomes:
        got = "–" if outcome.got is None else _shown(exercise, outcome.got)
        verdict = outcome.problem or "ok"
        again = verdict in told and len(verdict) > 30
        told.add(verdict)
        row = (outcome.case.name, _shown(exercise, outcome.expected), got)
        rows.append((*row, "the same" if again else verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row, widths):
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    line = "  ".join([*cells, row[3]]).rstrip()
    if len(line) <= 88:
        return line
    verdict = textwrap.wrap(row[3], 84, max_lines=3, placeholder=" …")
    return "\n    ".join(["  ".join(cells).rstrip(), *verdict])


def _shown(exercise, value):
    """A value as the table shows it; its type where the value cannot be shown."""
    try:
        return short(exercise.shown(value))
    except Exception:  # a learner may return anything, and __repr__ may raise anything
        return short(f"<{type(value).__name__}>")


def short(value, width=20):
    """A value in at most `width` characters."""
    value = plain(value)
    if isinstance(value, tuple):
        text = ", ".join(short(item, width // max(len(value), 1)) for item in value)
    elif isinstance(value, np.ndarray) and value.ndim:
        numbers = " ".join(_number(x) for x in value.ravel()[:4])
        text = f"[{numbers}{' …' if value.size > 4 else ''}]"
    elif isinstance(value, (float, np.floating, np.ndarray)):
        text = _number(np.asarray(value)[()])
    else:
        text = str(value)
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= width else text[: width - 1] + "…"


def _number(x):
    return f"{x:.4g}" if isinstance(x, (float, np.floating)) else str(x)


# ---- progress -----------------------------------------------------------------------


def _keep(name):
    """Notes a passed exercise, in a learner's folder only."""
    path = Path(MARK)
    if path.is_file():
        passed = sorted({*passed_exercises(path), name})
        with atomic_write(path) as file:
            file.write(json.dumps({"passed": passed}, indent=1).encode())


def find_record():
    """The nearest record: here, in my/, or further up; None where there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        for path in (folder / MARK, folder / "my" / MARK):
            if path.is_file():
                return path
    return None


def read_record(path):
    """Names of the exercises noted as passed; FileError where they cannot be read."""
    try:
        record = json.loads(Path(path).read_text("utf-8"))
        names = record.get("passed", [])
        return [name for name in names if isinstance(name, str)]
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise FileError(
            f"{path} is damaged, and which checks have passed is lost: the next one "
            "that passes begins it anew"
        ) from error


def passed_exercises(path=MARK):
    """Names of the exercises noted as passed; [] where they cannot be read."""
    try:
        return read_record(path)
    except FileError:
        return []


def progress(path=MARK):
    """A line a notebook: how many of its checks have passed, and which are open."""
    passed, notebooks, lines = set(passed_exercises(path)), {}, []
    for name in exercises():
        notebook, _, short_name = name.partition(".")
        done, still_open = notebooks.setdefault(notebook, ([], []))
        (done if name in passed else still_open).append(short_name)
    for notebook, (done, still_open) in notebooks.items():
        parts = [f"{notebook}  {len(done)} of {len(done) + len(still_open)}"]
        parts += [f"✓ {name}" for name in done]
        parts += [f"open: {', '.join(still_open)}"] if still_open else []
        lines.append("  ".join(parts))
    count = len(passed & set(exercises()))
    return "\n".join([*lines, f"{count} of {len(exercises())} checks have passed."])
