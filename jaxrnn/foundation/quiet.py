"""Keeps libraries from changing how their caller logs, and from printing what nobody can use."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

LATE_SECONDS = 0.2  # so long what a failed save has left goes on


@contextlib.contextmanager
def root_logger_kept() -> Iterator[None]:
    """Leaves the root logger as it was; also a decorator.

    absl, through which Orbax logs, gives the root logger a handler of its own if it has none. From then on all messages
    go to stderr, and the caller's `logging.basicConfig` does nothing. A handler that does nothing, for as long as this
    lasts, prevents that, and where the caller has set up no logging, nothing is shown.
    """
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@contextlib.contextmanager
def late_tasks_quiet() -> Iterator[None]:
    """Keeps tasks that outlive their event loop from printing tracebacks.

    Where a write fails, Orbax closes its loop while threads of TensorStore still have results to hand to it; each of
    them then prints a traceback, before the one error that says what is wrong.
    """
    before = sys.unraisablehook

    def hook(raised: Any) -> None:
        if not (isinstance(raised.exc_value, RuntimeError) and str(raised.exc_value) == "Event loop is closed"):
            before(raised)

    sys.unraisablehook = hook
    try:
        yield
    except BaseException:
        time.sleep(LATE_SECONDS)
        raise
    finally:
        sys.unraisablehook = before
