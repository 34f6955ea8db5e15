"""Copy the notebooks that my/ lacks into it, and open JupyterLab on them.

Your answers live in my/: neither a rebuild of the notebooks nor a `git pull` touches
them. To get a fresh copy of a notebook, rename or delete yours and start this again.
Arguments go on to JupyterLab, for instance `--no-browser`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT_CELL = re.compile(r"[0-9a-f]{12}-\d+")  # ids of other cells are the learner's


def copy_missing(sources, mine):
    """Paths of the notebooks among `sources` that were copied into folder `mine`.

    A notebook that `mine` already has is left alone, whatever is in it. A copy that is
    stopped half way leaves nothing under the notebook's name. Raises FileExistsError
    where `mine` is a file.
    """
    mine.mkdir(exist_ok=True)
    progress = mine / "minibig-course"  # where `check` notes what has passed
    if not progress.exists():
        progress.write_text("{}")
    copied = []
    for source in sources:
        target = mine / source.name
        if not target.exists():
            part = target.with_name(f".{source.name}.part")
            shutil.copyfile(source, part)
            os.replace(part, target)
            copied.append(target)
    return copied


def outdated(sources, mine):
    """Names of the notebooks in folder `mine` that come from other `sources`.

    A cell's id is a hash of its text, and editing keeps it: a copy with an id that its
    source lacks is of another version. One that is no notebook is named too.
    """
    return [
        source.name
        for source in sources
        if (mine / source.name).exists()
        and not _built_ids(mine / source.name) <= _built_ids(source)
    ]


def _built_ids(path):
    """The ids in a notebook of the cells that came with it; {None} if it is broken."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        ids = {cell.get("id", "") for cell in cells}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {None}
    return set(filter(BUILT_CELL.fullmatch, ids))


def main(arguments):
    sources = sorted((ROOT / "notebooks").glob("*.ipynb"))
    mine = ROOT / "my"
    try:
        copied = copy_missing(sources, mine)
    except FileExistsError:
        print(f"{mine} is a file: move it away, your notebooks go into a folder my/.")
        return 1
    if copied:
        print(f"Copied {len(copied)} notebook(s) into my/: write in those.")
    for name in outdated(sources, mine):
        print(f"my/{name} is not of the version in notebooks/: rename it to get that.")
    first = mine / "00_start_here.ipynb"
    lab = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, say
        lab.append("--allow-root")  # else Jupyter would not start
    try:
        return subprocess.call([*lab, *arguments, str(first)], cwd=ROOT)
    except KeyboardInterrupt:  # Ctrl-C is how one leaves the lab
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
