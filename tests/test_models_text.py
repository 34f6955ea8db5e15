"""The LSTM classifier: padding, pooling, and order, which it must learn."""

import numpy as np
import pytest

import minibig as mb
from minibig import models, optim
from minibig.data.loader import Loader
from minibig.training import classification_loss, fit

PAD = 9


def classifier(**changes):
    settings = {"vocab_size": 10, "n_classes": 2, "n_embd": 16, "hidden_size": 16}
    return models.LSTMClassifier(models.LSTMClassifierConfig(**{**settings, **changes}))


def padded(texts, length):
    rows = np.full((len(texts), length), PAD)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    return rows


TEXTS = [[1, 2, 3], [4], [5, 6, 7, 8, 1]]


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(pooling, bidirectional):
    model = classifier(
        pooling=pooling, bidirectional=bidirectional, n_layer=2, pad_id=PAD
    ).to("float64")
    alone = [model([text]).detach().numpy()[0] for text in TEXTS]
    for length in (5, 8):
        found = model(padded(TEXTS, length)).detach().numpy()
        np.testing.assert_allclose(found, alone, atol=1e-12)


def test_lengths_may_be_given_instead_of_a_padding_id():
    model = classifier()
    by_id = classifier(pad_id=PAD)
    by_id.load_state_dict(model.state_dict())
    rows = padded(TEXTS, 6)
    found = model(rows, [len(text) for text in TEXTS])
    np.testing.assert_array_equal(found.detach().numpy(), by_id(rows).detach().numpy())


def test_a_row_of_padding_alone_and_padding_within_a_text_count_as_text():
    model = classifier(pad_id=PAD)
    assert np.isfinite(model([[PAD, PAD]]).numpy()).all()
    within = model([[1, PAD, 2]]).numpy()
    np.testing.assert_array_equal(within, model([[1, PAD, 2]], [3]).numpy())


class Orders(Loader):
    """Rows of ids, padded: does 1 stand before 2? A bag of words cannot say."""

    _count, _data = 1, ()

    def batch(self, step):
        rng = mb.random.at("orders", step, self.seed)
        labels, texts = rng.integers(0, 2, self.batch_size), []
        for label in labels:
            others = rng.permutation(np.arange(3, 9))[: rng.integers(1, 7)].tolist()
            places = sorted(rng.permutation(len(others) + 1)[:2])
            pair = (1, 2) if label else (2, 1)
            for shift, (place, id) in enumerate(zip(places, pair, strict=True)):
                others.insert(place + shift, id)
            texts.append(others)
        return padded(texts, 8), labels


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_the_order_of_words_is_learnt(pooling):
    model = classifier(pooling=pooling, pad_id=PAD)
    optimizer = optim.AdamW(model.parameters(), lr=2e-2)
    fit(
        model, Orders(batch_size=64), classification_loss, optimizer, steps=120,
        schedule=optim.WarmupCosine(optimizer, 10, 120), clip_norm=1.0,
    )  # fmt: skip
    rows, labels = Orders(batch_size=500, seed=1).batch(0)
    with mb.no_grad():
        found = model.eval()(rows).numpy().argmax(1)
    assert (found == labels).mean() >= 0.98


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classifier(pooling="sum"), "pooling .*'sum'"),
        (lambda: classifier(n_classes=0), "n_classes .*not 0"),
        (lambda: classifier(pad_id=-1), "pad_id .*-1"),
        (lambda: classifier()([1, 2]), r"\(batch, length\), not \(2,\)"),
        (lambda: classifier()([[1, 2]], [3]), "lengths .*1 to 2"),
    ],
)
def test_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
