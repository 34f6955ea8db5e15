"""What must be learnt, for each of five seeds."""

import numpy as np
import pytest

import minibig as mb
from minibig import data, models, nn, optim
from minibig.data.loader import IGNORE, Loader
from minibig.training import (
    Evaluation,
    accuracy,
    classification_loss,
    fit,
    next_token_loss,
)

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_xor(seed):
    mb.seed(seed)
    inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    loader = data.ArrayBatches(inputs, np.array([0, 1, 1, 0]), batch_size=4)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    history = fit(model, loader, classification_loss, optimizer, steps=150)
    with mb.no_grad():
        assert model(mb.tensor(inputs)).numpy().argmax(1).tolist() == [0, 1, 1, 0]
    assert history.loss[-1] < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_digits_to_95_percent(seed):
    pytest.importorskip("sklearn")
    mb.seed(seed)
    digits = data.digits()
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)
    )
    optimizer = optim.AdamW(model.parameters(), lr=5e-3)
    test = data.ArrayBatches(*digits.test, batch_size=500, shuffle=False)
    fit(
        model, data.ArrayBatches(*digits.train, batch_size=64, seed=seed),
        classification_loss, optimizer, steps=300,
        schedule=optim.WarmupCosine(optimizer, 20, 300),
    )  # fmt: skip
    found = Evaluation(test, classification_loss, {"accuracy": accuracy})(model)
    assert found["accuracy"] >= 0.95


class Copies(Loader):
    """Rows of random symbols, a sign, and the same symbols again, to be predicted."""

    length, symbols, _count, _data = 6, 8, 1, ()

    def batch(self, step):
        rng = mb.random.at("copies", step, self.seed)
        once = rng.integers(0, self.symbols, (self.batch_size, self.length))
        sign = np.full((self.batch_size, 1), self.symbols)
        rows = np.concatenate([once, sign, once], 1)
        targets = rows[:, 1:].copy()
        targets[:, : self.length] = IGNORE
        return rows[:, :-1], targets


@pytest.mark.parametrize("seed", SEEDS)
def test_copying_without_a_fault(seed):
    mb.seed(seed)
    model = models.GPT(models.GPTConfig(9, 12, n_layer=1, n_head=4, n_embd=64))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    fit(
        model, Copies(batch_size=32, seed=seed), next_token_loss, optimizer, steps=150,
        schedule=optim.WarmupCosine(optimizer, 20, 150), clip_norm=1.0,
    )  # fmt: skip
    inputs, targets = Copies(batch_size=300, seed=100 + seed).batch(0)
    half = targets != IGNORE
    with mb.no_grad():
        predicted = model(inputs).numpy().argmax(2)
    np.testing.assert_array_equal(predicted[half], targets[half])
    prompts = inputs[:20, :7]
    text = model.generate(prompts, 6, temperature=0).numpy()
    np.testing.assert_array_equal(text[:, 7:], prompts[:, :6])


@pytest.mark.parametrize("seed", SEEDS)
def test_one_batch_is_learnt_by_heart(seed):
    mb.seed(seed)
    model = models.GPT(models.GPTConfig(50, 16, n_layer=2, n_head=2, n_embd=32))
    rows = np.random.default_rng(seed).integers(0, 50, (4, 17))
    loader = data.ArrayBatches(rows[:, :-1], rows[:, 1:], batch_size=4, shuffle=False)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    history = fit(model, loader, next_token_loss, optimizer, steps=100, clip_norm=1.0)
    assert history.loss[-1] < 0.01
