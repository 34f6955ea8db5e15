"""Ctrl-C that waits for the end of a step."""

import signal
import threading


class Interrupt:
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
