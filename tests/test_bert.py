"""BERT: what it sees, its heads, its start, and that it learns to guess words."""

import math

import numpy as np
import pytest

import minibig as mb
from minibig import data, optim
from minibig import functional as F
from minibig.models import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)

SIZES = {"vocab_size": 11, "context_length": 8, "n_layer": 2, "n_head": 2, "n_embd": 8,
         "dim_feedforward": 12, "n_classes": 3}  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 11, (3, 6))


def config(**changes):
    return BERTConfig(**{**SIZES, **changes})


def drawn(cls=BERT, **changes):
    """A model in float64, in evaluation, with every number drawn at random."""
    model, rng = cls(config(**changes)).to("float64"), np.random.default_rng(5)
    state = model.state_dict()
    model.load_state_dict({n: 0.5 * rng.normal(size=a.shape) for n, a in state.items()})
    return model.eval()


HEADS = {
    BERT: (3, 6, 8),
    BERTForMaskedLM: (3, 6, 11),
    BERTForSequenceClassification: (3, 3),
    BERTForTokenClassification: (3, 6, 3),
}


@pytest.mark.parametrize("cls", HEADS)
def test_padding_changes_no_output(cls):
    model = drawn(cls)
    alone = model(IDS).numpy()
    assert alone.shape == HEADS[cls]
    padded = np.concatenate([IDS, np.full((3, 2), 9)], 1)
    mask = np.arange(8) < 6
    found = model(padded, np.tile(mask, (3, 1))).numpy()
    real = found if cls is BERTForSequenceClassification else found[:, :6]
    np.testing.assert_allclose(real, alone, atol=1e-12)
    numbers = model(padded, np.tile(mask, (3, 1)).astype(int)).numpy()
    np.testing.assert_array_equal(numbers, found)
    assert np.abs(model(padded).numpy()[:, :3] - found[:, :3]).max() > 1e-6


def test_every_token_sees_every_other():
    model = drawn()
    before = model(IDS).numpy()
    for place in range(6):
        changed = IDS.copy()
        changed[:, place] = (IDS[:, place] + 1) % 11
        assert (np.abs(model(changed).numpy() - before).max(2) > 1e-7).all()


def test_types_tell_two_texts_apart_and_default_to_the_first():
    model, types = drawn(), np.array([[0, 0, 0, 1, 1, 1]] * 3)
    np.testing.assert_array_equal(
        model(IDS, None, 0 * types).numpy(), model(IDS).numpy()
    )
    assert np.abs(model(IDS, None, types).numpy() - model(IDS).numpy()).max() > 1e-3


def test_sentence_embeddings_are_means_of_length_1():
    model, mask = drawn(), np.arange(6) < np.array([[6], [3], [1]])
    found = model.sentence_embeddings(IDS, mask).numpy()
    hidden = model(IDS, mask).numpy()
    for vector, rows, real in zip(found, hidden, mask, strict=True):
        mean = rows[real].mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-12)
    whole = model.sentence_embeddings(IDS).numpy()
    np.testing.assert_allclose(whole[0], found[0], atol=1e-12)


def test_words_are_guessed_with_the_embedding_or_a_weight_of_their_own():
    tied, own = BERTForMaskedLM(config()), BERTForMaskedLM(config(tied=False))
    assert own.num_parameters() == tied.num_parameters() + 11 * 8
    tied(IDS).sum().backward()
    assert tied.bert.token_embedding.weight.grad is not None


@pytest.mark.parametrize("cls", HEADS)
def test_weights_start_as_the_paper_has_them(cls):
    model = cls(config(vocab_size=300, n_embd=64, dim_feedforward=256, n_layer=3))
    for name, parameter in model.named_parameters():
        w = parameter.numpy()
        if w.ndim == 2 and w.size > 1000:
            assert w.std() == pytest.approx(0.02, rel=0.06), name
        elif w.ndim == 1:
            assert (w == (1 if "norm" in name and "weight" in name else 0)).all(), name
    if cls is BERTForMaskedLM:
        ids = np.random.default_rng(0).integers(0, 300, (4, 8))
        assert F.cross_entropy(model(ids), ids).item() == pytest.approx(
            math.log(300), abs=0.1
        )


def test_it_learns_to_guess_words_left_out():
    """Texts are two words by turns: what is left out stands elsewhere once more."""
    mb.seed(3)
    model = BERTForMaskedLM(
        config(vocab_size=16, n_embd=32, dim_feedforward=64, n_layer=1, dropout=0.0)
    )
    optimizer = optim.AdamW(model.parameters(), lr=4e-3)
    rng = np.random.default_rng(0)
    losses = []
    for step in range(300):
        ids = np.tile(rng.integers(2, 16, (32, 2)), 4)
        inputs, targets = data.mask_tokens(ids, mask_id=1, vocab_size=16, step=step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 0.3


def test_dropout_draws_in_training_alone():
    model = BERTForTokenClassification(config(dropout=0.5))
    assert model(IDS).tolist() != model(IDS).tolist()
    mb.seed(0)
    model(IDS)  # embeddings; in a layer attention and the two parts; the classifier
    assert mb.random.get_state()["counters"]["dropout"] == 1 + 2 * 3 + 1
    model.eval()
    assert model(IDS).tolist() == model(IDS).tolist()


def test_float32_stays_float32_also_on_a_device(device):
    model = BERTForMaskedLM(config()).to(device)
    y = model(IDS, IDS > 0, IDS % 2)
    y.sum().backward()
    assert y.dtype == np.float32 and y.device == device
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: config(n_head=3), ValueError, "n_head 3 does not divide n_embd 8"),
        (lambda: config(n_types=0), ValueError, "n_types .*at least 1, not 0"),
        (lambda: config(activation="tanh"), ValueError, "activation .*'tanh'"),
        (lambda: config(dropout=1), ValueError, "dropout .*not 1"),
        (lambda: config(layer_norm_eps=-1.0), ValueError, "layer_norm_eps .*not -1"),
        (lambda: BERT(SIZES), TypeError, "must be a BERTConfig, not dict"),
        (lambda: BERT(config())(IDS[0]), ValueError, r"not \(6,\)"),
        (lambda: BERT(config())(np.tile(IDS, 2)), ValueError, "12 tokens .*of 8"),
        (lambda: BERT(config())(IDS, IDS[:, :5] > 0), ValueError, r"\(3, 5\).*\(3, 6"),
        (lambda: BERT(config())(IDS, np.ones((3, 6))), ValueError, "float64"),
        (lambda: BERT(config())(IDS, None, IDS[:, :5]), ValueError, r"\(3, 5\)"),
        (lambda: BERT(config())(IDS, None, IDS), IndexError, "outside 0 … 1"),
        (lambda: BERT(config())(IDS + 5), IndexError, "outside 0 … 10"),
    ],
)  # fmt: skip
def test_mistake_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
