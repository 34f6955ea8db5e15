"""All cores for NumPy: work on blocks of rows, shared among a few waiting threads.

NumPy computes elementwise functions on one core, and OpenBLAS's own threads spin while
they wait, which slows down whatever runs beside them. Here the caller and its helpers
take blocks from one list, each small enough for the cache, and products of matrices are
cut the same way, with one BLAS thread each.
"""

import os
import threading
from functools import cache

_team = None


def usable_cores():
    """How many cores this process may use, 8 at most; MINIBIG_THREADS overrides."""
    asked = os.environ.get("MINIBIG_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    affinity = getattr(os, "sched_getaffinity", None)
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, 8)


class Team:
    """The calling thread and `size` - 1 helpers."""

    def __init__(self, size):
        self.size = size
        self.busy = threading.Lock()
        self.job = None
        self.gates = [threading.Lock() for _ in range(size - 1)]
        self.done = [threading.Lock() for _ in range(size - 1)]
        for gate, done in zip(self.gates, self.done, strict=True):
            gate.acquire()
            done.acquire()
            threading.Thread(target=self._help, args=(gate, done), daemon=True).start()

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
            with one_blas_thread:
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

        self.job = job
        helpers = min(self.size - 1, count - 1)
        try:
            with one_blas_thread:
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
        _team = Team(usable_cores())
    return _team


def set_num_threads(count):
    """Lets `count` threads work on large arrays on the CPU; 1 is the caller alone."""
    global _team
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"the number of threads is at least 1, not {count!r}")
    if _team is not None:
        _team.close()
    _team = Team(count)


def get_num_threads():
    """How many threads work on large arrays on the CPU."""
    return team().size


class _OneBlasThread:
    """Within it, in whatever thread, every BLAS works on one thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.depth = 0

    def __enter__(self):
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                for library, _ in _blas_libraries():
                    library.set_num_threads(1)

    def __exit__(self, *error):
        with self.lock:
            self.depth -= 1
            if not self.depth:
                for library, usual in _blas_libraries():
                    library.set_num_threads(usual)


one_blas_thread = _OneBlasThread()


@cache
def _blas_libraries():
    """(library, its number of threads) of each BLAS that uses several; none without
    threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    usual = [(library, library.get_num_threads()) for library in libraries]
    return [(library, count) for library, count in usual if count > 1]


def _forget_team():
    global _team
    _team = None  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)
