"""The exceptions that commands turn into exit codes.

Anything else that escapes a command is a bug and exits with 1 and a traceback.
"""

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USER_ERROR = 2
EXIT_DIVERGED = 3
EXIT_LOST_PROCESS = 4
EXIT_SIGNAL_BASE = 128


class UserError(ValueError):
    """Input, data or a setting that the user can mend; commands print it and exit with 2."""


class DataError(UserError):
    """A data file that is not what it should be.

    The message has one form: ``FILE:LINE:COLUMN: found; expected; what to do``.
    """


class ToldElsewhereError(UserError):
    """Another of several processes has said what is wrong; this one ends with it, with the same exit code."""


class LostProcessError(RuntimeError):
    """Another of several processes has gone; the others exit with 4."""


class DivergedError(RuntimeError):
    """A loss or a gradient became NaN or infinite; `jaxrnn.train` exits with 3.

    Args:
      epoch: The epoch, counted from 1.
      batch: The batch within the epoch, counted from 1.
    """

    def __init__(self, message: str, *, epoch: int, batch: int):
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch


class InterruptedRun(BaseException):
    """A signal ended the command; it exits with 128 plus the signal's number.

    As KeyboardInterrupt it is no `Exception`: it may come at any moment, in the middle of other people's code as well,
    and none of that is to take it for an error of its own.
    """

    def __init__(self, message: str, *, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number
