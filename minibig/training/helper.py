"""A process that computes a part of a batch's gradient, at both ends of its pipe.

A request is JSON and the arrays' bytes, an answer JSON; the gradient itself lies in
memory that both processes see. `data_parallel.py` says what for.
"""

import json
import mmap
import multiprocessing
import traceback
import warnings

import numpy as np

from .. import random, threads
from ..backend import by_rows
from ..creation import tensor
from .interrupt import held_back, leave_to_parent

# What one process would raise is raised here too; anything else is a RuntimeError.
_KINDS = (ValueError, TypeError, IndexError, FloatingPointError)


class HelperError(RuntimeError):
    """A helper process that has ended, or could not begin."""


class Helper:
    """A process that computes gradients when asked, and its shared gradient."""

    def __init__(self, parameters):
        self.gradients = shared_arrays(parameters)
        self.pipe, self.theirs = multiprocessing.get_context("fork").Pipe()
        self.process = None

    def start(self, parallel, number):
        """Copies this process, when the helper has its place among `parallel`'s."""
        # its own, and those of the helpers before, which the copy would hold open
        open_pipes = [helper.pipe for helper in parallel.helpers]
        given = parallel, number, self.theirs, open_pipes, self.gradients
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_serve, args=given, daemon=True)
        with held_back(), warnings.catch_warnings():
            # Python 3.12 warns where a process with threads is copied. The copy holds
            # the calling thread alone, which waits for no other.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
            self.theirs.close()

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
        """Ends the process, if it has begun, also in the middle of its work."""
        self.pipe.close()
        self.theirs.close()
        if self.process is not None and self.process.pid is not None:
            self.process.kill()  # a process that is stopped has no ear for SIGTERM
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


def shared_arrays(parameters):
    """Arrays of the parameters' shapes in memory that copies of this process share."""
    arrays = []
    for p in parameters:
        memory = mmap.mmap(-1, max(p.array.nbytes, 1))
        array = np.frombuffer(memory, p.array.dtype, p.array.size)
        arrays.append(array.reshape(p.shape))
    return arrays


def _add_to(total, dx):
    np.add(total, dx, out=total)
