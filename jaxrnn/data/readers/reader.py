"""Reads a file of sequences, one row each: text, compressed or not, Parquet or Arrow IPC.

    import jaxrnn
    sequences = jaxrnn.read_sequences("ball.csv")

The format is told from the first bytes, never from the name. A message that names a flag such as
`--max-row-length` means the argument `max_row_length` here.
"""

import dataclasses
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, BinaryIO, Literal, NamedTuple

from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.columnar_reader import is_columnar, read_column_blocks, read_columns
from jaxrnn.data.readers.complaints import complaint
from jaxrnn.data.readers.exact_parser import parse_line
from jaxrnn.data.readers.options import ReadOptions
from jaxrnn.data.readers.sources import HashingFile, decompressed, limited, open_file, require_size
from jaxrnn.data.readers.text_reader import read_text, read_text_blocks

__all__ = [
    "ReadOptions",
    "ReadReport",
    "RowBlock",
    "parse_line",
    "read_blocks",
    "read_sequences",
    "read_sequences_with_report",
    "read_stream",
]


# Of a mapped file: after so many its pages are given back, which the kernel counts as this process's memory.
_VALUES_PER_RELEASE = 1 << 23


@dataclass(frozen=True)
class ReadReport:
    """The rows of a file, how many blank lines were skipped to get them, and the SHA-256 of its bytes if asked for."""

    sequences: Ragged
    num_blank_lines: int
    sha256: str | None = None


