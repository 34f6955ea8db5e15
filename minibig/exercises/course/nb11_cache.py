"""The last exercise of notebook 11: a step with a cache."""

import numpy as np

from ..exercise import Case, Exercise, Mistake
from .nb11 import _normal, _softmax

# ---- 11.cached_step -----------------------------------------------------------------


def _masked(scores, lengths, value=-np.inf):
    """`scores` (B, H, S) with `value` at the places that hold nothing."""
    real = np.arange(scores.shape[-1]) < np.asarray(lengths)[:, None]
    return np.where(real[:, None], scores, value)


def _scores(q, keys):
    """(B, H, D) and (B, H, S, D) -> (B, H, S)."""
    return (keys @ q[..., None])[..., 0]


def _spread(q, keys, values):
    """Keys and values (B, H, S, D): those of its group for each head."""
    size = q.shape[1] // keys.shape[1]
    return np.repeat(keys, size, axis=1), np.repeat(values, size, axis=1)


def _read(p, values):
    return (p[:, :, None] @ values)[:, :, 0]  # (B, H, D)


def _cached_step(q, keys, values, lengths):
    keys, values = _spread(q, keys, values)
    scores = _scores(q, keys) / np.sqrt(q.shape[-1])
    return _read(_softmax(_masked(scores, lengths)), values)


def _tiled(q, keys, values, lengths):
    size = q.shape[1] // keys.shape[1]
    keys, values = (np.tile(x, (1, size, 1, 1)) for x in (keys, values))
    return _cached_step(q, keys, values, lengths)


def _unscaled(q, keys, values, lengths):
    return _cached_step(q * np.sqrt(q.shape[-1]), keys, values, lengths)


def _unmasked(q, keys, values, lengths):
    return _cached_step(q, keys, values, np.full(len(q), keys.shape[2]))


def _masked_with_zero(q, keys, values, lengths):
    keys, values = _spread(q, keys, values)
    scores = _masked(_scores(q, keys) / np.sqrt(q.shape[-1]), lengths, 0.0)
    return _read(_softmax(scores), values)


def _masked_afterwards(q, keys, values, lengths):
    keys, values = _spread(q, keys, values)
    p = _softmax(_scores(q, keys) / np.sqrt(q.shape[-1]))
    return _read(_masked(p, lengths, 0.0), values)


def _overflowing_step(q, keys, values, lengths):
    keys, values = _spread(q, keys, values)
    scores = _masked(_scores(q, keys) / np.sqrt(q.shape[-1]), lengths)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        e = np.exp(scores)
        return _read(e / e.sum(-1, keepdims=True), values)


def _step(heads, groups, lengths, *, places=5, loud=1.0, seed=2):
    shape = (len(lengths), groups, places, 6)
    q = loud * _normal(len(lengths), heads, 6, seed=seed)
    return q, _normal(*shape, seed=seed + 1), _normal(*shape, seed=seed + 2), lengths


def _even_step():
    """One head that scores all alike: the mean of 2 and 4; 9 is not real."""
    values = np.array([2.0, 4.0, 9.0]).reshape(1, 1, 3, 1)
    return np.zeros((1, 1, 1)), np.ones((1, 1, 3, 1)), values, np.array([2])


cached_step = Exercise(
    name="11.cached_step",
    task="What each head of the newest token reads from a cache of grouped keys.",
    solution=_cached_step,
    cases=(
        Case("even scores: 3", _even_step),
        Case("4 heads, 2 groups", lambda: _step(4, 2, np.array([5, 3]))),
        Case("6 heads, 1 group", lambda: _step(6, 1, np.array([2, 5, 4]))),
        Case("each its own", lambda: _step(3, 3, np.array([4, 5])), "edge"),
        Case("one real place", lambda: _step(4, 2, np.array([1, 5])), "edge"),
        Case("scores of thousands", lambda: _step(4, 2, np.array([5, 4]), loud=5e3)),
    ),
    mistakes=(
        Mistake(
            _tiled,
            "your heads 0, 2, 4 … share keys. A group's heads stand side by side: "
            "np.repeat, or q.reshape(B, G, H // G, D), and not np.tile.",
        ),
        Mistake(_unscaled, "the scores are not divided by the root of the width D."),
        Mistake(
            lambda q, *rest: _cached_step(q / np.sqrt(q.shape[-1]), *rest),
            "the scores are divided by D; it is the root of D.",
        ),
        Mistake(
            _unmasked,
            "places that hold nothing are read too. Of row b only the first "
            "lengths[b] are real.",
        ),
        Mistake(
            _masked_with_zero,
            "a score of 0 is no mask: e to the power of 0 is 1. Put -inf there.",
        ),
        Mistake(
            _masked_afterwards,
            "you masked behind the softmax, so the weights no longer sum to 1. Mask "
            "the scores before it.",
        ),
        Mistake(
            _overflowing_step,
            "large scores overflow in exp. Take the largest of each row off first.",
        ),
    ),
    hints=(
        "It is attention with one query a head. All that is in the cache comes before "
        "it, so only the ends of the rows have to be masked.",
        "q.reshape(B, G, H // G, D) puts each group's queries beside its keys; "
        "q @ keys.swapaxes(2, 3) then has the shape (B, G, H // G, S).",
        "np.where(np.arange(S) < lengths[:, None], …) with two axes put in between; a "
        "softmax over the last axis; @ values; reshape to (B, H, D).",
    ),
)
