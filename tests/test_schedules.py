"""Schedules: PyTorch's rates and steps, nanoGPT's formula, saving, mistakes."""

import json
import math

import numpy as np
import pytest

import minibig as mb
from minibig import optim
from minibig.optim import schedules
from tests.references import make_optim

STORED = np.load(make_optim.PATH)
KINDS = {
    "StepLR": {"step_size": 2},
    "CosineAnnealingLR": {"T_max": 7},
    "LinearLR": {},
    "WarmupCosine": {"warmup_steps": 3, "total_steps": 9, "min_lr": 0.01},
    "OneCycleLR": {"max_lr": 0.4, "total_steps": 20},
    "LambdaLR": {"lr_lambda": lambda step: 0.9**step},
}


def sgd(*rates, **settings):
    groups = [
        {"params": [mb.zeros(2, requires_grad=True)], "lr": lr} for lr in rates or [0.1]
    ]
    return optim.SGD(groups, **settings)


def our_run(name, dtype):
    def make(array):
        return mb.tensor(array, requires_grad=True)

    return make_optim.run(optim, optim, make, name, dtype)


@pytest.mark.parametrize("name", make_optim.SCHEDULES)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)])
def test_rates_momenta_and_steps_equal_the_stored_ones(name, dtype, tolerance):
    rows, rates = our_run(name, dtype)
    np.testing.assert_allclose(rates, STORED[f"{name}/rates"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        rows, STORED[f"{name}/{dtype}"], rtol=tolerance, atol=tolerance
    )


@pytest.mark.oracle
@pytest.mark.parametrize("name", make_optim.SCHEDULES)
def test_rates_momenta_and_steps_equal_those_of_the_installed_pytorch(name):
    pytest.importorskip("torch")
    ours, theirs = our_run(name, "float64"), make_optim.torch_run(name, "float64")
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def test_warmup_cosine_is_nanogpts():
    optimizer = sgd(6e-4)
    schedule = optim.WarmupCosine(optimizer, 4, 10, min_lr=6e-5)
    seen = []
    for _ in range(13):
        seen.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    rise = [6e-4 * (i + 1) / 5 for i in range(4)]
    falls = [0.5 * (1 + math.cos(math.pi * (i - 4) / 6)) for i in range(4, 11)]
    fall = [6e-5 + x * (6e-4 - 6e-5) for x in falls]
    np.testing.assert_allclose(seen, [*rise, *fall, 6e-5, 6e-5], rtol=1e-14)
    assert seen[4] == 6e-4 and seen[10] == 6e-5


def test_warmup_cosine_without_warm_up_or_without_cosine():
    assert optim.WarmupCosine(sgd(1.0), 0, 4).lr_at(0) == [1.0]
    only = optim.WarmupCosine(sgd(1.0), 4, 4, min_lr=0.5)
    assert [only.lr_at(i)[0] for i in (0, 3, 4)] == [0.2, 0.8, 0.5]


def test_lambda_gives_each_group_its_factor():
    optimizer = sgd(1.0, 10.0)
    schedule = optim.LambdaLR(optimizer, [lambda i: 0.5**i, lambda i: 1 / (1 + i)])
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 5.0]
    assert optim.LambdaLR(sgd(2.0, 4.0), lambda i: 3).get_last_lr() == [6.0, 12.0]


def test_groups_keep_their_proportions():
    optimizer = sgd(0.1, 1.0)
    schedule = optim.CosineAnnealingLR(optimizer, 10)
    for _ in range(4):
        schedule.step()
    small, large = schedule.get_last_lr()
    assert large == pytest.approx(10 * small, rel=1e-14) and small < 0.1


def test_one_cycle_takes_a_rate_and_momenta_for_each_group():
    optimizer = sgd(0.1, 0.1, momentum=0.9)
    schedule = optim.OneCycleLR(
        optimizer, [1.0, 2.0], total_steps=10, max_momentum=[0.9, 0.8]
    )
    momenta = [group["momentum"] for group in optimizer.param_groups]
    assert schedule.get_last_lr() == pytest.approx([1.0 / 25, 2.0 / 25], rel=1e-14)
    assert momenta == pytest.approx([0.9, 0.8], rel=1e-14)


@pytest.mark.parametrize("pct_start", [0.0, 0.1, 1.0])
def test_one_cycle_serves_ways_up_of_no_step_and_of_all(pct_start):
    schedule = optim.OneCycleLR(sgd(), 1.0, total_steps=10, pct_start=pct_start)
    rates = [schedule.lr_at(i)[0] for i in range(10)]
    assert all(math.isfinite(r) and 0 <= r <= 1 for r in rates)
    assert max(rates) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_lr_at_tells_the_curve_and_changes_nothing(kind):
    optimizer = sgd(0.1, 0.3)
    schedule = getattr(optim, kind)(optimizer, **KINDS[kind])
    told = [schedule.lr_at(i) for i in range(12)]
    assert schedule.last_epoch == 0
    seen = []
    for _ in range(12):
        seen.append(schedule.get_last_lr())
        assert all(type(rate) is float for rate in seen[-1])
        schedule.step()
    assert seen == told


