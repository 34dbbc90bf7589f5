"""SIGINT and SIGTERM: the first one asks, the second one ends."""

import os
import signal
import threading
from types import FrameType

from jaxrnn.errors import EXIT_SIGNAL_BASE, InterruptedRun

HANDLED = (signal.SIGINT, signal.SIGTERM)


class _Handlers:
    """Installs one handler for both signals while it is entered, in the main thread only."""

    def __enter__(self):  # type: ignore[no-untyped-def]
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in HANDLED}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        raise NotImplementedError


class RaiseOnSignal(_Handlers):
    """Turns a signal into an `InterruptedRun`, for the parts of a command that have nothing to save."""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        raise InterruptedRun(f"interrupted by {signal.Signals(number).name}", signal_number=number)


class NoteSignal(_Handlers):
    """Notes a signal, for a loop to look at between two calls; a second signal ends the process at once.

    Attributes:
      received: The signal's number, or None.
    """

    received: int | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(EXIT_SIGNAL_BASE + number)
        self.received = number
