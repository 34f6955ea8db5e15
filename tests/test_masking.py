"""Words left out: how many, what becomes of them, and that it can be repeated."""

import numpy as np
import pytest

from minibig.data import mask_tokens

V, MASK, PAD, CLS = 50, 4, 0, 2
SETTINGS = {"mask_id": MASK, "vocab_size": V, "special_ids": (PAD, CLS), "step": 0}
IDS = np.random.default_rng(0).integers(5, V, (400, 100))


def test_shares_are_those_of_the_paper():
    ids = IDS.copy()
    inputs, targets = mask_tokens(ids, **SETTINGS)
    np.testing.assert_array_equal(ids, IDS)
    chosen = targets != -100
    n = chosen.sum()
    assert n / ids.size == pytest.approx(0.15, abs=0.006)  # some 3 deviations
    np.testing.assert_array_equal(targets[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    masked = (inputs == MASK)[chosen].mean()
    same = (inputs == ids)[chosen].mean()
    assert masked == pytest.approx(0.8, abs=0.016)
    assert same == pytest.approx(0.1 + 0.1 / (V - 3), abs=0.012)
    drawn = inputs[chosen & (inputs != MASK) & (inputs != ids)]
    assert drawn.size / n == pytest.approx(0.1, abs=0.012)
    counts = np.bincount(drawn, minlength=V)
    assert counts[[PAD, CLS, MASK]].sum() == 0
    assert (counts[[1, 3, *range(5, V)]] > 0).all()


def test_special_tokens_are_never_chosen():
    ids = IDS.copy()
    ids[:, 0], ids[:, 60:] = CLS, PAD
    inputs, targets = mask_tokens(ids, **SETTINGS, probability=1)
    assert ((targets == -100) == np.isin(ids, (CLS, PAD))).all()
    np.testing.assert_array_equal(inputs[:, 60:], PAD)
    np.testing.assert_array_equal(inputs[:, 0], CLS)


def test_step_and_seed_decide_alone():
    first = mask_tokens(IDS, **SETTINGS)
    for other, equal in (({}, True), ({"step": 1}, False), ({"seed": 1}, False)):
        again = mask_tokens(IDS, **{**SETTINGS, **other})
        for a, b in zip(first, again, strict=True):
            assert a.dtype == np.int64 and np.array_equal(a, b) == equal


def test_one_token_at_least_is_left_out():
    for step in range(200):
        _, targets = mask_tokens([[7, PAD, PAD]], **{**SETTINGS, "step": step})
        assert targets.tolist() == [[7, -100, -100]]
    _, targets = mask_tokens(IDS, **SETTINGS, probability=1e-12)
    assert (targets != -100).sum() == 1


@pytest.mark.parametrize(
    ("ids", "changes", "error", "message"),
    [
        ([[PAD, MASK]], {}, ValueError, "every token is special"),
        ([[V]], {}, ValueError, "an id is 50, outside the vocabulary of 50"),
        ([[5.0]], {}, TypeError, "whole numbers, not float64"),
        ([[5]], {"mask_id": V}, ValueError, "mask_id is 50, outside"),
        ([[5]], {"mask_id": -1}, ValueError, "mask_id .*at least 0, not -1"),
        ([[5]], {"probability": 0}, ValueError, "probability .*not 0"),
        ([[5]], {"probability": 1.5}, ValueError, "probability .*not 1.5"),
        ([[5]], {"step": -1}, ValueError, "step .*not -1"),
        ([[-1]], {}, ValueError, "an id is -1"),
    ],
)
def test_mistake_is_named(ids, changes, error, message):
    with pytest.raises(error, match=message):
        mask_tokens(ids, **{**SETTINGS, **changes})
