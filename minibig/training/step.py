"""One step of training: batches, gradients, the update, and what went wrong in it."""

import math

import numpy as np

from .. import random
from ..autograd import debug
from ..backend import read
from ..optim.clip import grad_norm, scale_gradients
from .evaluation import check_loss, count_targets, on_device


class Step:
    """What a Run does in a step. On a GPU the CPU waits for it once: for the losses and
    the norm of the gradients together, before anything is changed by them."""

    def train_step(self):
        """Forward and backward over the batches of a step, then the update; its row."""
        # What is not finite is named below; NumPy's warnings would come before.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return self._train_step()

    def _train_step(self):
        self.model.train()
        self.optimizer.zero_grad()
        scale = self.precision.scale
        parts = [self.backward(*pair) for pair in self.micro_batches()]
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = grad_norm(gradients)
        self.fetch()
        *losses, norm = read([*(loss for loss, *_ in parts), norm])
        for loss, (_, _, batch, before) in zip(losses, parts, strict=True):
            if not math.isfinite(loss):
                self.diverged(loss, batch, before)
        norm /= scale
        row = {
            "loss": sum(x * part[1] for x, part in zip(losses, parts, strict=True)),
            "lr": groups[0]["lr"],
            "grad_norm": norm,
        }
        if self.precision.scaler is not None:
            row["scale"] = scale
        if self.precision.update(norm):
            self.update(gradients, norm, scale)
        if self.schedule is not None:
            self.schedule.step()
        return row

    def update(self, gradients, norm, scale):
        """Takes the scale off the gradients, clips their norm, and steps."""
        if not math.isfinite(norm):
            self.damaged()
        limit = math.inf if self.clip_norm is None else self.clip_norm
        scale_gradients(gradients, min(1.0, limit / (norm + 1e-6)) / scale)
        self.optimizer.step()

    def micro_batches(self):
        """(batch, its share of the targets) of this step; those without are left out"""
        if self.fetched is not None and self.fetched[0] == self.step:
            return self.fetched[1]
        return self._micro_batches(self.step)

    def fetch(self):
        """Has the next step's batches ready, while a GPU is at work on this one."""
        if self.model.device != "cpu" and self.step + 1 < self.steps:
            self.fetched = self.step + 1, self._micro_batches(self.step + 1)

    def _micro_batches(self, step):
        first = step * self.accumulate
        batches = [self.loader.batch(first + i) for i in range(self.accumulate)]
        if len(batches) == 1:
            return [(batches[0], 1.0)]
        weights = [count_targets(batch) for batch in batches]
        if not sum(weights):
            raise ValueError(f"step {step + 1}: no batch holds a target that counts")
        pairs = zip(batches, weights, strict=True)
        return [(b, weight / sum(weights)) for b, weight in pairs if weight]

    def backward(self, batch, share):
        """Adds `share` of a batch's gradient; returns (its loss, an array or number,
        share, batch, the random state before)."""
        before = random.get_state()
        if self.parallel is not None:
            loss = self.parallel.backward(*batch, factor=share)
            return loss, share, batch, before
        with self.precision.working():
            loss = check_loss(self.loss_of(batch))
            self.precision.backward(loss, share)
        return loss.array, share, batch, before

    def loss_of(self, batch):
        """The loss of a batch of arrays."""
        inputs = self.precision.inputs(on_device(batch, self.model.device))
        return self.loss(self.model, *inputs)

    # ---- when something goes wrong ----

    def diverged(self, value, batch, before):
        """Computes the loss once more, watched, to name the op; always raises."""
        random.set_state(before)
        try:
            with self.precision.working(), debug(infinite=True):
                again = self.loss_of(batch)
            where = self._without_an_op(batch, again)
        except FloatingPointError as error:
            where = str(error)
        raise FloatingPointError(f"step {self.step + 1}: the loss is {value}: {where}")

    def _without_an_op(self, batch, again):
        """Where a loss that is not finite comes from, if no op has made it; `again` is
        what came out when it was computed once more."""
        numbers = [np.asarray(array) for array in batch]
        if not all(np.isfinite(x).all() for x in numbers if x.dtype.kind == "f"):
            return "the batch itself holds a number that is not finite"
        with self.precision.working():
            state = *self.model.parameters(), *dict(self.model.named_buffers()).values()
            if all(x.isfinite().all() for x in state):
                if not again.isfinite().all():
                    return "a number that the model or the loss brings along is not"
                alone = "" if self.parallel is None else ", in one process"
                return (
                    "weights and batch are finite, and so is what every op makes of "
                    f"them when it is computed once more{alone}"
                )
        where = "no op made it from finite numbers: a weight is not finite already"
        half = self.precision.dtype == "float16"
        return where + " (in float16: above 65,504)" * half

    def damaged(self):
        """Names the parameter whose gradient is not finite; always raises."""
        bad = (
            name
            for name, p in self.model.named_parameters()
            if p.grad is not None and not p.grad.isfinite().all()
        )
        raise FloatingPointError(
            f"step {self.step + 1}: the loss is finite, but the gradient of "
            f"{next(bad, 'all parameters together')} is not: minibig.debug() names the "
            "op; a lower learning rate may help"
        )
