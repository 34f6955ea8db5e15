"""Pictures for the notebooks. The only file that deals with matplotlib."""

import base64
import io
import sys


def show(figure, *, alt):
    """Displays a matplotlib figure as a PNG whose alternative text is `alt`.

    `alt` says in words what the picture shows: screen readers speak it, and outside a
    notebook it is printed in the picture's place. The figure is closed afterwards.
    """
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    # Without the software's name the same figure is the same file on every machine.
    figure.savefig(file, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    text = f"[figure] {alt}"
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(text)
        return
    data = {
        "image/png": base64.b64encode(file.getvalue()).decode(),
        "text/plain": text,
    }
    ipython.display.display(data, raw=True, metadata={"image/png": {"alt": alt}})
