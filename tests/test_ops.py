"""Every record of the op table: forward, backward, dtypes, refusals."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
from op_table import RECORDS, leaf, several

import minibig as mb
from minibig import backend, functional, threads
from minibig.gradcheck import gradcheck
from minibig.ops import attention

EVERY = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)


@contextmanager
def noted(sample):
    """What fails within it says in which sample."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the sample ({sample})")
        raise


def run(record, sample, dtype=None, calls=1):
    """Outputs and the leaves' gradients, from an upstream in [-1, 1], not constant."""
    arguments, leaves = sample.inputs(dtype)
    total = 0
    for _ in range(calls):
        rng = np.random.default_rng(3)
        outputs = several(record.function(*arguments, **sample.settings))
        for y in outputs:
            dy = rng.uniform(-1, 1, y.shape).astype(y.dtype)
            total = total + (y * mb.Tensor(np.asarray(dy))).sum()
    total.backward()
    return outputs, [x.grad for x in leaves]


# ---- the sweep ----------------------------------------------------------------------


@EVERY
def test_backward_agrees_with_differences(record):
    for sample in record.draw():
        arguments, leaves = sample.inputs()
        with noted(sample):
            gradcheck(
                lambda *_, a=arguments, s=sample: record.function(*a, **s.settings),
                leaves,
                eps=record.eps,
            )


@EVERY
def test_forward_equals_the_numpy_reference(record):
    for sample in record.draw():
        outputs = several(record.function(*sample.inputs()[0], **sample.settings))
        expected = several(record.reference(np, *sample.arrays, **sample.settings))
        with noted(sample):
            assert len(outputs) == len(expected)
            for y, wanted in zip(outputs, expected, strict=True):
                assert y.shape == np.shape(wanted)
                np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-12, atol=1e-12)


def close(found, exact, digits):
    """Within `digits` of the largest number, or of 1."""
    found, exact = found.numpy(), exact.numpy()
    atol = digits * max(1, np.abs(exact).max(initial=0))
    np.testing.assert_allclose(found, exact, rtol=0, atol=atol)


@EVERY
@pytest.mark.parametrize("dtype, digits", [("float32", 1e-5), ("float16", 1e-2)])
def test_dtype_and_shape_are_kept_forward_and_backward(record, dtype, digits):
    for sample in record.draw():
        with noted(sample):
            exact, exact_gradients = run(record, sample.rounded(dtype))
            outputs, gradients = run(record, sample, dtype)
            if record.keeps_dtype:
                wanted = "float32" if record.widens else dtype
                assert {y.dtype for y in outputs} <= {np.dtype(wanted)}
            for x, dx in zip(sample.floats(), gradients, strict=True):
                assert (dx.shape, dx.dtype) == (x.shape, np.dtype(dtype))
            for found, wanted in zip(
                (*outputs, *gradients), (*exact, *exact_gradients), strict=True
            ):
                close(found, wanted, digits)


@EVERY
def test_a_call_repeated_on_the_same_tensors_doubles_the_gradients(record):
    for sample in record.draw():
        with noted(sample):
            once = run(record, sample)[1]
            twice = run(record, sample, calls=2)[1]
            for dx, both in zip(once, twice, strict=True):
                np.testing.assert_allclose(both.numpy(), 2 * dx.numpy(), rtol=1e-12)


@EVERY
def test_inputs_and_upstream_gradients_are_left_as_they_were(record):
    for sample in record.draw():
        before = [x.copy() for x in sample.floats()]
        arguments, leaves = sample.inputs()
        outputs = several(record.function(*arguments, **sample.settings))
        for y in outputs:
            if not y.requires_grad:
                continue
            dy = mb.tensor(np.random.default_rng(0).random(y.shape).astype(y.dtype))
            kept = dy.numpy().copy()
            y.backward(dy, retain_graph=True)
            for x in leaves:  # the second pass adds to .grad: into no one else's array
                x.grad is None or x.grad.mul_(3)
            assert np.array_equal(dy.numpy(), kept), sample
        for x, kept in zip(sample.floats(), before, strict=True):
            assert np.array_equal(x, kept), sample


