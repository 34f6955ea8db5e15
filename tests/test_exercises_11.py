"""The exercises of notebook 11: their solutions are what the library does."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import generation
from minibig.exercises.course import nb11


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
