"""Tables of text: CSV and TSV with a header, quoted as RFC 4180 says.

pyarrow splits the text. Only to say where a fault is, or if quotes are not where RFC 4180 has them, a pattern that
counts lines goes through it cell by cell. (Python's csv module takes no cell of more than 131,072 characters.)
"""

import codecs
import collections
import functools
import io
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.csv_split import Body, body_of, read_csv
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.readers.sources import decode
from jaxrnn.data.tables import cells
from jaxrnn.data.tables.columns import Columns, TextOptions
from jaxrnn.data.tables.step_tables import Table
from jaxrnn.foundation.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = {",": "','", "\t": r"'\t'", ";": "';'"}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_FIRST_LINE = re.compile(rb"[^\r\n]*")
_LINE_END = re.compile(r"\r\n|\n|\r")
_MOST_HEADER_LINES = 1000
_MOST_COLUMNS = 10_000


class Text(NamedTuple):
    """A text without the lines that are left out.

    Attributes:
      name: What messages call it.
      content: Its lines.
      numbers: The number of each of them in the file; None if they count from 1.
      source: The content as bytes, where it is at hand.
    """

    name: str
    content: str
    numbers: list[int] | None
    source: bytes | None = None

    def line(self, number: int) -> int:
        """Returns the number in the file of a line of the content, counted from 1."""
        return number if not self.numbers else self.numbers[min(number, len(self.numbers)) - 1]

    def first_line(self) -> str:
        """Returns the first line."""
        return _LINE.match(self.content)[0]  # type: ignore[index]  # it matches nothing too


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
    header = _header_of(text.content)
    delimiter = options.delimiter or _choose_delimiter(header, name, text.line(1))
    names = next(_records(text._replace(content=header), delimiter), (0, []))[1]
    if not names:
        raise complaint(name, found="an empty file", expected="a header and a line a step", remedy="check the path")
    if not options.header:
        _require_names(names, name, text.line(1), has_roles=bool(columns.roles()))
    require_closed_cells(text, delimiter)
    source = text.content.encode() if text.source is None else text.source
    text = text._replace(source=None)  # what finds lines later keeps the text alone
    body = body_of(source, len(header[: _end_of_first(header, delimiter)].encode()))
    kinds = _kinds_of(body, names, columns, delimiter) if is_only and options.decimal == "." else {}
    table = _numbers_split(body, names, kinds, delimiter) if kinds else None
    if table is None:
        table = _split(text, body, names, delimiter)
        _require_no_blank_line(text, table, delimiter)
    if options.decimal != ".":
        with_points = [cells.with_points(column, options.decimal) for column in table.columns]
        table = type(table).from_arrays(with_points, names=table.column_names)

    @functools.cache
    def lines() -> list[int]:
        return [line for line, _ in _records(text, delimiter)][1:]

    return Table(name, table, lambda row: lines()[row], form="a table of text")


def names_of(text: Text) -> list[str]:
    """Returns the names that the first line has if it is a header, whatever stands between them."""
    return [cell.strip('"') for cell in re.split(r"[,;\t]", _header_of(text.content).strip())]


