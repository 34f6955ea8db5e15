"""Functions of images (B, C, H, W), named as in torch.nn.functional.

Sizes that differ between height and width are given as pairs.
"""

from . import backend, checks
from .arguments import check_floats
from .autograd import no_grad
from .ops import batch_norm as norms
from .ops import convolution, pooling
from .tensor import Tensor, apply


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Each place of the image, seen through the weight, + bias.

    x (B, C, H, W), weight (O, C / groups, kh, kw), bias (O,) -> (B, O, H', W') with
    H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1. `padding` is a number, a
    pair, "valid" (none) or, with stride 1, "same": H' = H.
    """
    check_floats("conv2d", input=x, weight=weight, bias=bias)
    stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
    _check_channels(x, weight, bias, checks.whole("conv2d: groups", groups, 1))
    kernel = weight.shape[2:]
    padding = conv_padding(padding, kernel, stride, dilation)
    size = convolution.output_size(x.shape[2:], kernel, stride, padding, dilation)
    _check_size("conv2d", x, kernel, size)
    return apply(
        convolution.conv2d, x, weight, bias, stride=stride, padding=padding,
        dilation=dilation, groups=groups, x_gradient=x.requires_grad,
    )  # fmt: skip


def _check_channels(x, weight, bias, groups):
    said = f"conv2d: input {x.shape}, weight {weight.shape}, groups {groups}: "
    if x.ndim != 4 or weight.ndim != 4 or not weight.numel():
        raise ValueError(said + "both need four axes, (B, C, H, W) and (O, C, kh, kw)")
    if x.shape[1] != weight.shape[1] * groups or len(weight) % groups:
        raise ValueError(
            said + "the input's channels must be groups times the weight's second "
            "size, and the groups must divide the weight's first"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"conv2d: bias {bias.shape} must have the {len(weight)} output channels"
        )


def conv_padding(padding, kernel, stride, dilation):
    """Zeros ((above, below), (left, right)) for pairs of sizes, checked."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(
                f'conv2d: padding="same" keeps the size with stride 1, not {stride}'
            )
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((n // 2, n - n // 2) for n in totals)
    if isinstance(padding, str):
        checks.choice("conv2d: padding", padding, ("same", "valid"))
    return tuple((n, n) for n in pair("padding", padding, 0))


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The largest number in each window; (B, C, H, W) -> (B, C, H', W').

    `stride` is the kernel's size unless given. With `ceil_mode` a last window may reach
    over the edge. Of equal numbers the first gets the gradient.
    """
    _check_images("max_pool2d", x)
    kernel, stride, margin = pool_sizes("max_pool2d", kernel_size, stride, padding)
    dilation = pair("dilation", dilation, 1)
    _, padding = _pool_padding(
        "max_pool2d", x, kernel, stride, margin, dilation, ceil_mode
    )
    return apply(
        pooling.max_pool2d, x, kernel=kernel, stride=stride, padding=padding,
        dilation=dilation,
    )  # fmt: skip


def avg_pool2d(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
):
    """The mean of each window; (B, C, H, W) -> (B, C, H', W').

    Zeros of the padding count unless `count_include_pad` is False; what `ceil_mode`
    lets a window see beyond them never does.
    """
    _check_images("avg_pool2d", x)
    kernel, stride, margin = pool_sizes("avg_pool2d", kernel_size, stride, padding)
    checks.switch("avg_pool2d: count_include_pad", count_include_pad)
    size, padding = _pool_padding(
        "avg_pool2d", x, kernel, stride, margin, (1, 1), ceil_mode
    )
    counted = margin if count_include_pad else (0, 0)
    counts = [
        [
            min(i * stride[a] - margin[a] + kernel[a], x.shape[2 + a] + counted[a])
            - max(i * stride[a] - margin[a], -counted[a])
            for i in range(size[a])
        ]
        for a in (0, 1)
    ]
    return apply(
        pooling.avg_pool2d, x, kernel=kernel, stride=stride, padding=padding,
        counts=counts,
    )  # fmt: skip


def _check_images(name, x):
    check_floats(name, input=x)
    if x.ndim != 4:
        raise ValueError(f"{name} takes images (B, C, H, W), not {x.shape}")


def pool_sizes(name, kernel_size, stride, padding):
    """(kernel, stride, padding) as pairs, checked; the stride's default is the
    kernel."""
    kernel, padding = pair("kernel_size", kernel_size, 1), pair("padding", padding, 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"{name}: padding {padding} is over half the kernel {kernel}")
    return kernel, kernel if stride is None else pair("stride", stride, 1), padding


def _pool_padding(name, x, kernel, stride, padding, dilation, ceil_mode):
    """(size of the output, padding that its windows need)."""
    checks.switch(f"{name}: ceil_mode", ceil_mode)
    size, found = [], []
    for n, k, s, p, d in zip(
        x.shape[2:], kernel, stride, padding, dilation, strict=True
    ):
        reach = d * (k - 1) + 1
        room = n + 2 * p - reach
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + p:  # a window of nothing but padding
            count -= 1
        size.append(count)
        found.append((p, max(p, (count - 1) * s + reach - n - p)))
    _check_size(name, x, kernel, size)
    return tuple(size), tuple(found)


def _check_size(name, x, kernel, size):
    if min(size) < 1:
        raise ValueError(
            f"{name}: the kernel {tuple(kernel)} is larger than the images {x.shape} "
            "with their padding"
        )


def batch_norm(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1,
    eps=1e-5,
):  # fmt: skip
    """(x - mean) / √(variance + eps) · weight + bias, channel by channel.

    x (B, C, …), the others (C,) (arXiv 1502.03167). In training mean and variance are
    those of the batch, and the running ones, if given, move towards them by `momentum`,
    in place, the variance without bias; else the running ones are used.
    """
    check_floats("batch_norm", input=x, weight=weight, bias=bias)
    _check_batch_norm(x, running_mean, running_var, weight, bias, training)
    checks.number("batch_norm: eps", eps, 0)
    if training:
        mean, variance = norms.statistics(x.array)
        if running_mean is not None:
            count = x.numel() // x.shape[1]
            _move(running_mean, mean, momentum)
            _move(running_var, variance * (count / (count - 1)), momentum)
    else:
        mean, variance = (
            t.array.astype(norms.widen(x.array[:0]).dtype)
            for t in (running_mean, running_var)
        )
    return apply(
        norms.batch_norm, x, weight, bias, mean=mean, variance=variance, eps=eps,
        training=training,
    )  # fmt: skip


def _check_batch_norm(x, running_mean, running_var, weight, bias, training):
    checks.switch("batch_norm: training", training)
    if x.ndim < 2:
        raise ValueError(f"batch_norm takes (B, C, …), not {x.shape}")
    given = {"running_mean": running_mean, "running_var": running_var,
             "weight": weight, "bias": bias}  # fmt: skip
    for key, p in given.items():
        if p is not None and checks.kind(key, p, Tensor).shape != x.shape[1:2]:
            raise ValueError(
                f"batch_norm: {key} {p.shape}, but the input {x.shape} has "
                f"{x.shape[1]} channels"
            )
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: give both running statistics or neither")
    if not training and running_mean is None:
        raise ValueError("batch_norm: evaluation needs running statistics")
    if training and x.numel() <= x.shape[1]:
        raise ValueError(
            f"batch_norm: training needs more than one number a channel, not {x.shape}"
        )
    arrays = (p.array for p in given.values() if p is not None)
    backend.array_module(x.array, *arrays)


@no_grad()
def _move(running, found, momentum):
    running.mul_(1 - momentum)
    running.add_(Tensor((momentum * found).astype(running.dtype, copy=False)))


def pair(name, value, low):
    """(height, width) of one whole number, or of two, each at least `low`."""
    several = isinstance(value, (tuple, list))
    if several and len(value) != 2:
        raise ValueError(f"{name} is a whole number or a pair, not {value}")
    values = value if several else (value, value)
    return tuple(checks.whole(name, n, low) for n in values)
