"""Records of convolution, pooling and batch norm."""

import math
import warnings

import numpy

import minibig as mb
from minibig import functional as F

from .neural import affine
from .record import LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal

IMAGES = LAYOUTS - {"0-d", "1-d", "2-d", "3-d"}


def images(rng):
    """Images (2, 4, 5, 6) by how they lie in memory, and some of other sizes."""
    return {
        "plain": normal(rng, (2, 4, 5, 6)),
        "batch last": normal(rng, (4, 5, 6, 2)).transpose(3, 0, 1, 2),
        "transposed": normal(rng, (6, 5, 4, 2)).T,
        "strided": normal(rng, (2, 8, 5, 12))[:, ::2, :, 1::2],
        "negative stride": normal(rng, (2, 4, 5, 6))[::-1, :, ::-1, ::-1],
        "broadcast": numpy.broadcast_to(normal(rng, (1, 4, 5, 6)), (2, 4, 5, 6)),
        "one image": normal(rng, (1, 4, 4, 3)),
        "no image": normal(rng, (0, 4, 5, 6)),
    }


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def tap(x, i, j, size, stride, dilation):
    """What place (i, j) of the window sees, (B, C, H', W')."""
    starts = [n * d for n, d in zip((i, j), dilation, strict=True)]
    rows, cols = (
        slice(a, a + (n - 1) * s + 1, s)
        for a, n, s in zip(starts, size, stride, strict=True)
    )
    return x[:, :, rows, cols]


def around(np, x, before, after, value=0.0):
    margins = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    return np.pad(x, margins, mode="constant", constant_values=value)


# ---- convolution --------------------------------------------------------------------


def _conv2d(np, x, weight, bias, stride=1, padding=0, dilation=1, groups=1):
    stride, dilation, kernel = pair(stride), pair(dilation), weight.shape[2:]
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":
        before = [n // 2 for n in reach]
        after = [n - n // 2 for n in reach]
    else:
        before = after = (0, 0) if padding == "valid" else pair(padding)
    x = around(np, x, before, after)
    size = [
        (n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)
    ]
    batch, (out, inner) = len(x), weight.shape[:2]
    weight = np.reshape(weight, (groups, out // groups, inner, *kernel))
    total = 0.0
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            seen = tap(x, i, j, size, stride, dilation)
            seen = np.reshape(seen, (batch, groups, inner, *size))
            total = total + np.einsum("bgchw,goc->bgohw", seen, weight[:, :, :, i, j])
    y = np.reshape(total, (batch, out, *size))
    return y if bias is None else y + np.reshape(bias, (1, out, 1, 1))


def _conv2d_samples(rng):
    x = images(rng)

    def sample(kind, out, kernel, bias=True, **settings):
        inner = 4 // settings.get("groups", 1)
        weight = normal(rng, (out, inner, *kernel))
        return Sample(
            (x[kind], weight, normal(rng, (out,)) if bias else None), settings
        )

    turned = normal(rng, (2, 3, 4, 3)).T  # (3, 4, 3, 2)
    return [
        sample("plain", 3, (3, 3)),
        sample("plain", 3, (3, 3), False, padding=1),
        sample("plain", 2, (1, 1), stride=2),
        sample("plain", 3, (2, 3), stride=(2, 1), padding=(1, 2)),
        sample("plain", 2, (3, 3), stride=3, padding=2, dilation=(1, 2)),
        sample("plain", 2, (2, 2), stride=(2, 3), padding=1, dilation=(3, 2)),
        sample("plain", 2, (2, 2), stride=4),
        sample("plain", 6, (3, 3), groups=2, padding="same"),
        sample("plain", 4, (3, 2), False, groups=4, stride=2, padding=1),
        sample("plain", 3, (2, 4), padding="same", dilation=(2, 1)),
        sample("plain", 3, (5, 6), padding="valid"),
        sample("plain", 2, (3, 3), padding=4),
        sample("batch last", 3, (3, 3), padding=1),
        sample("transposed", 3, (3, 3), False, stride=2),
        sample("strided", 3, (2, 2)),
        sample("negative stride", 3, (2, 3), padding=1),
        sample("broadcast", 3, (3, 3)),
        sample("one image", 1, (4, 3)),
        sample("no image", 3, (3, 3)),
        Sample((x["plain"], turned, normal(rng, (6,))[::2])),
        Sample((x["one image"], x["one image"], None)),
    ]


def _conv2d_in_torch(torch, x, weight, bias, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "same" with even kernels makes a copy
        return torch.nn.functional.conv2d(x, weight, bias, **settings)


def _refused(call, *facts):
    return refuses(ValueError, call, *facts)


CONV2D = Record(
    "images.conv2d", F.conv2d, _conv2d, _conv2d_samples,
    _conv2d_in_torch,
    errors=(
        refuses(
            TypeError, lambda: F.conv2d(mb.tensor([[[[1]]]]), mb.ones(1, 1, 1, 1)),
            "conv2d", "int64",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(3, 4, 4), mb.ones(2, 3, 1, 1)), "(3, 4, 4)", "four"
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 3, 4, 4), mb.ones(2, 4, 1, 1)),
            "(1, 3, 4, 4)", "(2, 4, 1, 1)", "channels",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 4, 4, 4), mb.ones(3, 2, 1, 1), groups=2),
            "(3, 2, 1, 1)", "groups 2",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 1, 4, 4), mb.ones(2, 1, 1, 1), mb.ones(3)),
            "bias (3,)", "2 output channels",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 1, 4, 4), mb.ones(1, 1, 5, 3)),
            "(5, 3)", "larger", "(1, 1, 4, 4)",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 1, 4, 4), mb.ones(1, 1, 3, 3), padding="full"),
            "padding", '"same"', "'full'",
        ),
        _refused(
            lambda: F.conv2d(
                mb.ones(1, 1, 4, 4), mb.ones(1, 1, 3, 3), stride=2, padding="same"
            ),
            '"same"', "(2, 2)",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 1, 4, 4), mb.ones(1, 1, 3, 3), stride=0),
            "stride", "0",
        ),
        _refused(
            lambda: F.conv2d(mb.ones(1, 1, 4, 4), mb.ones(1, 1, 3, 3), padding=(1,)),
            "padding", "pair", "(1,)",
        ),
    ),
    domain="images (B, C, H, W)", admits=IMAGES | {"same tensor twice"},
)  # fmt: skip


