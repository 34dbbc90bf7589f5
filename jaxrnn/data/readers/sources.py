"""Opening what a path names, and streams that refuse to grow past a limit.

A compressed file is inflated in pieces and stops at the limit, so a small file that inflates to
terabytes costs neither memory nor time.
"""

import gzip
import hashlib
import io
import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from jaxrnn.data.readers.complaints import complaint
from jaxrnn.data.readers.native.plain_text import num_workers
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.files import read_at

_BUFFER_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20
LARGE_BYTES = 1 << 24  # of a file that is read in parts
_PART_BYTES = 1 << 22
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file to read its bytes; never waits for a writer.

    Raises:
      DataError: There is no such file, it is no regular file, or it cannot be read.
    """
    name = os.fspath(path)
    try:
        # Looked at before it is opened: opening some devices does something.
        _check_kind(name, os.stat(name).st_mode)
        # Without O_NONBLOCK a pipe put there since would wait for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(name, flags), "rb")
    except DataError:  # is a ValueError too
        raise
    except FileNotFoundError:
        raise complaint(name, found="no such file", expected="a data file", remedy=_missing_remedy(name)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise complaint(
            name,
            found=f"a path that cannot be opened ({reason.lower()})",
            expected="a data file that this user may read",
            remedy="check the path and its permissions",
        ) from None
    try:
        _check_kind(name, os.fstat(file.fileno()).st_mode)
    except DataError:
        file.close()
        raise
    return file


def limited(
    stream: "BinaryIO | gzip.GzipFile | HashingFile", *, name: str, max_bytes: int, expected_bytes: int = 0
) -> io.BufferedReader:
    """A buffered stream that ends with a DataError after `max_bytes` or on a damaged source.

    Closing it leaves `stream` open. Read to its end in one call, `expected_bytes` are read in one piece.
    """
    return io.BufferedReader(_LimitedRaw(stream, name, max_bytes, expected_bytes), _BUFFER_BYTES)


def decompressed(stream: io.BufferedReader, *, name: str, max_bytes: int) -> io.BufferedReader:
    """The stream itself, or what it inflates to if its first bytes are those of gzip or zstd."""
    head = stream.peek(len(_ZSTD))
    if head.startswith(_GZIP):
        inflated = gzip.GzipFile(fileobj=stream, mode="rb")
    elif head.startswith(_ZSTD):
        import pyarrow as pa

        inflated = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
    else:
        return stream
    return limited(inflated, name=name, max_bytes=max_bytes)


def read_at_once(file: BinaryIO, num_bytes: int) -> bytes | None:
    """Reads a regular file, parts of it at the same time: the system takes as long to find new memory as to fill it.

    Args:
      file: The file.
      num_bytes: How many bytes it has.

    Returns:
      What is in it; None if it was not read: it is small, has another size by now, or the system does not do this.
    """
    if num_bytes < LARGE_BYTES or not hasattr(os, "preadv"):
        return None
    # The memory of the bytes themselves, which nobody else has seen yet, is not copied by either call.
    buffer = io.BytesIO(bytes(num_bytes))
    with buffer.getbuffer() as view:

        def read(begin: int) -> bool:
            return read_at(file, view[begin : begin + _PART_BYTES], begin)

        try:
            with ThreadPoolExecutor(num_workers()) as threads:
                is_whole = all(threads.map(read, range(0, num_bytes, _PART_BYTES)))
        except (OSError, RuntimeError):  # whoever reads it again says what it is; RuntimeError: no more threads
            return None
    return buffer.getvalue() if is_whole and os.fstat(file.fileno()).st_size == num_bytes else None


def decode(content: bytes, *, name: str) -> str:
    """Returns UTF-8 as text, without a byte order mark.

    Raises:
      DataError: It is no UTF-8; names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02x}, which is not UTF-8 there"
        remedy = "save the file as UTF-8"
        raise complaint(name, line, found=found, expected="text in UTF-8", remedy=remedy) from error


def too_many_bytes(name: str, max_bytes: int) -> DataError:
    """The error for data past the limit of bytes."""
    return complaint(
        name,
        found=f"more than {max_bytes} bytes",
        expected=f"at most {max_bytes}, counted after decompression",
        remedy="split the file, or raise --max-bytes if there is memory for it",
    )


def require_size(name: str, status: os.stat_result, max_bytes: int) -> None:
    """Refuses a regular file of more bytes than the limit before the first is read: its size is known.

    Raises:
      DataError: It is larger.
    """
    if stat.S_ISREG(status.st_mode) and status.st_size > max_bytes:
        raise too_many_bytes(name, max_bytes)


class HashingFile:
    """Hashes the bytes of a file as they are read."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._sha256.update(piece)
        return piece

    def sha256(self) -> str:
        """Returns the SHA-256 of the whole file, for which the rest of it is read."""
        while self.read(_BUFFER_BYTES):
            pass
        return self._sha256.hexdigest()


class _LimitedRaw(io.RawIOBase):
    """Counts the bytes of a stream, and turns a failure to read it into a DataError."""

    def __init__(
        self, stream: "BinaryIO | gzip.GzipFile | HashingFile", name: str, max_bytes: int, expected_bytes: int
    ):
        super().__init__()
        self._stream = stream
        self._name = name
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._piece_bytes = max(_PIECE_BYTES, expected_bytes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        num_read = 0
        # Full reads, so that peek() sees the first bytes even of a pipe that dribbles.
        while wanted := min(len(buffer) - num_read, self._left + 1):
            piece = self._piece(wanted)
            if not piece:
                break
            buffer[num_read : num_read + len(piece)] = piece
            num_read += len(piece)
        self._require_no_more()
        return num_read

    def readall(self) -> bytes:
        pieces = []  # larger than those of the base class
        while piece := self._piece(min(self._piece_bytes, self._left + 1)):
            pieces.append(piece)
            self._require_no_more()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, wanted: int) -> bytes:
        """Reads at most so much. One byte past the limit tells a file of just that size from a larger one."""
        try:
            piece = self._stream.read(wanted) or b""  # None of a stream that does not wait
        except (EOFError, OSError, zlib.error) as error:
            raise complaint(
                self._name,
                found=f"data that cannot be read on ({escape(str(error)[:100])})",
                expected="a whole file",
                remedy="it is damaged or cut short: fetch or write it again",
            ) from error
        self._left -= len(piece)
        return piece

    def _require_no_more(self) -> None:
        if self._left < 0:
            raise too_many_bytes(self._name, self._max_bytes)


def _check_kind(name: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((kind for test, kind in _KINDS if test(mode)), "something else")
    remedy = (
        "give the path of a file in it"
        if stat.S_ISDIR(mode)
        else "write its data to a file first; python -m jaxrnn.predict reads standard input with -"
    )
    raise complaint(name, found=kind, expected="a regular file", remedy=remedy)


def _missing_remedy(name: str) -> str:
    if Path(name).name != "ball.csv":
        return "check the path"
    out = "" if name == "ball.csv" else f" --out={name}"
    return f"write it with `python -m jaxrnn.data.ball{out}`, or check the path"
