"""The exercises of notebook 05: their solutions are what the library does."""

import numpy as np
import pytest
from scipy import stats

import minibig as mb
from minibig import data, nn, optim, training
from minibig.exercises.course import nb05


def cases(exercise):
    return pytest.mark.parametrize("case", exercise.cases, ids=lambda case: case.name)


@cases(nb05.standardize)
def test_one_scale_is_the_librarys(case):
    train, rows = case.make()
    theirs = data.Standardizer(train)(rows)
    np.testing.assert_allclose(nb05.standardize.solution(train, rows), theirs)


@cases(nb05.dropout)
def test_dropout_is_the_librarys_for_the_same_draws(case):
    x, dy, p, _ = case.make()
    tensor = mb.tensor(x, requires_grad=True)
    mb.seed(0)
    theirs = mb.functional.dropout(tensor, p)
    theirs.backward(mb.tensor(dy))
    draws = np.where(theirs.numpy() == 0, 0.0, 1.0)  # which were dropped
    y, dx = nb05.dropout.solution(x, dy, p, draws)
    np.testing.assert_allclose(y, theirs.numpy())
    np.testing.assert_allclose(dx, tensor.grad.numpy())


@cases(nb05.early_stopping)
def test_training_stops_where_the_solution_does(case):
    losses, patience = case.make()
    model = nn.Linear(1, 1)
    left, weights = iter(losses), []

    def evaluate(model):
        weights.append(model.weight.numpy().copy())
        return {"loss": next(left)}

    rows = data.ArrayBatches(np.ones((2, 1), "f"), np.ones(2, "f"), batch_size=2)
    history = training.fit(
        model, rows, training.regression_loss,
        optim.SGD(model.parameters(), lr=0.1), steps=len(losses), evaluate=evaluate,
        evaluate_every=1, patience=patience,
    )  # fmt: skip
    best, made = nb05.early_stopping.solution(losses, patience)
    assert len(history.evaluations) == made
    np.testing.assert_array_equal(model.weight.numpy(), weights[best])


def test_paired_error_is_that_of_the_t_test():
    for case in nb05.paired.cases:
        a, b = case.make()
        mean, error = nb05.paired.solution(a, b)
        if error:
            theirs = stats.ttest_rel(a, b).statistic
            assert mean / error == pytest.approx(theirs)
    assert nb05.paired.solution(*nb05.paired.cases[0].make()) == pytest.approx(
        (2, 0.5**0.5)
    )
