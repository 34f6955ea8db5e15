"""The exercises of notebook 07: their solutions are what the library does."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig.exercises.course import nb07


def cases(exercise):
    return pytest.mark.parametrize("case", exercise.cases, ids=lambda case: case.name)


@cases(nb07.lstm_step)
def test_a_step_of_the_lstm_is_the_librarys(case):
    x, h, c, *weights = case.make()
    tensors = [mb.tensor(array) for array in (x[:, None], h, c, *weights)]
    _, theirs_h, theirs_c = F.lstm(*tensors)
    ours_h, ours_c = nb07.lstm_step.solution(x, h, c, *weights)
    np.testing.assert_allclose(ours_h, theirs_h.numpy(), atol=1e-12)
    np.testing.assert_allclose(ours_c, theirs_c.numpy(), atol=1e-12)


def test_step_by_hand_is_the_notebooks():
    h, c = nb07.lstm_step.solution(*nb07.lstm_step.cases[0].make())
    news = np.tanh(1)
    np.testing.assert_allclose(c, [[1.8 + 0.5 * news]])
    np.testing.assert_allclose(h, [[0.5 * np.tanh(1.8 + 0.5 * news)]])


@cases(nb07.mean_state)
def test_mean_state_does_not_see_what_follows_a_row(case):
    states, lengths = case.make()
    means = nb07.mean_state.solution(states, lengths)
    for row, length, mean in zip(states, lengths, means, strict=True):
        np.testing.assert_allclose(mean, row[:length].mean(0))


@pytest.mark.parametrize("steps", [1, 4])
def test_recurrent_gradient_is_the_librarys(steps):
    rng = np.random.default_rng(steps)
    arrays = [rng.normal(size=s) for s in ((3, steps, 2), (3, 4), (4, 2), (4, 4))]
    x, h0, W, U = (mb.tensor(array, requires_grad=True) for array in arrays)
    states, _ = F.rnn(x, h0, W, U)
    dy = rng.normal(size=states.shape)
    states.backward(mb.tensor(dy))
    h = np.concatenate([arrays[1][:, None], states.numpy()], 1)
    ours = nb07.recurrent_gradient.solution(h, dy, arrays[3])
    np.testing.assert_allclose(ours, U.grad.numpy(), atol=1e-12)


def test_recurrent_gradient_by_hand_is_the_notebooks():
    h, dy, U = nb07.recurrent_gradient.cases[0].make()
    assert nb07.recurrent_gradient.solution(h, dy, U).item() == pytest.approx(
        0.671, abs=5e-4
    )


@cases(nb07.reversed_rows)
def test_reversed_rows_are_what_the_other_direction_reads(case):
    ids, lengths = case.make()
    turned = nb07.reversed_rows.solution(ids, lengths)
    rng = np.random.default_rng(0)
    table = mb.tensor(rng.normal(size=(100, 3)))
    weights = [mb.tensor(rng.normal(size=s)) for s in ((4, 3), (4, 4))]
    start = mb.zeros(len(ids), 4, dtype="float64")
    last = [
        F.rnn(F.embedding(rows, table), start, *weights, lengths=lengths, reverse=r)[1]
        for rows, r in ((turned, False), (ids, True))
    ]
    np.testing.assert_allclose(last[0].numpy(), last[1].numpy(), atol=1e-12)
