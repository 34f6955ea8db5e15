"""The exercises of notebook 08: their solutions are what the library does."""

import numpy as np
import pytest
from answers import likely

import minibig as mb
from minibig import functional as F
from minibig.exercises.course import nb08


@pytest.mark.parametrize("case", nb08.attention.cases, ids=lambda case: case.name)
def test_attention_is_the_librarys(case):
    q, k, v, lengths = case.make()
    allowed = np.arange(k.shape[1]) < np.asarray(lengths)[:, None, None]  # (B, 1, S)
    theirs = F.scaled_dot_product_attention(*map(mb.tensor, (q, k, v)), allowed)
    ours = nb08.attention.solution(q, k, v, lengths)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-12)


@pytest.mark.parametrize("case", nb08.causal_mask.cases, ids=lambda case: case.name)
def test_causal_mask_is_the_librarys(case):
    queries, keys = case.make()
    q, k = mb.randn(queries, 4, dtype="float64"), mb.randn(keys, 4, dtype="float64")
    mask = nb08.causal_mask.solution(queries, keys)
    causal = F.scaled_dot_product_attention(
        q, k, k, is_causal=True, offset=keys - queries
    )
    masked = F.scaled_dot_product_attention(q, k, k, mask)
    np.testing.assert_allclose(causal.numpy(), masked.numpy(), atol=1e-12)


@pytest.mark.parametrize("low", [-np.inf, -1e9])
def test_a_mask_to_be_added_is_named(low, capsys):
    def additive(queries, keys):
        mask = np.zeros((queries, keys))
        mask[np.triu_indices(queries, keys - queries + 1, keys)] = low
        return mask

    assert "to be added to scores" in likely("08.causal_mask", additive, capsys)
