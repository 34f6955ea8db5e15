"""Schedules: the learning rate as a function of the step, named as in PyTorch.

Each is a closed form of (first rate, step), so a run resumes from the step alone, and
`lr_at` can draw the whole curve. Notebook 03 draws them.
"""

import math

from ..checks import whole
from .optimizer import Optimizer, number


class LRScheduler:
    """Sets the rate of every parameter group; call `step()` after `optimizer.step()`.

    A subclass writes `rate(lr, step)` and names its settings in `settings`. The first
    rate of a group is kept in it as "initial_lr". One schedule drives an optimizer:
    where PyTorch multiplies several, here the last one to step decides.
    """

    settings = ()

    def __init__(self, optimizer, last_epoch=-1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"a schedule drives an Optimizer, not {type(optimizer).__name__}"
            )
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch != -1 and "initial_lr" not in group:
                raise ValueError(
                    f"resuming at last_epoch={last_epoch} needs the first rate of "
                    f'group {i} as "initial_lr": load the optimizer\'s state before'
                )
            group.setdefault("initial_lr", group["lr"])
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = whole("last_epoch", last_epoch, -1)
        self.step()

    def rate(self, lr, step):
        """The rate at `step`, counted from 0, of a group whose first rate is `lr`."""
        raise NotImplementedError

    def lr_at(self, step):
        """The rate of every group at `step`, counted from 0; changes nothing."""
        return [self.rate(lr, step) for lr in self.base_lrs]

    def step(self):
        """Sets the rates of the next step."""
        self._set(self.last_epoch + 1)

    def get_last_lr(self):
        """The rates now in force, one a group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self):
        """The step, the first rates and the settings; all of it fits into JSON."""
        names = ("last_epoch", "base_lrs", *self.settings)
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict):
        """Goes to the saved step with the saved settings, and sets the rates."""
        expected = self.state_dict().keys()
        if state_dict.keys() != expected:
            raise ValueError(
                f"the saved schedule holds {sorted(state_dict)}, but "
                f"{type(self).__name__} needs {sorted(expected)}"
            )
        self._check_groups(state_dict["base_lrs"])
        for name, value in state_dict.items():
            setattr(self, name, list(value) if isinstance(value, list) else value)
        self._set(self.last_epoch)

    def _set(self, step):
        self._check_groups(self.base_lrs)
        rates = self.lr_at(step)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.last_epoch = step

    def _check_groups(self, rates):
        if len(rates) != len(self.optimizer.param_groups):
            raise ValueError(
                f"the schedule is for {len(rates)} parameter groups, the optimizer has "
                f"{len(self.optimizer.param_groups)}: add groups before the schedule"
            )


class LambdaLR(LRScheduler):
    """The first rate times `lr_lambda(step)`; a list gives each group its function.

    The functions are not part of `state_dict()`.
    """

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        groups = len(getattr(optimizer, "param_groups", ()))
        several = isinstance(lr_lambda, (list, tuple))
        self.lr_lambdas = list(lr_lambda) if several else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"{len(self.lr_lambdas)} functions for {groups} groups")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step):
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [lr * float(factor(step)) for lr, factor in pairs]


class StepLR(LRScheduler):
    """The first rate times gamma ** (step // step_size): a staircase."""

    settings = ("step_size", "gamma")

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size = whole("step_size", step_size, 1)
        self.gamma = number("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr, step):
        return lr * self.gamma ** (step // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the first rate to `eta_min` at step T_max, then up again.

    arXiv 1608.03983, equation 5, without the restarts.
    """

    settings = ("T_max", "eta_min")

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max = whole("T_max", T_max, 1)
        self.eta_min = number("eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr, step):
        return cosine(lr, self.eta_min, step / self.T_max)


class LinearLR(LRScheduler):
    """A warm-up: factors of the first rate from start to end in `total_iters` steps."""

    settings = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self,
        optimizer,
        start_factor=1 / 3,
        end_factor=1.0,
        total_iters=5,
        last_epoch=-1,
    ):
        self.start_factor = number("start_factor", start_factor)
        self.end_factor = number("end_factor", end_factor)
        if not 0 < self.start_factor <= 1 or self.end_factor > 1:
            raise ValueError(
                "factors must lie in (0, 1] at the start and [0, 1] at the end, not "
                f"{start_factor} and {end_factor}"
            )
        self.total_iters = whole("total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr, step):
        done = min(step / self.total_iters, 1.0)
        return lr * line(self.start_factor, self.end_factor, done)


class WarmupCosine(LRScheduler):
    """A line up during `warmup_steps`, then half a cosine to `min_lr` at `total_steps`.

    The rate of step i is lr (i + 1) / (warmup_steps + 1) at first, and `min_lr` after
    the end: the schedule of nanoGPT's train.py. PyTorch has no name for it.
    """

    settings = ("warmup_steps", "total_steps", "min_lr")

    def __init__(self, optimizer, warmup_steps, total_steps, min_lr=0.0, last_epoch=-1):
        self.warmup_steps = whole("warmup_steps", warmup_steps, 0)
        self.total_steps = whole("total_steps", total_steps, 1)
        self.min_lr = number("min_lr", min_lr)
        if self.warmup_steps > self.total_steps:
            raise ValueError(
                f"the warm-up ({warmup_steps} steps) is longer than the whole schedule "
                f"({total_steps} steps)"
            )
        super().__init__(optimizer, last_epoch)

    def rate(self, lr, step):
        if step < self.warmup_steps:
            return lr * (step + 1) / (self.warmup_steps + 1)
        if step >= self.total_steps:
            return self.min_lr
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return cosine(lr, self.min_lr, done)


def cosine(start, end, done):
    """From start to end as `done` goes from 0 to 1, level at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def line(start, end, done):
    """From start to end as `done` goes from 0 to 1, evenly."""
    return start + (end - start) * done
