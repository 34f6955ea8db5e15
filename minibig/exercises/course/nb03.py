"""Exercises of notebook 03: steps with decay, momentum, AdamW, a schedule."""

import math

import numpy as np

from ...creation import tensor
from ..exercise import Case, Exercise, Mistake


def _slopes(theta):
    """The gradient of Σ (theta − 2)² from `backward()`."""
    theta = tensor(np.array(theta), requires_grad=True)
    ((theta - 2) * (theta - 2)).sum().backward()
    return theta.grad.numpy().copy()


# ---- 03.sgd --------------------------------------------------------------------------


def _sgd(theta, gradient, lr, weight_decay):
    return theta - lr * (gradient + weight_decay * theta)


def _sgd_case(theta, gradient, lr=0.1, weight_decay=0.5):
    return lambda: (np.array(theta), np.array(gradient), lr, weight_decay)


sgd = Exercise(
    name="03.sgd",
    task="One step of gradient descent on the loss with its L2 penalty.",
    solution=_sgd,
    cases=(
        Case("two parameters", _sgd_case([1.0, -2.0], [4.0, 1.0])),
        Case("no decay", _sgd_case([1.0, 3.0], [2.0, -1.0], weight_decay=0.0), "edge"),
        Case("no gradient: pure decay", _sgd_case([1.0, -4.0], [0.0, 0.0]), "edge"),
        Case("a matrix", _sgd_case([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 2]])),
        Case(
            "gradient of (θ − 2)²",
            lambda: (np.array([1.0, 1.2]), _slopes([1.0, 1.2]), 0.1, 0.01),
            "gradient",
        ),
    ),
    mistakes=(
        Mistake(
            lambda p, g, lr, w: p + lr * (g + w * p),
            "This goes uphill: the gradient points to where the loss grows, so the "
            "step is subtracted.",
        ),
        Mistake(
            lambda p, g, lr, w: p - lr * g - w * p,
            "The decay is not scaled by the learning rate: weight_decay · θ is part of "
            "the gradient, and all of the gradient is multiplied by lr.",
        ),
        Mistake(
            lambda p, g, lr, w: p - lr * (g - w * p),
            "The decay has the wrong sign: this pushes parameters away from zero.",
        ),
        Mistake(
            lambda p, g, lr, w: p - lr * g,
            "weight_decay is not used: the gradient of the penalty is missing.",
        ),
        Mistake(
            lambda p, g, lr, w: p - lr * (g + 2 * w * p),
            "A factor 2 too much: the penalty is weight_decay / 2 · |θ|², and the ½ "
            "cancels the 2 of the derivative.",
        ),
    ),
    hints=(
        "What is the derivative of weight_decay / 2 · θ² by θ?",
        "Add weight_decay * theta to the gradient, then take an ordinary step.",
        "theta - lr * (gradient + weight_decay * theta)",
    ),
)


# ---- 03.momentum ---------------------------------------------------------------------


def _path(move):
    """A function of the exercise from `move(theta, b, gradient, lr, beta)`."""

    def path(start, gradients, rates, beta):
        theta, b, points = start, np.zeros_like(start), [start]
        for gradient, lr in zip(gradients, rates, strict=True):
            theta, b = move(theta, b, gradient, lr, beta)
            points.append(theta)
        return np.stack(points)

    return path


def _momentum(theta, b, gradient, lr, beta):
    b = beta * b + gradient
    return theta - lr * b, b


def _averaged(theta, b, gradient, lr, beta):
    b = beta * b + (1 - beta) * gradient
    return theta - lr * b, b


def _rate_inside(theta, b, gradient, lr, beta):
    b = beta * b + lr * gradient
    return theta - b, b


def _late(theta, b, gradient, lr, beta):
    return theta - lr * b, beta * b + gradient


def _nesterov(theta, b, gradient, lr, beta):
    b = beta * b + gradient
    return theta - lr * (gradient + beta * b), b


def _one_array(start, gradients, rates, beta):
    """The path of `theta -= …; points.append(theta)`: each point is the last."""
    path = momentum.solution(start, gradients, rates, beta)
    return np.stack([path[-1]] * len(path))


def _one_array_after_the_start(start, *rest):
    path = _one_array(start, *rest)
    path[0] = start
    return path


def _momentum_case(rates, beta=0.5):
    gradients = [[2.0, 1.0], [-1.0, 1.0], [4.0, 0.5], [1.0, -3.0]][: len(rates)]
    return lambda: (np.array([1.0, -1.0]), np.array(gradients), np.array(rates), beta)


