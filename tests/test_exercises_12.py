"""The exercises of notebook 12: their solutions are what the library does."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import random
from minibig.data import mask_tokens
from minibig.exercises.course import nb12
from minibig.models import BERT, BERTConfig


def cases(exercise):
    return pytest.mark.parametrize("case", exercise.cases, ids=lambda case: case.name)


@cases(nb12.masked_loss)
def test_masked_loss_is_the_librarys_cross_entropy(case):
    logits, targets = case.make()
    theirs = F.cross_entropy(mb.tensor(logits), targets).item()
    assert nb12.masked_loss.solution(logits, targets) == pytest.approx(theirs)


def test_masking_is_the_librarys_on_the_same_draws():
    ids = nb12.mask_tokens.cases[1].make()[0]
    theirs = mask_tokens(ids, mask_id=4, vocab_size=40, step=3, special_ids=range(5))
    rng = random.at("masking", 3, 0)
    draw, fate = rng.random(ids.shape), rng.random(ids.shape)
    words = rng.choice(np.arange(5, 40), ids.shape)
    ours = nb12.mask_tokens.solution(ids, draw, fate, words)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_mean_pooling_is_the_librarys_but_for_the_length():
    mb.seed(0)
    model = BERT(BERTConfig(9, 6, 1, 1, 4, 8, dropout=0.0)).to("float64")
    ids, mask = np.array([[1, 2, 3], [4, 5, 0]]), np.array([[1, 1, 1], [1, 1, 0]]) > 0
    ours = nb12.mean_pooling.solution(model(ids, mask).numpy(), mask)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    theirs = model.sentence_embeddings(ids, mask).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_rates_fall_from_the_classifier_to_the_embeddings():
    names, *settings = nb12.layer_rates.cases[1].make()
    found = nb12.layer_rates.solution(names, *settings)
    rates = dict(zip(names, found.round(9).tolist(), strict=True))
    assert rates["classifier.bias"] == 0.1
    assert rates["bert.blocks.2.norm1.bias"] == 0.05
    assert rates["bert.blocks.0.norm1.bias"] == 0.0125
    assert rates["bert.token_embedding.weight"] == rates["bert.norm.bias"] == 0.00625
