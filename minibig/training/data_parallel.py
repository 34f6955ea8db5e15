"""Data parallelism on the CPU: each process works on its part of the batch.

What happens in a step, for two processes:

    rows of the batch ──► first part: this process    ─► gradient ─┐
                     └──► second part: the other one  ─► gradient ─┴► sum ─► optimizer

The weights lie in memory that the processes share, so that all see the update at once;
the others write their gradients into shared memory and this one adds them up. They meet
twice a step, where threads that share single operations meet a hundred times. It is
what PyTorch's DistributedDataParallel does over a network (arXiv 2006.15704).
"""

import json
import math
import mmap
import multiprocessing
import sys
import traceback
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .. import checks, random, threads
from ..backend import by_rows
from ..creation import tensor
from ..nn import Module
from ..tensor import Tensor
from .evaluation import check_loss, count_targets, on_device
from .interrupt import held_back, leave_to_parent

# What one process would raise is raised here too; anything else is a RuntimeError.
_KINDS = (ValueError, TypeError, IndexError, FloatingPointError)


class HelperError(RuntimeError):
    """A helper process that has ended."""


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
    RuntimeError where one fails, with its traceback; HelperError where it ends.
    """

    def __init__(self, model, loss, processes=2):
        checks.kind("DataParallel: model", model, Module)
        checks.kind(
            "DataParallel: loss, a function of model and batch,", loss, Callable
        )
        checks.whole("DataParallel: processes", processes, 1)
        if model.device != "cpu":
            raise ValueError("DataParallel: the model is on a GPU; this is for the CPU")
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ValueError(
                "DataParallel: this system cannot copy a process (fork): processes=1"
            )
        if multiprocessing.current_process().daemon:
            raise ValueError(
                "DataParallel: a worker of a pool may start no processes: processes=1"
            )
        self.model, self.loss = model, loss
        self.parameters = list(model.parameters())
        self.buffers = [buffer for _, buffer in model.named_buffers()]
        self.modules = list(model.modules())
        self.trainable = [p.requires_grad for p in self.parameters]
        self.threads = max(threads.get_num_threads() // processes, 1)
        self.helpers, self.closed = [], False
        self.private = [p.array for p in self.parameters]
        self.weights = self.private if processes == 1 else _shared(self.parameters)
        self.statistics = _shared(self.buffers) if processes > 1 else []
        try:
            _move(self.parameters, self.weights)
            for number in range(1, processes):
                self.helpers.append(_Helper(self, number))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Ends the helpers; the weights go back to where they lay before."""
        if not self.closed:
            self.closed = True
            for helper in self.helpers:
                helper.close()
            if all(map(_is, self._arrays(), self.weights)):
                _move(self.parameters, self.private)

    def _arrays(self):
        return [p.array for p in self.parameters]

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
        except BaseException:  # the answers of the others are not awaited
            self.close()
            raise

    def _check_unchanged(self):
        what = ""
        if self.trainable != [p.requires_grad for p in self.parameters]:
            what = "other parameters are frozen than when it was made"
        if not all(map(_is, self._arrays(), self.weights)):
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


class _Helper:
    """A process that computes gradients when asked, and its shared gradient."""

    def __init__(self, parallel, number):
        self.gradients = _shared(parallel.parameters)
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        # those of the helpers before, which the copy would hold open
        open_pipes = [helper.pipe for helper in parallel.helpers] + [self.pipe]
        self.process = context.Process(
            target=_serve, args=(parallel, number, theirs, open_pipes, self.gradients),
            daemon=True,
        )  # fmt: skip
        with held_back(), warnings.catch_warnings():
            # Python 3.12 warns where a process with threads is copied. The copy holds
            # the calling thread alone, which waits for no other.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def ask(self, batch, factor, training):
        """Sends a part of the batch."""
        arrays = [np.ascontiguousarray(array) for array in batch]
        head = {
            "factor": factor, "training": training, "random": random.get_state(),
            "arrays": [(array.dtype.str, array.shape) for array in arrays],
        }  # fmt: skip
        try:
            self.pipe.send_bytes(json.dumps(head).encode())
            for array in arrays:
                self.pipe.send_bytes(array.tobytes())
        except OSError as error:
            raise self._gone() from error

    def answer(self, parameters):
        """The loss of that part, its gradient added to that of `parameters`."""
        try:
            reply = json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if "error" in reply:
            raise _error(reply)
        for p, dx, given in zip(
            parameters, self.gradients, reply["given"], strict=True
        ):
            if given and p.grad is None:
                p.grad = tensor(dx.copy())
            elif given:
                by_rows(_add_to, p.grad.array, dx)
        return reply["loss"]

    def _gone(self):
        self.process.join(1)
        code = self.process.exitcode
        why = ": was memory short? processes=1 needs least" if code == -9 else ""
        return HelperError(f"a helper process has ended, exit code {code}{why}")

    def close(self):
        """Ends the process, also in the middle of its work."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _serve(parallel, number, pipe, open_pipes, gradients):
    """What a helper does until its pipe is closed."""
    for other in open_pipes:
        other.close()
    leave_to_parent()
    threads.set_num_threads(parallel.threads)
    random.set_replica(number)
    while True:
        try:
            head = json.loads(pipe.recv_bytes())
            batch = [
                np.frombuffer(pipe.recv_bytes(), dtype).reshape(shape)
                for dtype, shape in head["arrays"]
            ]
        except (EOFError, OSError):
            return
        try:
            reply = _work(parallel, head, batch, gradients)
        except Exception as error:  # it is reported where the training runs
            told = {"kind": type(error).__name__, "text": str(error)}
            reply = {"error": traceback.format_exc(), **told}
        try:
            pipe.send_bytes(json.dumps(reply).encode())
        except OSError:  # the first process has ended
            return


def _error(reply):
    """The error that a helper has sent, with its traceback."""
    told = f"a helper process failed:\n{reply['error']}"
    for kind in _KINDS:
        if kind.__name__ == reply["kind"]:
            error = kind(reply["text"])
            error.add_note(told)
            return error
    return RuntimeError(told)


def _work(parallel, head, batch, gradients):
    random.set_state(head["random"])
    for module, training in zip(parallel.modules, head["training"], strict=True):
        module.training = training
    for buffer, shared in zip(parallel.buffers, parallel.statistics, strict=True):
        buffer.array[...] = shared
    for p in parallel.parameters:
        p.grad = None
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        value = parallel.add_gradient(batch, head["factor"])
    given = [p.grad is not None for p in parallel.parameters]
    for p, dx in zip(parallel.parameters, gradients, strict=True):
        if p.grad is not None:
            dx[...] = p.grad.array
    return {"loss": value, "given": given}


def _shared(parameters):
    """Arrays of the parameters' shapes in memory that copies of this process share."""
    arrays = []
    for p in parameters:
        memory = mmap.mmap(-1, max(p.array.nbytes, 1))
        array = np.frombuffer(memory, p.array.dtype, p.array.size)
        arrays.append(array.reshape(p.shape))
    return arrays


def _move(parameters, arrays):
    """Lets the parameters live in `arrays`, their numbers kept."""
    for p, array in zip(parameters, arrays, strict=True):
        if array is not p.array:
            array[...] = p.array
            p.array = array


def _is(a, b):
    return a is b


def _add_to(total, dx):
    np.add(total, dx, out=total)
