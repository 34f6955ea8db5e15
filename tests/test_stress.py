"""Large numbers: finite, close to float64 and without a warning (here an error).

float32 at ±1e4 within 1e-6, float16 at ±6e4 within 1e-2, row by row.
"""

import math

import numpy as np
import pytest
from op_table import leaf
from scipy import special

import minibig as mb
from minibig import functional as F

WIDTHS = [("float32", 1e4, 1e-6), ("float16", 6e4, 1e-2)]
SIZES = pytest.mark.parametrize("dtype, size, digits", WIDTHS)


def rows_of(dtype, size, spread=True):
    """Rows of numbers up to `size`: ends, ties, near-ties, noise; (7, 6).

    Without `spread`, the numbers of a row differ by no more than `size`: float16 could
    not hold their difference.
    """
    rng = np.random.default_rng(0)
    ends = [size, -size] * 3 if spread else [size, 0] * 3
    noise = rng.uniform(-size if spread else 0, size, (3, 6))
    rows = [ends, [size] * 6, [-size] * 6, rng.uniform(-3, 3, 6), *noise]
    return np.array(rows).astype(dtype)


def upstream_of(shape, dtype):
    return np.asarray(np.random.default_rng(1).uniform(-1, 1, shape)).astype(dtype)


def close(found, expected, digits):
    """Finite, and within `digits` of the largest number of the row."""
    assert np.isfinite(found).all()
    least = float(np.finfo(found.dtype).smallest_subnormal)
    scale = np.abs(expected)
    scale = scale.max(-1, keepdims=True) if scale.ndim > 1 else scale
    error = np.abs(found.astype("float64") - expected)
    assert (error <= digits * scale + least).all(), (found, expected)


def hold(function, x, digits, value, slope, widens=False):
    """`function` and its gradient against `value(x)` and `slope(x, dy)` in float64.

    With `widens` float16 gives float32.
    """
    tensor = leaf(x)
    y = function(tensor)
    dy = upstream_of(y.shape, y.dtype)
    y.backward(mb.tensor(dy))
    assert tensor.grad.dtype == x.dtype
    assert y.dtype == ("float32" if widens and x.dtype == "float16" else x.dtype)
    wide = x.astype("float64")
    close(y.numpy(), value(wide), digits)
    close(tensor.grad.numpy(), slope(wide, dy.astype("float64")), digits)


# ---- softmax and its kin ------------------------------------------------------------


def softmax_slope(x, dy):
    y = special.softmax(x, -1)
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def log_softmax_slope(x, dy):
    return dy - special.softmax(x, -1) * dy.sum(-1, keepdims=True)


@SIZES
@pytest.mark.parametrize("dim", [0, -1])
def test_softmax_of_large_scores(dtype, size, digits, dim):
    x = rows_of(dtype, size)
    x = x if dim else np.ascontiguousarray(x.T)

    def along(function):
        return lambda *arrays: function(*(np.moveaxis(a, dim, -1) for a in arrays))

    def value(x):
        return special.softmax(x, dim)

    def slope(x, dy):
        return np.moveaxis(along(softmax_slope)(x, dy), -1, dim)

    hold(lambda x: F.softmax(x, dim), x, digits, value, slope)


@SIZES
def test_log_softmax_of_large_scores(dtype, size, digits):
    x = rows_of(dtype, size, spread=dtype != "float16")
    hold(
        lambda x: F.log_softmax(x, -1), x, digits,
        lambda x: special.log_softmax(x, -1), log_softmax_slope,
    )  # fmt: skip


@SIZES
def test_logsumexp_of_large_scores(dtype, size, digits):
    hold(
        lambda x: x.logsumexp(-1), rows_of(dtype, size), digits,
        lambda x: special.logsumexp(x, -1),
        lambda x, dy: special.softmax(x, -1) * dy[:, None],
    )  # fmt: skip


@SIZES
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_large_logits(dtype, size, digits, smoothing):
    x = rows_of(dtype, size, spread=dtype != "float16")
    ids = np.array([1, 0, 5, 2, 3, 4, 0])
    target = (1 - smoothing) * np.eye(6)[ids] + smoothing / 6

    def value(x):
        return -(target * special.log_softmax(x, -1)).sum(-1)

    def slope(x, dy):
        return (special.softmax(x, -1) - target) * dy[:, None]

    def loss(x):
        return F.cross_entropy(x, ids, label_smoothing=smoothing, reduction="none")

    hold(loss, x, digits, value, slope, widens=True)


