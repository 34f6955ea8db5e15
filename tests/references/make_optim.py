"""Writes optim.npz: what PyTorch's optimizers and schedules do in 10 steps.

    python -m tests.references.make_optim

The cases stand here once, for this script and for the tests; `run` takes either
library. The stored numbers were made with PyTorch 2.13 on the CPU.
"""

from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("optim.npz")
STEPS = 10
SHAPES = ((3, 4), (5,), ())

OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_decay": ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    "sgd_momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    "sgd_dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "sgd_nesterov": (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    ),
    "adadelta": ("Adadelta", {}),
    "adadelta_decay": (
        "Adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1},
    ),
    "adam": ("Adam", {}),
    "adam_decay": (
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": ("AdamW", {}),
    "adamw_decay": (
        "AdamW",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
    ),
}

# name: (optimizer, its settings, schedule, its settings)
_SGD = ("SGD", {"lr": 0.1, "momentum": 0.9})
_ADAMW = ("AdamW", {"lr": 0.1})
SCHEDULES = {
    "step": (*_SGD, "StepLR", {"step_size": 3, "gamma": 0.5}),
    "cosine": (*_SGD, "CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
    "cosine_beyond": (*_SGD, "CosineAnnealingLR", {"T_max": 3}),
    "linear": (*_SGD, "LinearLR", {}),
    "linear_down": (
        *_SGD,
        "LinearLR",
        {"start_factor": 0.9, "end_factor": 0.1, "total_iters": 7},
    ),
    "one_cycle": (*_SGD, "OneCycleLR", {"max_lr": 0.3, "total_steps": 10}),
    "one_cycle_adamw": (*_ADAMW, "OneCycleLR", {"max_lr": 0.3, "total_steps": 12}),
    "one_cycle_three": (
        *_ADAMW,
        "OneCycleLR",
        {
            "max_lr": 0.3,
            "epochs": 2,
            "steps_per_epoch": 6,
            "pct_start": 0.4,
            "anneal_strategy": "linear",
            "three_phase": True,
        },
    ),
    "one_cycle_steady": (
        *_SGD,
        "OneCycleLR",
        {"max_lr": 0.3, "total_steps": 11, "cycle_momentum": False},
    ),
}


def draws(dtype):
    """The first parameters, and ten gradients for each, of very different sizes."""
    rng = np.random.default_rng(7)
    sizes = (1.0, 1e-3, 30.0)
    first = [rng.normal(size=shape) for shape in SHAPES]
    gradients = [
        [scale * rng.normal(size=s) for s, scale in zip(SHAPES, sizes, strict=True)]
        for _ in range(STEPS)
    ]
    cast = [np.asarray(x, dtype) for x in first]
    return cast, [[np.asarray(g, dtype) for g in step] for step in gradients]


def run(optim, schedules, make, name, dtype):
    """(parameters after each step, one row a step; rates and momenta of each step).

    `optim`, `schedules`: modules with the classes; `make(array)`: a tensor of the
    library that requires a gradient.
    """
    case = OPTIMIZERS.get(name) or SCHEDULES[name]
    first, gradients = draws(dtype)
    parameters = [make(array.copy()) for array in first]
    optimizer = getattr(optim, case[0])(parameters, **case[1])
    schedule = getattr(schedules, case[2])(optimizer, **case[3]) if case[2:] else None
    rows, rates = [], []
    for step in gradients:
        group = optimizer.param_groups[0]
        rates.append((group["lr"], group.get("momentum", group.get("betas", (0,))[0])))
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = make(gradient.copy())
        optimizer.step()
        if schedule:
            schedule.step()
        flat = [np.ravel(parameter.detach().numpy()) for parameter in parameters]
        rows.append(np.concatenate(flat))
    return np.stack(rows), np.array([[float(x) for x in pair] for pair in rates])


def torch_run(name, dtype):
    """`run` with PyTorch."""
    import torch

    def make(array):
        return torch.tensor(array, requires_grad=True)

    return run(torch.optim, torch.optim.lr_scheduler, make, name, dtype)


def main():
    stored = {}
    for name in (*OPTIMIZERS, *SCHEDULES):
        for dtype in ("float64", "float32"):
            rows, rates = torch_run(name, dtype)
            stored[f"{name}/{dtype}"] = rows
        stored[f"{name}/rates"] = rates
    np.savez_compressed(PATH, **stored)


if __name__ == "__main__":
    main()
