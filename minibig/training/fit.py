"""The training loop: batches in, a trained model and its history out."""

import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import checks, random
from ..autograd import debug
from ..data.loader import Loader
from ..nn import Module
from ..optim import LRScheduler, Optimizer, clip_grad_norm_
from ..tensor import Tensor
from .checkpoint import jsonable, latest, load_checkpoint, save_checkpoint
from .evaluation import Evaluation, count_targets, on_device
from .history import History
from .progress import Progress
from .resume import pack, unpack


def fit(
    model, loader, loss, optimizer, *, steps, schedule=None, clip_norm=None,
    accumulate=1, evaluate=None, evaluate_every=None, monitor="loss", patience=None,
    callbacks=(), folder=None, save_every=None, resume=True, info=None,
):  # fmt: skip
    """Trains `model` until it has made `steps` steps; returns its History.

    `loss(model, *batch)` is a mean, as Tensor. A step adds up the gradients of
    `accumulate` batches, each weighted by its number of targets, clips their norm at
    `clip_norm` and calls `optimizer.step()` and `schedule.step()`.
    `evaluate`, a loader or a function of the model that returns a dict of numbers, runs
    every `evaluate_every` steps (a tenth of all) and at the end. The weights with the
    smallest `monitor` are kept: the model has them when training is over. `patience`
    evaluations without a better one end it early. `callbacks` are called with the run
    after every step; `run.stop()` ends it.
    With `folder` the run saves a checkpoint every `save_every` steps (at evaluations),
    at the end and on Ctrl-C, and takes up the one it finds there, bit for bit on a CPU
    with a fixed number of threads; rates and other settings of the optimizer are then
    the saved ones. `info`, what the run is (JSON-able), is kept and must be the same.
    `resume=False` refuses a folder that holds a checkpoint.
    Raises FloatingPointError, naming step and op, where the loss is not finite, and
    KeyboardInterrupt on Ctrl-C, when the step is done and saved.
    """
    _check_counts(steps, accumulate, evaluate_every, patience, save_every)
    _check_trained(model, loader, loss, optimizer, schedule, clip_norm, callbacks)
    _check_evaluation(evaluate, monitor, patience)
    if isinstance(evaluate, Loader):
        evaluate = Evaluation(evaluate, loss)
    run = Run(model, loader, loss, optimizer, steps, schedule)
    run.clip_norm, run.accumulate, run.callbacks = clip_norm, accumulate, callbacks
    run.evaluate, run.monitor, run.patience = evaluate, monitor, patience
    run.evaluate_every = evaluate_every or max(steps // 10, 1)
    run.save_every = save_every or run.evaluate_every
    run.folder, run.info = folder and Path(folder), jsonable(info or {}, "info")
    if folder and latest(folder):
        if not resume:
            raise FileExistsError(
                f"{folder} holds the checkpoint of another run: give another folder, "
                "remove it, or let resume=True go on with it"
            )
        run.load()
    return run.go()


def _check_counts(steps, accumulate, evaluate_every, patience, save_every):
    for name, value, needed in (
        ("steps", steps, True), ("accumulate", accumulate, True),
        ("evaluate_every", evaluate_every, False), ("patience", patience, False),
        ("save_every", save_every, False),
    ):  # fmt: skip
        if needed or value is not None:
            checks.whole(f"fit: {name}", value, 1)


def _check_evaluation(evaluate, monitor, patience):
    checks.kind("fit: monitor", monitor, str)
    if patience and evaluate is None:
        raise ValueError("fit: patience counts evaluations: give `evaluate` too")
    if evaluate is not None and not (
        callable(evaluate) or isinstance(evaluate, Loader)
    ):
        raise TypeError(
            "fit: evaluate is a loader or a function of the model, not "
            f"{type(evaluate).__name__}"
        )


def _check_trained(model, loader, loss, optimizer, schedule, clip_norm, callbacks):
    checks.kind("fit: model", model, Module)
    checks.kind("fit: loss, a function of model and batch,", loss, Callable)
    checks.kind("fit: optimizer", optimizer, Optimizer)
    for callback in checks.kind("fit: callbacks", callbacks, list, tuple):
        checks.kind("fit: each callback", callback, Callable)
    if clip_norm is not None:
        checks.number("fit: clip_norm", clip_norm, 0, without=0, finite=False)
    if not isinstance(loader, Loader):
        raise TypeError(
            f"fit: the loader is a {type(loader).__name__}; it needs `batch(step)` and "
            "a hash, to resume: data.ArrayBatches makes one from arrays"
        )
    if schedule is not None and (
        checks.kind("fit: schedule", schedule, LRScheduler).optimizer is not optimizer
    ):
        raise ValueError("fit: the schedule drives another optimizer")
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in optimized for p in model.parameters()):
        raise ValueError(
            "fit: the optimizer holds no parameter of this model, so that it would not "
            "learn: make the optimizer from model.parameters()"
        )


