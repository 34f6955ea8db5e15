"""Optimizers and clipping: PyTorch's numbers, groups, saving, memory, mistakes."""

import copy
import math
import tracemalloc

import numpy as np
import pytest

import minibig as mb
from minibig import backend, optim, threads
from minibig.optim import schedules
from tests.references import make_optim

ALL = (optim.SGD, optim.Adadelta, optim.Adam, optim.AdamW)
STORED = np.load(make_optim.PATH)


def parameter(*shape, seed=0, dtype="float64"):
    array = np.random.default_rng(seed).normal(size=shape)
    return mb.tensor(np.asarray(array, dtype), requires_grad=True)


def set_gradients(parameters, seed=1):
    rng = np.random.default_rng(seed)
    for p in parameters:
        p.grad = mb.tensor(np.asarray(rng.normal(size=p.shape), p.dtype))


def our_run(name, dtype, device="cpu"):
    def make(array):
        return mb.tensor(array, device=device, requires_grad=True)

    return make_optim.run(optim, schedules, make, name, dtype)


def settings_of(kind):
    return {"momentum": 0.9} if kind is optim.SGD else {}


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


# ---- groups, gradients that are not there -------------------------------------------


def test_groups_use_their_own_settings_and_the_defaults():
    a, b = parameter(3), parameter(3)
    optimizer = optim.SGD(
        [{"params": [a]}, {"params": b, "lr": 1.0, "weight_decay": 0.5}], lr=0.1
    )
    start = a.numpy().copy()
    a.grad = mb.ones(3, dtype="float64")
    b.grad = mb.ones(3, dtype="float64")
    optimizer.step()
    np.testing.assert_allclose(a.numpy(), start - 0.1, rtol=1e-15)
    np.testing.assert_allclose(b.numpy(), start - (1 + 0.5 * start), rtol=1e-14)
    optimizer.add_param_group({"params": [parameter(2)], "lr": 3})
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0, 3.0]


def test_parameters_without_gradient_are_passed_over():
    a, b = parameter(3), parameter(3)
    optimizer = optim.AdamW([a, b])
    version, before = b.version[0], b.numpy().copy()
    set_gradients([a])
    optimizer.step()
    assert b.version[0] == version and list(optimizer.state) == [0]
    np.testing.assert_array_equal(b.numpy(), before)


def test_zero_grad_takes_gradients_away():
    p = parameter(3)
    set_gradients([p])
    optim.SGD([p]).zero_grad()
    assert p.grad is None


def test_nan_gradient_becomes_a_nan_parameter():
    for kind in ALL:
        p = parameter(3)
        p.grad = mb.tensor([0.0, math.nan, 0.0], dtype="float64")
        kind([p]).step()
        assert np.isnan(p.numpy()).tolist() == [False, True, False]


def test_repr_shows_each_group():
    optimizer = optim.SGD([{"params": [parameter(3, 4)]}], lr=0.25)
    assert "lr=0.25" in repr(optimizer) and "12 numbers" in repr(optimizer)


# ---- saving -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}])
def test_resumed_run_continues_bit_for_bit(kind, settings):
    settings = settings | settings_of(kind)

    def start(arrays):
        parameters = [mb.tensor(x, requires_grad=True) for x in arrays]
        groups = [{"params": parameters[:1], "lr": 0.02}, {"params": parameters[1:]}]
        return parameters, kind(groups, **settings)

    def steps(parameters, optimizer, seeds):
        for seed in seeds:
            set_gradients(parameters, seed)
            optimizer.step()

    shapes = [(4, 3), (5,)]
    first = [np.random.default_rng(0).normal(size=s).astype("f") for s in shapes]
    straight = start(first)
    steps(*straight, range(6))
    stopped = start(first)
    steps(*stopped, range(3))
    saved = copy.deepcopy(stopped[1].state_dict())
    resumed = start([p.numpy() for p in stopped[0]])
    resumed[1].load_state_dict(saved)
    steps(*stopped, range(9, 12))  # what was loaded must be a copy
    steps(*resumed, range(3, 6))
    for p, q in zip(straight[0], resumed[0], strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_state_dict_has_pytorchs_form():
    p, q = parameter(2), parameter(3)
    optimizer = optim.AdamW([{"params": [p]}, {"params": [q], "lr": 1.0}])
    set_gradients([p, q])
    optimizer.step()
    saved = optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1]]
    assert saved["param_groups"][1]["lr"] == 1.0
    assert saved["state"][1].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert type(saved["state"][1]["step"]) is int


