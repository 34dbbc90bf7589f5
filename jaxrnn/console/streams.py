"""The three standard streams, of which whoever starts a process may have closed any."""

import os
import sys

from jaxrnn.foundation.errors import UserError

LAST_STANDARD = 2


def occupy_closed() -> None:
    """Opens the null device in the place of every standard stream that is closed; for a process of one command.

    The next file to be opened would get the stream's number otherwise, and with it whatever a library prints there.
    """
    while (file := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD:
        pass
    os.close(file)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def require_output() -> None:
    """Refuses a closed standard output before anything is done whose result would be lost.

    Raises:
      UserError: It is closed.
    """
    if sys.stdout is None:
        raise UserError(
            "standard output: found it closed; expected an open one for what the command prints; leave >&- out, or"
            " write > /dev/null"
        )
