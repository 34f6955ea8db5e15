"""Cross-entropy from logits: one kernel forward, one backward."""

from .arrays import contiguous, empty, number_of
from .kernel import load
from .rows import MOST_ROWS, threads_for

NO_ID = -(1 << 63)


def cross_entropy(logits, *, ids, ignore_index=-100, label_smoothing=0.0):
    """As the op `cross_entropy`: (losses, backward); None where no kernel serves it.

    The losses are float32, also those of 16-bit logits.
    """
    number = number_of(logits)
    if number is None or ids.size >= MOST_ROWS:
        return None
    classes, count = logits.shape[-1], ids.size
    launch = (count,), (threads_for(classes),)
    logits, flat = contiguous(logits), contiguous(ids.reshape(-1).astype("int64"))
    settings = classes, NO_ID if ignore_index is None else ignore_index, label_smoothing
    losses, top, total = (empty(logits, (count,), "float32") for _ in range(3))
    forward = load("cross_entropy_forward.cu", number)["cross_entropy_forward"]
    forward(*launch, logits, flat, losses, top, total, *settings)

    def backward(dy):
        dlogits, dy = empty(logits), contiguous(dy.reshape(-1), like=top)
        kernel = load("cross_entropy_backward.cu", number)["cross_entropy_backward"]
        kernel(*launch, logits, flat, top, total, dy, dlogits, *settings)
        return (dlogits,)

    return losses.reshape(ids.shape), backward
