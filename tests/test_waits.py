"""What makes the CPU wait for a GPU, and what takes CuPy's slow paths: in a training
step nothing but the one look at the loss that `fit` takes."""

import warnings

import numpy as np
import pytest
from families import FAMILIES, loss_of
from strict_array import watched

import minibig as mb
from minibig import functional as F
from minibig import models, nn, optim, training
from minibig.data import RandomCrops
from minibig.ops import indexing

SIZES = {"vocab_size": 600, "context_length": 16, "n_layer": 2, "n_head": 2,
         "n_embd": 8}  # fmt: skip


def _gpt(**settings):
    mb.seed(4)
    config = models.GPTConfig(**SIZES, dropout=0.1, **settings)
    return models.GPT(config).to("cuda")


def _step(model, optimizer, ids, targets):
    loss = F.cross_entropy(model(ids), targets)
    optimizer.zero_grad()
    loss.backward()
    norm = optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss, norm


def test_training_step_never_waits_and_takes_no_slow_path(strict):
    model = _gpt()
    optimizer = optim.AdamW(model.parameters())
    text = np.random.default_rng(0).integers(0, 600, (40, 17))
    with watched() as seen:
        for _ in range(2):
            batch = mb.tensor(text, device="cuda")
            loss, norm = _step(model, optimizer, batch[:, :-1], batch[:, 1:])
    assert seen.waits == [] and seen.slow == []
    assert loss.isfinite().all() and float(norm) > 0


@pytest.mark.parametrize("make, batch", FAMILIES.values(), ids=FAMILIES)
def test_no_family_of_models_waits_in_training(strict, make, batch):
    model = make().to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watched() as seen:
        loss = loss_of(model, *(mb.tensor(array, device="cuda") for array in batch))
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert seen.waits == [] and loss.isfinite().all()


@pytest.mark.gpu
def test_training_step_never_waits_for_a_real_gpu():
    """As far as CuPy notices, which counts what it copies back."""
    import cupyx

    model = _gpt()
    optimizer = optim.AdamW(model.parameters())
    text = np.random.default_rng(0).integers(0, 600, (40, 17))
    for allowed in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a deprecation, in every version so far
            with cupyx.allow_synchronize(allowed):
                batch = mb.tensor(text, device="cuda")
                loss, _ = _step(model, optimizer, batch[:, :-1], batch[:, 1:])
    assert loss.isfinite().item()


def test_ignored_ids_need_no_waiting(strict):
    model, ids = _gpt(), np.random.default_rng(0).integers(0, 600, (40, 16))
    targets = np.where(ids % 3 == 0, -100, ids)
    results = []
    for device in ("cpu", "cuda"):
        model.to(device)
        model.eval()
        with watched() as seen:
            moved = mb.tensor(targets).to(device)
            loss = F.cross_entropy(model(mb.tensor(ids, device=device)), moved)
            loss.backward()
        assert seen.waits == []
        grads = [p.grad.numpy() for p in model.parameters()]
        results.append([loss.detach().numpy(), *grads])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-7)


def test_no_target_at_all_is_nan_where_asking_would_wait(strict):
    with watched() as seen:
        targets = mb.tensor([[-100, -100, 2]], device="cuda")[:, :2]
        loss = F.cross_entropy(mb.zeros(1, 2, 5, device="cuda"), targets)
    assert seen.waits == [] and np.isnan(loss.item())


@pytest.mark.parametrize("change", [
    lambda ids: ids.add_(3), lambda ids: ids.__setitem__((0, 0), 5),
    lambda ids: ids.copy_([[5, 5, 5]]),
])  # fmt: skip
def test_bounds_are_forgotten_when_ids_change(strict, change):
    weight, ids = mb.zeros(5, 2, device="cuda"), mb.tensor([[1, 2, 4]], device="cuda")
    view = ids[:, :2]
    F.embedding(ids, weight)
    change(ids)
    for changed in (ids, view, mb.tensor(ids)):
        with pytest.raises(IndexError, match=r"id \d .*0 … 4"):
            F.embedding(changed, weight)


