"""Keeps a library that logs from changing how its caller logs."""

import contextlib
import logging
from collections.abc import Iterator


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
