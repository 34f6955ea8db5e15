"""Data parallelism on the CPU: each process works on its part of the batch.

What happens in a step, for two processes:

    rows of the batch ──► first part: this process    ─► gradient ─┐
                     └──► second part: the other one  ─► gradient ─┴► sum ─► optimizer

The weights lie in memory that the processes share, so that all see the update at once;
the others write their gradients into shared memory and this one adds them up. They meet
twice a step, where threads that share single operations meet a hundred times. It is
what PyTorch's DistributedDataParallel does over a network (arXiv 2006.15704).
"""

import math
import multiprocessing
import sys
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .. import checks, threads
from ..nn import Module
from ..tensor import Tensor
from .evaluation import check_loss, count_targets, on_device
from .helper import Helper, HelperError, shared_arrays


class DataParallel:
    """Gradients of a model, computed by several processes side by side.

    `loss(model, *batch)` is a mean over the targets, as `fit` takes it. `backward`
    gives the parameters the gradient of the whole batch's mean: each part counts by
    its targets. What a model computes over the rows of a batch, as batch normalisation
    does, it computes over a part; dropout draws from a stream of each process's own.
    The helper processes are copies of this one, made here: change the structure of the
    model, what is frozen and `loss` before. Close it (or use `with`): the helpers end,
    and the weights go back to the arrays where they lay. An error closes it.
    Raises ValueError where processes cannot be copied (Windows) or the model is on a
    GPU; the ValueError, TypeError, IndexError or FloatingPointError of a helper, else
    RuntimeError where one fails, with its traceback; HelperError where it ends, or
    where the system starts no more.
    """

    def __init__(self, model, loss, processes=2):
        checks.kind("DataParallel: model", model, Module)
        checks.kind(
            "DataParallel: loss, a function of model and batch,", loss, Callable
        )
        checks.whole("DataParallel: processes", processes, 1)
        check_shareable("DataParallel", processes, model.device)
        self.model, self.loss = model, loss
        self.parameters = list(model.parameters())
        self.buffers = [buffer for _, buffer in model.named_buffers()]
        self.modules = list(model.modules())
        self.trainable = [p.requires_grad for p in self.parameters]
        self.threads = max(threads.get_num_threads() // processes, 1)
        self.helpers, self.closed = [], False
        self.private = self.weights = [p.array for p in self.parameters]
        self.statistics = []
        try:
            self._start(processes)
        except OSError as error:
            self.close()
            raise HelperError(
                f"the helper processes cannot be started ({error.strerror or error}): "
                "processes=1 needs none"
            ) from error
        except BaseException:
            self.close()
            raise

    def _start(self, processes):
        if processes > 1:
            self.weights = shared_arrays(self.parameters)
            self.statistics = shared_arrays(self.buffers)
            _move(self.parameters, self.private, self.weights)
        for number in range(1, processes):
            self.helpers.append(Helper(self.parameters))
            self.helpers[-1].start(self, number)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Ends the helpers; the weights go back to where they lay before.

        A second call does what a Ctrl-C has kept the first one from.
        """
        self.closed = True
        _move(self.parameters, self.weights, self.private)
        for helper in self.helpers:
            helper.close()

    def backward(self, *batch, factor=1.0):
        """Adds `factor` times the gradient of the batch's loss; returns the loss.

        batch: arrays that share their first axis.
        """
        factor = checks.number("DataParallel: factor", factor) * 1.0
        self._check_unchanged()
        parts = _parts(batch, len(self.helpers) + 1)
        counts = [count_targets(part) for part in parts]
        shares = [count / max(sum(counts), 1) for count in counts]
        try:
            return self._backward(parts, shares, factor)
        except BaseException as error:  # the answers of the others are not awaited
            self.close()
            if self.helpers:
                rows = ", ".join(str(len(part[0])) for part in parts)
                error.add_note(f"the processes shared the batch's rows: {rows}")
            raise

    def _check_unchanged(self):
        what = ""
        if self.trainable != [p.requires_grad for p in self.parameters]:
            what = "other parameters are frozen than when it was made"
        pairs = zip(self.parameters, self.weights, strict=True)
        if not all(p.array is array for p, array in pairs):
            what = "the weights have moved since it was made (model.to)"
        if self.closed:
            what = "it is closed (an error closes it too)"
        if what:
            raise RuntimeError(f"DataParallel: {what}: make a new one")

    def _backward(self, parts, shares, factor):
        for shared, buffer in zip(self.statistics, self.buffers, strict=False):
            shared[...] = buffer.array
        work = list(zip(self.helpers, parts[1:], shares[1:], strict=True))
        for helper, part, share in work:
            if share:
                helper.ask(part, share * factor, [m.training for m in self.modules])
        total = 0.0
        if shares[0] or not any(shares):
            with threads.at_most(self.threads):
                total = self.add_gradient(parts[0], shares[0] * factor) * shares[0]
        for helper, _, share in work:
            if share:
                total += helper.answer(self.parameters) * share
        return total

    def add_gradient(self, batch, factor):
        """One process's work: the loss of its part, after its backward pass."""
        loss = check_loss(self.loss(self.model, *on_device(batch, "cpu")))
        value = loss.item()
        if math.isfinite(value):
            (loss if factor == 1 else loss * factor).backward()
        return value


def _parts(batch, processes):
    """The batch's rows, one part a process; the first has the fewest."""
    arrays = [np.asarray(x.array if isinstance(x, Tensor) else x) for x in batch]
    lengths = {x.shape[:1] for x in arrays}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(
            "DataParallel: the arrays of a batch share their first axis; here are "
            + ", ".join(str(x.shape) for x in arrays)
        )
    rows = len(arrays[0])
    ends = [rows * i // processes for i in range(processes + 1)]
    return [[x[a:b] for x in arrays] for a, b in pairwise(ends)]


def usable_processes(device="cpu"):
    """How many processes may share a batch here: one a core, 4 at most.

    Off Linux it is 1: Windows copies no processes, Apple's BLAS does not survive it; so
    it is in a worker of a pool, which may start none.
    """
    alone = multiprocessing.current_process().daemon
    if device != "cpu" or sys.platform != "linux" or alone:
        return 1
    return min(threads.usable_cores(), 4)


def check_shareable(who, processes, device):
    """Nothing, where so many processes may share a batch; ValueError, which `who`
    begins, on a GPU, on a system that copies none, and in a worker of a pool."""
    why = ""
    if device != "cpu":
        raise ValueError(f"{who}: the model is on a GPU, which takes a batch whole")
    if processes == 1:
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        why = "this system cannot copy a process (fork)"
    elif multiprocessing.current_process().daemon:
        why = "a worker of a pool may start no processes"
    if why:
        raise ValueError(f"{who}: {why}: processes=1")


def _move(parameters, here, there):
    """Lets the parameters that live in the arrays `here` live in those of `there`."""
    for p, old, new in zip(parameters, here, there, strict=True):
        if p.array is old and new is not old:
            new[...] = old
            p.array = new