def test_loading_takes_settings_through_json_and_arrays_to_the_parameters_dtype():
    p = parameter(2, dtype="float32")
    optimizer = optim.Adam([p])
    entry = {"step": 3, "exp_avg": np.ones(2), "exp_avg_sq": np.ones(2)}
    group = {"params": [0], "lr": 0.5, "betas": [0.5, 0.25], "initial_lr": 1.0}
    optimizer.load_state_dict({"state": {"0": entry}, "param_groups": [group]})
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.25)
    assert optimizer.param_groups[0]["initial_lr"] == 1.0
    assert optimizer.param_groups[0]["eps"] == 1e-8
    assert optimizer.param_groups[0]["params"][0] is p
    assert optimizer.state[0]["exp_avg"].dtype == np.float32


def _with_state(change):
    def spoil(saved):
        change(saved["state"][0])

    return spoil


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s: s["param_groups"].pop(), r"\[1\] parameters.*\[1, 1\]"),
        (lambda s: s["param_groups"][0]["params"].append(9), r"\[2, 1\]"),
        (lambda s: s["param_groups"][0].update(rho=1), "no setting rho"),
        (lambda s: s["state"].update({7: s["state"][0]}), "parameter 7 of 2"),
        (_with_state(lambda e: e.update(exp_avg=np.ones(5))), r"\(5,\).*\(3,\)"),
        (_with_state(lambda e: e.update(exp_avg=[0, 0, 0])), "shape None"),
        (_with_state(lambda e: e.pop("exp_avg_sq")), "not of AdamW"),
        (_with_state(lambda e: e.update(other=e.pop("exp_avg"))), "'other'"),
    ],
)
def test_state_that_does_not_fit_is_refused_before_anything_changes(spoil, message):
    parameters = [parameter(3), parameter(4)]
    optimizer = optim.AdamW([{"params": [p]} for p in parameters])
    set_gradients(parameters)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["lr"] = 5.0
    spoil(saved)
    state = optimizer.state
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)
    assert optimizer.state is state and optimizer.param_groups[0]["lr"] == 1e-3


def test_state_goes_to_the_device_of_its_parameter(device):
    here = parameter(4, 3)
    p = mb.tensor(here.numpy(), device=device, requires_grad=True)
    first, second = optim.AdamW([here]), optim.AdamW([p])
    set_gradients([here])
    first.step()
    second.load_state_dict(first.state_dict())
    state = second.state[0]
    assert backend.device_of(state["exp_avg"]) == device and state["step"] == 1
    p.grad = here.grad.to(device)
    second.step()
    assert p.device == device


def test_state_of_another_optimizer_is_refused():
    p = parameter(3)
    set_gradients([p])
    adam, sgd = optim.Adam([p]), optim.SGD([p], momentum=0.9)
    adam.step()
    sgd.step()
    with pytest.raises(ValueError, match="not of SGD"):
        sgd.load_state_dict({**sgd.state_dict(), "state": adam.state})
    with pytest.raises(ValueError, match="not of Adam"):
        adam.load_state_dict({**adam.state_dict(), "state": sgd.state})


