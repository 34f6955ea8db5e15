"""The exercises of notebook 08 tell right from wrong, and which wrong."""

import pytest

from minibig.exercises import check
from minibig.exercises.course import nb08

EXERCISES = (nb08.split_heads, nb08.causal_mask, nb08.attention, nb08.rotary)
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{exercise.name}-{number}")
    for exercise in EXERCISES
    for number, mistake in enumerate(exercise.mistakes, 1)
]
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)


@each
def test_solution_passes(exercise, capsys):
    assert check(exercise.name, exercise.solution) is True
    assert f"all {len(exercise.cases)} cases pass" in capsys.readouterr().out


@each
def test_stub_is_not_attempted_yet(exercise, capsys):
    def stub(*inputs):
        raise NotImplementedError("your turn")

    assert check(exercise.name, stub) is False
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_planted_mistake_fails_with_its_own_hint(exercise, mistake, capsys):
    assert check(exercise.name, mistake.function) is False
    printed = capsys.readouterr().out
    hints = [other.hint for other in exercise.mistakes if other.hint in printed]
    assert hints == [mistake.hint]


@each
def test_what_raises_or_returns_nothing_is_told_so(exercise, capsys):
    def raising(*inputs):
        raise IndexError("too far")

    assert check(exercise.name, raising) is False
    assert "IndexError: too far" in capsys.readouterr().out
    assert check(exercise.name, lambda *inputs: None) is False
    assert "it returned nothing" in capsys.readouterr().out


@each
def test_has_normal_and_edge_cases_three_mistakes_and_hints(exercise):
    kinds = {case.kind for case in exercise.cases}
    assert kinds >= {"normal", "edge"}
    assert len(exercise.mistakes) >= 3
    assert len(exercise.hints) >= 3


def test_changing_the_input_is_noticed(capsys):
    def in_place(x, positions):
        y = nb08.rotary.solution(x, positions)
        x[...] = y
        return x

    assert check("08.rotary", in_place) is False
    assert "it changed its input 1" in capsys.readouterr().out
