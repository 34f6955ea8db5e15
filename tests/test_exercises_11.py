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


@pytest.mark.parametrize("value", [0.3, 0.8, 1.0])
def test_the_library_draws_by_the_same_probabilities(value):
    logits = np.random.default_rng(0).standard_normal(8)
    sums = np.cumsum(nb11.top_p.solution(nb11._softmax(logits), value))
    wanted = np.searchsorted(sums, np.random.default_rng(1).random(500), "right")
    copies = np.tile(logits, (500, 1))
    drawn = generation.choose(copies, np.random.default_rng(1), top_p=value)
    assert np.array_equal(drawn, wanted)


@pytest.mark.parametrize("case", nb11.cached_step.cases, ids=lambda case: case.name)
def test_cached_step_is_the_librarys_grouped_attention(case):
    q, keys, values, lengths = case.make()
    real = np.arange(keys.shape[2]) < lengths[:, None]
    wanted = F.scaled_dot_product_attention(
        mb.tensor(q[:, :, None]), mb.tensor(keys), mb.tensor(values),
        real[:, None, None], enable_gqa=True,
    )  # fmt: skip
    found = nb11.cached_step.solution(q, keys, values, lengths)
    assert np.allclose(found, wanted.numpy()[:, :, 0])