# ---- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "params, error, message",
    [
        (lambda p: [], ValueError, "no parameters"),
        (lambda p: p, TypeError, "not one Tensor"),
        (lambda p: {"params": [p]}, TypeError, "not one dict"),
        (lambda p: 3, TypeError, "not one int"),
        (lambda p: [p, p], ValueError, "occurs twice"),
        (lambda p: [{"params": [p]}, {"params": [p]}], ValueError, "occurs twice"),
        (lambda p: [p.array], TypeError, "tensors, not ndarray"),
        (lambda p: [p * 2], ValueError, "result of an operation, <mul"),
        (lambda p: [p.detach()], ValueError, "requires no gradient"),
        (lambda p: [{"params": []}], ValueError, "group is empty"),
        (lambda p: [{"lr": 1.0}], TypeError, 'list "params"'),
        (lambda p: [{"params": [p]}, p], TypeError, "a group is a dict"),
        (lambda p: [{"params": [p], "rate": 1}], ValueError, "no setting rate; it has"),
        (lambda p: [{"params": [p], "lr": -1}], ValueError, "lr must be at least 0"),
    ],
)
def test_unusable_parameters_are_refused(kind, params, error, message):
    with pytest.raises(error, match=message):
        kind(params(parameter(3)))


def test_gradient_on_another_device_is_refused(strict):
    p = parameter(3)
    p.grad = mb.ones(3, dtype="float64", device="cuda")
    with pytest.raises(ValueError, match=r"float64, cuda; the parameter is .* cpu"):
        optim.SGD([p]).step()


@pytest.mark.parametrize(
    "kind, settings, error, message",
    [
        (optim.SGD, {"lr": -0.1}, ValueError, "lr must be at least 0"),
        (optim.SGD, {"lr": math.nan}, ValueError, "not nan"),
        (optim.SGD, {"lr": math.inf}, ValueError, "finite, not inf"),
        (optim.SGD, {"lr": "0.1"}, TypeError, "lr must be a number, not str"),
        (optim.SGD, {"momentum": True}, TypeError, "not bool"),
        (optim.SGD, {"weight_decay": -1}, ValueError, "weight_decay"),
        (optim.SGD, {"nesterov": True}, ValueError, "nesterov needs momentum"),
        (optim.SGD, {"nesterov": 1, "momentum": 0.9}, TypeError, "True or False"),
        (
            optim.SGD,
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "no dampening",
        ),
        (optim.Adadelta, {"rho": 1.0}, ValueError, "rho must be .* below 1, not 1"),
        (optim.Adadelta, {"eps": -1e-9}, ValueError, "eps"),
        (optim.Adam, {"betas": (0.9, 1.0)}, ValueError, r"betas\[1\].* below 1"),
        (optim.Adam, {"betas": (-0.1, 0.9)}, ValueError, r"betas\[0\]"),
        (optim.Adam, {"betas": 0.9}, TypeError, "a pair"),
        (optim.Adam, {"betas": (0.9, 0.9, 0.9)}, TypeError, "a pair"),
        (optim.AdamW, {"eps": -1.0}, ValueError, "eps"),
    ],
)
def test_unusable_settings_are_refused(kind, settings, error, message):
    with pytest.raises(error, match=message):
        kind([parameter(3)], **settings)


@pytest.mark.parametrize("shape, dtype", [((1,), "float64"), ((3,), "float32")])
def test_gradient_of_another_shape_or_dtype_is_refused_before_any_update(shape, dtype):
    a, b = parameter(3), parameter(3)
    before = a.numpy().copy()
    set_gradients([a])
    b.grad = mb.ones(*shape, dtype=dtype)
    with pytest.raises(ValueError, match=r"gradient of parameter 1 is \(\d,\), float"):
        optim.SGD([a, b]).step()
    np.testing.assert_array_equal(a.numpy(), before)


def test_base_optimizer_has_no_update_of_its_own():
    p = parameter(3)
    set_gradients([p])
    with pytest.raises(NotImplementedError):
        optim.Optimizer([p]).step()


