"""The exercises of notebook 01: solutions pass, planted mistakes get their own hint."""

import numpy as np
import pytest

import minibig as mb
from minibig.exercises import check, hint
from minibig.exercises.course import nb01

EXERCISES = {
    exercise.name: exercise
    for exercise in (nb01.strides, nb01.broadcast, nb01.einsum_loops)
} | {nb01.softmax_stable.name: nb01.softmax_stable}
PLANTED = [
    pytest.param(exercise, mistake, id=mistake.function.__name__.strip("_"))
    for exercise in EXERCISES.values()
    for mistake in exercise.mistakes
]
each = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # progress is kept in the working folder


@each
def test_solution_passes_every_case(exercise, capsys):
    assert check(exercise.name, exercise.solution) is True
    assert f"all {len(exercise.cases)} cases pass" in capsys.readouterr().out


@each
def test_exercise_has_edge_cases_three_mistakes_and_hints(exercise, capsys):
    assert sum(case.kind == "edge" for case in exercise.cases) >= 2
    assert len(exercise.mistakes) >= 3
    for _ in exercise.hints:
        hint(exercise.name)
    shown = capsys.readouterr().out
    assert all(text in shown for text in exercise.hints)


@each
def test_stub_is_not_attempted_yet(exercise, capsys):
    def stub(*inputs):
        raise NotImplementedError("your turn")

    assert check(exercise.name, stub) is False
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize("exercise, mistake", PLANTED)
def test_planted_mistake_fails_with_its_own_hint(exercise, mistake, capsys):
    assert check(exercise.name, mistake.function) is False
    shown = capsys.readouterr().out
    assert mistake.hint in shown
    others = [other.hint for other in exercise.mistakes if other is not mistake]
    assert not any(text in shown for text in others)


@each
def test_function_that_raises_or_returns_nothing_is_reported(exercise, capsys):
    def broken(*inputs):
        return inputs[99]

    assert check(exercise.name, broken) is False
    assert "IndexError" in capsys.readouterr().out
    assert check(exercise.name, lambda *inputs: None) is False
    assert "it returned nothing" in capsys.readouterr().out


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