def test_cross_entropy_costs_the_gap_where_a_probability_would_be_zero():
    logits = mb.tensor([[1e4, -1e4]], requires_grad=True)
    loss = F.cross_entropy(logits, [1])
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.tolist() == [[1, -1]]


@SIZES
def test_binary_cross_entropy_of_large_logits(dtype, size, digits):
    x = rows_of(dtype, size)
    t = np.broadcast_to(np.array([0, 1, 1, 0, 0.5, 0.25]), x.shape).astype(dtype)
    hold(
        lambda x: F.binary_cross_entropy_with_logits(
            x, mb.tensor(t), reduction="none"
        ),
        x, digits,
        lambda x: np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))),
        lambda x, dy: dy * (special.expit(x) - t),
        widens=True,
    )  # fmt: skip


# ---- activations --------------------------------------------------------------------


def normal_density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def tanh_gelu(x):
    return x * special.expit(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def tanh_gelu_slope(x, dy):
    rate = 2 * math.sqrt(2 / math.pi)
    s = special.expit(rate * (x + 0.044715 * x**3))
    return dy * (s + x * s * (1 - s) * rate * (1 + 3 * 0.044715 * x * x))


def silu_slope(x, dy):
    s = special.expit(x)
    return dy * s * (1 + x * (1 - s))


ACTIVATIONS = {
    "gelu": (
        F.gelu, lambda x: x * special.ndtr(x),
        lambda x, dy: dy * (special.ndtr(x) + x * normal_density(x))),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), tanh_gelu, tanh_gelu_slope),
    "silu": (F.silu, lambda x: x * special.expit(x), silu_slope),
    "sigmoid": (
        F.sigmoid, special.expit,
        lambda x, dy: dy * special.expit(x) * special.expit(-x)),
    "tanh": (F.tanh, np.tanh, lambda x, dy: dy / np.cosh(np.clip(x, -300, 300)) ** 2),
    "relu": (F.relu, lambda x: np.maximum(x, 0), lambda x, dy: dy * (x > 0)),
}  # fmt: skip


@SIZES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_large_numbers(name, dtype, size, digits):
    call, value, slope = ACTIVATIONS[name]
    hold(call, rows_of(dtype, size), digits, value, slope)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_x_far_right_and_zero_far_left(approximate):
    x = mb.tensor([1e4, -1e4], requires_grad=True)
    y = F.gelu(x, approximate)
    y.sum().backward()
    assert y.tolist() == [1e4, 0]
    assert x.grad.tolist() == [1, 0]


# ---- normalization ------------------------------------------------------------------


def layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def layer_norm_slope(x, dy):
    normal = layer_norm(x)
    scale = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    rest = dy.mean(-1, keepdims=True) + normal * (dy * normal).mean(-1, keepdims=True)
    return (dy - rest) * scale


def rms_norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def rms_norm_slope(x, dy):
    normal = rms_norm(x)
    scale = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return (dy - normal * (dy * normal).mean(-1, keepdims=True)) * scale


@SIZES
def test_layer_norm_of_large_numbers(dtype, size, digits):
    x = rows_of(dtype, size)
    hold(lambda x: F.layer_norm(x, (6,)), x, digits, layer_norm, layer_norm_slope)


@SIZES
def test_rms_norm_of_large_numbers(dtype, size, digits):
    x = rows_of(dtype, size)
    hold(lambda x: F.rms_norm(x, (6,)), x, digits, rms_norm, rms_norm_slope)


def far_from_zero():
    """Numbers with deviation 1 around 1e4: their squares differ in the eighth digit."""
    return (1e4 + np.random.default_rng(0).standard_normal((4, 1000))).astype("float32")


def test_variance_is_computed_from_distances_not_from_squares():
    x = far_from_zero()
    found = mb.tensor(x).var(-1).numpy()
    np.testing.assert_allclose(found, x.astype("float64").var(-1, ddof=1), rtol=1e-5)