def read_sequences(
    path: str | os.PathLike[str],
    *,
    delimiter: str = ReadOptions.delimiter,
    header: bool = ReadOptions.header,
    blank_lines: Literal["error", "skip"] = ReadOptions.blank_lines,
    min_length: int = ReadOptions.min_length,
    max_row_length: int = ReadOptions.max_row_length,
    max_bytes: int = ReadOptions.max_bytes,
    column: str | None = ReadOptions.column,
) -> Ragged:
    """Reads the sequences of a file, or refuses it with the place of its first fault.

    Text is UTF-8, with or without a byte order mark, in lines that end with LF, CRLF or CR; each
    line is a row of decimal numbers, which are read as `float` reads them. Not taken, though
    `float` takes them: underscores, digits other than 0 to 9, nan and infinities. gzip and zstd
    are inflated on the way. In a Parquet or Arrow IPC file the rows are the lists of a column.
    In memory text takes at most 4 times its bytes.

    Args:
      path: A regular file.
      delimiter: The character between two values of a text row.
      header: Whether the first line of a text file is a header, which is not read.
      blank_lines: "error", or "skip" to skip them; `read_sequences_with_report` counts them.
      min_length: The fewest values a row may have; 2 leaves one to predict the other from.
      max_row_length: The most values a row may have.
      max_bytes: The most bytes of data, after decompression.
      column: The list column of a Parquet or Arrow file; None takes its only one.

    Returns:
      The rows in the order of the file.

    Raises:
      DataError: `FILE:LINE:COLUMN: found ...; expected ...; what to do`, all counted from 1; for
        columnar files FILE:ROW:ELEMENT; for a file as a whole FILE alone.
      UserError: An option is not one of its values.

    Example:
      >>> import pathlib, tempfile
      >>> import jaxrnn
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "rows.csv"
      ...     _ = path.write_text("3,5,7\\n1,2\\n")
      ...     rows = jaxrnn.read_sequences(path)
      >>> [row.tolist() for row in rows]
      [[3.0, 5.0, 7.0], [1.0, 2.0]]
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: got {type(path).__name__}; expected the path of a file")
    return read_sequences_with_report(
        path,
        delimiter=delimiter,
        header=header,
        blank_lines=blank_lines,
        min_length=min_length,
        max_row_length=max_row_length,
        max_bytes=max_bytes,
        column=column,
    ).sequences


def read_stream(binary_file: BinaryIO, *, name: str = "<stdin>", **options: Any) -> Ragged:
    """Reads the sequences of an open binary file, such as `sys.stdin.buffer`, to its end.

    Args:
      binary_file: What to read; it stays open.
      name: What messages call it.
      **options: Those of `read_sequences`.

    Raises:
      DataError: As in `read_sequences`.
      UserError: As in `read_sequences`.
    """
    return read_sequences_with_report(binary_file, name=name, **options).sequences


def read_sequences_with_report(
    source: str | os.PathLike[str] | BinaryIO, *, name: str | None = None, **options: Any
) -> ReadReport:
    """Reads a path or an open binary file, and says how many blank lines were skipped.

    Args:
      source: A path, or a binary file, which stays open.
      name: What messages call it; None is the path, or <stdin>.
      **options: Those of `read_sequences`.

    Raises:
      DataError: As in `read_sequences`.
      UserError: As in `read_sequences`.
    """
    chosen = ReadOptions(**options)
    if isinstance(source, str | os.PathLike):
        path_name = os.fspath(source) if name is None else name
        with open_file(source) as file:
            return _read(file, path_name, chosen, os.fstat(file.fileno()))
    return _read(source, "<stdin>" if name is None else name, chosen)


def read_hashed_sequences(
    path: str | os.PathLike[str], *, check: Callable[[str], None] | None = None, **options: Any
) -> ReadReport:
    """Reads a file as `read_sequences_with_report` does, and hashes the very bytes that are read.

    Args:
      path: A regular file.
      check: Called with the SHA-256 before anything is parsed; it may raise.
      **options: Those of `read_sequences`.

    Raises:
      DataError: As in `read_sequences`; or the file was written to since `check` was called.
      UserError: As in `read_sequences`.
    """
    chosen, name = ReadOptions(**options), os.fspath(path)
    with open_file(path) as file:
        status = os.fstat(file.fileno())
        require_size(name, status, chosen.max_bytes)
        checked = None
        if check is not None:
            checked = HashingFile(file).sha256()
            check(checked)
            file.seek(0)
        hashing = HashingFile(file)
        report = _read(hashing, name, chosen, status)
        sha256 = hashing.sha256()
    if checked not in (None, sha256):
        remedy = "start again once nothing writes to it"
        raise complaint(name, found="a file that changed while it was read", expected="one that stays", remedy=remedy)
    return dataclasses.replace(report, sha256=sha256)


class RowBlock(NamedTuple):
    """Some rows of a file.

    Attributes:
      values: Flat, (num_values,), integers or float64.
      lengths: The rows' lengths, (num_rows,).
      num_blank_lines: Skipped among them.
      num_bytes: Bytes of the file read so far; None where that is not known.
    """

    values: NDArray[Any]
    lengths: NDArray[Any]
    num_blank_lines: int
    num_bytes: int | None


def read_blocks(path: str | os.PathLike[str], **options: Any) -> Iterator[RowBlock]:
    """Reads a file a block at a time, in bounded memory: one larger than the memory can be read through.

    Only a Parquet or Arrow file that is compressed as a whole is inflated into memory.

    Args:
      path: A regular file.
      **options: Those of `read_sequences`.

    Raises:
      DataError: As in `read_sequences`, once the rows before were yielded.
      UserError: As in `read_sequences`.
    """
    chosen, name = ReadOptions(**options), os.fspath(path)
    with open_file(path) as file:
        raw, stream = _open_stream(file, name, chosen, os.fstat(file.fileno()))
        if is_columnar(stream):
            yield from _column_blocks(file, stream, name, chosen, is_inflated=stream is not raw)
            return
        for block in read_text_blocks(stream, name=name, options=chosen):
            position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
            yield RowBlock(block.values, block.lengths, block.num_blank_lines, position)


def _column_blocks(
    file: BinaryIO, stream: BufferedReader, name: str, options: ReadOptions, *, is_inflated: bool
) -> Iterator[RowBlock]:
    import pyarrow as pa

    mapped = None if is_inflated else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = pa.py_buffer(stream.read() if mapped is None else mapped)
    may_release = mapped is not None and hasattr(mmap, "MADV_DONTNEED")
    values_since = 0
    for values, lengths in read_column_blocks(content, name=name, options=options):
        yield RowBlock(values, lengths, 0, None)
        values_since += values.size
        if may_release and values_since >= _VALUES_PER_RELEASE:
            mapped.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]
            values_since = 0


def _read(
    file: BinaryIO | HashingFile, name: str, options: ReadOptions, status: os.stat_result | None = None
) -> ReadReport:
    raw, stream = _open_stream(file, name, options, status)
    if is_columnar(stream):
        return ReadReport(read_columns(stream, name=name, options=options), 0)
    num_bytes = status.st_size if status is not None and stream is raw else None
    sequences, num_blank_lines = read_text(stream, name=name, options=options, num_bytes=num_bytes)
    return ReadReport(sequences, num_blank_lines)


def _open_stream(
    file: BinaryIO | HashingFile, name: str, options: ReadOptions, status: os.stat_result | None
) -> tuple[BufferedReader, BufferedReader]:
    """Returns the file's bytes, limited, and what they inflate to: the same stream if they are not compressed."""
    if status is not None:
        require_size(name, status, options.max_bytes)
    raw = limited(file, name=name, max_bytes=options.max_bytes)
    stream = decompressed(raw, name=name, max_bytes=options.max_bytes)
    if options.column is not None and not is_columnar(stream):
        raise complaint(
            name,
            found="a text file",
            expected="a Parquet or Arrow file, since --column is given",
            remedy="leave out --column",
        )
    return raw, stream
