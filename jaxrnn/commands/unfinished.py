"""A directory that appears whole or not at all: signals and errors remove it, and what a kill leaves the next one does.

A directory that is still being written is called ``.NAME.PID.tmp`` and locked; the system takes the lock back when the
process dies, whatever kills it.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxrnn.console.signals import NoteSignal
from jaxrnn.foundation.errors import InterruptedRun, UserError
from jaxrnn.foundation.files import sync_directory
from jaxrnn.foundation.messages import say

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


def end_if_interrupted(signals: NoteSignal) -> None:
    """Ends a command that a signal has reached.

    Raises:
      InterruptedRun: A signal came.
    """
    if signals.received is not None:
        raise InterruptedRun("interrupted; nothing is left", signal_number=signals.received)


@contextlib.contextmanager
def whole_or_not_at_all(target: Path, signals: NoteSignal) -> Iterator[Path]:
    """Makes a temporary directory that becomes `target` at the end, or is removed.

    Args:
      target: The directory; there must be none yet.
      signals: Notes signals from before this begins until after it ends; looked at before `target` gets its name.

    Raises:
      InterruptedRun: A signal came.
      UserError: There is something at `target`, or it cannot be written.
    """
    if os.path.lexists(target):
        raise UserError(f"--out: {target} is there already and is never overwritten; name another directory")
    unfinished = target.absolute().with_name(f".{target.name}.{os.getpid()}.tmp")
    signals.unsaved = True  # there is a directory to remove
    try:
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(target)
            unfinished.mkdir()
            with _locked(unfinished):
                yield unfinished
                sync_directory(unfinished)
                if os.path.lexists(target):
                    raise UserError(f"--out: another process has written {target} meanwhile; name another directory")
                end_if_interrupted(signals)
                unfinished.rename(target)
            sync_directory(unfinished.parent)
        except OSError as error:
            raise UserError(f"--out: cannot write to {target}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    finally:
        signals.unsaved = False


def remove_abandoned(target: Path) -> None:
    """Removes what processes have left that were killed while they wrote `target`; says so."""
    for path in target.absolute().parent.glob(".*.tmp"):
        found = re.fullmatch(rf"\.{re.escape(target.name)}\.(\d+)\.tmp", path.name)
        if found is None or not path.is_dir() or path.is_symlink() or _is_alive(int(found[1])):
            continue
        with contextlib.suppress(OSError), _locked(path):  # locked by a process of another machine: left alone
            shutil.rmtree(path)
            say(f"removed {path}, which a process left that was killed")


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds a lock on a directory.

    Raises:
      OSError: Another process holds it.
    """
    if fcntl is None:
        yield
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(file)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # its number was another process's before
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
