"""The exercises of notebook 09: their solutions are what the library does."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig.beam_search import likeliest
from minibig.data import dates
from minibig.exercises.course import nb09


def test_shift_is_that_of_the_dates_and_its_targets_count():
    examples = dates.generate(6)
    _, inputs, targets = dates.arrays(examples)
    ids = inputs[:, 1:]
    ours = nb09.shift.solution(ids, np.full(len(ids), ids.shape[1]))
    np.testing.assert_array_equal(ours[0][:, 1:], inputs[:, 1:])
    np.testing.assert_array_equal(ours[1][:, :-1], targets[:, :-1])
    inputs, targets = nb09.shift.solution(*nb09.shift.cases[1].make())
    logits = mb.randn(*targets.shape, 10)
    rows = F.cross_entropy(logits, targets, reduction="none").numpy()
    assert ((rows > 0).sum(1) == [5, 2, 3]).all()  # each text and its end


@pytest.mark.parametrize(
    "case", nb09.smoothed_gradient.cases, ids=lambda case: case.name
)
def test_smoothed_gradient_is_the_librarys(case):
    logits, ids, smoothing = case.make()
    x = mb.tensor(logits, requires_grad=True)
    F.cross_entropy(x, ids, label_smoothing=smoothing).backward()
    ours = nb09.smoothed_gradient.solution(logits, ids, smoothing)
    np.testing.assert_allclose(ours, x.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("case", nb09.layer_norm.cases, ids=lambda case: case.name)
def test_layer_norm_gradient_is_the_librarys(case):
    data, dy = case.make()
    x = mb.tensor(data, dtype="float64", requires_grad=True)
    F.layer_norm(x, (data.shape[1],)).backward(mb.tensor(dy, dtype="float64"))
    ours = nb09.layer_norm.solution(data, dy)
    np.testing.assert_allclose(ours, x.grad.numpy(), atol=1e-9)


@pytest.mark.parametrize("case", nb09.beam_step.cases, ids=lambda case: case.name)
def test_beam_step_is_the_librarys(case):
    scores, log_p = case.make()
    theirs = likeliest((scores[:, None] + log_p)[None], len(scores))
    for ours, other in zip(nb09.beam_step.solution(scores, log_p), theirs, strict=True):
        np.testing.assert_allclose(ours, other[0])
