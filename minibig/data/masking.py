"""Words left out of a text, for a model to guess: what BERT learns from."""

import numpy as np

from .. import checks, random
from .loader import IGNORE, ArrayBatches


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
    ids = ids.astype(np.int64)  # -100 would wrap round in an unsigned type
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
    return inputs, np.where(chosen, ids, IGNORE)


class MaskedRows(ArrayBatches):
    """Rows of ids with words left out: (inputs, targets), both (B, T) int64.

    What is left out of batch n is a function of (seed, n): in training it is another
    choice every epoch; without `shuffle`, for evaluation, the first epoch asked for
    again has the same. Settings are those of `mask_tokens` and of `ArrayBatches`.
    """

    def __init__(
        self, rows, *, mask_id, vocab_size, special_ids=(), probability=0.15,
        batch_size, seed=0, **settings,
    ):  # fmt: skip
        super().__init__(rows, batch_size=batch_size, seed=seed, **settings)
        self._masking = {
            "mask_id": mask_id, "vocab_size": vocab_size, "special_ids": special_ids,
            "probability": probability,
        }  # fmt: skip
        _check(self._data[0], mask_id, vocab_size, probability)

    def batch(self, step):
        """Inputs and targets of one batch; targets are -100 where nothing is asked."""
        (rows,) = super().batch(step)
        return mask_tokens(rows, step=step, seed=self.seed, **self._masking)


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
