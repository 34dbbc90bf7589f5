"""Reads a file of sequences, one row each: text, compressed or not, Parquet or Arrow IPC.

    import jaxrnn
    sequences = jaxrnn.read_sequences("ball.csv")

The format is told from the first bytes, never from the name. A message that names a flag such as
`--max-row-length` means the argument `max_row_length` here.
"""

import os
import stat
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from jaxrnn.data.columnar_reader import is_columnar, read_columns
from jaxrnn.data.complaints import complaint
from jaxrnn.data.exact_parser import parse_line
from jaxrnn.data.options import ReadOptions
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.sources import decompressed, limited, open_file, too_many_bytes
from jaxrnn.data.text_reader import read_text

__all__ = [
    "ReadOptions",
    "ReadReport",
    "parse_line",
    "read_sequences",
    "read_sequences_with_report",
    "read_stream",
]


@dataclass(frozen=True)
class ReadReport:
    """The rows of a file, and how many blank lines were skipped to get them."""

    sequences: Ragged
    num_blank_lines: int


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
    """
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


def _read(file: BinaryIO, name: str, options: ReadOptions, status: os.stat_result | None = None) -> ReadReport:
    # A file's size is known: refuse it before the first byte is read.
    if status and stat.S_ISREG(status.st_mode) and status.st_size > options.max_bytes:
        raise too_many_bytes(name, options.max_bytes)
    raw = limited(file, name=name, max_bytes=options.max_bytes)
    stream = decompressed(raw, name=name, max_bytes=options.max_bytes)
    if is_columnar(stream):
        return ReadReport(read_columns(stream, name=name, options=options), 0)
    if options.column is not None:
        raise complaint(
            name,
            found="a text file",
            expected="a Parquet or Arrow file, since --column is given",
            remedy="leave out --column",
        )
    sequences, num_blank_lines = read_text(stream, name=name, options=options)
    return ReadReport(sequences, num_blank_lines)