def test_layer_norm_is_computed_from_distances_not_from_squares():
    x = far_from_zero()
    found = F.layer_norm(mb.tensor(x), (1000,)).numpy()
    expected = layer_norm(x.astype("float64"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.std(-1), 1, rtol=1e-5)


# ---- attention ----------------------------------------------------------------------


def attention_inputs(dtype, size=1.0, lead=(2,)):
    rng = np.random.default_rng(0)
    return [
        leaf((size * rng.standard_normal((*lead, n, 4))).astype(dtype))
        for n in (3, 5, 5)
    ]


MASKS = {
    "boolean": lambda allowed, dtype: mb.tensor(allowed),
    "float": lambda allowed, dtype: mb.tensor(
        np.where(allowed, 0.0, -math.inf).astype(dtype)
    ),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", MASKS)
def test_a_query_that_sees_nothing_gets_zeros_and_zero_gradients(kind, dtype):
    allowed = np.ones((2, 3, 5), bool)
    allowed[0, 1] = allowed[1] = False  # one query, and a whole batch row
    q, k, v = attention_inputs(dtype)
    y = F.scaled_dot_product_attention(q, k, v, MASKS[kind](allowed, dtype))
    y.backward(mb.tensor(upstream_of(y.shape, dtype)))
    assert not y.numpy()[0, 1].any() and not y.numpy()[1].any()
    assert not q.grad.numpy()[0, 1].any()
    for x in (q, k, v):
        assert np.isfinite(x.grad.numpy()).all()
        assert not x.grad.numpy()[1].any() and x.grad.numpy()[0].any()


def test_queries_before_all_keys_get_zeros_and_zero_gradients():
    q, k, v = attention_inputs("float32")
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, offset=-2)
    y.backward(mb.tensor(upstream_of(y.shape, "float32")))
    assert not y.numpy()[:, :2].any() and y.numpy()[:, 2].any()
    assert not q.grad.numpy()[:, :2].any() and not k.grad.numpy()[:, 1:].any()


@pytest.mark.parametrize("dtype, size", [("float32", 1e2), ("float16", 2e2)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_with_scores_of_ten_thousands(dtype, size, is_causal):
    inputs = attention_inputs(dtype, size)
    wide = [leaf(x.numpy().astype("float64")) for x in inputs]
    dy = upstream_of((2, 3, 4), dtype)
    for tensors in (inputs, wide):
        y = F.scaled_dot_product_attention(*tensors, is_causal=is_causal)
        y.backward(mb.tensor(dy.astype(y.dtype)))
        if tensors is inputs:
            found = y
    close(found.numpy(), y.numpy(), 1e-6 if dtype == "float32" else 1e-2)
    for x, exact in zip(inputs, wide, strict=True):
        error = np.abs(x.grad.numpy() - exact.grad.numpy())
        assert np.isfinite(error).all()
        if dtype == "float32":  # gradients are small differences of size²
            assert error.max() <= 1e-6 * size**2


def test_attention_ignores_what_masked_keys_and_values_hold():
    q, k, v = attention_inputs("float32")
    allowed = np.array([True, True, True, True, False])
    before = F.scaled_dot_product_attention(q, k, v, mb.tensor(allowed)).numpy().copy()
    for x in (k, v):
        x.array[:, -1] = 1e30
    after = F.scaled_dot_product_attention(q, k, v, mb.tensor(allowed))
    np.testing.assert_array_equal(after.numpy(), before)


def test_long_columns_are_added_up_precisely():
    tenths = mb.full((1_000_000, 2), 0.1, requires_grad=True)
    assert tenths.sum(0).numpy() == pytest.approx(100_000, rel=1e-4)
    assert tenths.mean(0).numpy() == pytest.approx(0.1, rel=1e-4)
    assert tenths[:100_000, 0].cumsum(0)[-1].item() == pytest.approx(1e4, rel=1e-6)
    bias = mb.zeros(2, requires_grad=True)
    (tenths + bias).sum().backward()
    assert bias.grad.tolist() == [1_000_000] * 2


def test_float16_sums_do_not_stop_at_2048():
    ones = mb.ones(5000, 2).half().requires_grad_()
    bias = mb.zeros(2).half().requires_grad_()
    assert ones.sum(0).tolist() == [5000] * 2
    assert ones.mean(0).tolist() == [1] * 2
    assert ones[:, 0].cumsum(0)[-1].item() == 5000
    weight = mb.ones(2, 2).half().requires_grad_()
    F.linear(ones.detach(), weight, bias).sum().backward()
    assert bias.grad.tolist() == [5000] * 2


def test_ignored_rows_may_hold_anything():
    logits = mb.tensor([[1.0, 2.0], [math.nan, math.inf]], requires_grad=True)
    loss = F.cross_entropy(logits, np.array([0, -100]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    assert logits.grad.tolist()[1] == [0, 0]
