"""Tables of text: CSV and TSV with a header, quoted as RFC 4180 says.

Compiled code reads what is plain, pyarrow splits all else.
"""

import functools
import itertools
import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from jaxrnn.data.readers import plain_numbers, sources
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.csv_split import Body, FileBody, read_csv, read_plain
from jaxrnn.data.readers.delimited_text import Text, end_of_first, records_of, require_closed_cells
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.tables.columns import Columns, TextOptions
from jaxrnn.data.tables.step_tables import Table
from jaxrnn.foundation.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = {",": "','", "\t": r"'\t'", ";": "';'"}
_FORM = "a table of text"
_FIRST_LINE = re.compile(rb"[^\r\n]*")
_MOST_COLUMNS = 10_000


class _Header(NamedTuple):
    """The columns' names, what stands between two of them, and where the records behind begin."""

    names: list[str]
    delimiter: str
    begin: int


def read_delimited(text: Text, options: TextOptions, columns: Columns, *, is_only: bool) -> Table:
    """Splits a text into columns: of text, or of numbers where their role asks for these and no cell is anything else.

    Args:
      text: Lines, the first of which has the names of the columns.
      options: How it is cut; without a delimiter by the one of ``,``, a tab and ``;`` that the header has.
      columns: What each column is. Where the caller names some, numbers may be names among others.
      is_only: Whether there is no other text, whose columns might be of another type.

    Raises:
      DataError: The header does not name every column, or a line has another number of cells.
    """
    names, delimiter, begin = _read_header(text, options, columns)
    require_closed_cells(text, delimiter)
    body = Body(text.encoded(), begin, text.last_quote() >= begin)
    first = _FIRST_LINE.match(body.source, begin)[0]  # type: ignore[index]  # it matches nothing too
    kinds = _kinds_of(first, names, columns, delimiter) if is_only and options.decimal == "." else {}
    text.let_go()
    table = _numbers_split(body, names, kinds, _unread(names, columns), delimiter) if kinds else None
    if table is None:
        table = _split(text, body, names, delimiter)
        _require_no_blank_line(text, table, delimiter)
    if options.decimal != ".":
        with_points = [plain_numbers.with_points(column, options.decimal) for column in table.columns]
        table = type(table).from_arrays(with_points, names=table.column_names)

    @functools.cache
    def lines() -> list[int]:
        return [line for line, _ in records_of(text, delimiter)][1:]

    return Table(text.name, table, lambda row: lines()[row], form=_FORM)


def read_plain_file(file: BinaryIO, num_bytes: int, head: Text, options: TextOptions, columns: Columns) -> Table | None:
    """Reads a large table as `read_delimited` does, as it comes from the disk, if only its names are quoted.

    Args:
      file: The only file of the table, a regular one.
      num_bytes: How many bytes it has.
      head: Its first lines, of ASCII, whole ones.
      options: How it is cut.
      columns: What each column is.

    Returns:
      The table; None where it takes `read_delimited` to read the file, or to say what is wrong with it.
    """
    may_be_plain = options.decimal == "." and options.comment is None and not options.skip_lines
    if num_bytes < sources.LARGE_BYTES or not may_be_plain:
        return None
    try:
        names, delimiter, begin = _read_header(head, options, columns)
        require_closed_cells(head, delimiter)
        first_line = [line for line, _ in itertools.islice(records_of(head, delimiter), 2)][-1]
    except DataError:  # which takes the whole file to be said
        return None
    first = _FIRST_LINE.match(head.encoded(), begin)[0]  # type: ignore[index]
    kinds, unread = _kinds_of(first, names, columns, delimiter), _unread(names, columns)
    if not kinds or unread is None:
        return None
    table = read_plain(FileBody(file, num_bytes, begin), names, kinds | unread, delimiter)
    # A plain record is a line.
    return None if table is None else Table(head.name, table, lambda row: row + first_line, form=_FORM)


def _read_header(text: Text, options: TextOptions, columns: Columns) -> _Header:
    """Reads the names of the columns.

    Raises:
      DataError: There is none, or they may be a row.
    """
    header = text.header()
    delimiter = options.delimiter or _choose_delimiter(header, text.name, text.line(1))
    names = next(records_of(text, delimiter, header), (0, []))[1]
    if not names:
        expected = "a header and a line a step"
        raise complaint(text.name, found="an empty file", expected=expected, remedy="check the path")
    if not options.header:
        _require_names(names, text.name, text.line(1), has_roles=bool(columns.roles()))
    return _Header(names, delimiter, len(header[: end_of_first(header, delimiter)].encode()))


def _choose_delimiter(header: str, name: str, line: int) -> str:
    outside = "".join(header.split('"')[::2])
    found = [delimiter for delimiter in DELIMITERS if delimiter in outside]
    if len(found) > 1:
        listed = " and ".join(DELIMITERS[delimiter] for delimiter in found)
        raise complaint(
            name, line, found=f"{listed} in the header", expected="one of them between names", remedy="give --delimiter"
        )
    return found[0] if found else ","


