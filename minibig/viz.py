"""Pictures for the notebooks. The only file that deals with matplotlib."""

import base64
import io
import itertools
import sys


def show(figure, *, alt):
    """Displays a matplotlib figure as a PNG whose alternative text is `alt`.

    `alt` says in words what the picture shows: screen readers speak it, and outside a
    notebook it is printed in the picture's place. The figure is closed afterwards.
    """
    import matplotlib.pyplot as plt
    from PIL import Image  # Pillow comes with matplotlib

    file, small = io.BytesIO(), io.BytesIO()
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)
    # 256 colours are enough for lines and bars, and take a third of the room.
    image = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(small, "png", optimize=True)
    text = f"[figure] {alt}"
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(text)
        return
    data = {
        "image/png": base64.b64encode(small.getvalue()).decode(),
        "text/plain": text,
    }
    ipython.display.display(data, raw=True, metadata={"image/png": {"alt": alt}})


def loss_curves(history, *, title="", floor=None):
    """A figure of a run: training loss, smoothed, and the evaluations' loss as dots.

    Nats against steps, on a logarithmic axis where the losses span a factor of 5.
    `floor`, the best loss that is possible, is a dashed line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps, losses = [row["step"] for row in history.steps], history.loss
    line = axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=1)[0]
    if len(losses) >= 20:
        axes.plot(steps, _smoothed(losses), color="C0", label="training, smoothed")
    else:
        line.set(alpha=1, label="training")
    held_out = [row for row in history.evaluations if "loss" in row]
    if held_out:
        values = [row["loss"] for row in held_out]
        axes.plot([row["step"] for row in held_out], values, "oC1", label="held out")
        losses = [*losses, *values]
    if floor is not None:
        axes.axhline(floor, color="0.3", linestyle="--", label=f"floor {floor:.3f}")
    if losses and 0 < 5 * min(losses) < max(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # 0.5 and 2, not powers of 10
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="step", ylabel="loss (nats)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _smoothed(values):
    """Means of the values before and after each, over a fiftieth of them."""
    half = max(len(values) // 100, 1)
    sums = [0.0, *itertools.accumulate(values)]
    ends = [
        (max(i - half, 0), min(i + half + 1, len(values))) for i in range(len(values))
    ]
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in ends]
