"""Tables of text: CSV and TSV with a header, quoted as RFC 4180 says.

Compiled code reads what is plain, pyarrow splits all else.
"""

import functools
import re
from typing import TYPE_CHECKING

import numpy as np

from jaxrnn.data.readers import plain_numbers
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.csv_split import Body, read_csv, read_plain
from jaxrnn.data.readers.delimited_text import Text, end_of_first, records_of, require_closed_cells
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.tables.columns import Columns, TextOptions
from jaxrnn.data.tables.step_tables import Table
from jaxrnn.foundation.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = {",": "','", "\t": r"'\t'", ";": "';'"}
_FIRST_LINE = re.compile(rb"[^\r\n]*")
_MOST_COLUMNS = 10_000


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
    name = text.name
    header = text.header()
    delimiter = options.delimiter or _choose_delimiter(header, name, text.line(1))
    names = next(records_of(text, delimiter, header), (0, []))[1]
    if not names:
        raise complaint(name, found="an empty file", expected="a header and a line a step", remedy="check the path")
    if not options.header:
        _require_names(names, name, text.line(1), has_roles=bool(columns.roles()))
    require_closed_cells(text, delimiter)
    begin = len(header[: end_of_first(header, delimiter)].encode())
    body = Body(text.encoded(), begin, text.last_quote() >= begin)
    kinds = _kinds_of(body, names, columns, delimiter) if is_only and options.decimal == "." else {}
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

    return Table(name, table, lambda row: lines()[row], form="a table of text")


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


def _kinds_of(body: Body, names: list[str], columns: Columns, delimiter: str) -> dict[str, "pa.DataType"]:
    """Returns the types of columns that are numbers by their role and in their first cell, and then that of ids.

    Times are typed only where they are whole numbers.
    """
    import pyarrow as pa

    line = _FIRST_LINE.match(body.source, body.begin)[0]  # type: ignore[index]  # it matches nothing too
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
