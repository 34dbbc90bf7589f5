"""Reads rows as a configuration says, and tells the user what was passed over."""

import sys
from collections.abc import Callable

import numpy as np

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import complaint
from jaxrnn.data.readers.reader import read_hashed_sequences, read_sequences_with_report
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.messages import say
from jaxrnn.settings.data_config import ReaderConfig

MIN_TABLE_ROWS = 3


def load_rows(path: str, reader: ReaderConfig, *, min_length: int) -> Ragged:
    """Reads a data file and says how many blank lines were skipped.

    Args:
      path: A file, or - for standard input.
      reader: How to read it.
      min_length: The fewest values a row may have.

    Raises:
      DataError: The file is not what it should be.
    """
    if path == "-" and sys.stdin is None:
        raise DataError("<stdin>: found it closed; expected rows; give a file")
    source = sys.stdin.buffer if path == "-" else path
    report = read_sequences_with_report(source, min_length=min_length, **reader.as_options())
    if report.num_blank_lines:
        say(f"{escape(path)}: skipped {report.num_blank_lines} blank lines")
    _refuse_table(path, report.sequences, reader)
    return report.sequences


def _refuse_table(path: str, rows: Ragged, reader: ReaderConfig) -> None:
    """Refuses a table with a header whose first column counts: its lines are steps, and no rows of numbers."""
    lengths = rows.lengths
    if not reader.header or len(rows) < MIN_TABLE_ROWS or lengths.min() != lengths.max() or lengths.min() < 2:
        return
    first = rows.values[rows.offsets[:-1]]
    if (first == np.round(first)).all() and (np.diff(first) > 0).all():
        raise complaint(
            path,
            found=f"a header, and rows of {lengths[0]} values whose first rises from {first[0]:g} to {first[-1]:g}",
            expected="rows of different lengths: this looks like a table with an index, a year or an id",
            remedy="say what its columns are (--id-column, --time-column, --input-columns); or if these are rows of a"
            " feature, remove the header and leave --header out",
        )


def load_hashed_rows(
    path: str, reader: ReaderConfig, *, min_length: int, check: Callable[[str], None] | None = None
) -> tuple[Ragged, str]:
    """Reads a data file as `load_rows` does; returns its rows and the SHA-256 of the very bytes that were read.

    Args:
      path: A file.
      reader: How to read it.
      min_length: The fewest values a row may have.
      check: Called with the SHA-256 before anything is parsed; it may raise.

    Raises:
      DataError: The file is not what it should be, or was written to meanwhile.
    """
    report = read_hashed_sequences(path, check=check, min_length=min_length, **reader.as_options())
    if report.num_blank_lines:
        say(f"{escape(path)}: skipped {report.num_blank_lines} blank lines")
    _refuse_table(path, report.sequences, reader)
    return report.sequences, report.sha256 or ""
