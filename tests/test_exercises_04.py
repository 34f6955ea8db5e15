"""The exercises of notebook 04: their solutions are what the library does."""

import numpy as np
import pytest

from minibig import functional as F
from minibig import tensor
from minibig.exercises.course import nb04
from minibig.training import metrics


def test_the_solutions_agree_with_the_library():
    for case in nb04.linear.cases:
        x, weight, bias = case.make()
        theirs = F.linear(tensor(x), tensor(weight), tensor(bias)).numpy()
        np.testing.assert_allclose(nb04.linear.solution(x, weight, bias), theirs)
    for case in nb04.cross_entropy.cases:
        logits, ids = case.make()
        loss, gradient = nb04.cross_entropy.solution(logits, ids)
        theirs = tensor(logits, requires_grad=True)
        value = F.cross_entropy(theirs, ids)
        value.backward()
        np.testing.assert_allclose(loss, value.item(), atol=1e-12)
        np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-12)
    for case in nb04.f1.cases:
        pair = case.make()
        theirs = [f(*pair) for f in (metrics.precision, metrics.recall, metrics.f1)]
        np.testing.assert_allclose(nb04.f1.solution(*pair), theirs)


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_the_deviation_keeps_the_mean_square(a):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 400))
    y = x @ rng.normal(0, nb04.he_init.solution(np.zeros((400, 400)), a), (400, 400))
    assert (np.where(y > 0, y, a * y) ** 2).mean() == pytest.approx(1, abs=0.03)
