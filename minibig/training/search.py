"""Grid and random search: settings to try, and a table of what they gave.

    space = {"lr": LogUniform(1e-4, 1e-1), "width": (32, 64, 128)}
    found = search(lambda lr, width: {"loss": ...}, sample(space, 20))
    print(found)  # the best first
    found.best  # {"lr": 0.0023, "width": 64}

Taught by notebook 05. J. Bergstra, Y. Bengio, "Random Search for Hyper-Parameter
Optimization" (JMLR 13, 2012) say why `sample` mostly beats `grid`.
"""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import checks, random
from ..files import FileError, atomic_write
from .checkpoint import jsonable
from .evaluation import numbers_of


@dataclass(frozen=True)
class Uniform:
    """Numbers from `low` to `high`, each as likely as any other."""

    low: float
    high: float

    def __post_init__(self):
        low = checks.number("Uniform: low", self.low)
        checks.number("Uniform: high", self.high, low, without=low)

    def at(self, share):
        """The number that lies `share` (0 to 1) of the way from low to high."""
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class LogUniform:
    """Numbers from `low` to `high`, their logarithm uniform: each power of ten gets the
    same share."""

    low: float
    high: float

    def __post_init__(self):
        low = checks.number("LogUniform: low", self.low, 0, without=0)
        checks.number("LogUniform: high", self.high, low, without=low)

    def at(self, share):
        """The number that lies `share` (0 to 1) of the way, counted in factors."""
        return self.low * (self.high / self.low) ** share


def grid(space):
    """Every combination of the values in `space`, {name: values}; the last name runs
    fastest. A list of {name: value}."""
    _check_space("grid", space)
    for name, values in space.items():
        checks.kind(f"grid: {name}, all values to try,", values, list, tuple)
    rows = itertools.product(*space.values())
    return [dict(zip(space, row, strict=True)) for row in rows]


def sample(space, count, seed=0):
    """`count` settings drawn from `space`, {name: Uniform, LogUniform or values}.

    Each name of each trial is drawn by itself: more trials begin with the same ones,
    and a further name changes nothing about the others.
    """
    _check_space("sample", space)
    checks.whole("sample: count", count, 1)
    return [
        {name: _draw(name, values, trial, seed) for name, values in space.items()}
        for trial in range(count)
    ]


def _draw(name, values, trial, seed):
    generator = random.at(f"search {name}", trial, seed)
    if isinstance(values, (Uniform, LogUniform)):
        return values.at(generator.random())
    return values[generator.integers(len(values))]


def _check_space(name, space):
    for key, values in checks.kind(f"{name}: space", space, dict).items():
        what = f"{name}: what {checks.shown(key)} may be"
        checks.kind(what, values, Uniform, LogUniform, list, tuple)
        if isinstance(values, (list, tuple)) and not values:
            raise ValueError(f"{what} is empty: there is nothing to try")


def search(run, trials, *, monitor="loss", largest=False, path=None):
    """`run(**settings)` for each of `trials`; a SearchResults.

    `run` returns a dict of numbers, of which the smallest `monitor` is the best, or the
    largest. A run that ends in a FloatingPointError, as `fit` does where a rate is too
    high, is kept with its sentence and stands last. Settings that come twice are run
    once. With `path` every trial is saved (JSON) when it is done, and those found there
    are not run again; FileError where that file is something else.
    """
    checks.kind("search: run, a function of the settings,", run, Callable)
    for settings in checks.kind("search: trials", trials, list, tuple):
        checks.kind("search: each trial", settings, dict)
    checks.kind("search: monitor", monitor, str)
    checks.switch("search: largest", largest)
    keys = [json.dumps(jsonable(t, "settings"), sort_keys=True) for t in trials]
    path = path and Path(path)
    if path and not path.parent.is_dir():
        raise FileNotFoundError(f"search: the folder of {path} does not exist")
    known = _load(path) if path and path.exists() else {}
    _check_known(known, monitor, path)
    rows = {}
    for key, settings in zip(keys, trials, strict=True):
        if key not in known:
            known[key] = {"settings": settings, **_outcome(run, settings, monitor)}
            if path:
                _save(path, known)
        rows[key] = known[key] | {"settings": settings}
    return SearchResults(list(rows.values()), monitor, largest)


def _outcome(run, settings, monitor):
    try:
        results = numbers_of("search: run", run(**settings))
    except FloatingPointError as error:
        return {"results": {}, "error": str(error)}
    if monitor not in results:
        raise ValueError(f"search: monitor={monitor!r} is not among {sorted(results)}")
    return {"results": results}


def _save(path, known):
    with atomic_write(path) as file:
        rows = [
            row | {"results": {n: _kept(value) for n, value in row["results"].items()}}
            for row in jsonable(list(known.values()), "search")
        ]
        file.write(json.dumps({"minibig search": rows}, indent=1).encode())


def _kept(value):
    """A number as JSON has it, which has no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)


def _load(path):
    try:
        rows = json.loads(path.read_text("utf-8"))["minibig search"]
        for row in rows:
            row["results"] = {n: float(value) for n, value in row["results"].items()}
        return {json.dumps(row["settings"], sort_keys=True): row for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(
            f"{path} holds no trials of a search: give another path, or remove it"
        ) from error


def _check_known(known, monitor, path):
    """Refuses trials that were saved without the number that is watched."""
    for row in known.values():
        if "error" not in row and monitor not in row["results"]:
            raise ValueError(
                f"search: the trials in {path} gave {sorted(row['results'])} and no "
                f"{monitor!r}: watch one of these, or give another path"
            )


class SearchResults:
    """The trials of a search, the best first; printed, a table.

    `rows`: dicts of "settings", "results" and, where a run failed, "error".
    """

    def __init__(self, rows, monitor, largest):
        self.monitor, self.largest = monitor, largest
        self.rows = sorted(rows, key=self._rank)

    def _rank(self, row):
        value = row["results"].get(self.monitor, math.nan)
        if math.isnan(value):
            return (1, 0.0)
        return (0, -value if self.largest else value)

    @property
    def best(self):
        """The settings of the best trial; ValueError where no trial gave a number."""
        if not self.rows or self._rank(self.rows[0])[0]:
            raise ValueError(f"search: no trial gave a {self.monitor}")
        return self.rows[0]["settings"]

    def __len__(self):
        return len(self.rows)

    def __repr__(self):
        return f"SearchResults({len(self)} trials, the best first by {self.monitor})"

    def __str__(self):
        return self.table()

    def table(self, rows=None):
        """The best `rows` trials (None: all) as text: results, then settings."""
        shown = self.rows[:rows]
        settings = _names(row["settings"] for row in shown)
        results = _names(row["results"] for row in shown) or [self.monitor]
        lines = [["", *results, *settings]]
        for rank, row in enumerate(shown, 1):
            missing = "failed" if "error" in row else "–"
            numbers = [row["results"].get(name, missing) for name in results]
            chosen = [row["settings"].get(name, "") for name in settings]
            lines.append([str(rank), *map(_text, numbers), *map(_text, chosen)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(map(str.rjust, line, widths)).rstrip() for line in lines
        )


def _names(dicts):
    return list(dict.fromkeys(name for each in dicts for name in each))


def _text(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
