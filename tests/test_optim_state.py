"""What an optimizer keeps: groups with their settings, state, and both in files."""

import copy
import math

import numpy as np
import pytest
from optimizers import ALL, parameter, set_gradients, settings_of

import minibig as mb
from minibig import backend, optim

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