def test_bounds_of_a_view_are_no_more_than_a_hint(strict):
    """Where they reach too far, the ids themselves are looked at."""
    ids = mb.tensor([1, 2, 7, -100], device="cuda")
    with watched() as seen:
        y = F.embedding(ids[:2], mb.ones(5, 2, device="cuda"))
    assert seen.waits != [] and y.shape == (2, 2)
    assert F.cross_entropy(mb.zeros(2, 5, device="cuda"), ids[:2]).item() > 0
    with pytest.raises(IndexError, match="id 7"):
        F.cross_entropy(mb.zeros(4, 5, device="cuda"), ids)


def test_ids_that_the_gpu_made_are_checked_all_the_same(strict):
    scores = mb.tensor([[0.0, 1.0, 2.0]], device="cuda")
    with pytest.raises(IndexError, match="id 2"):
        F.embedding(scores.argmax(-1), mb.zeros(2, 2, device="cuda"))


def test_fit_waits_once_a_step(strict):
    model = _gpt()
    optimizer = optim.AdamW(model.parameters())
    ids = list(np.random.default_rng(0).integers(0, 600, 400))
    loader = RandomCrops(ids, context_length=8, batch_size=4)
    per_step = []

    def note(run):
        per_step.append(list(seen.waits))
        seen.waits.clear()

    with watched() as seen:
        history = training.fit(
            model, loader, training.next_token_loss, optimizer, steps=4, clip_norm=1.0,
            accumulate=2, callbacks=[note],
        )  # fmt: skip
    assert per_step == [["get"]] * 4 and len(history.loss) == 4


def test_rows_are_added_up_precisely(strict):
    """Not as CuPy's reduceat: a large row before must not cost the others digits."""
    xp, rng = strict, np.random.default_rng(0)
    rows, ids = rng.standard_normal((3000, 4), np.float32), rng.integers(0, 500, 3000)
    rows[ids == 3] *= 1e4
    found = indexing.add_rows(xp.asarray(ids), xp.asarray(rows), 500)
    exact = np.zeros((500, 4))
    np.add.at(exact, ids, rows.astype(np.float64))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.get(), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pick", [
    lambda x, ids: x[ids], lambda x, ids: x[:, ids[0] % 4],
    lambda x, ids: x.T[:2].gather(1, ids),
], ids=["rows", "columns", "gather"])  # fmt: skip
def test_picking_by_ids_waits_neither_way(strict, pick):
    numbers, ids = (
        np.random.default_rng(0).standard_normal((6, 4)),
        [[0, 5, 5], [3, 0, 5]],
    )
    gradients = []
    for device in ("cpu", "cuda"):
        x = mb.tensor(numbers, dtype="float32", device=device, requires_grad=True)
        places = mb.tensor(ids, device=device)
        with watched() as seen:
            y = pick(x, places)
            (y * y).sum().backward()
        assert seen.waits == []
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_was_picked_by_ids_keeps_its_place(strict, dtype):
    """A NaN spoils no other place, and small numbers live beside large ones."""
    ids = np.random.default_rng(0).permutation(np.arange(40).repeat(2))
    dy = np.where(ids < 20, 1e6, 1e-6).astype(dtype)
    dy[ids == 3] = np.nan
    places, values = (strict.asarray(x) for x in (ids, dy))
    found = indexing.add_at(places, values, 50).get()
    expected = np.bincount(ids, dy.astype("f8"), 50)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_evaluation_waits_once(strict):
    model = nn.Linear(3, 2).to("cuda")
    x = np.ones((20, 3), np.float32)
    loader = mb.data.ArrayBatches(x, np.zeros(20, int), batch_size=4)
    evaluate = training.Evaluation(loader, training.classification_loss)
    with watched() as seen:
        evaluate(model)
    assert seen.waits == ["get"]