@pytest.mark.parametrize("kind", KINDS)
def test_saved_schedule_goes_on_exactly_through_json(kind):
    def start():
        optimizer = sgd(0.1, 0.3, momentum=0.9)
        return optimizer, getattr(optim, kind)(optimizer, **KINDS[kind])

    optimizer, schedule = start()
    for _ in range(5):
        schedule.step()
    saved = json.loads(json.dumps(schedule.state_dict()))
    resumed_optimizer, resumed = start()
    resumed.load_state_dict(saved)
    for _ in range(5):
        settings = [
            [{k: v for k, v in g.items() if k != "params"} for g in o.param_groups]
            for o in (optimizer, resumed_optimizer)
        ]
        assert settings[0] == settings[1]
        schedule.step()
        resumed.step()


def test_last_epoch_resumes_from_the_first_rates_in_the_groups():
    optimizer = sgd(0.8)
    first = optim.StepLR(optimizer, 2, gamma=0.5)
    for _ in range(3):
        first.step()
    resumed = optim.StepLR(optimizer, 2, gamma=0.5, last_epoch=3)
    assert resumed.get_last_lr() == [0.8 * 0.25] and resumed.last_epoch == 4


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda o: optim.StepLR(o.param_groups, 3), TypeError, "not list"),
        (lambda o: optim.StepLR(o, 0), ValueError, "step_size"),
        (lambda o: optim.StepLR(o, 2.5), ValueError, "whole number"),
        (lambda o: optim.StepLR(o, 2, gamma=-1), ValueError, "gamma"),
        (lambda o: optim.StepLR(o, 2, last_epoch=4), ValueError, '"initial_lr"'),
        (lambda o: optim.CosineAnnealingLR(o, 0), ValueError, "T_max"),
        (lambda o: optim.LinearLR(o, start_factor=0.0), ValueError, "factors"),
        (lambda o: optim.LinearLR(o, end_factor=2.0), ValueError, "factors"),
        (lambda o: optim.LambdaLR(o, [abs, abs]), ValueError, "2 functions for 1"),
        (lambda o: optim.WarmupCosine(o, 9, 5), ValueError, "longer than the whole"),
        (lambda o: optim.OneCycleLR(o, 1.0), ValueError, "give total_steps"),
        (lambda o: optim.OneCycleLR(o, 1.0, epochs=3), ValueError, "steps_per_epoch"),
        (lambda o: optim.OneCycleLR(o, [1.0, 2.0], 9), ValueError, "2 numbers for 1"),
        (lambda o: optim.OneCycleLR(o, 1.0, 9, pct_start=2), ValueError, "share"),
        (
            lambda o: optim.OneCycleLR(o, 1.0, 9, anneal_strategy="log"),
            ValueError,
            "'log'",
        ),
    ],
)
def test_unusable_settings_are_refused_and_the_optimizer_stays(make, error, message):
    optimizer = sgd(0.1)
    with pytest.raises(error, match=message):
        make(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_one_cycle_needs_a_momentum_to_cycle():
    optimizer = optim.Adadelta([mb.zeros(2, requires_grad=True)])
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        optim.OneCycleLR(optimizer, 1.0, total_steps=5)
    assert "initial_lr" not in optimizer.param_groups[0]
    optim.OneCycleLR(optimizer, 1.0, total_steps=5, cycle_momentum=False)


def test_one_cycle_refuses_steps_beyond_its_end():
    schedule = optim.OneCycleLR(sgd(), 1.0, total_steps=3)
    for _ in range(3):
        schedule.step()
    before = schedule.get_last_lr()
    with pytest.raises(ValueError, match="one-cycle schedule of 3 steps"):
        schedule.step()
    assert schedule.get_last_lr() == before and schedule.last_epoch == 3


def test_group_added_after_the_schedule_is_refused():
    optimizer = sgd(0.1)
    schedule = optim.StepLR(optimizer, 2)
    optimizer.add_param_group({"params": [mb.zeros(1, requires_grad=True)]})
    with pytest.raises(ValueError, match="1 parameter groups, the optimizer has 2"):
        schedule.step()


def test_state_of_another_schedule_is_refused():
    saved = optim.StepLR(sgd(), 2).state_dict()
    with pytest.raises(ValueError, match="LinearLR needs"):
        optim.LinearLR(sgd()).load_state_dict(saved)
    with pytest.raises(ValueError, match="1 parameter groups, the optimizer has 2"):
        optim.StepLR(sgd(1.0, 2.0), 2).load_state_dict(saved)


def test_base_schedule_has_no_rate_of_its_own():
    with pytest.raises(NotImplementedError):
        schedules.LRScheduler(sgd())