# ---- pooling ------------------------------------------------------------------------


def _windows(x, kernel_size, stride, padding, ceil_mode, dilation=1):
    """(kernel, stride, padding, size of the output, rows and columns seen beyond)."""
    kernel, padding, dilation = pair(kernel_size), pair(padding), pair(dilation)
    stride = kernel if stride is None else pair(stride)
    size, beyond = [], []
    for n, k, s, p, d in zip(
        x.shape[2:], kernel, stride, padding, dilation, strict=True
    ):
        room = n + 2 * p - d * (k - 1) - 1
        count = (math.ceil if ceil_mode else math.floor)(room / s) + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        size.append(count)
        beyond.append(max(p, (count - 1) * s + d * (k - 1) + 1 - n - p))
    return kernel, stride, padding, size, beyond


def _max_pool2d(
    np, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False
):
    kernel, stride, padding, size, beyond = _windows(
        x, kernel_size, stride, padding, ceil_mode, dilation
    )
    x = around(np, x, padding, beyond, -math.inf)
    seen = [
        tap(x, i, j, size, stride, pair(dilation))
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return np.max(np.stack(seen), axis=0)


def _avg_pool2d(
    np, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
):
    kernel, stride, padding, size, beyond = _windows(
        x, kernel_size, stride, padding, ceil_mode
    )
    ones = numpy.ones((1, 1, *x.shape[2:]))
    counted = around(numpy, ones, padding, padding, float(count_include_pad))
    rest = [max(b - p, 0) for b, p in zip(beyond, padding, strict=True)]
    counted = around(numpy, counted, (0, 0), rest)
    x = around(np, x, padding, beyond)
    total, count = 0.0, 0.0
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            total = total + tap(x, i, j, size, stride, (1, 1))
            count = count + tap(counted, i, j, size, stride, (1, 1))
    return total / count


def _pool_samples(*own):
    def samples(rng):
        x = images(rng)
        every = [
            {"kernel_size": 2},
            {"kernel_size": (2, 3), "stride": (1, 2)},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": 3, "stride": 2, "ceil_mode": True},
            {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
            {"kernel_size": (5, 6)},
            {"kernel_size": 1, "stride": 2},
            {"kernel_size": (3, 2), "stride": 1, "padding": (1, 0)},
        ]
        found = [Sample((x["plain"],), settings) for settings in (*every, *own)]
        kinds = [kind for kind in x if kind != "plain"]
        return found + [
            Sample((x[kind],), every[i % 5]) for i, kind in enumerate(kinds)
        ]

    return samples


def _pool_errors(name):
    call, x = getattr(F, name), mb.ones(1, 1, 4, 4)
    return (
        refuses(TypeError, lambda: call(x.long(), 2), name, "int64"),
        _refused(lambda: call(mb.ones(4, 4), 2), name, "(4, 4)", "(B, C, H, W)"),
        _refused(lambda: call(x, 5), name, "(5, 5)", "(1, 1, 4, 4)"),
        _refused(lambda: call(x, 2, padding=2), name, "(2, 2)", "half"),
        _refused(lambda: call(x, 0), "kernel_size", "0"),
        _refused(lambda: call(x, (1, 2, 3)), "kernel_size", "(1, 2, 3)"),
        refuses(TypeError, lambda: call(x, 2, ceil_mode=1), "ceil_mode", "True"),
    )


POOLS = [
    Record(
        "images.max_pool2d", F.max_pool2d, _max_pool2d,
        _pool_samples({"kernel_size": 2, "stride": 1, "dilation": (2, 3)}),
        lambda torch, x, **settings: torch.nn.functional.max_pool2d(x, **settings),
        errors=_pool_errors("max_pool2d"),
        domain="images (B, C, H, W); no ties (kinks)", admits=IMAGES,
    ),
    Record(
        "images.avg_pool2d", F.avg_pool2d, _avg_pool2d,
        _pool_samples(
            {"kernel_size": 3, "padding": 1, "count_include_pad": False},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True,
             "count_include_pad": False},
            {"kernel_size": (3, 2), "stride": 3, "padding": 1, "ceil_mode": True},
        ),
        lambda torch, x, **settings: torch.nn.functional.avg_pool2d(x, **settings),
        errors=_pool_errors("avg_pool2d"),
        domain="images (B, C, H, W)", admits=IMAGES,
    ),
]  # fmt: skip


# ---- batch norm ---------------------------------------------------------------------


def _batch_norm(np, x, weight, bias, running=None, eps=1e-5):
    """In training, unless `running` gives (mean, variance)."""
    shape = (1, -1, *(1,) * (len(x.shape) - 2))
    if running is None:
        axes = (0, *range(2, len(x.shape)))
        mean = np.mean(x, axis=axes, keepdims=True)
        variance = np.mean((x - mean) ** 2, axis=axes, keepdims=True)
    else:
        mean, variance = (np.reshape(np.array(r), shape) for r in running)
    weight, bias = (None if p is None else np.reshape(p, shape) for p in (weight, bias))
    return affine((x - mean) / np.sqrt(variance + eps), weight, bias)


def _ours(x, weight, bias, running=None, eps=1e-5):
    if running is None:
        return F.batch_norm(x, None, None, weight, bias, True, eps=eps)
    running = (mb.tensor(r, dtype=x.dtype, device=x.device) for r in running)
    return F.batch_norm(x, *running, weight, bias, eps=eps)


def _theirs(torch, x, weight, bias, running=None, eps=1e-5):
    norm = torch.nn.functional.batch_norm
    if running is None:
        return norm(x, None, None, weight, bias, True, eps=eps)
    running = (torch.tensor(r, dtype=x.dtype) for r in running)
    return norm(x, *running, weight, bias, eps=eps)


def _batch_norm_samples(rng):
    found, running = [], ([0.5, -1.0, 2.0, 0.25], [1.0, 0.5, 2.0, 4.0])
    several = [x for x in layouts(rng).values() if x.ndim > 1 and x.size > x.shape[1]]
    every = [*images(rng).values(), *several, normal(rng, (5, 4))]
    for i, x in enumerate(every):
        channels = x.shape[1]
        weight = normal(rng, (channels,)) if i & 1 else None
        bias = normal(rng, (channels,)) if i & 2 else None
        if x.size > channels:
            found.append(Sample((x, weight, bias), {"eps": 0.1}))
        if channels == 4:
            found.append(Sample((x, weight, bias), {"running": running}))
    return found


def _evaluated(x, mean, variance, **given):
    return lambda: F.batch_norm(x, mean, variance, **given)


BATCH_NORM = Record(
    "images.batch_norm", _ours, _batch_norm, _batch_norm_samples, _theirs,
    errors=(
        refuses(
            TypeError, _evaluated(mb.ones(2, 3).long(), mb.zeros(3), mb.ones(3)),
            "batch_norm", "int64",
        ),
        _refused(_evaluated(mb.ones(3), mb.zeros(3), mb.ones(3)), "(B, C", "(3,)"),
        _refused(
            _evaluated(mb.ones(2, 3), mb.zeros(2), mb.ones(3)),
            "running_mean (2,)", "3 channels",
        ),
        _refused(
            _evaluated(mb.ones(2, 3), mb.zeros(3), mb.ones(3), weight=mb.ones(4)),
            "weight (4,)", "3 channels",
        ),
        _refused(_evaluated(mb.ones(2, 3), None, None), "evaluation", "running"),
        _refused(_evaluated(mb.ones(2, 3), mb.ones(3), None), "both", "neither"),
        _refused(
            _evaluated(mb.ones(1, 3), None, None, training=True), "more than one",
            "(1, 3)",
        ),
        _refused(
            _evaluated(mb.ones(2, 3), None, None, training=True, eps=-1), "eps", "-1"
        ),
    ),
    domain="more than one number a channel in training",
    admits=LAYOUTS - {"0-d"},
)  # fmt: skip

RECORDS = [CONV2D, *POOLS, BATCH_NORM]
