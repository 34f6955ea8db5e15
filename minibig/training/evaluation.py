"""How good a model is on data it was not trained on."""

from collections.abc import Callable, Mapping

import numpy as np

from .. import checks
from .. import functional as F
from ..autograd import no_grad
from ..backend import read
from ..creation import tensor
from ..data.loader import IGNORE
from ..nn.module import evaluating
from ..tensor import Tensor


def next_token_loss(model, inputs, targets):
    """Cross-entropy in nats a token: a language model's loss on (B, T) ids."""
    return F.cross_entropy(model(inputs), targets)


def classification_loss(model, inputs, labels):
    """Cross-entropy in nats of a classifier's logits (B, V) and labels (B,)."""
    return F.cross_entropy(model(inputs), labels)


def regression_loss(model, inputs, targets):
    """Mean squared error; the model's output is (B,) or (B, 1) for targets (B,)."""
    return F.mse_loss(model(inputs).reshape(targets.shape), targets)


def count_targets(batch):
    """How much a batch weighs in a mean over batches: its targets that count.

    Targets are the last array: ids, of which -100 do not count, or one a row.
    """
    targets = np.asarray(batch[-1])
    if targets.dtype.kind in "iu":
        return int((targets != IGNORE).sum())
    return len(targets)


def on_device(batch, device):
    """The arrays of a batch as Tensors on a device."""
    return tuple(tensor(array, device=device) for array in batch)


def check_loss(loss):
    """`loss`, if a training step can use it: one element of a graph."""
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"fit: loss(model, *batch) returned {type(loss).__name__}, not a Tensor"
        )
    if loss.numel() != 1:
        raise ValueError(
            f"fit: the loss must be one element, a mean, not of {loss.shape}"
        )
    return loss


def numbers_of(who, results):
    """What an evaluation returned, as floats by name; TypeError, which `who` begins,
    where it is no dict of numbers."""
    if not isinstance(results, Mapping):
        raise TypeError(
            f'{who} must return a dict of numbers, {{"loss": 0.5}} say, not '
            f"{checks.shown(results)}"
        )
    numbers = {}
    for name, value in results.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{who} must return a dict of numbers; {name!r} is "
                f"{checks.shown(value)}"
            ) from error
    return numbers


class Evaluation:
    """Calling it with a model gives {"loss": …, name: …}: means over a whole loader.

    `metrics`: name → function of (predictions, labels), both arrays of ids, which are
    collected over the loader; the predictions are the likeliest classes.
    """

    def __init__(self, loader, loss, metrics=None):
        checks.kind("Evaluation: loss, a function of model and batch,", loss, Callable)
        checks.kind("Evaluation: metrics", metrics or {}, dict)
        self.loader, self.loss, self.metrics = loader, loss, metrics or {}

    @no_grad()
    def __call__(self, model):
        losses, weights, predictions, labels = [], [], [], []
        with evaluating(model):
            for batch in self.loader:
                weights.append(count_targets(batch))
                moved = on_device(batch, model.device)
                loss = self.loss(model, *moved)
                losses.append(loss.array if isinstance(loss, Tensor) else loss)
                if self.metrics:
                    predictions.append(model(*moved[:-1]).argmax(-1).numpy())
                    labels.append(batch[-1])
        if not sum(weights):
            raise ValueError("Evaluation: the loader gave no target that counts")
        total = sum(x * n for x, n in zip(read(losses), weights, strict=True))
        results = {"loss": total / sum(weights)}
        if self.metrics:
            pair = np.concatenate(predictions), np.concatenate(labels)
            results |= {name: float(f(*pair)) for name, f in self.metrics.items()}
        return results
