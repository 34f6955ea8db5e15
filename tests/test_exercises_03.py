"""The exercises of notebook 03: their solutions are what the library does."""

import math

import numpy as np
import pytest
from answers import likely

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


# ---- wrong answers, as they are written ----------------------------------------------


def path_in_place(start, gradients, rates, beta):
    theta, b, points = start, 0, [start]
    for gradient, lr in zip(gradients, rates, strict=True):
        b = beta * b + gradient
        theta -= lr * b
        points.append(theta)
    return np.array(points)


def path_of_a_copy_in_place(start, gradients, rates, beta):
    theta, b = start.copy(), np.zeros_like(start)
    points = [start]
    for gradient, lr in zip(gradients, rates, strict=True):
        b *= beta
        b += gradient
        theta -= lr * b
        points.append(theta)
    return np.stack(points)


def path_without_the_start(theta, gradients, rates, beta):
    b, points = 0, []
    for gradient, lr in zip(gradients, rates, strict=True):
        b = beta * b + gradient
        theta = theta - lr * b
        points.append(theta)
    return points and np.array(points)


def adam(first=1, before=True, after=False):
    def steps(theta, gradients, lr, beta1, beta2, eps, decay):
        m = v = 0
        for t, g in enumerate(gradients, first):
            theta = theta * (1 - lr * decay * before)
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
            theta = theta - lr * m_hat / (v_hat**0.5 + eps)
            theta = theta * (1 - lr * decay * after)
        return theta

    return steps


def cosine(rise, fall):
    def rate(step, lr, warmup, total, low):
        if step < warmup:
            return rise(step, warmup) * lr
        if step >= total:
            return low
        angle = math.pi * (step - warmup) / (total - warmup)
        return fall(0.5 * (1 + math.cos(angle)), lr, low)

    return rate


def right_rise(step, warmup):
    return (step + 1) / (warmup + 1)


def right_fall(height, lr, low):
    return low + (lr - low) * height


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "answer", "told"),
    [
        ("momentum", path_in_place, "changes one array in place"),
        ("momentum", path_of_a_copy_in_place, "changes one array in place"),
        ("momentum", path_without_the_start, "The start is missing"),
        ("adam", adam(before=False), "weight_decay is not used"),
        ("adam", adam(first=0), "t starts at 0"),
        ("adam", adam(before=False, after=True), "comes after the step"),
        ("cosine", cosine(lambda s, n: s / n, right_fall), "starts at rate 0"),
        ("cosine", cosine(lambda s, n: s / (n + 1), right_fall), "starts at rate 0"),
        ("cosine", cosine(lambda s, n: (s + 1) / n, right_fall), "one step too early"),
        ("cosine", cosine(right_rise, lambda h, lr, low: lr * h), "half used"),
        ("cosine", cosine(right_rise, lambda h, lr, low: (lr - low) * h), "half used"),
        ("cosine", cosine(right_rise, lambda h, lr, low: max(low, lr * h)), "half us"),
    ],
)
def test_a_common_wrong_step_is_named(name, answer, told, capsys):
    assert told in likely(f"03.{name}", answer, capsys)
