"""Run a notebook once, for both its versions, and see that its exercises are solved."""

import copy
import re
import tempfile
from contextlib import contextmanager

import nbformat
from nbclient import NotebookClient

from .cells import is_exercise, learner_copy

CHECK = re.compile(r"""^\s*(?:assert )?check\(\s*["']([^"']+)["']""", re.MULTILINE)


class UnsolvedError(Exception):
    """A check fails in the solutions, or passes before the learner did anything."""


@contextmanager
def _kernel(notebook):
    """A client whose fresh kernel runs in an empty folder, so that no path matters."""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook,
            timeout=1200,
            resources=resources,
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
        )
        with client.setup_kernel():
            yield client


def execute(notebook):
    """(solved, learner): the executed `notebook` and the learner's version of it.

    Both have the same outputs, pictures included; the exercises' stubs run last, in the
    kernel that ran everything: nothing is trained twice. Raises nbclient's
    CellExecutionError, which shows the cell, or UnsolvedError.
    """
    with _kernel(notebook) as client:
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        learner = learner_copy(notebook)
        solved = copy.deepcopy(notebook)  # the client writes into `notebook`
        for index, cell in enumerate(learner.cells):
            if is_exercise(solved.cells[index]):
                client.execute_cell(cell, index, store_history=False)
    for built, expected in ((solved, "cases pass."), (learner, "not attempted yet")):
        for number, cell in enumerate(built.cells, 1):
            if cell.cell_type == "code":
                _verify_checks(cell, number, expected)
                _move_results(cell)
        _number(built)
    return solved, learner


def _verify_checks(cell, number, expected):
    text = text_of(cell)
    for name in CHECK.findall(cell.source):
        if not re.search(rf"^{re.escape(name)}: .*{expected}", text, re.MULTILINE):
            raise UnsolvedError(
                f"cell {number}: {name} should say {expected!r}:\n{text}"
            )


def _move_results(cell):
    """What `result` noted with its output goes into the metadata of the cell."""
    found = [
        output.metadata.pop("minibig_result")
        for output in cell.outputs
        if "minibig_result" in output.get("metadata", {})
    ]
    if found:
        cell.metadata["results"] = found


def _number(notebook):
    """Counts executions from 1, in the order of the page."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def text_only(output):
    """`output` without pictures and other rich forms."""
    output = copy.deepcopy(output)
    if "data" in output:
        kept = {k: v for k, v in output.data.items() if k == "text/plain"}
        output.data, output.metadata = nbformat.from_dict(kept), nbformat.from_dict({})
    return output


def text_of(cell):
    """All the text that a code cell has printed."""
    parts = [o.get("text") or o.get("data", {}).get("text/plain") for o in cell.outputs]
    return "\n".join(filter(None, parts))
