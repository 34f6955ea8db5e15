"""What a model is trained to make small, named as in torch.nn.functional.

Of 16 bits a loss is computed in float32, and is one.
"""

from . import checks
from .arguments import beside, check_floats, check_ids, ids_array, known_bounds
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
    IndexError for an id outside 0 … V - 1, ValueError if all are ignored: no mean (NaN
    on a GPU, where to find out would take longer than the loss).
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
    count = _count_checked(array, known_bounds(ids), ignore_index, logits.shape[-1])
    all_count = isinstance(count, int) and count == array.size
    costs = apply(
        losses.cross_entropy, logits, ids=beside(array, logits),
        ignore_index=None if all_count else ignore_index,
        label_smoothing=label_smoothing,
    )  # fmt: skip
    if reduction != "mean":
        return _reduced(costs, reduction)
    if isinstance(count, Tensor):
        return costs.sum() / count.to(logits.device)
    if not count:
        raise ValueError(
            "cross_entropy: every id is ignored (or there is none): no mean"
        )
    return costs.sum() / count


def _count_checked(ids, bounds, ignored, classes):
    """How many ids count; IndexError unless these lie in 0 … classes - 1.

    Where `bounds` of ids on a GPU show that all is well, nobody waits for the GPU: then
    it is ids.size, or a Tensor that the GPU counts.
    """
    if bounds and not bounds[0] <= ignored <= bounds[2]:
        check_ids(ids, classes, "cross_entropy", "classes", bounds)
        return ids.size
    kept = ids != ignored
    if bounds and bounds[0] == ignored and 0 <= bounds[1] <= bounds[2] < classes:
        return Tensor(kept.sum())
    check_ids(ids[kept], classes, "cross_entropy", "classes")
    return int(kept.sum())


def _check_reduction(reduction):
    checks.choice("reduction", reduction, ("mean", "sum", "none"))


def _reduced(costs, reduction):
    return {"mean": costs.mean, "sum": costs.sum, "none": lambda: costs}[reduction]()


def _pair(name, x, target, reduction):
    check_floats(name, input=x)
    _check_reduction(reduction)
    target = target if isinstance(target, Tensor) else tensor(target, device=x.device)
    x = x.float() if x.dtype.itemsize == 2 and x.is_floating_point() else x
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