def _require_names(names: list[str], name: str, line: int, *, has_roles: bool) -> None:
    numbers = [cell for cell in names if is_number(cell)]
    listed = ", ".join(map(quote, numbers[:4]))
    if numbers and not has_roles and len(numbers) < len(names):
        raise complaint(
            name,
            line,
            found=f"numbers ({listed}) among the names of columns",
            expected="a header with a name for each column, or rows without one",
            remedy="give --header if they are names; --label-column=first or --label-column=last if this is a row with"
            " its class",
        )
    if len(numbers) == len(names):
        raise complaint(
            name,
            line,
            found=f"only numbers ({listed}) where the names of columns should be",
            expected="a header with a name for each column",
            remedy="write one, or give --header if these are names",
        )


def is_number(cell: str) -> bool:
    """Whether a cell is no name: a number, NaN and infinities among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _kinds_of(line: bytes, names: list[str], columns: Columns, delimiter: str) -> dict[str, "pa.DataType"]:
    """Returns the types of columns that are numbers by their role and in the first line's cell, and then that of ids.

    Times are typed only where they are whole numbers.
    """
    import pyarrow as pa

    first = line.decode().split(delimiter)
    if len(first) != len(names) or len(set(names)) < len(names) or len(names) > _MOST_COLUMNS:
        return {}
    wanted = (*columns.input_columns, *columns.target_columns, *columns.known_columns, *columns.static_columns)
    cell_of = dict(zip(names, first, strict=True))
    kinds = {name: pa.float64() for name in wanted if plain_numbers.is_written_number(cell_of.get(name, ""))}
    time = columns.time_column
    if time and cell_of.get(time, "").isdecimal():
        kinds[time] = pa.int64()
    if kinds and columns.id_column in cell_of:
        kinds[columns.id_column] = pa.dictionary(pa.int32(), pa.string())  # each text once
    return kinds


def _unread(names: list[str], columns: Columns) -> "dict[str, pa.DataType] | None":
    """Returns the columns that nobody will read, as null columns; None if those without a role may be inputs."""
    import pyarrow as pa

    left = set(names) - {name for name, _ in columns.roles()}
    return dict.fromkeys(left, pa.null()) if columns.input_columns or not left else None


def _numbers_split(
    body: Body,
    names: list[str],
    kinds: dict[str, "pa.DataType"],
    unread: dict[str, "pa.DataType"] | None,
    delimiter: str,
) -> "pa.Table | None":
    """Splits records, and reads columns of numbers at once; None if one holds anything but numbers of a usual size."""
    import pyarrow as pa

    plain = read_plain(body, names, kinds | unread, delimiter) if unread is not None else None
    if plain is not None:
        return plain
    # pyarrow reads hexadecimals as whole numbers.
    if any(letter in body and b"0" + letter in body for letter in (b"x", b"X")):
        kinds = {name: kind for name, kind in kinds.items() if kind != pa.int64()}
        if pa.float64() not in kinds.values():
            return None
    try:
        table = read_csv(body, names, kinds, delimiter).unify_dictionaries()
    except pa.ArrowException:
        return None
    numbers = [name for name, kind in kinds.items() if kind == pa.float64()]
    # Infinities and NaN are words that pyarrow takes for numbers.
    are_usual = all(
        np.abs(chunk.to_numpy()).max() < FLOAT32_OVERFLOW
        for name in numbers
        for chunk in table.column(name).chunks
        if len(chunk)
    )
    return table if are_usual else None


def _split(text: Text, body: Body, names: list[str], delimiter: str) -> "pa.Table":
    """Splits the records behind the header."""
    import pyarrow as pa

    try:
        if len(names) > _MOST_COLUMNS:
            raise pa.ArrowInvalid(f"{len(names)} columns")
        if body.begin >= len(body.source):
            return pa.table([pa.array([], pa.string())] * len(names), names=names)
        return read_csv(body, names, {}, delimiter)
    except pa.ArrowInvalid as error:
        raise _fault_of(text, names, delimiter, str(error)) from error


def _require_no_blank_line(text: Text, table: "pa.Table", delimiter: str) -> None:
    """Refuses a blank line, of which pyarrow makes empty cells."""
    import pyarrow.compute as pc

    is_empty = np.ones(table.num_rows, bool)
    for column in table.columns:
        is_empty &= np.asarray(pc.equal(pc.binary_length(column), 0))
        if not is_empty.any():
            return
    for line, record in records_of(text, delimiter):
        if not record:
            expected = f"{table.num_columns} cell{'' if table.num_columns == 1 else 's'}"
            raise complaint(text.name, line, 1, found="a blank line", expected=expected, remedy="remove the line")


def _fault_of(text: Text, names: list[str], delimiter: str, reason: str) -> DataError:
    """Makes the complaint about the first record that is not as the header says."""
    for line, record in records_of(text, delimiter):
        if len(record) != len(names) or len(names) > _MOST_COLUMNS:
            found = f"{len(record)} cells" if record else "a blank line"
            return complaint(
                text.name,
                line,
                min(len(record), len(names)) + 1,
                found=found,
                expected=f"{len(names)}, as the header has names" if len(names) <= _MOST_COLUMNS
                else f"at most {_MOST_COLUMNS} columns",
                remedy="mend the line, or the delimiter (--delimiter)",
            )  # fmt: skip
    return complaint(
        text.name, found=f"text that cannot be split ({quote(reason)})", expected="a table", remedy="mend its quotes"
    )