REFUSALS = [
    pytest.param(refusal, id=f"{record.name}-{i}")
    for record in RECORDS
    for i, refusal in enumerate(record.errors)
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_the_domain_leaves_out_is_refused_with_the_facts(refusal):
    with pytest.raises(refusal.error) as caught:
        refusal.call()
    for fact in refusal.facts:
        assert fact in str(caught.value)


# ---- blocks of rows -----------------------------------------------------------------

BLOCKED = {"functional.gelu", "functional.softmax", "functional.layer_norm",
           "functional.rms_norm", "losses.cross_entropy", "functional.linear",
           "operators.matmul",
           "functional.scaled_dot_product_attention"}  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "record", [r for r in RECORDS if r.name in BLOCKED], ids=lambda r: r.name
)
def test_blocks_of_rows_and_threads_change_nothing(record, count, monkeypatch):
    whole = [run(record, sample) for sample in record.draw()]
    monkeypatch.setattr(backend, "BLOCK", 3)
    monkeypatch.setattr(backend, "PRODUCT", 1)
    monkeypatch.setattr(attention, "QUERIES", 2)
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        blocked = [run(record, sample) for sample in record.draw()]
    finally:
        threads.set_num_threads(before)
    for (y, dx), (y_blocked, dx_blocked) in zip(whole, blocked, strict=True):
        for a, b in zip((*y, *dx), (*y_blocked, *dx_blocked), strict=True):
            np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-10, atol=1e-12)


# ---- what has no gradient -----------------------------------------------------------

X = np.array([[1.0, -2.0, 3.0], [3.0, 0.0, -2.0]], "float32")


@pytest.mark.parametrize("name", ["argmax", "argmin", "any", "all"])
@pytest.mark.parametrize("dim", [None, 0, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_searches_equal_numpy(name, dim, keepdim):
    found = getattr(mb.tensor(X), name)(dim, keepdim)
    expected = getattr(np, name)(X, axis=dim, keepdims=keepdim)
    assert found.shape == expected.shape
    assert np.array_equal(found.numpy(), expected)
    assert not found.requires_grad


@pytest.mark.parametrize("name", ["max", "min"])
def test_max_and_min_say_where(name):
    found = getattr(mb.tensor(X), name)(1)
    assert found.indices.tolist() == getattr(X, f"arg{name}")(1).tolist()
    assert found.values.tolist() == getattr(X, name)(1).tolist()


@pytest.mark.parametrize("name", ["argmax", "argmin", "any", "all"])
def test_searches_refuse_an_axis_that_is_not_there(name):
    with pytest.raises(IndexError, match="dim 2"):
        getattr(mb.ones(2, 3), name)(2)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_searches_refuse_to_search_nothing(name):
    with pytest.raises(ValueError, match="no elements"):
        getattr(mb.zeros(0, 3), name)(0)


def test_isnan_isfinite_and_invert_by_hand():
    x = mb.tensor([1.0, math.nan, math.inf, -math.inf])
    assert x.isnan().tolist() == [False, True, False, False]
    assert x.isfinite().tolist() == [True, False, False, False]
    assert (~x.isnan()).tolist() == [True, False, True, True]
    alone = mb.tensor(math.nan)
    assert alone.isnan().item() is True and alone.isfinite().item() is False


def test_one_hot_by_hand_and_its_refusal():
    assert functional.one_hot([[2], [0]], 3).tolist() == [[[0, 0, 1]], [[1, 0, 0]]]
    with pytest.raises(IndexError, match=r"id 3.*3 classes"):
        functional.one_hot([3], 3)


def test_masked_fill_with_minus_infinity_keeps_the_other_gradients():
    x = leaf(np.array([1.0, 2.0, 3.0]))
    y = x.masked_fill(mb.tensor([False, True, False]), -math.inf)
    assert y.tolist() == [1, -math.inf, 3]
    functional.softmax(y, 0)[0].backward()
    assert x.grad.numpy()[1] == 0 and np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("target", ["float16", "float32", "float64"])
@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_a_cast_brings_the_gradient_back_in_the_dtype_it_left(source, target):
    x = leaf(np.linspace(-2, 2, 5).astype(source))
    y = x.to(target)
    y.backward(mb.ones(5, dtype=target))
    assert y.dtype == target and x.grad.dtype == source
    np.testing.assert_array_equal(y.numpy(), x.numpy().astype(target))
