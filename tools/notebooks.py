"""Build the notebooks from their sources: `python -m tools.notebooks [NAME ...]`.

People edit course/NN_subject.py, percent text that is plain Python. From it come
  notebooks/solutions/NN_subject.ipynb   executed as it stands; outputs as text only
  notebooks/NN_subject.ipynb             what learners open: the same outputs, pictures
                                         too; solutions give way to stubs, and only the
                                         cells that held one are run again
A cell that begins with `# %% jupyter={"source_hidden": true}` shows its outputs alone.
Only notebooks that differ from their source are built; `--force` builds them anyway,
after a change of the library for instance; `--check` builds nothing and names the first
cell that differs. Numbers given to `minibig.exercises.result` are kept in the metadata
of their cells.
"""

import argparse
import hashlib
import os
import sys
import time
from itertools import zip_longest

import nbformat
from nbclient.exceptions import CellExecutionError

from .cells import KEPT, is_exercise, learner_copy, read_source, solved_copy
from .choice import chosen
from .execution import UnsolvedError, execute, text_only
from .kernels import ROOT, isolate_kernels


def products(source):
    """Paths of the two notebooks of `course/NN_subject.py`: solutions, learner's."""
    notebooks = source.parent.parent / "notebooks"
    name = f"{source.stem}.ipynb"
    return notebooks / "solutions" / name, notebooks / name


def library_hash(source):
    """A hash of the library's code that the stored results of `source` rest on.

    Not of the exercises; of the kernels only where the source names `minibig.kernels`:
    without a GPU nothing else runs one.
    """
    aside = {"exercises"}
    if "minibig.kernels" not in source.read_text("utf-8"):
        aside.add("kernels")
    files = sorted((ROOT / "minibig").rglob("*.py"))
    files = [path for path in files if not aside & set(path.parts)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def build(source):
    """Executes `source` and writes its two notebooks."""
    solved, learner = execute(read_source(source))
    solved = solved_copy(solved)
    for cell in solved.cells:
        cell.get("outputs", [])[:] = map(text_only, cell.get("outputs", []))
    for path, notebook in zip(products(source), (solved, learner), strict=True):
        notebook.metadata["library"] = library_hash(source)[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)


# ---- is a product up to date? --------------------------------------------------------


def differences(source):
    """What keeps the notebooks of `source` from being up to date; [] when they are.

    One sentence a product, naming the first cell that differs. Cells are compared by
    kind, text, tags and folding, and the learner's outputs with those of the solutions.
    """
    wanted = read_source(source)
    found = []
    for path, expected in zip(
        products(source), (solved_copy(wanted), learner_copy(wanted)), strict=True
    ):
        if not path.exists():
            found.append(f"{path.name} is missing from {path.parent.name}/")
            continue
        actual = nbformat.read(path, as_version=4)
        found += _first_difference(f"{path.parent.name}/{path.name}", expected, actual)
    return found or _outputs_that_differ(source)


def _first_difference(name, expected, actual):
    for number, pair in enumerate(zip_longest(expected.cells, actual.cells), 1):
        left, right = (
            (c.cell_type, c.source, c.id, *map(c.metadata.get, KEPT)) if c else None
            for c in pair
        )
        if left != right:
            first = ((left or right)[1].splitlines() or [""])[0]
            return [f"{name}: cell {number} ({first!r}) differs from its source"]
    return []


def _outputs_that_differ(source):
    wanted = read_source(source).cells
    solved, learner = (nbformat.read(p, as_version=4).cells for p in products(source))
    for number, cells in enumerate(zip(wanted, solved, learner, strict=True), 1):
        if cells[0].cell_type != "code" or is_exercise(cells[0]):
            continue
        if cells[1].outputs != [text_only(output) for output in cells[2].outputs]:
            return [f"{source.stem}: cell {number} shows other results when solved"]
    return []


# ---- the command ---------------------------------------------------------------------


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as 00; default: all")
    parser.add_argument("--check", action="store_true", help="build nothing, compare")
    parser.add_argument("--force", action="store_true", help="build what is up to date")
    options = parser.parse_args(arguments)
    try:
        sources = chosen(options.names, sorted(ROOT.glob("course/[0-9][0-9]_*.py")))
    except ValueError as error:
        parser.error(str(error))
    isolate_kernels()
    os.environ.pop("MINIBIG_SMOKE", None)  # what readers see is the full run
    failed = [source for source in sources if not _bring_up_to_date(source, options)]
    return 1 if failed else 0


def _bring_up_to_date(source, options):
    """Builds what has to be built; False, with the reason printed, where it fails."""
    why = differences(source)
    if options.check:
        print(
            *why, *["run `make notebooks`"] * bool(why), sep="\n", end="\n" * bool(why)
        )
        return not why
    if not why and not options.force:
        return True
    print(f"{source.stem}: {why[0] if why else 'as asked'}", flush=True)
    start = time.monotonic()
    try:
        build(source)
    except (CellExecutionError, UnsolvedError) as error:
        print(f"{source.stem} was not built: {error}", file=sys.stderr)
        return False
    print(f"{source.stem}: built in {time.monotonic() - start:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
