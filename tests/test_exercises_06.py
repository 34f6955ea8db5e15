"""The exercises of notebook 06: their solutions are what the library does."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig.exercises.course import nb06


def cases(exercise):
    return pytest.mark.parametrize("case", exercise.cases, ids=lambda case: case.name)


@cases(nb06.conv2d)
def test_convolution_is_the_librarys(case):
    x, weight, bias, stride, padding = case.make()
    theirs = F.conv2d(*map(mb.tensor, (x, weight, bias)), stride, padding)
    ours = nb06.conv2d.solution(x, weight, bias, stride, padding)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-12)
    for axis in (2, 3):
        size = nb06.output_size.solution(
            x.shape[axis], weight.shape[axis], stride, padding
        )
        assert size == theirs.shape[axis]


@cases(nb06.weight_gradient)
def test_gradient_of_the_weight_is_the_librarys(case):
    x, dy = case.make()
    kernel = [n - m + 1 for n, m in zip(x.shape[2:], dy.shape[2:], strict=True)]
    weight = mb.zeros(
        dy.shape[1], x.shape[1], *kernel, dtype="float64", requires_grad=True
    )
    F.conv2d(mb.tensor(x), weight).backward(mb.tensor(dy))
    ours = nb06.weight_gradient.solution(x, dy)
    np.testing.assert_allclose(ours, weight.grad.numpy(), atol=1e-12)


@cases(nb06.batch_norm)
def test_batch_norm_is_the_librarys(case):
    x, mean, variance, momentum = case.make()
    running = mb.tensor(mean.copy()), mb.tensor(variance.copy())
    theirs = F.batch_norm(mb.tensor(x), *running, training=True, momentum=momentum)
    y, *found = nb06.batch_norm.solution(x, mean, variance, momentum)
    np.testing.assert_allclose(y, theirs.numpy(), atol=1e-10)
    for ours, tensor in zip(found, running, strict=True):
        np.testing.assert_allclose(ours, tensor.numpy(), atol=1e-12)
