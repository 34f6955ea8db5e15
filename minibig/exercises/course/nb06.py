"""The exercises of notebook 06: sizes, convolution, its gradient, batch norm."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 06.output_size -----------------------------------------------------------------


def _output_size(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def _numbers(*values):
    return lambda: values


output_size = Exercise(
    name="06.output_size",
    task="Return how many places a window finds along one side of a picture.",
    solution=_output_size,
    cases=(
        Case("8 pixels, window 3", _numbers(8, 3, 1, 0)),
        Case("one pixel of padding", _numbers(8, 3, 1, 1)),
        Case("stride 2", _numbers(8, 2, 2, 0)),
        Case("padding and stride", _numbers(28, 5, 2, 2)),
        Case("a rest is left over", _numbers(10, 3, 4, 0), "edge"),
        Case("as large as the picture", _numbers(5, 5, 1, 0), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda size, kernel, stride, padding: (
                (size + 2 * padding - kernel) // stride
            ),
            "the first place counts too: 8 pixels and a window of 8 give one place, "
            "not none.",
        ),
        Mistake(
            lambda size, kernel, stride, padding: (
                (size + padding - kernel) // stride + 1
            ),
            "the padding stands on both sides, so it counts twice.",
        ),
        Mistake(
            lambda size, kernel, stride, padding: size + 2 * padding - kernel + 1,
            "the stride is not used: the window moves on by that many pixels.",
        ),
        Mistake(
            lambda size, kernel, stride, padding: (
                -(-(size + 2 * padding - kernel) // stride) + 1
            ),
            "a last window that would reach over the edge is left out: round down.",
        ),
    ),
    hints=(
        "Put the window at the left edge. How far can it still move?",
        "The picture has size + 2 · padding pixels, so the window can move by that "
        "less its own size.",
        "Divide the way by the stride, round down, and add the first place.",
    ),
)

# ---- 06.conv2d ----------------------------------------------------------------------


def _pictures(shape, kernel, stride, padding):
    def make():
        draw = np.random.default_rng(sum(shape) + sum(kernel)).normal
        return (
            draw(size=shape),
            draw(size=kernel),
            draw(size=kernel[0]),
            stride,
            padding,
        )

    return make


def _by_hand():
    x = np.array([[1.0, 2, 0, 1], [0, 1, 3, 1], [2, 1, 0, 0], [1, 0, 1, 2]])
    weight = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    return x[None, None], weight[None, None], np.zeros(1), 1, 0


def _padded(x, padding):
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _windows(x, size, stride):
    views = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))
    return views[:, :, ::stride, ::stride]  # (B, C, H', W', kh, kw)


def _conv2d(x, weight, bias, stride, padding):
    windows = _windows(_padded(x, padding), weight.shape[2:], stride)
    y = np.einsum("bchwij,ocij->bohw", windows, weight)
    return y + bias[:, None, None]


conv2d = Exercise(
    name="06.conv2d",
    task="Return the convolution of pictures (B, C, H, W) with stride and padding.",
    solution=_conv2d,
    cases=(
        Case("by hand", _by_hand),
        Case("two channels", _pictures((1, 2, 4, 5), (3, 2, 3, 3), 1, 0)),
        Case("padding", _pictures((2, 1, 4, 4), (2, 1, 3, 3), 1, 1)),
        Case("stride 2", _pictures((2, 3, 7, 6), (2, 3, 2, 3), 2, 0)),
        Case("both", _pictures((1, 2, 6, 5), (2, 2, 3, 2), 2, 1)),
        Case("1x1 windows", _pictures((2, 3, 3, 4), (2, 3, 1, 1), 1, 0), "edge"),
        Case("one place", _pictures((1, 1, 3, 3), (1, 1, 3, 3), 1, 0), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, weight, bias, stride, padding: _conv2d(
                x, weight[:, :, ::-1, ::-1], bias, stride, padding
            ),
            "the kernel is turned round, as mathematicians do; networks lay it on the "
            "window as it stands.",
        ),
        Mistake(
            lambda x, weight, bias, stride, padding: _conv2d(
                x, weight, 0 * bias, stride, padding
            ),
            "the bias is missing: every output channel adds one of its own.",
        ),
        Mistake(
            lambda x, weight, bias, stride, padding: _conv2d(
                x, weight, bias, stride, 0
            ),
            "the padding is not used: put zeros around the pictures first.",
        ),
        Mistake(
            lambda x, weight, bias, stride, padding: _conv2d(
                x, weight, bias, 1, padding
            ),
            "the stride is not used: take every stride-th place, both ways.",
        ),
        Mistake(
            lambda x, weight, bias, stride, padding: (
                _conv2d(x, weight.swapaxes(2, 3), bias, stride, padding)
                if weight.shape[2] == weight.shape[3]
                else _conv2d(x, weight, bias, stride, padding)
            ),
            "rows and columns of the kernel have changed places.",
        ),
        Mistake(
            lambda x, weight, bias, stride, padding: _conv2d(
                x[:, :1], weight[:, :1], bias, stride, padding
            ),
            "only the first input channel is seen; add up over all of them.",
        ),
    ),
    hints=(
        "Pad first. Then think of one output number: which window does it see?",
        "Output (i, j) sees rows i · stride to i · stride + kh, and columns likewise; "
        "multiply the window by weight[o] and add everything up.",
        "windows = sliding_window_view(x, (kh, kw), (2, 3))[:, :, ::stride, ::stride] "
        "is (B, C, H', W', kh, kw), and einsum('bchwij,ocij->bohw', …) does the rest.",
    ),
)

# ---- 06.weight_gradient -------------------------------------------------------------


def _gradient_inputs(shape, kernel):
    def make():
        rng = np.random.default_rng(sum(shape))
        b, _, h, w = shape
        o, _, kh, kw = kernel
        dy = rng.normal(size=(b, o, h - kh + 1, w - kw + 1))
        return rng.normal(size=shape), dy

    return make


def _weight_gradient(x, dy):
    size = [n - m + 1 for n, m in zip(x.shape[2:], dy.shape[2:], strict=True)]
    return np.einsum("bchwij,bohw->ocij", _windows(x, tuple(size), 1), dy)


weight_gradient = Exercise(
    name="06.weight_gradient",
    task="Return dW (O, C, kh, kw) of a convolution with stride 1 and no padding.",
    solution=_weight_gradient,
    cases=(
        Case("one channel", _gradient_inputs((2, 1, 4, 4), (1, 1, 3, 3)), "gradient"),
        Case("channels", _gradient_inputs((2, 3, 5, 4), (2, 3, 2, 2)), "gradient"),
        Case("a batch", _gradient_inputs((5, 2, 4, 6), (3, 2, 3, 2)), "gradient"),
        Case("normal use", _gradient_inputs((8, 2, 8, 8), (4, 2, 3, 3))),
        Case("one place", _gradient_inputs((3, 2, 3, 3), (2, 2, 3, 3)), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, dy: _weight_gradient(x, dy) / len(x),
            "the pictures of a batch are added up, not averaged: the mean is in dy.",
        ),
        Mistake(
            lambda x, dy: _weight_gradient(x[:1], dy[:1]),
            "only the first picture is counted; all of the batch used the weight.",
        ),
        Mistake(
            lambda x, dy: _weight_gradient(x, dy)[:, :, ::-1, ::-1],
            "the result is turned round: tap (u, v) met pixel (i + u, j + v).",
        ),
        Mistake(
            lambda x, dy: _weight_gradient(x, dy).swapaxes(0, 1),
            "output and input channels have changed places: dW is (O, C, kh, kw).",
        ),
    ),
    hints=(
        "A weight served every place of every picture: its gradient is a sum over all.",
        "Tap (u, v) met pixel x[b, c, i + u, j + v] whenever it made y[b, o, i, j].",
        "For each u and v, x[:, :, u : u + H', v : v + W'] against dy: "
        "einsum('bchw,bohw->oc', …).",
    ),
)

# ---- 06.batch_norm ------------------------------------------------------------------


def _batch(shape, momentum=0.1, offset=0.0):
    def make():
        rng = np.random.default_rng(sum(shape))
        x = rng.normal(offset, 2.0, shape)
        return x, rng.normal(size=shape[1]), rng.uniform(1, 2, shape[1]), momentum

    return make


def _batch_norm(x, running_mean, running_var, momentum, axes=(0, 2, 3), ddof=1):
    count = x.size // x.shape[1]
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    y = (x - mean) / np.sqrt(variance + 1e-5)
    unbiased = variance.ravel() * count / (count - ddof)
    mean = (1 - momentum) * running_mean + momentum * mean.ravel()
    return y, mean, (1 - momentum) * running_var + momentum * unbiased


def _per_picture(x, running_mean, running_var, momentum):
    y = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(
        x.var((2, 3), keepdims=True) + 1e-5
    )
    return (y, *_batch_norm(x, running_mean, running_var, momentum)[1:])


def _with_running(x, running_mean, running_var, momentum):
    _, mean, variance = _batch_norm(x, running_mean, running_var, momentum)
    column = (slice(None), None, None)
    y = (x - running_mean[column]) / np.sqrt(running_var[column] + 1e-5)
    return y, mean, variance


def _without_root(x, running_mean, running_var, momentum):
    _, mean, variance = _batch_norm(x, running_mean, running_var, momentum)
    centred = x - x.mean((0, 2, 3), keepdims=True)
    return centred / (x.var((0, 2, 3), keepdims=True) + 1e-5), mean, variance


def _swapped_momentum(x, running_mean, running_var, momentum):
    return _batch_norm(x, running_mean, running_var, 1 - momentum)


def _biased(x, running_mean, running_var, momentum):
    return _batch_norm(x, running_mean, running_var, momentum, ddof=0)


batch_norm = Exercise(
    name="06.batch_norm",
    task="Return the normalised pictures and the two new running statistics.",
    solution=_batch_norm,
    cases=(
        Case("two channels", _batch((4, 2, 3, 3))),
        Case("three channels", _batch((5, 3, 2, 4), 0.25)),
        Case("far from zero", _batch((6, 2, 2, 2), 0.1, 100.0)),
        Case("one pixel each", _batch((7, 3, 1, 1)), "edge"),
        Case("one picture", _batch((1, 2, 4, 4)), "edge"),
    ),
    mistakes=(
        Mistake(
            _per_picture,
            "mean and variance are of a channel over the whole batch, not of each "
            "picture alone: axes 0, 2 and 3.",
        ),
        Mistake(
            _with_running,
            "in training the batch's own mean and variance are used; the running ones "
            "are for evaluation.",
        ),
        Mistake(
            _without_root,
            "divide by the standard deviation, the root of the variance plus 1e-5.",
        ),
        Mistake(
            _swapped_momentum,
            "the new value has weight momentum and the old one 1 - momentum, here as "
            "in PyTorch; elsewhere it may be the other way round.",
        ),
        Mistake(
            _biased,
            "the running variance is the unbiased one: n/(n - 1) times the batch's.",
        ),
    ),
    hints=(
        "Which numbers share a mean? All of one channel: B · H · W of them.",
        "x.mean((0, 2, 3), keepdims=True) broadcasts against x; x.var is the biased "
        "variance, which the pictures are divided by.",
        "running_var moves to (1 - momentum) · running_var + momentum · n/(n - 1) · "
        "variance, with n = B · H · W.",
    ),
)
