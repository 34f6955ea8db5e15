"""The training loop: batches in, a trained model and its history out."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from .. import checks
from ..data.loader import Loader
from ..nn import Module
from ..optim import LRScheduler, Optimizer
from .checkpoint import jsonable, latest, load_checkpoint, save_checkpoint
from .data_parallel import DataParallel, check_shareable
from .evaluation import Evaluation, numbers_of
from .history import History
from .interrupt import Interrupt
from .mixed_precision import Precision
from .progress import Progress
from .resume import cores, pack, unpack
from .step import Step


def fit(
    model, loader, loss, optimizer, *, steps, schedule=None, clip_norm=None,
    accumulate=1, evaluate=None, evaluate_every=None, monitor="loss", patience=None,
    callbacks=(), folder=None, save_every=None, resume=True, info=None, processes=1,
    precision="fp32",
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
    with the same numbers of threads and processes (it says where they are others);
    rates and other settings of optimizer and schedule are then the saved ones. `info`,
    what the run is (JSON-able), is kept and must be the same. `resume=False` refuses a
    folder that holds a checkpoint.
    Each of `processes` works on a part of every batch (see `DataParallel`); callbacks
    may then freeze nothing.
    `precision`: "fp16" is forward and backward in float16 with weights, sums and
    updates in float32 and a scaled loss (see `mixed_precision.py`), where a step whose
    gradients overflow changes no weight; "bf16", on a GPU alone, needs no scale.
    Evaluations are float32.
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
    run.processes = checks.whole("fit: processes", processes, 1)
    run.precision = Precision(precision, model)
    if processes > 1:
        check_shareable("fit", processes, model.device)
        if run.precision.scaler is not None:
            raise ValueError('fit: precision="fp16" runs in one process: processes=1')
    run.info = jsonable(info or {}, "info")
    run.folder = None if folder is None else _made(folder)
    if run.folder and latest(run.folder):
        if not resume:
            raise FileExistsError(
                f"{folder} holds the checkpoint of another run: give another folder, "
                "remove it, or let resume=True go on with it"
            )
        run.load()
        if not run.over:  # a finished one may be looked at
            _check_writable(run.folder)
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


def _made(folder):
    """The folder of a run, which is made now: the first save may be hours away."""
    if not checks.kind("fit: folder", folder, str, os.PathLike):
        raise ValueError('fit: folder="" names no place; None saves nothing')
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = not latest(folder)
    except OSError as error:
        raise type(error)(_no_folder(folder, error.strerror)) from error
    if fresh:
        _check_writable(folder)
    return folder


def _no_folder(folder, why):
    return f"fit: {folder} cannot be the folder of a run ({why}): give another"


def _check_writable(folder):
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(_no_folder(folder, os.strerror(errno.EACCES)))


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


class Run(Step):
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
        self.cores_before = None  # of the process that wrote the checkpoint
        self.parallel = self.fetched = None
        self.precision = Precision("fp32", model)

    @property
    def over(self):
        """Whether no step is left to do, or it was stopped."""
        return self.step >= self.steps or self.stopped

    def stop(self):
        """Ends the run after this step."""
        self.stopped = True

    def go(self):
        """Trains to the end, or to a stop; returns the history."""
        self.progress = Progress(self.step, self.steps)
        if self.step and self.step < self.steps:
            self.progress.say(f"going on from step {self.step} of {self.folder}")
            self.compare_cores()
            self.stop_early()
        elif self.step:
            self.progress.say(
                f"all {self.step} steps are done already in {self.folder}"
            )
        with Interrupt() as interrupt:
            try:
                if self.processes > 1 and not self.over:
                    self.parallel = DataParallel(self.model, self.loss, self.processes)
                while not self.over:
                    self.advance()
                    if interrupt.asked:
                        self.interrupted()
            finally:
                self.progress.close()
                if self.parallel is not None:
                    self.parallel.close()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        return self.history

    def compare_cores(self):
        """Says so where the run began with other processes or threads."""
        before, now = self.cores_before, cores(self)
        if before and now and before != now:
            self.progress.say(
                f"it had {before}, and has {now} now: sums round differently, and each "
                "process draws dropout of its own, so that its numbers will be close "
                "to those it would have had, and not the same"
            )

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
        if self.evaluate is not None and self.due(self.evaluate_every):
            self.assess()
        if self.folder and self.due(self.save_every):
            self.save()

    def due(self, every):
        """Whether what is done `every` so many steps, and at the end, is to be done."""
        return self.over or self.step % every == 0

    def assess(self):
        """Evaluates, keeps the weights if they are the best, counts patience."""
        results = numbers_of("fit: evaluate", self.evaluate(self.model))
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

    def save(self):
        """Writes a checkpoint; a checkpoint of the same step is replaced."""
        save_checkpoint(self.folder, self.step, *pack(self))

    def load(self):
        """Goes on from the newest checkpoint in the folder."""
        unpack(self, load_checkpoint(self.folder))
