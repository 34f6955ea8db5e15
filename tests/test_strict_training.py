"""Models train, generate and are kept on device "cuda" as on the CPU."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import models, nn, optim, training
from minibig.data import RandomCrops, Windows
from minibig.tensor import Tensor

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adadelta": lambda p: optim.Adadelta(p, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
}


def _trained(model, inputs, targets, make, device, steps=3):
    """Losses, then all parameters and optimizer state, as NumPy arrays."""
    model.to(device)
    optimizer, found = make(list(model.parameters())), []
    for _ in range(steps):
        logits = model(mb.tensor(inputs, device=device))
        loss = F.cross_entropy(logits, mb.tensor(targets, device=device))
        optimizer.zero_grad()
        loss.backward()
        found.append(np.float32(optim.clip_grad_norm_(model.parameters(), 0.5)))
        optimizer.step()
        found.append(loss.detach().numpy())
    found += [p.numpy() for p in model.parameters()]
    for entry in optimizer.state_dict()["state"].values():
        found += [Tensor(x).numpy() for x in entry.values() if not isinstance(x, int)]
    return found


def _close(ours, expected, looser):
    for a, b in zip(ours, expected, strict=True):  # sums in another order
        np.testing.assert_allclose(a, b, rtol=1e-6 * looser, atol=3e-6 * looser)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_mlp_trains_as_on_the_cpu(cuda, make):
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((8, 5), np.float32), rng.integers(0, 3, 8)
    runs = []
    for device in ("cpu", "cuda"):
        mb.seed(2)
        model = nn.Sequential(
            nn.Linear(5, 16), nn.GELU(), nn.RMSNorm(16), nn.Dropout(0.2),
            nn.Linear(16, 8), nn.SiLU(), nn.Linear(8, 3),
        )  # fmt: skip
        runs.append(_trained(model, inputs, targets, make, device))
    _close(runs[1], runs[0], cuda)


SIZES = {"vocab_size": 11, "context_length": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}


def _gpt(device, **settings):
    mb.seed(4)
    return models.GPT(models.GPTConfig(**SIZES, **settings)).to(device)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_where_the_model_is_moved(cuda, make):
    ids = np.random.default_rng(1).integers(0, 11, (3, 9))
    ends = []
    for devices in (("cpu", "cpu", "cpu"), ("cuda", "cpu", "cuda")):
        mb.seed(4)
        model = nn.Sequential(nn.Embedding(11, 8), nn.GELU(), nn.Linear(8, 11))
        optimizer = make(list(model.parameters()))
        for device in devices:
            model.to(device)
            targets = mb.tensor(ids[:, 1:], device=device)
            F.cross_entropy(model(ids[:, :-1]), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append([p.numpy() for p in model.parameters()])
    _close(ends[1], ends[0], cuda)


def test_gpt_trains_as_on_the_cpu(cuda):
    ids = np.random.default_rng(1).integers(0, 11, (3, 9))
    runs = [
        _trained(_gpt(device, dropout=0.1), ids[:, :-1], ids[:, 1:],
                 OPTIMIZERS["adamw"], device)
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    _close(runs[1], runs[0], cuda)


@pytest.mark.parametrize("use_cache", [True, False])
def test_gpt_writes_the_same_text_on_both_devices(cuda, use_cache):
    texts = [
        _gpt(device).generate([[1, 2], [3, 4]], 9, seed=6, use_cache=use_cache)
        for device in ("cpu", "cuda")
    ]
    assert texts[0].tolist() == texts[1].tolist() and texts[0].shape == (2, 11)


def test_transformer_layers_equal_the_cpu(cuda):
    results = []
    for device in ("cpu", "cuda"):
        mb.seed(8)
        decoder = nn.TransformerDecoderLayer(8, 2, 16, 0.0).to(device)
        encoder = nn.TransformerEncoderLayer(8, 2, 16, 0.0, norm_first=True).to(device)
        x, memory = mb.randn(2, 5, 8, device=device), mb.randn(2, 4, 8, device=device)
        memory.requires_grad_()
        padding = mb.tensor([[True] * 4, [True] * 2 + [False] * 2], device=device)
        encoded = encoder(memory, key_padding_mask=padding)
        y = decoder(x, encoded, memory_key_padding_mask=padding)
        y.sum().backward()
        results.append((y.detach().numpy(), memory.grad.numpy()))
    _close(results[1], results[0], cuda)


def test_model_goes_to_the_device_and_back_with_its_weights(cuda, tmp_path):
    model = _gpt("cpu")
    before = {name: array.copy() for name, array in model.state_dict().items()}
    model.to("cuda")
    assert {p.device for p in model.parameters()} == {"cuda"}
    on_device = model.state_dict()
    other = _gpt("cuda")
    other.load_state_dict(on_device)
    other.load_state_dict(before)  # arrays of the CPU go to where the model lies
    model.to("cpu").load_state_dict(on_device)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]), name


def test_metrics_take_what_lies_on_the_device(cuda):
    predictions = mb.tensor([1, 0, 2, 2], device="cuda")
    targets = mb.tensor([1, 0, 1, 2], device="cuda")
    assert training.accuracy(predictions, targets) == 0.75
    assert training.f1(predictions, targets, average="macro") == pytest.approx(7 / 9)
    matrix = training.confusion_matrix(predictions, targets)
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert training.perplexity(mb.zeros(3, device="cuda")) == 1.0


def test_checkpoint_goes_on_with_the_other_device(cuda, tmp_path):
    expected = _fit("cpu", 6, None)[0]
    for first, second in (("cuda", "cpu"), ("cpu", "cuda")):
        _fit(first, 4, tmp_path / first)
        losses = _fit(second, 6, tmp_path / first)[0]
        assert losses == pytest.approx(expected, rel=1e-5)


def _fit(device, steps, folder):
    """Losses by step, of a GPT on the digits of 1/97, and its parameters."""
    ids = [int(digit) for digit in str(10**96 // 97)] * 4
    mb.seed(9)
    model = _gpt(device, dropout=0.1)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    history = training.fit(
        model, RandomCrops(ids, context_length=8, batch_size=4),
        training.next_token_loss, optimizer, steps=steps, clip_norm=1.0, accumulate=2,
        schedule=optim.WarmupCosine(optimizer, 2, 6), evaluate_every=2, folder=folder,
        evaluate=Windows(ids[:50], context_length=8, batch_size=4),
    )  # fmt: skip
    rows = [row["loss"] for row in history.steps]
    return rows + [row["loss"] for row in history.evaluations], model.state_dict()


def test_fit_trains_stops_and_goes_on_as_on_the_cpu(cuda, tmp_path):
    expected, weights = _fit("cpu", 6, None)
    _fit("cuda", 4, tmp_path)
    losses, on_device = _fit("cuda", 6, tmp_path)
    assert losses == pytest.approx(expected, rel=1e-5) and len(losses) == 9
    arrays = training.load_checkpoint(
        tmp_path
    ).arrays  # of the CPU, wherever they came from
    for name, array in weights.items():
        assert type(arrays[f"model.{name}"]) is np.ndarray
        np.testing.assert_allclose(on_device[name].get(), array, rtol=1e-4, atol=1e-5)
