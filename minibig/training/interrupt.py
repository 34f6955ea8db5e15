"""Ctrl-C that waits for the end of a step, and is not for helper processes."""

import signal
import threading
from contextlib import contextmanager

ASKED_TO_END = {signal.SIGINT, signal.SIGTERM}


class Interrupt:
    """Notes the first Ctrl-C, so that a step is never left half done; a second one acts
    at once, and one that nobody has asked for acts at the end. Only the main thread
    gets signals; elsewhere this does nothing."""

    def __enter__(self):
        self.asked = False
        self.before = signal.getsignal(signal.SIGINT)
        # A shell lets the jobs that it puts aside ignore Ctrl-C: they go on doing so.
        self.active = self.before not in (signal.SIG_IGN, None) and (
            threading.current_thread() is threading.main_thread()
        )
        if self.active:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_):
        self.asked = True
        signal.signal(signal.SIGINT, self.before)

    def __exit__(self, error, *_):
        if self.active:
            signal.signal(signal.SIGINT, self.before)
        if self.asked and error is None:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def held_back():
    """Within it Ctrl-C and SIGTERM wait: a copy of this process begins with its
    handlers, and shall have none of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED_TO_END)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent():
    """In the copy: Ctrl-C is passed over, SIGTERM ends it, also one that waited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED_TO_END)
