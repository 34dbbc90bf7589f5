"""Files written whole or not at all, hashed, and named where the system refuses them."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


def to_json(content: Any, **options: Any) -> str:
    """Writes JSON that every reader takes: it has no word for NaN and infinity, so they become null.

    Example:
      >>> to_json({"mase": [0.5, float("nan")]})
      '{"mase": [0.5, null]}'
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(content), allow_nan=False, **options)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part, whatever happens.

    Raises:
      OSError: It cannot be written; names it, and leaves the old one.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            with unfinished.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Waits until a directory's entries are on the disk, so that what was renamed stays so when the power fails."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name into an OSError: what fails when buffers are written out has none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_at(file: BinaryIO, memory: memoryview, place: int) -> bool:
    """Fills memory with what a file has from a place on; returns whether there is as much. Needs `os.preadv`."""
    begin = 0
    while begin < len(memory) and (count := os.preadv(file.fileno(), [memory[begin:]], place + begin)):
        begin += count
    return begin == len(memory)


def hash_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
