"""The ways that only NumPy arrays go, for speed, against the plain sums."""

import math

import numpy as np
import pytest

from minibig import backend, threads
from minibig.ops import attention, convolution, elementwise, narrow, recurrence


@pytest.fixture
def two_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    "a, b",
    [((400, 300), (300, 200)), ((3, 300, 200), (200, 500)), ((8, 90, 200), (200, 200))],
)
def test_product_cut_for_two_threads_is_the_whole_product(a, b, two_threads):
    a, b = normal(*a), normal(*b, seed=1)
    assert np.prod(a.shape) * b.shape[-1] > backend.PRODUCT
    np.testing.assert_allclose(backend.matmul(a, b), a @ b, rtol=1e-4, atol=1e-4)


def test_normal_cdf_of_float32_is_within_a_ten_millionth():
    special = pytest.importorskip("scipy.special")
    x = np.linspace(-12, 12, 200_001, dtype="float32")
    found = np.empty_like(x)
    elementwise.normal_cdf(x, found)
    assert np.abs(found - special.ndtr(x.astype("float64"))).max() < 1.2e-7


def test_gelu_and_silu_far_out_warn_of_nothing_and_are_0_or_x():
    x = np.array([-1e30, -200, 0, 200, 1e30], "float32")
    for op in (elementwise.gelu, elementwise.silu):
        y, backward = op(x)
        assert np.allclose(y, np.maximum(x, 0), atol=1e-6)
        assert np.allclose(backward(np.ones_like(x))[0], [0, 0, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize(("m", "k", "n"), [(6, 25, 4096), (16, 144, 96), (3, 5, 33)])
def test_products_in_pieces_are_the_whole_products(m, k, n):
    a, b, out = normal(2, m, k), normal(2, k, n, seed=1), np.empty((2, m, n), "float32")
    narrow.wide_product(a, b, out)
    assert np.allclose(out, a @ b, atol=1e-4)
    found = narrow.long_product(out, b)
    assert np.allclose(found, out @ b.swapaxes(1, 2), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("width", [64, 40])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_products_by_panels_are_the_whole_products(width, lead):
    weight, x = normal(3, 7, width), normal(*lead, 5, 7, seed=1)
    out = np.empty((3, 5, width), "float32")
    found = narrow.by_panels(x, narrow.panels(weight), out)
    assert found is out
    assert np.allclose(found, x @ weight, atol=1e-5)


@pytest.mark.parametrize("keys", [9, 100, 300])  # kept, computed once more, in blocks
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_is_the_plain_formula_for_short_and_long_texts(keys, is_causal):
    q, k, v, do = (normal(2, keys, 4, seed=i, dtype="float64") for i in range(4))
    settings = {"is_causal": is_causal}
    y, backward = attention.scaled_dot_product_attention(q, k, v, **settings)
    scores = q @ k.swapaxes(1, 2) / math.sqrt(4)
    if is_causal:
        scores = np.where(np.tri(keys, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    assert np.allclose(y, p @ v)
    ds = p * (do @ v.swapaxes(1, 2) - (do * y).sum(-1, keepdims=True)) / 2
    for _ in range(2):  # what is kept is not changed
        dq, dk, dv, _ = backward(do)
        assert np.allclose(dq, ds @ k)
        assert np.allclose(dk, ds.swapaxes(1, 2) @ q)
        assert np.allclose(dv, p.swapaxes(1, 2) @ do)


@pytest.mark.parametrize("kernel", [(3, 2), (1, 1), (5, 5)])
@pytest.mark.parametrize(
    "padding", [((0, 0), (0, 0)), ((1, 2), (0, 1)), ((6, 0), (5, 0))]
)
def test_gradient_to_few_channels_is_that_by_places(kernel, padding):
    images = normal(2, 9, 8, 3, dtype="float64")
    weight, apart = normal(6, 2, *kernel, dtype="float64"), (1, 1)
    size = convolution.output_size((9, 8), kernel, apart, padding, apart)
    dy = normal(6, *size, 3, seed=1, dtype="float64")
    found = convolution._backward_to_few(images, weight, dy, padding)
    wanted, _ = convolution._backward(images, weight, dy, apart, padding, apart, 1)
    assert np.allclose(found, wanted)


@pytest.mark.parametrize("x_gradient", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3), (4, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)])
def test_convolution_is_a_sum_over_taps(
    stride, dilation, groups, x_gradient, two_threads
):
    """Of rows that share what they see, and of those that do not."""
    x, weight = normal(12, 4, 25, 24), normal(6, 4 // groups, 3, 2, seed=1)
    x, weight = x.astype("float64"), weight.astype("float64")
    y, backward = convolution.conv2d(
        x, weight, None, stride=stride, dilation=dilation, groups=groups,
        x_gradient=x_gradient,
    )  # fmt: skip
    dy = normal(*y.shape, seed=2, dtype="float64")
    dx, dweight, _ = backward(dy)
    plain, dx_plain, dweight_plain = np.zeros_like(y), np.zeros_like(x), weight * 0
    taps = convolution.taps((3, 2), stride, dilation, y.shape[2:])
    for tap, (_, down, right) in enumerate(taps):
        place = ..., *divmod(tap, 2)
        for g in range(groups):
            o = slice(g * 6 // groups, (g + 1) * 6 // groups)
            c = slice(g * 4 // groups, (g + 1) * 4 // groups)
            seen, w = x[:, c, down, right], weight[o][place]
            plain[:, o] += np.einsum("bchw,oc->bohw", seen, w)
            dx_plain[:, c, down, right] += np.einsum("bohw,oc->bchw", dy[:, o], w)
            dweight_plain[o][place] = np.einsum("bohw,bchw->oc", dy[:, o], seen)
    assert np.allclose(y, plain)
    assert np.allclose(dweight, dweight_plain)
    assert np.allclose(dx, dx_plain) if x_gradient else dx is None


def test_lstm_of_a_wide_state_is_that_of_its_parts():
    """Two networks of 16 units side by side, as one of 32: by panels of weights."""
    parts = [[normal(64, 8, seed=i), normal(64, 16, seed=i + 9)] for i in range(2)]
    weight_ih, weight_hh = np.zeros((128, 8), "f"), np.zeros((128, 32), "f")
    for i, (from_x, from_h) in enumerate(parts):
        places = np.arange(128).reshape(4, 2, 16)[:, i].ravel()
        weight_ih[places] = from_x
        weight_hh[places, 16 * i : 16 * i + 16] = from_h
    x, zeros = normal(5, 6, 8, seed=5), np.zeros((5, 16), "f")
    wide, both = np.zeros((5, 32), "f"), []
    (out, h, c), backward = recurrence.lstm(
        x, wide, wide, weight_ih, weight_hh, None, None
    )
    dx = backward(np.ones_like(out), np.zeros_like(h), np.zeros_like(c))[0]
    for weights in parts:
        (y, h, c), backward = recurrence.lstm(x, zeros, zeros, *weights, None, None)
        grads = backward(np.ones_like(y), np.zeros_like(h), np.zeros_like(c))
        both.append((y, grads[0]))
    assert np.allclose(out, np.concatenate([both[0][0], both[1][0]], 2), atol=1e-5)
    assert np.allclose(dx, both[0][1] + both[1][1], atol=1e-5)


def test_what_numpy_may_pass_over_holds_for_all_threads(two_threads):
    x = np.full((4096, 512), 1e38, "float32")  # enough for both threads
    with np.errstate(over="ignore"):
        y = backend.matmul(x, x[:512].T)
    assert np.isinf(y).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        backend.matmul(x, x[:512].T)
