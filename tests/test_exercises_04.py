"""The exercises of notebook 04: their solutions are what the library does."""

import numpy as np
import pytest
from answers import likely

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


# ---- wrong answers, as they are written ----------------------------------------------


def gradient_of(p, ids):
    p = p.copy()
    p[np.arange(len(ids)), ids] -= 1
    return p / len(ids)


def stable(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def unshifted(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def logarithm_of_the_sum(softmax):
    def answer(logits, ids):
        right = logits[np.arange(len(ids)), ids]
        losses = np.log(np.exp(logits).sum(1)) - right
        return losses.mean(), gradient_of(softmax(logits), ids)

    return answer


def from_overflowing_logarithms(logits, ids):
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(ids))
    return -log_p[rows, ids].mean(), gradient_of(np.exp(log_p), ids)


def logarithm_of_p(added):
    def answer(logits, ids):
        p = stable(logits)
        losses = -np.log(p[np.arange(len(ids)), ids] + added)
        return np.mean(losses), gradient_of(p, ids)

    return answer


def gradient_negated(logits, ids):
    loss, gradient = nb04.cross_entropy.solution(logits, ids)
    return loss, -gradient


def loss_negated(logits, ids):
    loss, gradient = nb04.cross_entropy.solution(logits, ids)
    return -loss, gradient


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (logarithm_of_the_sum(unshifted), "e^1000 is not finite"),
        (from_overflowing_logarithms, "e^1000 is not finite"),
        (logarithm_of_the_sum(stable), "your gradient is right, but the loss is lost"),
        (logarithm_of_p(0), "your gradient is right, but the loss is lost"),
        (logarithm_of_p(1e-12), "your gradient is right, but the loss is lost"),
        (gradient_negated, "the gradient has the wrong sign"),
        (loss_negated, "the sign: minus the logarithm"),
    ],
)
def test_a_common_wrong_cross_entropy_is_named(answer, told, capsys):
    assert told in likely("04.cross_entropy", answer, capsys)


@pytest.mark.parametrize("numerator", [2, 6])
def test_xaviers_deviation_is_named(numerator, capsys):
    def xavier(weight, a):
        return (numerator / sum(weight.shape)) ** 0.5

    assert "Xavier" in likely("04.he_init", xavier, capsys)
