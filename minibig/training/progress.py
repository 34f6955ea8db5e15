"""What a run shows while it works: a bar on a terminal, else a line an evaluation."""

import os
import sys


class Progress:
    """A tqdm bar where someone looks on; plain lines in files, pipes and tests.

    TQDM_DISABLE=1 asks for the lines everywhere.
    """

    def __init__(self, done, steps):
        self.steps = steps
        self.bar = None
        if _watched():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=steps, initial=done, unit="step", disable=False)

    def step(self, row):
        """Shows a step's loss."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
            self.bar.update(row["step"] - self.bar.n)

    def say(self, text):
        """Shows a line above the bar, or prints it."""
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)

    def evaluated(self, row, loss, seconds):
        """Shows an evaluation."""
        metrics = "  ".join(
            f"{name} {value:.4f}" for name, value in row.items() if name != "step"
        )
        width = len(str(self.steps))
        self.say(
            f"step {row['step']:>{width}}/{self.steps}  train {loss:.4f}  "
            f"held out: {metrics}  {seconds:.0f} s"
        )

    def close(self):
        """Leaves the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def _watched():
    if os.environ.get("TQDM_DISABLE", "") not in ("", "0"):
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    terminal = sys.stderr is not None and sys.stderr.isatty()  # None under pythonw
    return hasattr(shell, "kernel") or terminal
