"""From the command line to a configuration, and from exceptions to exit codes. JAX is not imported here."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from jaxrnn import errors
from jaxrnn.reporting import say

Command = TypeVar("Command")


def parse(command: type[Command], argv: Sequence[str] | None, *, program: str, default: Any = None) -> Command:
    """Parses flags into a dataclass; on a bad flag prints what is wrong and exits with 2.

    Args:
      command: A dataclass; its docstring is the help.
      argv: Arguments without the program's name; None for the process's own.
      program: What the user typed, for the help.
      default: An instance to start from.
    """
    return tyro.cli(
        command,
        args=list(sys.argv[1:] if argv is None else argv),
        default=default,
        prog=program,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def value_of_flag(name: str, argv: Sequence[str] | None) -> str | None:
    """Looks up a flag before parsing, for those that decide the defaults of the others."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    found = None
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.replace("_", "-") == f"--{name}":
            found = value if equals else next(iter(arguments[position + 1 :]), None)
    return found


def has_flag(name: str, argv: Sequence[str] | None) -> bool:
    """Whether a switch is on the command line."""
    return f"--{name}" in list(sys.argv[1:] if argv is None else argv)


def run(body: Callable[[], None]) -> int:
    """Runs a command and returns its exit code: 0, 2 for the user's errors, 3 diverged, 130 or 143 interrupted."""
    from jaxrnn.signals import RaiseOnSignal

    try:
        with RaiseOnSignal():
            body()
        sys.stdout.flush()
    except errors.UserError as error:
        say(f"error: {error}")
        return errors.EXIT_USER_ERROR
    except errors.DivergedError as error:
        say(f"diverged: {error}")
        return errors.EXIT_DIVERGED
    except errors.InterruptedRun as error:
        say(str(error))
        return errors.EXIT_SIGNAL_BASE + error.signal_number
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; keep Python from complaining once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.EXIT_SIGNAL_BASE + signal.SIGPIPE
    return errors.EXIT_OK