momentum = Exercise(
    name="03.momentum",
    task="The path of gradient descent with momentum whose rate changes on the way.",
    solution=_path(_momentum),
    cases=(
        Case("constant rate", _momentum_case([0.1, 0.1, 0.1])),
        Case("rate falls to a tenth", _momentum_case([0.1, 0.1, 0.01, 0.01], 0.9)),
        Case("one step", _momentum_case([0.1]), "edge"),
        Case("beta 0: plain descent", _momentum_case([0.1, 0.2], 0.0), "edge"),
        Case(
            "gradients of (θ − 2)²",
            lambda: (
                np.array([1.0]),
                np.stack([_slopes([1.0]), _slopes([1.2])]),
                np.array([0.1, 0.1]),
                0.9,
            ),
            "gradient",
        ),
    ),
    mistakes=(
        Mistake(
            _path(_rate_inside),
            "The rate is inside the sum, b = beta · b + lr · gradient. With a constant "
            "rate that is the same, but here the rate changes, and old gradients keep "
            "their old rate. The formula above (and PyTorch) multiplies b by lr.",
        ),
        Mistake(
            _path(_averaged),
            "That is a running mean: its gradients have weight 1 - beta. Momentum is a "
            "sum, the gradient enters with weight 1.",
        ),
        Mistake(
            _path(_late),
            "The step uses the sum of before: add the new gradient to b first.",
        ),
        Mistake(
            _path(_nesterov),
            "That is Nesterov's variant: here the step is lr · b alone.",
        ),
        Mistake(
            _path(lambda p, b, g, lr, beta: (p - lr * g, b)),
            "That is plain gradient descent: the sum b never enters the step.",
        ),
        Mistake(
            _one_array,
            "theta -= … changes one array in place, and each point you noted is that "
            "array. Write theta = theta - …, or note theta.copy().",
            also=(_one_array_after_the_start,),
        ),
        Mistake(
            lambda *inputs: _path(_momentum)(*inputs)[1:],
            "The start is missing: the path of T steps has T + 1 points.",
        ),
    ),
    hints=(
        "Keep two things between the steps: theta and the sum b, which is 0 at first.",
        "Go through zip(gradients, rates); update b, then theta, then note theta.",
        "b = beta * b + gradient; theta = theta - lr * b; points.append(theta)",
    ),
)


# ---- 03.adam -------------------------------------------------------------------------


def _adamw(theta, gradients, lr, beta1, beta2, eps, weight_decay, mistake=None):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, 1):
        decay = (1 if mistake == "share" else lr) * weight_decay
        if mistake == "penalty":
            g = g + weight_decay * theta
        elif mistake not in ("forgotten", "after"):
            theta = theta - decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        k = {"first": 1, "zero": t - 1}.get(mistake, t)
        with np.errstate(all="ignore"):
            m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
        if mistake == "biased":
            m_hat, v_hat = m, v
        root = np.sqrt(v_hat + eps) if mistake == "eps" else np.sqrt(v_hat) + eps
        theta = theta - lr * m_hat / (v_hat + eps if mistake == "root" else root)
        theta = theta - decay * theta * (mistake == "after")
    return theta


def _wrong_adamw(mistake):
    return lambda *inputs: _adamw(*inputs, mistake)


def _adam_case(gradients, lr=0.1, weight_decay=0.2):
    def make():
        theta = np.array([1.0, -3.0])
        return theta, np.array(gradients), lr, 0.9, 0.999, 1e-8, weight_decay

    return make


adam = Exercise(
    name="03.adam",
    task="The parameters after AdamW's steps for a sequence of gradients.",
    solution=_adamw,
    cases=(
        Case("first step is ±lr", _adam_case([[5.0, -0.01]], weight_decay=0.0)),
        Case("three steps", _adam_case([[2.0, 1.0], [-1.0, 1.0], [3.0, 0.5]])),
        Case("gradients near eps", _adam_case([[1e-8, 2e-8], [3e-8, 1e-8]]), "edge"),
        Case("no gradient: pure decay", _adam_case([[0.0, 0.0]] * 2), "edge"),
        Case(
            "gradients of (θ − 2)²",
            lambda: (
                np.array([1.0, -3.0]),
                np.stack([_slopes([1.0, -3.0]), _slopes([1.1, -2.9])]),
                *(0.1, 0.8, 0.99, 1e-8, 0.01),
            ),
            "gradient",
        ),
    ),
    mistakes=(
        Mistake(
            _wrong_adamw("biased"),
            "The bias correction is missing: divide m by 1 - beta1**t and v by "
            "1 - beta2**t. Without it the first step is 3.2 times too long.",
        ),
        Mistake(
            _wrong_adamw("first"),
            "The correction is that of the first step at every step: t has to count, "
            "1, 2, 3, …",
        ),
        Mistake(
            _wrong_adamw("eps"),
            "eps stands under the root. It is added after the root: with 1e-8 inside, "
            "it acts like 1e-4.",
        ),
        Mistake(
            _wrong_adamw("penalty"),
            "The decay went into the gradient: that is Adam with an L2 penalty. AdamW "
            "takes lr · weight_decay · θ off the parameter itself.",
        ),
        Mistake(
            _wrong_adamw("share"),
            "The decay is not multiplied by lr: each step takes lr · weight_decay off.",
        ),
        Mistake(
            _wrong_adamw("root"),
            "The square root of v is missing: v has the unit of the gradient squared.",
        ),
        Mistake(
            _wrong_adamw("forgotten"),
            "weight_decay is not used: each step takes lr · weight_decay · θ off.",
        ),
        Mistake(
            _wrong_adamw("zero"),
            "t starts at 0, and 1 - beta**0 is 0: count from 1, with "
            "enumerate(gradients, 1).",
        ),
        Mistake(
            _wrong_adamw("after"),
            "The decay comes after the step, and so shrinks the step too: it takes its "
            "share of the theta from before.",
        ),
    ),
    hints=(
        "m and v start as zeros of theta's shape; enumerate(gradients, 1) counts t.",
        "A step: shrink theta by 1 - lr * weight_decay, update m and v, correct both, "
        "then move by lr * m_hat / (sqrt(v_hat) + eps).",
        "m_hat = m / (1 - beta1**t) and v_hat = v / (1 - beta2**t), with m and v "
        "themselves kept uncorrected.",
    ),
)


