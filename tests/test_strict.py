"""The library on device "cuda": the same numbers as on the CPU, and nothing that CuPy
would refuse. In every test run that device is the stand-in for CuPy; on a machine with
a GPU it is the GPU too."""

import numpy as np
import pytest
from op_table import RECORDS

import minibig as mb
from minibig import functional as F
from minibig import models, nn, optim, training
from minibig.data import RandomCrops, Windows
from minibig.tensor import Tensor


@pytest.fixture(params=["strict", pytest.param("real", marks=pytest.mark.gpu)])
def cuda(request):
    """Makes "cuda" the stand-in or a real GPU; how much looser to compare there."""
    if request.param == "strict":
        request.getfixturevalue("strict")
    return 1 if request.param == "strict" else 100  # other sums, other exp


# ---- every op -----------------------------------------------------------------------


def _run(record, sample, device):
    """Outputs and gradients as NumPy arrays, from a fixed upstream gradient."""
    mb.seed(1)
    arguments, leaves = sample.inputs(device=device)
    outputs = record.function(*arguments, **sample.settings)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    rng = np.random.default_rng(0)
    total = 0
    for y in outputs:
        assert y.device == device
        if y.requires_grad:
            weight = mb.tensor(np.asarray(rng.standard_normal(y.shape)), device=device)
            total = total + (y * weight).sum()
    if leaves:
        total.backward()
        assert {leaf.grad.device for leaf in leaves} == {device}
    return [x.numpy() for x in (*outputs, *(leaf.grad for leaf in leaves))]


def _same(ours, expected, looser):
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12 * looser, atol=1e-12 * looser)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_op_equals_the_cpu(cuda, record):
    for sample in record.samples(np.random.default_rng(7)):
        with np.errstate(all="ignore"):
            expected = _run(record, sample, "cpu")
        _same(_run(record, sample, "cuda"), expected, cuda)


# ---- tensors ------------------------------------------------------------------------


def test_creation_on_the_device_equals_the_cpu(cuda):
    makers = {
        "tensor": lambda **on: mb.tensor([[1.0, 2.0]], **on),
        "zeros": lambda **on: mb.zeros(2, 3, **on),
        "ones": lambda **on: mb.ones((2, 3), **on),
        "full": lambda **on: mb.full((2, 3), 1.5, **on),
        "arange": lambda **on: mb.arange(2, 9, 3, **on),
        "linspace": lambda **on: mb.linspace(0, 1, 5, **on),
        "eye": lambda **on: mb.eye(3, **on),
        "randn": lambda **on: mb.randn(2, 3, **on),
        "rand": lambda **on: mb.rand(2, 3, **on),
        "randint": lambda **on: mb.randint(0, 9, (2, 3), **on),
    }
    for name, make in makers.items():
        mb.seed(3)
        expected = make(device="cpu")
        mb.seed(3)
        ours = make(device="cuda")
        assert ours.device == "cuda" and ours.dtype == expected.dtype, name
        assert np.array_equal(ours.numpy(), expected.numpy()), name
        assert mb.zeros_like(ours).device == mb.ones_like(ours).device == "cuda", name


def test_default_device_is_where_new_tensors_lie(cuda):
    mb.set_default_device("cuda")
    try:
        assert mb.zeros(2).device == mb.tensor([1, 2]).device == "cuda"
        assert mb.tensor(np.ones(2)).device == "cpu"  # arrays stay where they are
        assert (mb.ones(2) * [1.0, 2.0]).device == "cuda"
    finally:
        mb.set_default_device("cpu")


