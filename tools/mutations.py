"""Plant bugs and see them caught: `python -m tools.mutations`.

Each mutation changes one place of the library, in a copy, as people do by mistake. A
test must fail then, and an assertion that a notebook's own cell makes: learners who
break their library are told so by both. First the unchanged copy must pass it all.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .kernels import ROOT, isolate_kernels

COPIED = ("minibig", "tools", "tests", "course", "conftest.py", "pyproject.toml")
JOBS = 2


@dataclass(frozen=True)
class Mutation:
    """A bug: in `file` of minibig/, `right` stands once, and becomes `wrong`."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str  # the file in tests/ that must fail
    notebook: str  # the source in course/ that must fail


MUTATIONS = (
    Mutation(
        "attention without √d",
        "ops/attention.py",
        "1 / math.sqrt(q.shape[-1]) if scale is None",
        "1.0 if scale is None",
        "test_references.py",
        "08_attention.py",
    ),
    Mutation(
        "forgotten causal mask",
        "ops/attention.py",
        "s += causal[i]\n",
        "pass\n",
        "test_references.py",
        "08_attention.py",
    ),
    Mutation(
        "gradient added twice",
        "autograd.py",
        "total, ours = slots[key]\n",
        "total, ours = slots[key]\n    dx = dx + dx\n",
        "test_engine.py",
        "02_backpropagation.py",
    ),
    Mutation(
        "weight in transposed order",  # the shape of .T, not its numbers
        "ops/matmul.py",
        "y = product(rows, weight.T)",
        "y = product(rows, weight.reshape(weight.shape[::-1]))",
        "test_references.py",
        "04_neural_networks.py",
    ),
    Mutation(
        "cross-entropy's arguments swapped",
        "ops/losses.py",
        "def binary_cross_entropy_with_logits(x, target):",
        "def binary_cross_entropy_with_logits(target, x):",
        "test_ops.py",
        "04_neural_networks.py",
    ),
)


def mutated(mutation, package):
    """The text of the mutated file; ValueError where what it changes is not there."""
    text = (package / mutation.file).read_text("utf-8")
    count = text.count(mutation.right)
    if count != 1:
        raise ValueError(
            f"{mutation.name}: {mutation.right!r} stands {count} times in "
            f"{mutation.file}, not once: adapt it in tools/mutations.py"
        )
    return text.replace(mutation.right, mutation.wrong)


# ---- running a copy -----------------------------------------------------------------


def copy_into(folder, mutation=None):
    """A copy of what tests and sources need, with a mutation or as it is."""
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, folder)
    if mutation:
        text = mutated(mutation, folder / "minibig")
        (folder / "minibig" / mutation.file).write_text(text, "utf-8")


def python(folder, *arguments):
    """A finished Python that imports the copy in `folder`, in a quick run."""
    own = {"PYTHONPATH": str(folder), "MINIBIG_SMOKE": "1", "MPLBACKEND": "Agg"}
    own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take 5 s to import
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=300,
    )


def failing_test(folder, tests):
    """The first test that fails in a file of tests; None if all pass."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=")
    done = python(folder, "-m", "pytest", *options, *(Path("tests", t) for t in tests))
    if done.returncode == 0:
        return None
    found = re.search(r"^FAILED \S*?::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not found:  # no test failed: the run itself did
        raise RuntimeError(f"pytest {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    return found[1]


def failing_assertion(folder, notebook):
    """Cell and text of the assertion with which a source stops; None if it does not.

    RuntimeError for any other error: only what the notebook itself asserts counts.
    """
    source = folder / "course" / notebook
    done = python(folder, source)
    if done.returncode == 0:
        return None
    files = re.findall(r'^ +File "([^"]+)", line (\d+)', done.stderr, re.MULTILINE)
    asserted = re.search(r"^AssertionError\b", done.stderr, re.MULTILINE)
    if not asserted or not files or Path(files[-1][0]).name != notebook:
        raise RuntimeError(f"{notebook} stops, but by no assertion:\n{done.stderr}")
    lines = source.read_text("utf-8").splitlines()[: int(files[-1][1])]
    cell = sum(line.startswith("# %%") for line in lines)
    return f"cell {cell}: {lines[-1].strip()}"


def examine(mutation):
    """(the test that failed, the notebook's assertion that failed), None for neither.

    Without a mutation: of all the tests and notebooks that the mutations name.
    """
    every = (mutation,) if mutation else MUTATIONS
    tests = sorted({m.tests for m in every})
    notebooks = sorted({m.notebook for m in every})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_into(folder, mutation)
        test = failing_test(folder, tests)
        found = (failing_assertion(folder, notebook) for notebook in notebooks)
        return test, next(filter(None, found), None)


# ---- the command --------------------------------------------------------------------


def main():
    """0: all were caught by both; 1: the table says by whom not."""
    isolate_kernels()
    for mutation in MUTATIONS:
        mutated(mutation, ROOT / "minibig")  # before anything runs
    with ThreadPoolExecutor(JOBS) as jobs:
        unchanged, *found = jobs.map(examine, (None, *MUTATIONS))
    if any(unchanged):
        print(f"the library as it is fails: {unchanged}", file=sys.stderr)
        return 1
    for mutation, (test, assertion) in zip(MUTATIONS, found, strict=True):
        print(mutation.name)
        print(f"    {mutation.tests}: {test or 'NOT CAUGHT'}")
        print(f"    {mutation.notebook}: {assertion or 'NOT CAUGHT'}")
    caught = sum(all(pair) for pair in found)
    print(f"{caught} of {len(found)} caught by a test and by a notebook")
    return 0 if caught == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
