"""The exercises of notebook 01: their solutions are what NumPy and the library do."""

import numpy as np
import pytest
from answers import likely

import minibig as mb
from minibig.exercises.course import nb01


def test_offset_finds_the_element_in_memory():
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for view in (x, x.transpose(2, 0, 1), x[:, ::2]):
        for index in np.ndindex(view.shape):
            offset = nb01.strides.solution(index, view.shape, view.strides)
            assert x.ravel()[offset // 4] == view[index]


@pytest.mark.parametrize("case", nb01.broadcast.cases, ids=lambda case: case.name)
def test_broadcast_shape_is_numpys(case):
    try:
        expected = np.broadcast_shapes(*case.make())
    except ValueError:
        expected = "error"
    assert nb01.broadcast.solution(*case.make()) == expected


@pytest.mark.parametrize("case", nb01.einsum_loops.cases, ids=lambda case: case.name)
def test_loops_give_einsum(case):
    q, k = case.make()
    expected = mb.einsum("thd,shd->hts", mb.tensor(q), mb.tensor(k)).numpy()
    np.testing.assert_allclose(nb01.einsum_loops.solution(q, k), expected)


@pytest.mark.parametrize("case", nb01.softmax_stable.cases, ids=lambda case: case.name)
def test_softmax_is_the_librarys(case):
    (x,) = case.make()
    expected = mb.functional.softmax(mb.tensor(x), dim=-1).numpy()
    ours = nb01.softmax_stable.solution(x)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.oracle
def test_result_types_of_the_notebook_are_pytorchs():
    torch = pytest.importorskip("torch")
    whole, small = np.arange(1, 4), np.ones(3, np.float32)
    pictures = np.array([200], np.uint8)
    for compute in (
        lambda make: make(whole) + make(small),
        lambda make: make(whole) * 0.5,
        lambda make: make(whole) / make(whole),
        lambda make: make(small) * np.sqrt(2),
        lambda make: make(small) + make(small.astype(np.float64)),
        lambda make: make(small) + make(small.astype(np.float16)),
        lambda make: make(pictures) + make(pictures),
        lambda make: make(whole.astype(np.int32)).sum(),
    ):
        theirs = str(compute(torch.tensor).dtype).removeprefix("torch.")
        assert str(compute(mb.tensor).dtype) == theirs


# ---- wrong answers, as they are written ----------------------------------------------


def softmax_in_place(x):
    x -= x.max(axis=1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=1, keepdims=True)
    return x


def softmax_around_the_mean(x):
    e = np.exp(x - np.mean(x, 1)[:, None])
    return e / np.sum(e, 1)[:, None]


def log_softmax(x):
    x = x - np.max(x, axis=-1, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (softmax_in_place, "Work on a copy"),
        (softmax_around_the_mean, "subtract each row's mean"),
        (log_softmax, "logarithms of the probabilities"),
    ],
)
def test_a_common_wrong_softmax_is_named(answer, told, capsys):
    assert told in likely("01.softmax_stable", answer, capsys)
