"""What a model is trained to make small, named as in torch.nn.functional."""

from . import checks
from .arguments import beside, check_floats, check_ids, ids_array
from .creation import tensor
from .operators import operands
from .ops import losses
from .tensor import Tensor, apply


def cross_entropy(
    logits, ids, *, ignore_index=-100, label_smoothing=0.0, reduction="mean"
):
    """-log softmax(logits)[id] in nats: logits (..., V), ids (...).

    "mean" is over the ids that are not `ignore_index`, "sum" adds them up, "none" gives
    (...). Smoothing s puts s of the target evenly on all V (arXiv 1512.00567).
    IndexError for an id outside 0 … V - 1, ValueError if all are ignored: no mean.
    """
    check_floats("cross_entropy", logits=logits)
    array = ids_array(ids, "cross_entropy")
    if not logits.ndim or logits.shape[:-1] != array.shape or not logits.shape[-1]:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} and ids {array.shape}: the ids must "
            "have the shape of the logits without their last axis, the classes"
        )
    checks.number("cross_entropy: label_smoothing", label_smoothing, 0, 1)
    checks.whole("cross_entropy: ignore_index", ignore_index)
    _check_reduction(reduction)
    array = beside(array, logits)
    kept = array != ignore_index
    check_ids(array[kept], logits.shape[-1], "cross_entropy", "classes")
    costs = apply(
        losses.cross_entropy, logits, ids=array, ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )  # fmt: skip
    if reduction != "mean":
        return _reduced(costs, reduction)
    count = int(kept.sum())
    if not count:
        raise ValueError(
            "cross_entropy: every id is ignored (or there is none): no mean"
        )
    return costs.sum() / count


def _check_reduction(reduction):
    checks.choice("reduction", reduction, ("mean", "sum", "none"))


def _reduced(costs, reduction):
    return {"mean": costs.mean, "sum": costs.sum, "none": lambda: costs}[reduction]()


def _pair(name, x, target, reduction):
    check_floats(name, input=x)
    _check_reduction(reduction)
    target = target if isinstance(target, Tensor) else tensor(target, device=x.device)
    x, target = operands(x, target.to(x.dtype), name)
    check_floats(name, input=x, target=target)
    if x.shape != target.shape:
        raise ValueError(f"{name}: input {x.shape} and target {target.shape} differ")
    if not x.numel():
        raise ValueError(f"{name}: no elements in shape {x.shape}")
    return x, target


def binary_cross_entropy_with_logits(logits, target, *, reduction="mean"):
    """-t log σ(x) - (1 - t) log(1 - σ(x)) in nats; target in 0 … 1, same shape."""
    name = "binary_cross_entropy_with_logits"
    pair = _pair(name, logits, target, reduction)
    return _reduced(apply(losses.binary_cross_entropy_with_logits, *pair), reduction)


def mse_loss(x, target, *, reduction="mean"):
    """The mean of (x - target)²; equal shapes."""
    pair = _pair("mse_loss", x, target, reduction)
    return _reduced(apply(losses.squared_error, *pair), reduction)


def l1_loss(x, target, *, reduction="mean"):
    """The mean of |x - target|; equal shapes."""
    x, target = _pair("l1_loss", x, target, reduction)
    return _reduced((x - target).abs(), reduction)
