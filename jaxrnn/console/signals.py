"""SIGINT and SIGTERM: the first one asks, the second one ends."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from jaxrnn.foundation.errors import EXIT_SIGNAL_BASE, InterruptedRun

try:
    import termios
except ImportError:  # not on Windows
    termios = None  # type: ignore[assignment]

HANDLED = (signal.SIGINT, signal.SIGTERM)
STDIN, STDERR = 0, 2
SHOW_CURSOR = b"\x1b[?25h"
# So long the main thread has to answer a signal: a call of the device lasts half of it, a compilation longer.
GRACE_SECONDS = 0.8

_noting: "NoteSignal | None" = None  # the one that is entered


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
      unsaved: Whether there is something that the loop would save before it ends.
    """

    received: int | None = None
    unsaved = False

    def __enter__(self):  # type: ignore[no-untyped-def]
        global _noting
        super().__enter__()
        if self._previous:
            _noting = self
        return self

    def __exit__(self, *exception: object) -> None:
        global _noting
        if self._previous:
            _noting = None
        super().__exit__(*exception)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(EXIT_SIGNAL_BASE + number)
        self.received = number


class EndOnSignal(_Handlers):
    """Ends the process on a signal, with a word to the user, wherever it is; for a process of one command.

    An exception, raised wherever the main thread happens to be, is no way out of it: JAX crashes when one comes while
    its native modules are imported. And Python runs no handler while it waits for the compiler, so a thread to which
    signals come through a pipe ends the process where the main thread does not. Nothing is lost: what is on disk is
    whole at any moment, and within `NoteSignal` the process goes on for as long as there is something to save. The
    second signal ends it at once in any case.

    Args:
      last_words: Returns what the user is to read, given the signal's number.
    """

    def __init__(self, last_words: Callable[[int], str]):
        self._last_words = last_words
        self._write: int | None = None
        self._over = threading.Event()
        self._is_ending = threading.Lock()
        self._terminal = _terminal_settings()

    def __enter__(self):  # type: ignore[no-untyped-def]
        super().__enter__()
        if self._previous:
            read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._previous_pipe = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(read,), name="signals", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._write is not None:
            signal.set_wakeup_fd(self._previous_pipe)
            os.close(self._write)
        super().__exit__(*exception)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._end(number)

    def _watch(self, read: int) -> None:
        with open(read, "rb", buffering=0) as pipe:
            first = None
            while byte := pipe.read(1):
                number = byte[0]
                if number not in HANDLED:
                    continue
                if first is not None:
                    os._exit(EXIT_SIGNAL_BASE + number)
                first = number
                threading.Thread(target=self._end_late, args=(number,), name="signals", daemon=True).start()

    def _end_late(self, number: int) -> None:
        while True:
            if self._over.wait(GRACE_SECONDS):
                return
            if _noting is None or not _noting.unsaved:
                self._end(number)

    def _end(self, number: int) -> None:
        if self._is_ending.acquire(blocking=False):
            with contextlib.suppress(Exception):
                _restore_terminal(self._terminal)
                # Not by sys.stderr: the main thread may be in the middle of writing to it.
                os.write(STDERR, f"{self._last_words(number)}\n".encode(errors="replace"))
        else:
            time.sleep(GRACE_SECONDS)  # the other thread is saying it
        os._exit(EXIT_SIGNAL_BASE + number)


def end_at_once_on_signal(code: int | None = None) -> None:
    """Lets a signal end this process without a traceback, before it has a command and when it has none any more.

    Args:
      code: The exit code; None for that of the signal.
    """
    for number in HANDLED:
        signal.signal(number, lambda number, frame: os._exit(EXIT_SIGNAL_BASE + number if code is None else code))


def _terminal_settings() -> Any:
    if termios is not None:
        with contextlib.suppress(OSError, ValueError, termios.error):
            return termios.tcgetattr(STDIN)
    return None


def _restore_terminal(settings: Any) -> None:
    """Undoes what a prompt or a progress bar did to the terminal: no echo, no cursor."""
    if os.isatty(STDERR):
        os.write(STDERR, SHOW_CURSOR + b"\n")
    if settings is not None:
        termios.tcsetattr(STDIN, termios.TCSANOW, settings)
