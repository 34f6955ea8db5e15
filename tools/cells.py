"""From a source, percent text that is plain Python, to the cells of two notebooks."""

import copy
import hashlib
import re
from collections import Counter

import jupytext
import nbformat

KEPT = ("tags", "jupyter")  # of a cell's metadata; the second hides a cell's code
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def read_source(path):
    """The notebook that `path` describes: solutions in place, nothing executed.

    A cell's id is a hash of its text: what did not change keeps its id.
    """
    seen = Counter()
    cells = []
    for cell in jupytext.read(path, fmt="py:percent").cells:
        key = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()
        seen[key] += 1  # the same text twice still needs two ids
        make = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        kept = {name: cell.metadata[name] for name in KEPT if name in cell.metadata}
        cells.append(make(cell.source, id=f"{key[:12]}-{seen[key]}", metadata=kept))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def solved_copy(notebook):
    """`notebook` for notebooks/solutions/: its links climb one folder more."""
    solved = copy.deepcopy(notebook)
    for cell in solved.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?=\.\./)", "](../", cell.source)
    return solved


def learner_copy(notebook):
    """`notebook` with stubs for solutions; their cells lose their output."""
    learner = copy.deepcopy(notebook)
    for cell in filter(is_exercise, learner.cells):
        cell.source, cell.outputs = stub(cell.source), []
    return learner


def is_exercise(cell):
    """True for a code cell that holds a solution."""
    return cell.cell_type == "code" and BEGIN in cell.source


def is_hidden(cell):
    """True for a code cell whose code is folded away, in JupyterLab and in the book.

    Its source begins with `# %% jupyter={"source_hidden": true}`.
    """
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
    return cell.cell_type == "code" and hidden


def stub(text):
    """`text` with each solution replaced by one line that asks for the learner's.

    Inside a function that line raises NotImplementedError; elsewhere it is `...`.
    Raises ValueError where the marks do not pair.
    """
    kept, inside = [], False
    for line in text.splitlines():
        mark = line.strip()
        if mark in (BEGIN, END):
            if inside != (mark == END):
                raise ValueError(f"solution marks do not pair at {line!r} in:\n{text}")
            inside = mark == BEGIN
            if inside:
                indent = line[: -len(line.lstrip())]
                turn = 'raise NotImplementedError("your turn")' if indent else "..."
                kept.append(f"{indent}{turn}")
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"solution without {END!r} in:\n{text}")
    return "\n".join(kept)
