"""Run notebooks for several seeds: `python -m tools.results [NOTEBOOK ...]`.

Writes benchmarks/results/course.md, whose head says what a seed means here; the
sections of notebooks that were not asked for stay. Each run is kept in .cache/results,
so that what was interrupted goes on, and counts until code, library or Python change.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import re
import statistics
import sys
import time

import numpy as np
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from minibig.files import atomic_write
from minibig.threads import usable_cores

from .cells import read_source
from .choice import chosen
from .execution import UnsolvedError, execute
from .kernels import ROOT, isolate_kernels
from .notebooks import library_hash

COURSE = ROOT / "course"
RECORDS = ROOT / ".cache" / "results"
REPORT = ROOT / "benchmarks" / "results" / "course.md"
SEED = re.compile(r"\bmb\.seed\((?!preset\.seed)")
SHIFT_PRESETS = """import dataclasses as _dataclasses
from minibig.presets import PRESETS as _PRESETS

for _name, _preset in _PRESETS.items():
    _PRESETS[_name] = _dataclasses.replace(_preset, seed=_preset.seed + {seed})
"""

HEAD = """# Results of the course

Written by `make results` (of some notebooks: `python -m tools.results 04 08`), which
runs each notebook whole, solutions included, once for each seed. Seed k means that
every `mb.seed(n)` of the source reads `mb.seed(k + n)` and that each preset's seed is k
more, so seed 0 is the notebook as it stands. Initial weights, dropout and all else that
these decide are drawn anew. What has a seed of its own in the source stays: the parts
of the data, the numbers of worked examples. A notebook that averages over the seeds 0,
1 and 2 itself averages over k, k + 1 and k + 2. A notebook that draws nothing by
`mb.seed` is run once. A bound is reached when the mean over the seeds holds it; ± is
their standard deviation.
"""


def shifted(notebook, seed):
    """`notebook` with each `mb.seed(n)` of its code as `mb.seed(seed + n)`, and a cell
    before that adds as much to the presets' seeds."""
    if not seed:
        return notebook
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = SEED.sub(f"mb.seed({seed} + ", cell.source)
    notebook.cells.insert(0, new_code_cell(SHIFT_PRESETS.format(seed=seed)))
    return notebook


def state(source):
    """What a kept run rests on; another value of any of these makes it old.

    Of the source it is the code: a sentence put right changes no number.
    """
    cells = read_source(source).cells
    code = "\0".join(cell.source for cell in cells if cell.cell_type == "code")
    return {
        "source": hashlib.sha256(code.encode()).hexdigest()[:16],
        "library": library_hash(source)[:16],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


# ---- one run ------------------------------------------------------------------------


def run(source, seed):
    """The record of a notebook executed with one seed: state, results, minutes."""
    rests_on, start = state(source), time.monotonic()
    solved, _ = execute(shifted(read_source(source), seed))
    found = [r for cell in solved.cells for r in cell.metadata.get("results", [])]
    return {
        **rests_on,
        "results": {r["name"]: r for r in found},
        "minutes": (time.monotonic() - start) / 60,
        "date": datetime.date.today().isoformat(),
        "threads": usable_cores(),
    }


def kept_or_run(source, seed):
    """The record of a run, kept from before where it still counts."""
    path = RECORDS / f"{source.stem}-{seed}.json"
    record = _read(path)
    if record is None or not state(source).items() <= record.items():
        record = run(source, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(record, indent=1).encode())
    print(f"{source.stem}, seed {seed}: {record['minutes']:.1f} minutes", flush=True)
    for name, kept in record["results"].items():
        print(f"    {name}: {kept['value']:.4g}", flush=True)
    return record


def _read(path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # not run yet, or damaged: run it again
        return None


# ---- the report ---------------------------------------------------------------------


def verdict(values, at_least, at_most):
    """Whether the mean of the values holds the bounds, and which seeds do not."""
    if at_least is None and at_most is None:
        return ""

    def holds(value):
        return (at_least is None or value >= at_least) and (
            at_most is None or value <= at_most
        )

    if not holds(statistics.fmean(values)):
        return "**missed**"
    short = [str(seed) for seed, value in enumerate(values) if not holds(value)]
    return "reached" + (f" (not by seed {', '.join(short)})" if short else "")


def row(kept):
    """A result's line of the table, from what each seed kept of it."""
    values = [r["value"] for r in kept]
    first = kept[0]
    mean = f"{statistics.fmean(values):.4g}"
    if len(values) > 1:
        mean += f" ± {statistics.stdev(values):.2g}"
    bounds = [f"≥ {first['at_least']:g}"] if first["at_least"] is not None else []
    bounds += [f"≤ {first['at_most']:g}"] if first["at_most"] is not None else []
    outcome = verdict(values, first["at_least"], first["at_most"])
    numbers = [f"{value:.4g}" for value in values]
    corpus = first["corpus"] or ""
    parts = [first["name"], *numbers, mean, ", ".join(bounds), outcome, corpus]
    return f"| {' | '.join(parts)} |"


def section(name, records):
    """The part of the report about one notebook."""
    names = [list(record["results"]) for record in records]
    if any(other != names[0] for other in names):
        raise ValueError(f"{name}: the seeds give results of different names: {names}")
    seeds = [f"seed {seed}" for seed in range(len(records))]
    titles = ["result", *seeds, "mean", "bound", "", "corpus"]
    lines = [f"## {name}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    lines += [row([r["results"][key] for r in records]) for key in names[0]]
    minutes = ", ".join(f"{record['minutes']:.1f}" for record in records)
    facts = [f"Minutes: {minutes}"]
    for title in ("threads", "Python", "NumPy", "library", "source", "date"):
        found = dict.fromkeys(str(record[title.lower()]) for record in records)
        facts.append(f"{title} {', '.join(found)}")
    return "\n".join([*lines, "", f"{' · '.join(facts)}.", ""])


def write_section(text):
    """Puts the section in its place in the report; the others stay as they are."""
    old = REPORT.read_text("utf-8") if REPORT.exists() else ""
    parts = [f"## {part.strip()}\n" for part in old.split("\n## ")[1:]]
    sections = {part.splitlines()[0]: part for part in [*parts, text]}
    ordered = [sections[heading] for heading in sorted(sections)]
    with atomic_write(REPORT) as file:
        file.write("\n".join([HEAD, *ordered]).encode())


# ---- the command --------------------------------------------------------------------


def measure(source, seeds):
    """Runs a notebook and writes its section; whether all went well, said if not."""
    text = "\n".join(
        c.source for c in read_source(source).cells if c.cell_type == "code"
    )
    if not re.search(r"\bresult\(", text):
        print(f"{source.stem}: states no results")
        return True
    if not SEED.search(text):  # nothing in it is drawn
        seeds = 1
    try:
        records = [kept_or_run(source, seed) for seed in range(seeds)]
    except (CellExecutionError, UnsolvedError) as error:
        print(f"{source.stem} does not run through: {error}", file=sys.stderr)
        return False
    written = section(source.stem, records)
    write_section(written)
    return "**missed**" not in written


def main(arguments=None):
    """0: all bounds reached; 1: one is missed, or a notebook fails; 130: stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as 04; default: all notebooks")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    try:
        known = sorted(COURSE.glob("[0-9][0-9]_*.py"))
        sources = chosen(options.names, known)
    except ValueError as error:
        parser.error(str(error))
    isolate_kernels()
    os.environ.pop("MINIBIG_SMOKE", None)
    try:
        well = [measure(source, options.seeds) for source in sources]
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
