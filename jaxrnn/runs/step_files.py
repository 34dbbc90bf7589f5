"""The files of a checkpoint's step: which steps there are, and whether their files are what was written."""

import errno
import hashlib
import json
import math
import os
import stat
import time
from pathlib import Path

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import sync_directory

MANIFEST_NAME = "manifest.sha256.json"
COMMIT_NAME = "commit_success.txt"  # Orbax's own last file
DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)
MANIFEST_SECONDS = 0.5  # after that one; milliseconds unless the machine is very busy


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of another model."""


class DamagedCheckpointError(CheckpointError):
    """A file of a step is not what was written."""


def step_numbers(directory: Path) -> list[int]:
    """Returns the steps below a directory, oldest first, whole or not."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isascii() and path.name.isdigit())


def finished_steps(directory: Path, below: float = math.inf) -> list[int]:
    """Returns the steps whose writing came to its end, newest first, damaged since or not."""
    steps = (step for step in reversed(step_numbers(directory)) if step < below)
    ends = (MANIFEST_NAME, COMMIT_NAME)
    return [step for step in steps if any((directory / str(step) / end).exists() for end in ends)]


def is_whole(step_dir: Path) -> bool:
    """Whether a step was written to its end; its files are not looked into."""
    return all((step_dir / end).is_file() for end in (MANIFEST_NAME, COMMIT_NAME))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)


def write_manifest(directory: Path) -> None:
    """Writes the SHA-256 of every file of a step; it is the last file of a step that is whole."""
    digests = {str(path.relative_to(directory)): _sha256(path) for path in _files(directory)}
    digests[MANIFEST_NAME] = _digest_of(digests)
    unfinished = directory / f".{MANIFEST_NAME}.tmp"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(digests, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(directory / MANIFEST_NAME)
    sync_directory(directory)


def wait_for_manifest(step_dir: Path) -> None:
    """Waits a moment for a step that may just be written: its manifest follows Orbax's last file."""
    deadline = time.monotonic() + MANIFEST_SECONDS
    while step_dir.is_dir() and not (step_dir / MANIFEST_NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _digest_of(digests: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def verify_files(directory: Path) -> None:
    """Compares the files of a step with its manifest.

    Raises:
      DamagedCheckpointError: Names the first file that is missing or not what was written.
    """
    try:
        if not (directory / MANIFEST_NAME).is_file():  # a pipe has no end
            raise ValueError("no file")
        digests = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
        if not isinstance(digests, dict) or not digests:
            raise ValueError("no digests")
        own = digests.pop(MANIFEST_NAME, None)  # steps of earlier versions have none
        if own is not None and own != _digest_of(digests):
            raise ValueError("a damaged digest")
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"{directory / MANIFEST_NAME}: is missing or not what was written") from error
    _require_files(directory)
    for name, digest in digests.items():
        path = directory / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedCheckpointError(f"{directory / MANIFEST_NAME}: names a file outside of the step: {name}")
        try:
            found = _sha256(path)
        except FileNotFoundError as error:
            raise DamagedCheckpointError(f"{path}: is missing") from error
        except OSError as error:
            raise DamagedCheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        if found != digest:
            raise DamagedCheckpointError(f"{path}: is not what was written (SHA-256 differs)")


def _require_files(directory: Path) -> None:
    """Refuses a step that holds anything but files and directories: who opens a pipe waits for its writer for ever."""
    for path in directory.rglob("*"):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise DamagedCheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DamagedCheckpointError(f"{path}: is no regular file, as every file of a step is")


def disk_complaint(error: BaseException | None) -> str | None:
    """Returns what the system refused, if an error goes back to that; Orbax has it as a mere text."""
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        found = next((text for text in map(os.strerror, DISK_ERRNOS) if text in str(error)), None)
        if found is not None:
            return found
        error = error.__cause__ or error.__context__
    return None
