"""Ctrl-C and SIGTERM for a script that sends one request after another.

A request under way finishes, because it is paid for. A wait between requests ends at once: time.sleep goes on after a
signal unless its handler raises.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chat.sending import INTERRUPTED, StoppedError


class Interrupts:
    """From its making on, a first signal is noted; a second one ends the process."""

    def __init__(self) -> None:
        self.received = self._waiting = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = True
        signal.signal(number, signal.SIG_DFL)
        if self._waiting:
            raise StoppedError(INTERRUPTED)
        os.write(2, b"stopping: the request under way finishes first (again to leave at once)\n")

    def check(self) -> None:
        if self.received:
            raise StoppedError(INTERRUPTED)

    @contextmanager
    def request_under_way(self) -> Iterator[None]:
        """Signals that come in meanwhile are noted only."""
        was_waiting, self._waiting = self._waiting, False
        try:
            yield
        finally:
            self._waiting = was_waiting

    @contextmanager
    def waits_between(self) -> Iterator[None]:
        """Where no request is under way, a signal raises StoppedError."""
        self._waiting = True
        try:
            self.check()
            yield
        finally:
            self._waiting = False