# ---- 03.cosine -----------------------------------------------------------------------


ADDED = {"zero": (0, 0), "late": (0, 1), "early": (1, 0)}  # in the warm-up
HALF_USED = {
    "to zero": lambda height, lr, low: lr * height,
    "not added": lambda height, lr, low: (lr - low) * height,
    "cut off": lambda height, lr, low: max(low, lr * height),
}


def _cosine(step, lr, warmup_steps, total_steps, min_lr, mistake=None):
    if step < warmup_steps:
        first, last = ADDED.get(mistake, (1, 1))
        return lr * (step + first) / (warmup_steps + last)
    if step >= total_steps and mistake != "again":
        return min_lr
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    if mistake == "whole":
        done = step / total_steps
    height = (1 + math.cos(math.pi * done)) / 2
    if mistake == "added":
        return min_lr + lr * height
    if mistake in HALF_USED:
        return HALF_USED[mistake](height, lr, min_lr)
    if mistake == "degrees":
        height = (1 + math.cos(180 * done)) / 2
    return min_lr + (lr - min_lr) * height


def _wrong_cosine(mistake):
    return lambda *inputs: _cosine(*inputs, mistake)


def _cosine_case(step, warmup_steps=10, min_lr=0.001):
    return lambda: (step, 0.1, warmup_steps, 110, min_lr)


cosine = Exercise(
    name="03.cosine",
    task="The learning rate at a step: a linear warm-up, then half a cosine.",
    solution=_cosine,
    cases=(
        Case("first step", _cosine_case(0), "edge"),
        Case("in the warm-up", _cosine_case(4)),
        Case("top", _cosine_case(10), "edge"),
        Case("half way down", _cosine_case(60)),
        Case("near the end", _cosine_case(105)),
        Case("the end", _cosine_case(110), "edge"),
        Case("after the end", _cosine_case(130), "edge"),
        Case("no warm-up", _cosine_case(30, warmup_steps=0), "edge"),
    ),
    mistakes=(
        Mistake(
            _wrong_cosine("zero"),
            "The warm-up starts at rate 0, so the first batch teaches nothing: the "
            "line is (step + 1) / (warmup_steps + 1).",
            also=(_wrong_cosine("late"),),
        ),
        Mistake(
            _wrong_cosine("early"),
            "The warm-up is over one step too early, and the rate lr comes twice: "
            "divide by warmup_steps + 1.",
        ),
        Mistake(
            _wrong_cosine("whole"),
            "The cosine counts from step 0. It begins when the warm-up is over: its "
            "share is (step - warmup_steps) / (total_steps - warmup_steps).",
        ),
        Mistake(
            _wrong_cosine("added"),
            "The top is lr + min_lr: the cosine has to span lr - min_lr.",
        ),
        Mistake(
            _wrong_cosine("to zero"),
            "min_lr is only half used. The cosine goes from lr down to min_lr: it is "
            "min_lr plus a share of lr - min_lr.",
            also=(_wrong_cosine("not added"), _wrong_cosine("cut off")),
        ),
        Mistake(
            _wrong_cosine("again"),
            "After the end the cosine climbs again: from total_steps on it is min_lr.",
        ),
        Mistake(
            _wrong_cosine("degrees"),
            "The angle is in degrees: math.cos takes radians, half a turn is math.pi.",
        ),
    ),
    hints=(
        "Three cases: step < warmup_steps, step >= total_steps, and between them.",
        "Between them let `done` go from 0 to 1; (1 + cos(π · done)) / 2 goes from 1 "
        "to 0.",
        "min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2",
    ),
)
