"""The surroundings of a notebook's kernel, for the builder and for pytest."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")
FOLDERS += ("JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")


def isolate_kernels():
    """From here on kernels import this checkout and write nothing in the user's home.

    Progress bars are off: a stored one is a line for each of its movements.
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("TQDM_DISABLE", "1")
    for name in FOLDERS:
        folder = ROOT / ".cache" / name.removesuffix("DIR").rstrip("_").lower()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder)
