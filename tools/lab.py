"""Copy the notebooks that my/ lacks into it, and open JupyterLab on them.

Your answers live in my/: neither a rebuild of the notebooks nor a `git pull` touches
them. To get a fresh copy of a notebook, rename or delete yours and start this again.
Arguments go on to JupyterLab, for instance `--no-browser`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copy_missing(notebooks, mine):
    """Paths of the notebooks copied from folder `notebooks` into folder `mine`.

    A notebook that `mine` already has is left alone, whatever is in it.
    """
    mine.mkdir(exist_ok=True)
    progress = mine / "minibig-course"  # where `check` notes what has passed
    if not progress.exists():
        progress.write_text("{}")
    copied = []
    for source in sorted(notebooks.glob("*.ipynb")):
        target = mine / source.name
        if not target.exists():
            shutil.copyfile(source, target)
            copied.append(target)
    return copied


def main(arguments):
    copied = copy_missing(ROOT / "notebooks", ROOT / "my")
    if copied:
        print(f"Copied {len(copied)} notebook(s) into my/: write in those.")
    first = ROOT / "my" / "00_start_here.ipynb"
    lab = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
    try:
        return subprocess.call([*lab, *arguments, str(first)], cwd=ROOT)
    except KeyboardInterrupt:  # Ctrl-C is how one leaves the lab
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
