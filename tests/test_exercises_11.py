"""The exercises of notebook 11 tell right from wrong, and which wrong."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import generation
from minibig.exercises import check
from minibig.exercises.course import nb11

EXERCISES = (nb11.perplexity, nb11.temperature, nb11.top_p, nb11.causal_loss)
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


# ---- against the library ------------------------------------------------------------


def test_causal_loss_is_the_librarys_cross_entropy():
    logits, ids, lengths = nb11.causal_loss.cases[1].make()
    targets = np.full_like(ids, -100)
    for row, length in enumerate(lengths):
        targets[row, : length - 1] = ids[row, 1:length]
    wanted = F.cross_entropy(mb.tensor(logits), targets).item()
    assert np.isclose(nb11.causal_loss.solution(logits, ids, lengths), wanted)


@pytest.mark.parametrize("setting", ["temperature", "top_p"])
@pytest.mark.parametrize("value", [0.3, 0.8, 1.0])
def test_the_library_draws_by_the_same_probabilities(setting, value):
    logits = np.random.default_rng(0).standard_normal(8)
    exercise = getattr(nb11, setting)
    p = nb11._softmax(logits) if setting == "top_p" else logits
    sums = np.cumsum(exercise.solution(p, value))
    wanted = np.searchsorted(sums, np.random.default_rng(1).random(500), "right")
    copies = np.tile(logits, (500, 1))
    drawn = generation.choose(copies, np.random.default_rng(1), **{setting: value})
    assert np.array_equal(drawn, wanted)