class Run:
    """A training run as callbacks see it: `model`, `step`, `history`, `best`, …"""

    def __init__(self, model, loader, loss, optimizer, steps, schedule):
        self.model, self.loader, self.loss = model, loader, loss
        self.optimizer, self.schedule, self.steps = optimizer, schedule, steps
        self.step = 0
        self.history = History()
        self.best = None  # {"step": …, monitor: …} of the best evaluation
        self.best_weights = None
        self.seconds = 0.0
        self.stopped = False

    def stop(self):
        """Ends the run after this step."""
        self.stopped = True

    def go(self):
        """Trains to the end, or to a stop; returns the history."""
        self.progress = Progress(self.step, self.steps)
        if self.step and self.step < self.steps:
            self.progress.say(f"going on from step {self.step} of {self.folder}")
            self.stop_early()
        elif self.step:
            self.progress.say(
                f"all {self.step} steps are done already in {self.folder}"
            )
        try:
            with _Interrupt() as interrupt:
                while self.step < self.steps and not self.stopped:
                    self.advance()
                    if interrupt.asked:
                        self.interrupted()
        finally:
            self.progress.close()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        return self.history

    def advance(self):
        """One step, and what is due after it."""
        began = time.perf_counter()
        row = self.train_step()
        self.seconds += time.perf_counter() - began
        self.step += 1
        row = {"step": self.step, **row, "seconds": self.seconds}
        self.history.steps.append(row)
        self.progress.step(row)
        for callback in self.callbacks:
            callback(self)
        last = self.step == self.steps or self.stopped
        if self.evaluate is not None and (last or self.step % self.evaluate_every == 0):
            self.assess()
            last = last or self.stopped
        if self.folder and (last or self.step % self.save_every == 0):
            self.save()

    def train_step(self):
        """Forward and backward over the batches of a step, then the update."""
        # What is not finite is named below; NumPy's warnings would come before.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return self._train_step()

    def _train_step(self):
        self.model.train()
        self.optimizer.zero_grad()
        total = sum(
            self.backward(batch, share) for batch, share in self.micro_batches()
        )
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"]]
        limit = math.inf if self.clip_norm is None else self.clip_norm
        try:
            norm = clip_grad_norm_(parameters, limit, error_if_nonfinite=True)
        except RuntimeError:
            self.damaged()
        lr = groups[0]["lr"]
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return {"loss": total, "lr": lr, "grad_norm": norm}

    def micro_batches(self):
        """(batch, its share of the targets) of this step; those without are left out"""
        first = self.step * self.accumulate
        batches = [self.loader.batch(first + i) for i in range(self.accumulate)]
        if len(batches) == 1:
            return [(batches[0], 1.0)]
        weights = [count_targets(batch) for batch in batches]
        if not sum(weights):
            raise ValueError(
                f"step {self.step + 1}: no batch holds a target that counts"
            )
        pairs = zip(batches, weights, strict=True)
        return [(b, weight / sum(weights)) for b, weight in pairs if weight]

    def backward(self, batch, share):
        """Adds `share` of a batch's gradient; returns that share of its loss."""
        before = random.get_state()
        loss = self.loss(self.model, *on_device(batch, self.model.device))
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"fit: loss(model, *batch) returned {type(loss).__name__}, not a Tensor"
            )
        value = loss.item()
        if not math.isfinite(value):
            self.diverged(value, batch, before)
        (loss if share == 1 else loss * share).backward()
        return value * share

    def assess(self):
        """Evaluates, keeps the weights if they are the best, counts patience."""
        results = self.evaluate(self.model)
        row = {"step": self.step, **results}
        self.history.evaluations.append(row)
        recent = self.history.loss[-self.evaluate_every :]
        self.progress.evaluated(row, sum(recent) / len(recent), self.seconds)
        if self.monitor not in results:
            raise ValueError(
                f"fit: monitor={self.monitor!r} is not among {sorted(results)}"
            )
        value = results[self.monitor]
        if value == value and (self.best is None or value < self.best[self.monitor]):
            self.best = row
            state = self.model.state_dict()
            self.best_weights = {name: array.copy() for name, array in state.items()}
        self.stop_early()

    def stop_early(self):
        """Stops when `patience` evaluations in a row were no better than the best."""
        since = self.best["step"] if self.best else 0
        worse = sum(row["step"] > since for row in self.history.evaluations)
        if self.patience and worse >= self.patience:
            self.progress.say(
                f"no better {self.monitor} than that of step {since} in "
                f"{self.patience} evaluations: stopping early"
            )
            self.stop()

    # ---- when something goes wrong ----

    def interrupted(self):
        """Ctrl-C, between two steps: saves and says how to go on."""
        text = f"stopped after step {self.step} of {self.steps}"
        if self.folder:
            self.save()
            text += f", saved in {self.folder}: run the same again and it goes on there"
        self.progress.say(text)
        raise KeyboardInterrupt(text)

    def diverged(self, value, batch, before):
        """Computes the loss once more, watched, to name the op; always raises."""
        random.set_state(before)
        numbers = [np.asarray(array) for array in batch]
        where = "no op made it from finite numbers: a weight is not finite already"
        if not all(np.isfinite(x).all() for x in numbers if x.dtype.kind == "f"):
            where = "the batch itself holds a number that is not finite"
        try:
            with debug(infinite=True):
                self.loss(self.model, *on_device(batch, self.model.device))
        except FloatingPointError as error:
            where = str(error)
        raise FloatingPointError(f"step {self.step + 1}: the loss is {value}: {where}")

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

    def save(self):
        """Writes a checkpoint; a checkpoint of the same step is replaced."""
        save_checkpoint(self.folder, self.step, *pack(self))

    def load(self):
        """Goes on from the newest checkpoint in the folder."""
        unpack(self, load_checkpoint(self.folder))


class _Interrupt:
    """Notes the first Ctrl-C, so that a step is never left half done; a second one acts
    at once. Only the main thread gets signals; elsewhere this does nothing."""

    def __enter__(self):
        self.asked = False
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_):
        self.asked = True
        signal.signal(signal.SIGINT, self.before)

    def __exit__(self, *error):
        if self.main:
            signal.signal(signal.SIGINT, self.before)
