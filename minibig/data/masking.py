"""Words left out of a text, for a model to guess: what BERT learns from."""

import numpy as np

from .. import checks, random
from .loader import IGNORE


def mask_tokens(
    ids, *, mask_id, vocab_size, step, seed=0, special_ids=(), probability=0.15
):
    """(inputs, targets), both of the shape of `ids` and int64; `ids` stay as they are.

    Each token, but for the `special_ids` (padding among them), is chosen with a
    probability; at least one is in every call. Of the chosen ones 80 % become
    `mask_id`, 10 % an ordinary token drawn at random, 10 % stay (arXiv 1810.04805,
    section 3.1). Targets are the chosen tokens, -100 elsewhere. What is drawn is a
    function of (seed, step). ValueError where there is nothing to choose.
    """
    ids = np.asarray(ids)
    _check(ids, mask_id, vocab_size, probability)
    special = np.unique([*special_ids, mask_id])
    allowed = ~np.isin(ids, special)
    if not allowed.any():
        raise ValueError("mask_tokens: every token is special: nothing can be left out")
    ordinary = np.setdiff1d(np.arange(vocab_size), special)
    rng = random.at("masking", checks.whole("mask_tokens: step", step, 0), seed)
    draw = np.where(allowed, rng.random(ids.shape), 1.0)
    chosen = draw < max(probability, np.nextafter(draw.min(), 1))
    fate, drawn = rng.random(ids.shape), rng.choice(ordinary, ids.shape)
    inputs = np.where(chosen & (fate < 0.8), mask_id, ids)
    inputs = np.where(chosen & (fate >= 0.9), drawn, inputs)
    return inputs.astype(np.int64), np.where(chosen, ids, IGNORE).astype(np.int64)


def _check(ids, mask_id, vocab_size, probability):
    if ids.dtype.kind not in "iu":
        raise TypeError(f"mask_tokens: ids are whole numbers, not {ids.dtype}")
    checks.whole("mask_tokens: vocab_size", vocab_size, 1)
    checks.number("mask_tokens: probability", probability, 0, 1, without=0)
    checks.whole("mask_tokens: mask_id", mask_id, 0)
    outside = ids[(ids < 0) | (ids >= vocab_size)].reshape(-1)[:1].tolist()
    for name, number in (("mask_id", mask_id), *(("an id", i) for i in outside)):
        if not 0 <= number < vocab_size:
            raise ValueError(
                f"mask_tokens: {name} is {number}, outside the vocabulary of "
                f"{vocab_size}"
            )