def text_of(content: bytes, name: str, options: TextOptions) -> Text:
    """Takes the lines of a text that are not left out.

    Raises:
      DataError: It is no UTF-8, or has a NUL byte.
    """
    comment, skip_lines = options.comment, options.skip_lines
    text = decode(content, name=name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise complaint(name, line, found="a NUL byte", expected="text", remedy="check that it is the right file")
    if comment is None and not skip_lines:
        return Text(name, text, None, None if content.startswith(codecs.BOM_UTF8) else content)
    kept: list[tuple[int, str]] = []
    is_quoted = False  # a line that goes on with a cell is no comment
    for number, one in enumerate(io.StringIO(text, newline=""), 1):
        if number > skip_lines and (is_quoted or not (comment and one.startswith(comment))):
            kept.append((number, one))
            is_quoted ^= one.count('"') % 2 == 1
    return Text(name, "".join(line for _, line in kept), [number for number, _ in kept])


def _header_of(text: str) -> str:
    """Returns the header's text, which may have quoted line ends."""
    header = ""
    for line in itertools.islice(_LINE.finditer(text), _MOST_HEADER_LINES):
        header += line[0]
        if header.count('"') % 2 == 0:
            break
    return header


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


def _records(text: Text, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields every record with the number of its first line; a blank line has no cells."""
    cell = _cell_pattern(delimiter)
    content, place, line, first_line = text.content, 0, 1, 1
    record: list[str] = []
    has_more = bool(content)
    while has_more:
        match = cell.match(content, place)
        if match is None:
            raise _bad_cell(text.name, text.line(line), content[place : place + 60])
        written, ending = match.groups()
        record.append(written[1:-1].replace('""', '"') if written.startswith('"') else written)
        place = match.end()
        line += len(_LINE_END.findall(match[0]))
        if ending != delimiter:
            yield text.line(first_line), record if written or len(record) > 1 else []
            record, first_line = [], line
        has_more = place < len(content) or ending == delimiter


def _end_of_first(text: str, delimiter: str) -> int:
    """Returns where the first record ends, with its line end: a quote within an unquoted cell is one like others."""
    cell, place = _cell_pattern(delimiter), 0
    while match := cell.match(text, place):
        place = match.end()
        if match[2] != delimiter:
            break
    return place


def _cell_pattern(delimiter: str) -> re.Pattern[str]:
    """Makes a pattern of a cell, quoted or not, and of what ends it."""
    end = re.escape(delimiter)
    quoted = rf'"[^"]*(?:""[^"]*)*"(?=[{end}\r\n]|\Z)'
    return re.compile(rf'({quoted}|[^"{end}\r\n][^{end}\r\n]*|)({end}|\r\n|\n|\r|\Z)')


def _bad_cell(name: str, line: int, reason: str) -> DataError:
    return complaint(
        name,
        line,
        found=f"a cell that cannot be read ({quote(reason)})",
        expected='cells quoted with " and "" for a quote in them',
        remedy="mend the quotes",
    )


def require_closed_cells(text: Text, delimiter: str) -> None:
    """Refuses a cell that begins with a quote and goes on behind its closing one.

    Readers of CSV differ in what they make of it, and pyarrow drops the quotes without a word.

    Raises:
      DataError: There is such a cell; names its line.
    """
    last = text.content.rfind('"')  # often of the header
    if last < 0:
        return
    codes = np.frombuffer(text.content[: last + 2].encode(), np.uint8)
    quotes = np.flatnonzero(codes == ord('"'))
    ends = np.array([ord(delimiter), ord("\n"), ord("\r"), ord('"')], np.uint8)
    padded = np.concatenate([ends[1:2], codes, ends[1:2]])
    # Of well-formed cells every other quote opens, and stands before or behind what may stand there.
    if (
        quotes.size % 2 == 0
        and np.isin(padded[quotes[::2]], ends).all()
        and np.isin(padded[quotes[1::2] + 2], ends).all()
    ):
        return
    collections.deque(_records(text, delimiter), maxlen=0)


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
    kinds = {name: pa.float64() for name in wanted if cells.is_written_number(cell_of.get(name, ""))}
    time = columns.time_column
    # pyarrow reads hexadecimals as whole numbers.
    has_hexadecimals = any(letter in body and b"0" + letter in body for letter in (b"x", b"X"))
    if time and cell_of.get(time, "").isdecimal() and not has_hexadecimals:
        kinds[time] = pa.int64()
    if kinds and columns.id_column in cell_of:
        kinds[columns.id_column] = pa.dictionary(pa.int32(), pa.string())  # each text once
    return kinds


def _numbers_split(body: Body, names: list[str], kinds: dict[str, "pa.DataType"], delimiter: str) -> "pa.Table | None":
    """Splits records, and reads columns of numbers at once; None if one holds anything but numbers of a usual size."""
    import pyarrow as pa

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
    for line, record in _records(text, delimiter):
        if not record:
            expected = f"{table.num_columns} cell{'' if table.num_columns == 1 else 's'}"
            raise complaint(text.name, line, 1, found="a blank line", expected=expected, remedy="remove the line")


def _fault_of(text: Text, names: list[str], delimiter: str, reason: str) -> DataError:
    """Makes the complaint about the first record that is not as the header says."""
    for line, record in _records(text, delimiter):
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
