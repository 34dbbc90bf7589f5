"""Tables of text: CSV and TSV with a header, quoted as RFC 4180 says.

pyarrow splits the text. Only to say where a fault is, Python's csv module, which counts lines, goes through it again.
"""

import csv
import functools
import io
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.sources import decode
from jaxrnn.data.tables.step_tables import Table
from jaxrnn.foundation.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_DELIMITERS = {",": "','", "\t": r"'\t'", ";": "';'"}
_MOST_BLOCK_BYTES = (1 << 31) - 1  # what pyarrow takes
_MOST_HEADER_LINES = 1000
_MOST_COLUMNS = 10_000


def read_delimited(
    content: bytes, *, name: str, delimiter: str | None = None, comment: str | None = None, skip_lines: int = 0,
    decimal: str = ".",
) -> Table:  # fmt: skip
    """Splits a text into columns of text.

    Args:
      content: UTF-8, with or without a byte order mark.
      name: What messages call it.
      delimiter: The character between two cells; None takes the one of ``,``, a tab and ``;`` that the header has.
      comment: Lines that begin with it are left out.
      skip_lines: Lines before the header that are left out.
      decimal: The character before the decimals; cells are given with a point.

    Raises:
      DataError: It is no UTF-8, the header does not name every column, or a line has another number of cells.
    """
    text, line_numbers = _lines_of(content, name, comment, skip_lines)
    header, first_line = _header_of(text), line_numbers[0] if line_numbers else 1
    if delimiter is None:
        delimiter = _choose_delimiter(header, name, first_line)
    names = next(_records(header, delimiter, name, line_numbers), (0, []))[1]
    if not names:
        raise complaint(name, found="an empty file", expected="a header and a line a step", remedy="check the path")
    _require_names(names, name, first_line)
    table = _split(text, names, delimiter, name, line_numbers)
    if decimal != ".":
        table = _with_points(table, decimal)

    @functools.cache
    def lines() -> list[int]:
        return [line for line, _ in _records(text, delimiter, name, line_numbers)][1:]

    return Table(name, table, lambda row: lines()[row])


def _lines_of(content: bytes, name: str, comment: str | None, skip_lines: int) -> tuple[str, list[int] | None]:
    """Returns the text without what is left out, and the number of each of its lines; None: they count from 1."""
    text = decode(content, name=name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise complaint(name, line, found="a NUL byte", expected="text", remedy="check that it is the right file")
    if comment is None and not skip_lines:
        return text, None
    kept: list[tuple[int, str]] = []
    is_quoted = False  # a line that goes on with a cell is no comment
    for number, one in enumerate(io.StringIO(text, newline=""), 1):
        if number > skip_lines and (is_quoted or not (comment and one.startswith(comment))):
            kept.append((number, one))
            is_quoted ^= one.count('"') % 2 == 1
    return "".join(line for _, line in kept), [number for number, _ in kept]


def _header_of(text: str) -> str:
    """Returns the header's text, which may have quoted line ends."""
    header = ""
    for line in itertools.islice(io.StringIO(text, newline=""), _MOST_HEADER_LINES):
        header += line
        if header.count('"') % 2 == 0:
            break
    return header


def _choose_delimiter(header: str, name: str, line: int) -> str:
    outside = "".join(header.split('"')[::2])
    found = [delimiter for delimiter in _DELIMITERS if delimiter in outside]
    if len(found) > 1:
        listed = " and ".join(_DELIMITERS[delimiter] for delimiter in found)
        raise complaint(
            name, line, found=f"{listed} in the header", expected="one of them between names", remedy="give --delimiter"
        )
    return found[0] if found else ","


def _require_names(names: list[str], name: str, line: int) -> None:
    if all(_is_number(cell) for cell in names):
        listed = ", ".join(quote(cell) for cell in names[:4])
        raise complaint(
            name,
            line,
            found=f"only numbers ({listed}) where the names of columns should be",
            expected="a header with a name for each column",
            remedy="write one; a table saved by pandas with header=None has none",
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _records(text: str, delimiter: str, name: str, line_numbers: list[int] | None) -> Iterator[tuple[int, list[str]]]:
    """Yields every record with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise complaint(
                name,
                _numbered(reader.line_num, line_numbers),
                found=f"a cell that cannot be read ({quote(str(error))})",
                expected='cells quoted with " and "" for a quote in them',
                remedy="mend the quotes",
            ) from error
        if record is None:
            return
        yield _numbered(before + 1, line_numbers), record
        before = reader.line_num


def _numbered(line: int, line_numbers: list[int] | None) -> int:
    return line if line_numbers is None else line_numbers[min(line, len(line_numbers)) - 1]


def _split(text: str, names: list[str], delimiter: str, name: str, line_numbers: list[int] | None) -> "pa.Table":
    """Splits all records but the header."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    numbered = [str(number) for number in range(len(names))]  # names may be there twice; that is said later
    try:
        if len(names) > _MOST_COLUMNS:
            raise pa.ArrowInvalid(f"{len(names)} columns")
        content = text.encode()  # one block: a quoted cell may be as long as the file
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                column_names=numbered, block_size=min(len(content) + 1, _MOST_BLOCK_BYTES),
                use_threads=False,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(numbered, pa.string()), strings_can_be_null=False
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        raise _fault_of(text, names, delimiter, name, line_numbers, str(error)) from error
    return table.slice(1).rename_columns(names)


def _fault_of(
    text: str, names: list[str], delimiter: str, name: str, line_numbers: list[int] | None, reason: str
) -> DataError:
    """Makes the complaint about the first record that is not as the header says."""
    for line, record in _records(text, delimiter, name, line_numbers):
        if len(record) != len(names) or len(names) > _MOST_COLUMNS:
            found = f"{len(record)} cells" if record else "a blank line"
            return complaint(
                name,
                line,
                min(len(record), len(names)) + 1,
                found=found,
                expected=f"{len(names)}, as the header has names" if len(names) <= _MOST_COLUMNS
                else f"at most {_MOST_COLUMNS} columns",
                remedy="mend the line, or the delimiter (--delimiter)",
            )  # fmt: skip
    return complaint(
        name, found=f"text that cannot be split ({quote(reason)})", expected="a table", remedy="mend its quotes"
    )


def _with_points(table: "pa.Table", decimal: str) -> "pa.Table":
    """Writes a point where a cell that is a number has another character."""
    import pyarrow.compute as pc

    pattern = rf"^\s*[+-]?[0-9]*{'[' + decimal + ']'}[0-9]*([eE][+-]?[0-9]+)?\s*$"
    columns = []
    for column in table.columns:
        pointed = pc.replace_substring(column, decimal, ".")
        columns.append(pc.if_else(pc.match_substring_regex(column, pattern), pointed, column))
    return type(table).from_arrays(columns, names=table.column_names)
