"""The one-cycle schedule: the rate goes up and far down, momentum the other way."""

from ..checks import whole
from .optimizer import fraction, number
from .schedules import LRScheduler, cosine, line


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr, then down to final_div_factor times less.

    `pct_start` is the share of the steps that go up. With `three_phase` the way down
    first mirrors the way up. With `cycle_momentum` the momentum (SGD) or the first beta
    (Adam) moves between max_momentum, at low rates, and base_momentum. `max_lr` and the
    momenta: a number, or a list with one for each group. The length is `total_steps` or
    epochs * steps_per_epoch; ValueError when stepped beyond. arXiv 1708.07120.
    """

    settings = (
        "total_steps",
        "max_lrs",
        "pct_start",
        "anneal_strategy",
        "cycle_momentum",
        "base_momentums",
        "max_momentums",
        "div_factor",
        "final_div_factor",
        "three_phase",
    )

    def __init__(
        self,
        optimizer,
        max_lr,
        total_steps=None,
        epochs=None,
        steps_per_epoch=None,
        pct_start=0.3,
        anneal_strategy="cos",
        cycle_momentum=True,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
        last_epoch=-1,
    ):
        groups = getattr(optimizer, "param_groups", ())
        self.total_steps = _length(total_steps, epochs, steps_per_epoch)
        self.max_lrs = _each("max_lr", max_lr, groups, number)
        self.pct_start = number("pct_start", pct_start)
        if self.pct_start > 1:
            raise ValueError(f"pct_start is a share of the steps, not {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'anneal_strategy must be "cos" or "linear", not {anneal_strategy!r}'
            )
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.base_momentums = _each("base_momentum", base_momentum, groups, fraction)
        self.max_momentums = _each("max_momentum", max_momentum, groups, fraction)
        self.div_factor = number("div_factor", div_factor, 1e-12)
        self.final_div_factor = number("final_div_factor", final_div_factor, 1e-12)
        self.three_phase = three_phase
        rules = getattr(optimizer, "rules", {})
        if cycle_momentum and groups and not {"momentum", "betas"} & rules.keys():
            raise ValueError(
                f"{type(optimizer).__name__} has neither momentum nor betas to cycle: "
                "pass cycle_momentum=False"
            )
        if last_epoch == -1:
            for group, rate in zip(groups, self.max_lrs, strict=True):
                group["initial_lr"] = rate / self.div_factor
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step):
        return [
            self._between(step, high / self.div_factor, high, low)
            for high, low in zip(self.max_lrs, self._last_rates(), strict=True)
        ]

    def momentum_at(self, step):
        """The momentum (or first beta) of every group at `step`; changes nothing."""
        pairs = zip(self.base_momentums, self.max_momentums, strict=True)
        return [self._between(step, high, low, high) for low, high in pairs]

    def _last_rates(self):
        return [r / self.div_factor / self.final_div_factor for r in self.max_lrs]

    def _between(self, step, first, middle, last):
        """first → middle → last over the phases (back over `first` if there are 3)."""
        if step > self.total_steps:
            raise ValueError(
                f"step {step} of a one-cycle schedule of {self.total_steps} steps: "
                "give it as many total_steps as the training has"
            )
        anneal = cosine if self.anneal_strategy == "cos" else line
        up = self.pct_start * self.total_steps - 1
        phases = [(up, first, middle), (self.total_steps - 1, middle, last)]
        if self.three_phase:
            down = 2 * self.pct_start * self.total_steps - 2
            phases[1:] = [(down, middle, first), (self.total_steps - 1, first, last)]
        start = 0.0
        for end, before, after in phases:
            if step <= end or end == self.total_steps - 1:
                done = (step - start) / (end - start) if end != start else 1.0
                return anneal(before, after, done)
            start = end

    def _set(self, step):
        super()._set(step)
        if not self.cycle_momentum:
            return
        groups = self.optimizer.param_groups
        for group, momentum in zip(groups, self.momentum_at(step), strict=True):
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum


def _length(total_steps, epochs, steps_per_epoch):
    if total_steps is not None:
        return whole("total_steps", total_steps, 1)
    if epochs is None or steps_per_epoch is None:
        raise ValueError("give total_steps, or both epochs and steps_per_epoch")
    epochs = whole("epochs", epochs, 1)
    return epochs * whole("steps_per_epoch", steps_per_epoch, 1)


def _each(name, value, groups, rule):
    """One checked number for each group, from a number or from a list of them."""
    values = value if isinstance(value, (list, tuple)) else [value] * len(groups)
    if len(values) != len(groups):
        raise ValueError(f"{name} has {len(values)} numbers for {len(groups)} groups")
    return [rule(name, x) for x in values]
