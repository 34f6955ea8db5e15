"""Optimizers: PyTorch's numbers, in place, without copies."""

import tracemalloc

import numpy as np
import pytest
from optimizers import ALL, parameter, set_gradients, settings_of

import minibig as mb
from minibig import backend, optim, threads
from minibig.optim import schedules
from tests.references import make_optim

STORED = np.load(make_optim.PATH)


def our_run(name, dtype, device="cpu"):
    def make(array):
        return mb.tensor(array, device=device, requires_grad=True)

    return make_optim.run(optim, schedules, make, name, dtype)


# ---- the numbers --------------------------------------------------------------------


@pytest.mark.parametrize("name", make_optim.OPTIMIZERS)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)])
def test_ten_steps_equal_the_stored_ones_of_pytorch(name, dtype, tolerance, device):
    rows, _ = our_run(name, dtype, device)
    assert rows.dtype == dtype
    np.testing.assert_allclose(
        rows, STORED[f"{name}/{dtype}"], rtol=tolerance, atol=tolerance
    )


@pytest.mark.oracle
@pytest.mark.parametrize("name", make_optim.OPTIMIZERS)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)])
def test_ten_steps_equal_those_of_the_installed_pytorch(name, dtype, tolerance):
    pytest.importorskip("torch")
    theirs, _ = make_optim.torch_run(name, dtype)
    np.testing.assert_allclose(
        our_run(name, dtype)[0], theirs, rtol=tolerance, atol=tolerance
    )


def test_adamw_decay_is_decoupled_from_the_gradient():
    p, start = parameter(4), parameter(4).numpy()
    p.grad = mb.zeros(4, dtype="float64")
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(p.numpy(), start * (1 - 0.1 * 0.5), rtol=1e-15)


@pytest.mark.parametrize("kind", ALL)
def test_training_on_a_bowl_goes_down(kind):
    p = parameter(20)
    optimizer = kind([p], lr=0.1, **settings_of(kind))
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < (0.999 if kind is optim.Adadelta else 0.1) * losses[0]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtypes_stay_even_with_numpy_settings(kind, dtype):
    p = parameter(3, dtype=dtype)
    optimizer = (
        kind([p], lr=np.float64(0.1), eps=np.float64(1e-3))
        if (kind is not optim.SGD)
        else kind([p], lr=np.float64(0.1), momentum=np.float64(0.9))
    )
    optimizer.param_groups[0]["lr"] = np.float64(0.01)
    for _ in range(2):
        set_gradients([p])
        optim.clip_grad_norm_([p], np.float64(0.5))
        assert p.grad.dtype == dtype
        optimizer.step()
    assert p.dtype == dtype
    arrays = [x for x in optimizer.state[0].values() if isinstance(x, np.ndarray)]
    assert arrays and all(x.dtype == dtype for x in arrays)
    assert all(type(x) in (float, bool, tuple) for x in optimizer.defaults.values())


# ---- in place, in blocks ------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_step_writes_in_place_and_counts_the_change(kind):
    p = parameter(3, 4)
    array, version = p.array, p.version[0]
    before = array.copy()
    set_gradients([p])
    gradient = p.grad.array.copy()
    optimizer = kind([p], weight_decay=0.1, **settings_of(kind))
    for _ in range(2):
        optimizer.step()
    assert p.array is array and p.version[0] == version + 2
    assert not np.array_equal(array, before)
    np.testing.assert_array_equal(p.grad.array, gradient)


def test_backward_notices_a_step_in_between():
    p = parameter(3)
    loss = (p * p).sum()
    set_gradients([p])
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("workers", [1, 2])
def test_blocks_and_threads_give_the_bits_of_one_piece(kind, workers, monkeypatch):
    whole, cut = parameter(101, 7), parameter(101, 7)
    settings = {"weight_decay": 0.1, **settings_of(kind)}
    one, many = kind([whole], **settings), kind([cut], **settings)
    before = threads.get_num_threads()
    threads.set_num_threads(workers)
    try:
        for seed in range(3):
            set_gradients([whole], seed)
            set_gradients([cut], seed)
            one.step()
            with monkeypatch.context() as patched:
                patched.setattr(backend, "BLOCK", 256)
                many.step()
    finally:
        threads.set_num_threads(before)
    np.testing.assert_array_equal(whole.numpy(), cut.numpy())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("block", [64, backend.BLOCK])
@pytest.mark.parametrize(
    "view", [np.transpose, lambda x: x[::-1], lambda x: x[:, ::2], np.asfortranarray]
)
def test_noncontiguous_parameters_and_gradients_are_updated_rightly(
    kind, block, view, monkeypatch
):
    monkeypatch.setattr(backend, "BLOCK", block)
    memory = np.random.default_rng(0).normal(size=(40, 30))
    odd = mb.Tensor(view(memory), requires_grad=True)
    plain = mb.tensor(np.ascontiguousarray(odd.array), requires_grad=True)
    pair = [kind([p], lr=0.1, **settings_of(kind)) for p in (odd, plain)]
    for seed in range(2):
        gradient = np.random.default_rng(seed).normal(size=odd.shape)
        odd.grad = mb.Tensor(np.asfortranarray(gradient))
        plain.grad = mb.tensor(gradient)
        for optimizer in pair:
            optimizer.step()
    np.testing.assert_array_equal(odd.numpy(), plain.numpy())
    assert np.shares_memory(odd.array, view(memory)) or view is np.asfortranarray


def test_read_only_parameter_is_copied_not_written():
    array = np.ones(3)
    array.flags.writeable = False
    p = mb.Tensor(array, requires_grad=True)
    p.grad = mb.ones(3, dtype="float64")
    optim.SGD([p], lr=0.5).step()
    np.testing.assert_array_equal(array, 1)
    np.testing.assert_array_equal(p.numpy(), 0.5)


def test_empty_and_scalar_parameters_are_served():
    for kind in ALL:
        scalar, empty = parameter(), parameter(0, 3)
        set_gradients([scalar, empty])
        before = scalar.item()
        optimizer = kind([empty, scalar], lr=0.1)
        optimizer.step()
        assert scalar.item() != before and scalar.shape == ()
        assert optim.clip_grad_norm_([empty, scalar], 1.0) > 0


@pytest.mark.parametrize("kind", ALL)
def test_step_makes_no_temporaries_of_the_models_size(kind):
    p = mb.zeros(2000, 2000, requires_grad=True)  # 16 MB
    p.grad = mb.ones(2000, 2000)
    optimizer = kind([p], lr=1e-3, weight_decay=0.1, **settings_of(kind))
    optimizer.step()  # makes the state
    tracemalloc.start()
    try:
        optimizer.step()
        optim.clip_grad_norm_([p], 1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6
