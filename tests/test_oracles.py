"""Values and gradients against HIPS autograd and PyTorch."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from op_table import RECORDS, is_float, leaf, several

import minibig as mb
from minibig import functional as F


def upstream_of(outputs):
    """Random gradients in [-1, 1] of the outputs' shapes, always the same."""
    rng = np.random.default_rng(5)
    return [np.asarray(rng.uniform(-1, 1, np.shape(y))) for y in outputs]


def ours(record, sample, dtype="float64"):
    """Outputs and the gradients of the float inputs, each input once."""
    arguments, leaves = sample.inputs(dtype)
    outputs = several(record.function(*arguments, **sample.settings))
    pairs = zip(outputs, upstream_of(outputs), strict=True)
    sum((y * mb.Tensor(dy.astype(y.dtype))).sum() for y, dy in pairs).backward()
    return [y.numpy() for y in outputs], [x.grad.numpy() for x in leaves]


def close(found, expected, digits, sample):
    """Within `digits` of the largest number, or of 1."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == np.shape(b), str(sample)
        atol = digits * max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=str(sample))


# ---- HIPS autograd ------------------------------------------------------------------


def differentiated(expression, sample):
    """The gradients that autograd finds, each array once."""

    def value(floats):
        rest = iter(floats)
        arrays = [next(rest) if is_float(x) else x for x in sample.arrays]
        outputs = several(expression(anp, *arrays, **sample.settings))
        shapes = [np.empty(anp.shape(y)) for y in outputs]
        pairs = zip(outputs, upstream_of(shapes), strict=True)
        return sum(anp.sum(y * dy) for y, dy in pairs)

    floats = [x for x in sample.arrays if is_float(x)]
    gradients = autograd.grad(value)([x.astype("float64") for x in floats])
    total = {}
    for x, dx in zip(floats, gradients, strict=True):
        total[id(x)] = total.get(id(x), 0) + dx
    return list(total.values())


WITH_AUTOGRAD = [r for r in RECORDS if not isinstance(r.autograd, str)]


@pytest.mark.parametrize("record", WITH_AUTOGRAD, ids=lambda record: record.name)
def test_gradients_equal_autograd(record):
    found = record.draw(seed=1)
    assert len(found) >= 5
    for sample in found:
        expected = differentiated(record.autograd or record.reference, sample)
        close(ours(record, sample)[1], expected, 1e-10, sample)


def test_what_autograd_cannot_check_says_why():
    rest = [r for r in RECORDS if isinstance(r.autograd, str)]
    assert all(len(r.autograd) > 10 for r in rest)
    assert len(rest) <= 3


# ---- PyTorch ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    module.set_num_threads(1)  # the arrays are small
    return module


def in_torch(torch, record, sample, dtype):
    """Outputs and gradients of the same call in PyTorch; None where it has no such."""
    leaves = {
        id(x): torch.tensor(x.copy(), dtype=dtype, requires_grad=True)
        for x in sample.floats()
    }
    arguments = [
        leaves[id(x)]
        if id(x) in leaves
        else torch.tensor(x)
        if isinstance(x, np.ndarray)
        else x
        for x in sample.arrays
    ]
    outputs = several(record.torch(torch, *arguments, **sample.settings))
    if outputs == (NotImplemented,):
        return None
    dys = [torch.tensor(dy, dtype=y.dtype)
           for y, dy in zip(outputs, upstream_of(outputs), strict=True)]  # fmt: skip
    torch.autograd.backward(outputs, dys)
    gradients = [x.grad.numpy() for x in leaves.values()]
    return [y.detach().numpy() for y in outputs], gradients


WITH_TORCH = [r for r in RECORDS if not isinstance(r.torch, str)]


@pytest.mark.oracle
@pytest.mark.parametrize("dtype, digits", [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("record", WITH_TORCH, ids=lambda record: record.name)
def test_values_and_gradients_equal_pytorch(record, dtype, digits, torch):
    for sample in record.draw(seed=2):
        sample = sample.rounded(dtype)
        expected = in_torch(torch, record, sample, getattr(torch, dtype))
        if expected is None:
            continue
        found = ours(record, sample, dtype)
        close(found[0], expected[0], digits, sample)
        close(found[1], expected[1], digits, sample)


def test_what_pytorch_cannot_check_says_why():
    rest = [r for r in RECORDS if isinstance(r.torch, str)]
    assert all(len(r.torch) > 10 for r in rest)
    assert len(rest) <= 2


# ---- ties and kinks, where differences say nothing ----------------------------------

ZERO = np.zeros(3)
TIED = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, -1.0]])
ENDS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


def _norm(module, x):
    return module.nn.functional.normalize(x, dim=1)


KINKS = {
    "relu at 0": (lambda x: x.relu(), lambda t, x: x.relu(), [ZERO]),
    "abs at 0": (lambda x: x.abs(), lambda t, x: x.abs(), [ZERO]),
    "maximum of equals": (mb.maximum, lambda t, a, b: t.maximum(a, b), [TIED, TIED.T]),
    "minimum of equals": (mb.minimum, lambda t, a, b: t.minimum(a, b), [TIED, TIED.T]),
    "maximum of one tensor with itself": (
        lambda x: mb.maximum(x, x), lambda t, x: t.maximum(x, x), [TIED]),
    "amax of all": (lambda x: x.amax(), lambda t, x: x.amax(), [TIED]),
    "amax of rows": (lambda x: x.amax(1), lambda t, x: x.amax(1), [TIED]),
    "amin of columns": (lambda x: x.amin(0), lambda t, x: x.amin(0), [TIED]),
    "amax of two axes": (lambda x: x.amax((0, 1)), lambda t, x: x.amax((0, 1)), [TIED]),
    "max of all": (lambda x: x.max(), lambda t, x: x.max(), [TIED]),
    "max of rows": (lambda x: x.max(1).values, lambda t, x: x.max(1).values, [TIED]),
    "min of rows": (lambda x: x.min(1).values, lambda t, x: x.min(1).values, [TIED]),
    "clamp on its bounds": (
        lambda x: x.clamp(-0.5, 0.5), lambda t, x: x.clamp(-0.5, 0.5), [ENDS]),
    "clamp below 0": (lambda x: x.clamp(min=0), lambda t, x: x.clamp(min=0), [ENDS]),
    "prod with zeros": (
        lambda x: x.prod(1), lambda t, x: x.prod(1), [TIED * ENDS[1:4]]),
    "0 to the power 2": (lambda x: x**2, lambda t, x: x**2, [ZERO]),
    "0 to the power 1": (lambda x: x**1, lambda t, x: x**1, [ZERO]),
    "0 to the power 0": (lambda x: x**0, lambda t, x: x**0, [ZERO]),
    "powers of 0": (lambda a, b: a**b, lambda t, a, b: a**b, [ZERO, np.arange(3.0)]),
    "powers of numbers below 0": (
        lambda a: a ** mb.tensor([2.0, 3.0, 0.0], dtype="float64"),
        lambda t, a: a ** t.tensor([2.0, 3.0, 0.0], dtype=t.float64), [ENDS[:3] - 1]),
    "std of equal numbers": (lambda x: x.std(1), lambda t, x: x.std(1), [TIED[1:2]]),
    "normalize of zeros": (
        lambda x: F.normalize(x, dim=1), _norm, [np.zeros((2, 3))]),
    "l1_loss of equals": (
        F.l1_loss, lambda t, a, b: t.nn.functional.l1_loss(a, b), [TIED, TIED.copy()]),
    "logsumexp of equals": (
        lambda x: x.logsumexp(1), lambda t, x: x.logsumexp(1), [TIED]),
    "logsumexp with -inf": (
        lambda x: x.logsumexp(0), lambda t, x: x.logsumexp(0),
        [np.array([-np.inf, 0.0, 1.0])]),
    "layer_norm of equal numbers": (
        lambda x: F.layer_norm(x, (3,)),
        lambda t, x: t.nn.functional.layer_norm(x, (3,)), [TIED]),
    "rms_norm of zeros": (
        lambda x: F.rms_norm(x, (3,)),
        lambda t, x: t.nn.functional.rms_norm(x, (3,), eps=1e-6), [np.zeros((2, 3))]),
    "where with one tensor twice": (
        lambda x: mb.where(mb.tensor([True, False, True]), x, x),
        lambda t, x: t.where(t.tensor([True, False, True]), x, x), [ENDS[:3]]),
    "remainder below 0": (
        lambda a, b: a % b, lambda t, a, b: t.remainder(a, b),
        [np.array([-7.5, 7.5, -0.5]), np.array([2.0, -2.0, 3.0])]),
    "a softmax of -inf and numbers": (
        lambda x: F.softmax(x, 0), lambda t, x: x.softmax(0),
        [np.array([-np.inf, 0.0, 1.0])]),
    "binary cross entropy at 0": (
        F.binary_cross_entropy_with_logits,
        lambda t, a, b: t.nn.functional.binary_cross_entropy_with_logits(a, b),
        [ZERO, np.array([0.0, 0.5, 1.0])]),
    "gelu, far out": (
        F.gelu, lambda t, x: t.nn.functional.gelu(x), [np.array([-40.0, 0, 40.0])]),
}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("name", KINKS)
def test_ties_and_kinks_equal_pytorch(name, torch):
    call, call_torch, arrays = KINKS[name]
    leaves = [leaf(x) for x in arrays]
    y = call(*leaves)
    theirs = [torch.tensor(x.copy(), requires_grad=True) for x in arrays]
    expected = call_torch(torch, *theirs)
    (dy,) = upstream_of([y])
    y.backward(mb.Tensor(dy))
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), atol=1e-12)
    for x, t in zip(leaves, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("causal", [False, True])
def test_a_query_that_sees_nothing_equals_pytorch(causal, torch):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 3, 4)) for _ in range(3)]
    mask = rng.random((2, 3, 3)) < 0.7
    mask[0, 1] = mask[1, 2] = False
    seen = mask & np.tri(3, dtype=bool) if causal else mask
    leaves = [leaf(x) for x in arrays]
    y = F.scaled_dot_product_attention(*leaves, mb.tensor(mask), is_causal=causal)
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = attend(*theirs, torch.tensor(seen))
    (dy,) = upstream_of([y])
    y.backward(mb.Tensor(dy))
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), atol=1e-12)
    for x, t in zip(leaves, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), atol=1e-12)
