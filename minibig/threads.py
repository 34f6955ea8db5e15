"""All cores for NumPy: work on blocks of rows, shared among a few waiting threads.

NumPy computes elementwise functions on one core, and OpenBLAS's own threads spin while
they wait, which slows down whatever runs beside them. Here the caller and its helpers
take blocks from one list, each small enough for the cache, and products of matrices are
cut the same way, with one BLAS thread each.
"""

import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache

from .checks import whole

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h

MOST = 1024  # threads

_team = None


class _Limit(threading.local):
    most = MOST


_limit = _Limit()


def usable_cores():
    """How many cores this process may use, 8 at most; MINIBIG_THREADS overrides."""
    asked = os.environ.get("MINIBIG_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or not 1 <= int(asked) <= MOST:
            raise ValueError(
                f"MINIBIG_THREADS is {asked!r}: it is a whole number from 1 to {MOST}"
            )
        return int(asked)
    affinity = getattr(os, "sched_getaffinity", None)
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, 8)


class Team:
    """The calling thread and `size` - 1 helpers."""

    def __init__(self, size):
        self.whole = size
        self.busy = threading.Lock()
        self.job = None
        self.gates = [threading.Lock() for _ in range(size - 1)]
        self.done = [threading.Lock() for _ in range(size - 1)]
        for gate, done in zip(self.gates, self.done, strict=True):
            gate.acquire()
            done.acquire()
            threading.Thread(target=self._help, args=(gate, done), daemon=True).start()

    @property
    def size(self):
        """How many may work for the thread that asks (see `at_most`)."""
        return min(self.whole, _limit.most)

    def _help(self, gate, done):
        while True:
            gate.acquire()
            if self.job is None:
                return
            self.job()
            done.release()

    def close(self):
        """Lets the helpers end."""
        for gate in self.gates:
            gate.release()

    def run(self, serve, count):
        """[serve(0), …, serve(count - 1)], computed side by side.

        Called from within a job, or while another thread's job runs, it does all the
        work itself. The first error of a block is raised when all threads have stopped.
        """
        if self.size == 1 or count == 1 or not self.busy.acquire(blocking=False):
            return [serve(i) for i in range(count)]
        results, errors, numbers = [None] * count, [], iter(range(count))

        def job():
            try:
                for i in numbers:  # one iterator for all: each block is taken once
                    results[i] = serve(i)
                    if errors:
                        break
            except BaseException as error:
                errors.append(error)

        context = copy_context()  # np.errstate is the caller's, and each thread's own
        self.job = lambda: context.copy().run(job)
        helpers = min(self.size - 1, count - 1)
        try:
            for gate in self.gates[:helpers]:
                gate.release()
            job()
            for done in self.done[:helpers]:
                done.acquire()
        except BaseException:  # Ctrl-C while waiting: helpers may still be at work
            _forget_team()
            raise
        self.job = None
        self.busy.release()
        if errors:
            raise errors[0]
        return results


def team():
    """The threads that share the work, started when first asked for."""
    global _team
    if _team is None:
        _prepare_process()
        _team = Team(usable_cores())
    return _team


def set_num_threads(count):
    """Lets `count` threads work on large arrays on the CPU; 1 is the caller alone."""
    global _team
    if whole("the number of threads", count, 1) > MOST:
        raise ValueError(f"{count} threads are more than {MOST}")
    _prepare_process()
    if _team is not None:
        _team.close()
    _team = Team(count)


@contextmanager
def at_most(count):
    """Within it `count` threads at most share the work of the calling thread."""
    before, _limit.most = _limit.most, count
    try:
        yield
    finally:
        _limit.most = before


def get_num_threads():
    """How many threads work on large arrays on the CPU."""
    return team().size


@cache
def _prepare_process():
    """Settings of the whole process, made once, before the first large array.

    BLAS works on one thread, as its own would fight with ours. Memory that was freed is
    kept for the next array: a training step frees hundreds of megabytes and asks for
    them again, and pages fresh from the system cost more than the sums on them.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        pass  # then OPENBLAS_NUM_THREADS=1 is for the user to set
    else:
        threadpool_limits(1, user_api="blas")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
            mallopt(M_TRIM_THRESHOLD, 1 << 30)


def _forget_team():
    global _team
    _team = None  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)