# ---- clipping -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("max_norm", [0.5, 1e3, 0.0, math.inf])
def test_clipping_scales_to_the_norm_and_returns_the_old_one(
    max_norm, dtype, tolerance
):
    parameters = [parameter(400, 900, dtype=dtype), parameter(5, dtype=dtype)]
    set_gradients(parameters)
    before = [p.grad.array.astype("float64") for p in parameters]
    arrays = [p.grad.array for p in parameters]
    norm = optim.clip_grad_norm_([*parameters, parameter(2)], max_norm)
    exact = math.sqrt(sum((x * x).sum() for x in before))
    assert type(norm) is float and norm == pytest.approx(exact, rel=tolerance)
    scale = min(1.0, max_norm / (exact + 1e-6))
    for p, x, array in zip(parameters, before, arrays, strict=True):
        assert p.grad.array is array and array.dtype == dtype
        np.testing.assert_allclose(array, x * scale, rtol=tolerance, atol=1e-15)
        assert p.grad.version[0] == (scale < 1)


@pytest.mark.oracle
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_equals_pytorchs(max_norm):
    torch = pytest.importorskip("torch")
    parameters = [parameter(4, 3), parameter(5)]
    set_gradients(parameters)
    theirs = [torch.tensor(p.numpy().copy(), requires_grad=True) for p in parameters]
    for p, q in zip(parameters, theirs, strict=True):
        q.grad = torch.tensor(p.grad.numpy().copy())
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
    assert optim.clip_grad_norm_(parameters, max_norm) == pytest.approx(expected, 1e-12)
    for p, q in zip(parameters, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_norm_is_right_where_squares_overflow():
    for dtype, large in (("float16", 6e4), ("float32", 1e30)):
        p = parameter(3, dtype=dtype)
        p.grad = mb.tensor([large] * 3, dtype=dtype)
        norm = optim.clip_grad_norm_(p, 1.0)
        assert norm == pytest.approx(large * math.sqrt(3), rel=1e-3)
        np.testing.assert_allclose(p.grad.numpy(), 1 / math.sqrt(3), rtol=5e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nonfinite_norm_raises_if_asked_and_is_never_hidden(bad):
    p = parameter(3)
    p.grad = mb.tensor([1.0, bad, 2.0], dtype="float64")
    with pytest.raises(RuntimeError, match=f"norm of the gradients is {bad}"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.numpy()[0] == 1.0
    with np.errstate(invalid="ignore"):
        norm = optim.clip_grad_norm_([p], 1.0)
    assert norm == pytest.approx(bad, nan_ok=True)
    assert np.isnan(p.grad.numpy()[1])


def test_norm_of_no_gradients_is_zero():
    assert optim.clip_grad_norm_([parameter(3)], 1.0) == 0.0
    assert optim.clip_grad_norm_([], 1.0) == 0.0


@pytest.mark.parametrize("max_norm", [-1.0, math.nan])
def test_max_norm_below_zero_is_refused(max_norm):
    with pytest.raises(ValueError, match="max_norm must be 0 or more"):
        optim.clip_grad_norm_([parameter(3)], max_norm)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_clipping_by_norm_works_on_every_device(device, dtype):
    p = mb.ones(3, dtype=dtype, device=device, requires_grad=True)
    p.grad = mb.tensor([2.0, 3.0, 6.0], dtype=dtype, device=device)
    assert optim.clip_grad_norm_([p], 3.5) == pytest.approx(7, rel=1e-6)
    assert p.grad.dtype == dtype
    np.testing.assert_allclose(p.grad.numpy(), [1, 1.5, 3], rtol=1e-3)


def test_clipping_by_value_cuts_each_number(device):
    p = mb.ones(3, dtype="float64", device=device, requires_grad=True)
    p.grad = mb.tensor([-3.0, 0.25, math.nan], dtype="float64", device=device)
    optim.clip_grad_value_(p, 0.5)
    np.testing.assert_array_equal(p.grad.numpy(), [-0.5, 0.25, math.nan])
    assert p.grad.version[0] == 1
