"""Run notebooks in a real browser: `python -m tools.browser [NAME ...]`.

NAME is 02 or 02_backpropagation; without, all of them. JupyterLab serves copies of the
learners' notebooks as `make lab` does, a headless Chromium opens each and runs all its
cells, and this says which did not run or ended in an error. A picture of each page lies
in build/browser/ afterwards. Quick runs (MINIBIG_SMOKE=1); needs
`pip install playwright` and a Chromium on the PATH.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from .choice import chosen
from .kernels import ROOT, isolate_kernels
from .lab import copy_missing

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PORT, LIMIT = 8877, 180  # seconds a notebook may take
SHOWN = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const cells = notebook.model.sharedModel.toJSON().cells;
  const code = cells.filter(cell => cell.cell_type === 'code' && cell.source.length);
  const failed = cell => cell.outputs.some(output => output.output_type === 'error');
  return {
    cells: code.length,
    left: code.filter(cell => !cell.execution_count).length,
    errors: code.filter(failed).map(cell => [cell.source].flat().join('')),
  };
}"""


def main(names):
    try:
        sources = chosen(names, sorted((ROOT / "notebooks").glob("*.ipynb")))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or not importlib.util.find_spec("playwright"):
        print("*** NO BROWSER RUN: it takes a Chromium on the PATH and playwright. ***")
        return 0
    isolate_kernels()
    with tempfile.TemporaryDirectory() as folder:
        copied = copy_missing(sources, Path(folder))
        with lab(folder):
            return run(browser, copied)


class lab:
    """JupyterLab on `folder` while the context lasts."""

    def __init__(self, folder):
        flags = ["--no-browser", "--allow-root", f"--port={PORT}", "--port-retries=0"]
        flags += ["--IdentityProvider.token=", "--expose-app-in-browser"]
        flags += [f"--ServerApp.root_dir={folder}"]
        environment = os.environ | {"MINIBIG_SMOKE": "1"}
        self.command = [sys.executable, "-m", "jupyterlab", *flags]
        self.settings = {"env": environment, "stderr": subprocess.DEVNULL}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, **self.settings)
        for _ in range(120):
            try:
                return urllib.request.urlopen(f"http://localhost:{PORT}/api")
            except OSError:
                time.sleep(0.5)
        raise TimeoutError("JupyterLab did not start within a minute")

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(30)


def run(browser, notebooks):
    """0 when every cell of all notebooks ran without an error."""
    from playwright.sync_api import sync_playwright

    pictures = ROOT / "build" / "browser"
    pictures.mkdir(parents=True, exist_ok=True)
    failed = 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        for path in notebooks:
            page = chromium.new_page(viewport={"width": 1280, "height": 1600})
            began = time.monotonic()
            found = run_all_cells(page, path.name)
            page.screenshot(path=pictures / f"{path.stem}.png")
            page.close()
            seconds = time.monotonic() - began
            print(f"{path.stem}: {found['cells']} cells in {seconds:.0f} s", flush=True)
            for source in found["errors"]:
                print(f"  an error in\n{source}")
            if found["left"]:
                print(f"  {found['left']} cells did not run")
            failed += bool(found["errors"] or found["left"])
        chromium.close()
    return 1 if failed else 0


def run_all_cells(page, name):
    """What SHOWN says of a notebook after "Run All Cells"."""
    page.goto(f"http://localhost:{PORT}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel", timeout=60_000)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
        "?.status === 'idle'",
        timeout=60_000,
    )
    run = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"
    page.evaluate(run)
    for _ in range(LIMIT):
        page.wait_for_timeout(1000)
        found = page.evaluate(SHOWN)
        if found["errors"] or not found["left"]:
            break
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