CHANGES = {
    "one number": lambda x, v: x.__setitem__((0, 1), 5.0),
    "a row from a list": lambda x, v: x.__setitem__(0, [1.0, 2.0, 3.0]),
    "rows by a list": lambda x, v: x.__setitem__([0, 2], v[0]),
    "a mask": lambda x, v: x.__setitem__(x > 2, 0.0),
    "a slice from a tensor": lambda x, v: x.__setitem__(slice(1, 3), v),
    "copy_": lambda x, v: x.copy_(v[0]),
    "fill_": lambda x, v: x.fill_(7),
    "zero_": lambda x, v: x.zero_(),
    "add_": lambda x, v: x.add_(v[1]),
    "mul_": lambda x, v: x.mul_(2.0),
    "an expanded tensor": lambda x, v: x[:, :1].expand(3, 3).add_(1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_in_place_equals_the_cpu(cuda, change):
    results = []
    for device in ("cpu", "cuda"):
        x = mb.arange(9, dtype="float32", device=device).reshape(3, 3)
        value = mb.tensor([[9.0, 8.0, 7.0], [6.0, 5.0, 4.0]], device=device)
        change(x, value)
        results.append(x.numpy())
    assert np.array_equal(*results)


def test_expanding_to_the_same_shape_shares_the_version(cuda):
    """Where CuPy answers the array itself, not a view."""
    for device in ("cpu", "cuda"):
        w = mb.ones(3, device=device, requires_grad=True)
        x = mb.ones(3, device=device)
        y = (w * x.expand(3)).sum()
        x.add_(1)
        with pytest.raises(RuntimeError, match=r"`multiply`.*changed in place"):
            y.backward()


INDICES = {
    "number": 1, "slice": np.s_[::-1, 1:], "newaxis": np.s_[None, ..., 0],
    "list": [2, 0, 2], "lists": ([0, 1], [2, 2]), "negative": [-1, -3],
    "array": np.array([[0, 1], [2, 2]]), "column": np.s_[:, [2, 0, 0]],
    "mixed": np.s_[..., [0], None, 1], "mask": np.eye(3, dtype=bool),
    "row mask": np.array([True, False, True]), "empty list": [],
}  # fmt: skip


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_index_of_lists_and_numpy_arrays_serves_both_devices(cuda, index):
    results = []
    for device in ("cpu", "cuda"):
        x = mb.arange(9, dtype="float64", device=device).reshape(3, 3)
        x.requires_grad_()
        y = x[index]
        (y * y).sum().backward()
        results.append((y.numpy(), x.grad.numpy()))
    _same(results[1], results[0], cuda)


def test_gradient_comes_back_to_the_cpu_leaf(cuda):
    x = mb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    w = mb.tensor([4.0, 5.0, 6.0], device="cuda", requires_grad=True)
    (x.to("cuda") * w).cpu().exp().sum().cuda().backward()
    e = np.exp(np.float32([4, 10, 18]))
    assert x.grad.device == "cpu" and w.grad.device == "cuda"
    np.testing.assert_allclose(x.grad.numpy(), e * [4, 5, 6], rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), e * [1, 2, 3], rtol=1e-6)


def test_tensors_on_two_devices_are_refused(cuda):
    here, there = mb.ones(2, 2), mb.ones(2, 2, device="cuda")
    leaf = mb.ones(2, 2, requires_grad=True)
    hooked = mb.ones(2, 2, requires_grad=True) * 1
    hooked.register_hook(lambda gradient: gradient.cuda())
    calls = (
        lambda: here + there,
        lambda: here @ there,
        lambda: mb.cat([here, there]),
        lambda: mb.where(here > 0, there, 0),
        lambda: F.linear(here, there),
        lambda: F.scaled_dot_product_attention(here, there, here),
        lambda: here.copy_(there),
        lambda: leaf.backward(there),
        lambda: leaf.backward(there.array),
        lambda: hooked.sum().backward(),
    )
    for call in calls:
        with pytest.raises(mb.DeviceError, match=r"cpu and cuda.*\.to\("):
            call()


def test_a_tensor_shows_and_answers_on_the_device(cuda):
    x = mb.tensor([[1.0, 2.5]], device="cuda", requires_grad=True)
    assert repr(x) == "tensor([[1. , 2.5]], device='cuda', requires_grad=True)"
    assert x.tolist() == [[1, 2.5]] and x[0, 1].item() == 2.5 and len(x) == 1
    assert float(x.sum()) == 3.5 and bool((x > 0).all()) and f"{x.max():.1f}" == "2.5"
    assert [row.tolist() for row in x.detach()] == [[1, 2.5]]
    assert np.array_equal(np.asarray(x), [[1, 2.5]]) and x.cuda() is x
    assert range(5)[mb.tensor(2, device="cuda")] == 2


def test_ids_out_of_range_are_refused_on_the_device_too(cuda):
    weight = mb.zeros(5, 2, device="cuda")
    for ids in ([0, 5], mb.tensor([0, 5]), mb.tensor([0, 5], device="cuda")):
        with pytest.raises(IndexError, match=r"id 5 .*0 … 4"):
            F.embedding(ids, weight)
    with pytest.raises(IndexError, match=r"id 7 .*0 … 1"):
        F.cross_entropy(mb.zeros(1, 2, device="cuda"), [7])
    with pytest.raises(IndexError, match="index"):
        weight.gather(0, mb.tensor([[9, 0]], device="cuda"))


def test_debug_names_the_op_on_the_device(cuda):
    x = mb.tensor([1.0, -1.0], device="cuda", requires_grad=True)
    with mb.debug(), pytest.raises(FloatingPointError, match=r"`log`.*NaN"):
        x.log()


def test_dropout_draws_the_same_mask_on_both_devices(cuda):
    masks = []
    for device in ("cpu", "cuda"):
        mb.seed(5)
        masks.append(F.dropout(mb.ones(4, 50, device=device), 0.3).numpy())
    assert np.array_equal(*masks) and 0 < (masks[0] == 0).mean() < 1


# ---- training -----------------------------------------------------------------------

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
