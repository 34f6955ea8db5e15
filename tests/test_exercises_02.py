"""The exercises of notebook 02: solutions are what the library does; wrong answers."""

import numpy as np
import pytest
from answers import likely

import minibig as mb
from minibig.exercises import check
from minibig.exercises.course import nb02


@pytest.mark.parametrize("case", nb02.divide.cases, ids=lambda case: case.name)
def test_division_is_the_librarys(case):
    a, b, dy = case.make()
    x, y = (mb.tensor(value, requires_grad=True) for value in (a, b))
    (x / y).backward(mb.tensor(dy))
    for ours, theirs in zip(nb02.divide.solution(a, b, dy), (x, y), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy())


@pytest.mark.parametrize("case", nb02.softmax.cases, ids=lambda case: case.name)
def test_softmax_is_the_librarys(case):
    y, dy = case.make()
    x = mb.tensor(np.log(y), requires_grad=True)
    mb.functional.softmax(x, dim=-1).backward(mb.tensor(dy))
    np.testing.assert_allclose(nb02.softmax.solution(y, dy), x.grad.numpy(), atol=1e-12)


# ---- wrong answers, as they are written ----------------------------------------------


def softmax_by_a_mean(y, dy):
    return y * (dy - np.mean(dy * y, axis=-1)[..., None])


@pytest.mark.parametrize(
    ("name", "answer", "told"),
    [
        ("divide", lambda a, b, dy: dy / b, "Only da"),
        ("divide", lambda a, b, dy: [dy / b], "Only da"),
        ("divide", lambda a, b, dy: [dy / b, -a / (b * b)], "db lacks dy"),
        ("divide", lambda a, b, dy: (dy * b, -a * dy / b**2), "da is multiplied by b"),
        ("softmax", softmax_by_a_mean, "a mean where the sum belongs"),
    ],
)
def test_a_common_wrong_gradient_is_named(name, answer, told, capsys):
    assert told in likely(f"02.{name}", answer, capsys)


def test_a_set_of_names_is_told_apart_from_a_list(capsys):
    solution = nb02.wrong_gradients.solution
    assert not check("02.wrong_gradients", lambda ops, x: set(solution(ops, x)))
    assert "it is a set, not a list" in capsys.readouterr().out
