"""Exercises of notebook 04: the solution passes, each planted mistake gets its hint."""

import numpy as np
import pytest

from minibig import functional as F
from minibig import tensor
from minibig.exercises import check, hint
from minibig.exercises.course import nb04
from minibig.training import metrics

EXERCISES = [nb04.linear, nb04.he_init, nb04.cross_entropy, nb04.f1]
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{exercise.name}-{number}")
    for exercise in EXERCISES
    for number, mistake in enumerate(exercise.mistakes)
]
every = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)


@every
def test_the_solution_passes(exercise, capsys):
    assert check(exercise.name, exercise.solution) is True
    assert f"all {len(exercise.cases)} cases pass" in capsys.readouterr().out


@every
def test_the_stub_is_not_attempted(exercise, capsys):
    def stub(*inputs):
        raise NotImplementedError("your turn")

    assert check(exercise.name, stub) is False
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize("exercise, mistake", MISTAKES)
def test_a_mistake_gets_its_own_hint(exercise, mistake, capsys):
    assert check(exercise.name, mistake.function) is False
    assert f"Likely: {mistake.hint}" in capsys.readouterr().out


@every
def test_functions_that_raise_or_return_nothing_are_told_so(exercise, capsys):
    assert check(exercise.name, lambda *inputs: inputs[99]) is False
    assert "IndexError" in capsys.readouterr().out
    assert check(exercise.name, lambda *inputs: None) is False
    assert "it returned nothing" in capsys.readouterr().out


@every
def test_every_exercise_has_an_edge_case_and_hints_to_the_end(exercise, capsys):
    assert {"normal", "edge"} <= {case.kind for case in exercise.cases}
    assert len(exercise.mistakes) >= 3
    for _ in exercise.hints:
        hint(exercise.name)
    assert exercise.hints[-1] in capsys.readouterr().out


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
