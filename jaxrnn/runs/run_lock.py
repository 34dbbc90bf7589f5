"""One process at a time in a run directory: a lock that the system takes back when its holder dies."""

import contextlib
import os
import socket
from pathlib import Path

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.messages import say

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"


class RunLock:
    """Holds a directory for this process while it is entered.

    The lock is on an open file, not its existence: a process that is killed leaves a file, and no lock.

    Args:
      directory: Where there is one.

    Raises:
      UserError: On entering: another process holds it, or the file cannot be made.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._path = directory / LOCK_NAME
        self._file: int | None = None

    def __enter__(self) -> "RunLock":
        while self._file is None and fcntl is not None:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise UserError(f"--run-dir: cannot write to {self._directory}: {error.strerror}") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(file, 200, 0).decode("utf-8", "replace") or "another process"
                os.close(file)
                raise UserError(
                    f"--run-dir: {self._directory} is in use by {holder}; wait until it is done or end it, or name"
                    " another directory"
                ) from None
            except OSError as error:
                os.close(file)
                say(
                    f"warning: {self._directory}: this file system has no locks ({error.strerror}): start no second run"
                )
                return self
            if self._is_current(file):
                self._file = file
                with contextlib.suppress(OSError):  # the lock holds on a full disk too
                    os.ftruncate(file, 0)
                    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            else:  # its holder removed it between the two calls
                os.close(file)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                if self._is_current(self._file):
                    self._path.unlink()
            os.close(self._file)
            self._file = None

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False
