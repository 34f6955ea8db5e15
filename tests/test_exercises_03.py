"""The exercises of notebook 03: their solutions are what the library does."""

import pytest

from minibig import optim
from minibig.creation import tensor
from minibig.exercises import check, exercises

EXERCISES = {name: x for name, x in exercises().items() if name.startswith("03.")}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_step_in_place_is_noticed(capsys):
    def in_place(theta, gradient, lr, weight_decay):
        theta -= lr * (gradient + weight_decay * theta)
        return theta

    assert check("03.sgd", in_place) is False
    assert "changed its inp" in capsys.readouterr().out


# ---- the solutions are the library's -------------------------------------------------


def _library(optimizer_class, start, gradients, **settings):
    theta = tensor(start, requires_grad=True)
    optimizer = optimizer_class([theta], **settings)
    for gradient in gradients:
        theta.grad = tensor(gradient)
        optimizer.step()
    return theta.numpy()


@pytest.mark.parametrize("case", EXERCISES["03.adam"].cases, ids=lambda case: case.name)
def test_adam_is_the_library_s_adamw(case):
    theta, gradients, lr, beta1, beta2, eps, decay = case.make()
    settings = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
    expected = _library(optim.AdamW, theta, gradients, **settings)
    assert EXERCISES["03.adam"].solution(*case.make()) == pytest.approx(
        expected, rel=1e-9
    )


@pytest.mark.parametrize("case", EXERCISES["03.sgd"].cases, ids=lambda case: case.name)
def test_sgd_is_the_library_s_with_weight_decay(case):
    theta, gradient, lr, decay = case.make()
    expected = _library(optim.SGD, theta, [gradient], lr=lr, weight_decay=decay)
    assert EXERCISES["03.sgd"].solution(*case.make()) == pytest.approx(expected)


def test_momentum_is_the_library_s_with_a_rate_that_changes():
    case = EXERCISES["03.momentum"].cases[1]
    start, gradients, rates, beta = case.make()
    theta = tensor(start, requires_grad=True)
    optimizer = optim.SGD([theta], momentum=beta)
    for gradient, lr in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        theta.grad = tensor(gradient)
        optimizer.step()
    path = EXERCISES["03.momentum"].solution(*case.make())
    assert path[-1] == pytest.approx(theta.numpy())


@pytest.mark.parametrize(
    "case", EXERCISES["03.cosine"].cases, ids=lambda case: case.name
)
def test_cosine_is_the_library_s_schedule(case):
    step, lr, warmup_steps, total_steps, min_lr = case.make()
    optimizer = optim.SGD([tensor([1.0], requires_grad=True)], lr=lr)
    schedule = optim.WarmupCosine(optimizer, warmup_steps, total_steps, min_lr)
    expected = schedule.lr_at(step)[0]
    assert EXERCISES["03.cosine"].solution(*case.make()) == pytest.approx(expected)
