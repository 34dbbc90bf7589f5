"""What a person is told while something runs: lines on stderr, so that results on stdout stay clean."""

import sys

from jaxrnn.foundation.escaping import printable

_is_muted = False  # in all of several processes but one


def mute() -> None:
    """Keeps this process from writing to the console: of several that train one model, one tells."""
    global _is_muted
    _is_muted = True


def is_muted() -> bool:
    """Whether this process was told to be mute."""
    return _is_muted


def say(text: str = "", *, always: bool = False) -> None:
    """Writes a line to stderr.

    Args:
      text: The line.
      always: Even where the process was told to be mute.
    """
    if sys.stderr is not None and (always or not _is_muted):
        print(printable(text), file=sys.stderr, flush=True)
