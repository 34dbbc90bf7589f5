"""Rows of numbers without a header, each a sequence of one feature, with its class or number first or last perhaps.

UCR's archive and many laboratories write such files: of commas, tabs or runs of spaces, of one length or several, short
rows filled up with NaN or with empty fields. Cutting and converting is NumPy's and Arrow's.
"""

import re
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers import plain_numbers
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.delimited_text import Text, names_of
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.tables.columns import Columns, TextOptions
from jaxrnn.data.tables.delimited import DELIMITERS, is_number
from jaxrnn.data.tables.step_tables import Table
from jaxrnn.settings.checking import require

if TYPE_CHECKING:
    import pyarrow as pa

FORM = "rows without a header"
FIRST, LAST = "first", "last"
VALUES, LABEL = "values", "label"
_TELLING_LENGTH = 1 << 16  # characters of a first line that are looked at to tell what it is
_BETWEEN = re.compile(r"[,;\t ]+")
# By chance fewer rows may have whole numbers in front, or rise by 1.
_FEWEST_TELLING = 10
_MOST_WHOLE = 1e15  # from here on not every whole number is one of its own


def holds_rows(text: Text, columns: Columns, options: TextOptions) -> bool:
    """Whether a text is to be read as rows without a header: by what the caller says, else by its first line.

    A class that stands first or last says so, unless the header has a column of that name. A first line of numbers
    alone is no header.
    """
    if options.header is not None:
        return not options.header
    if options.row_end is not None:
        return True
    if any(field != "label_column" for _, field in columns.roles()):
        return False
    if columns.label_column in (FIRST, LAST):
        return columns.label_column not in names_of(text)
    line = text.first_line()
    if columns.label_column is not None or line.startswith(tuple(DELIMITERS)):  # pandas leaves the index without a name
        return False
    fields = _BETWEEN.split(line[:_TELLING_LENGTH].strip())
    if len(line) > _TELLING_LENGTH:
        del fields[-1]  # is cut
    fields = [field for field in fields if field]
    return bool(fields) and all(map(is_number, fields))


def require_no_names(columns: Columns) -> None:
    """Refuses roles of columns that have no names.

    Raises:
      UserError: A column is named; or the label's is neither "first" nor "last".
    """
    for name, field in columns.roles():
        if field == "label_column":
            require(name in (FIRST, LAST), field, name, "first or last, since the rows have no header")
        else:
            require(False, field, name, "none, since the rows have no header with names of columns")


def read_rows(text: Text, columns: Columns, options: TextOptions) -> Table:
    """Reads rows: a column ``values`` of lists, and one ``label`` if the label stands first or last.

    Args:
      text: The rows.
      columns: Where the label stands, and whether values may be missing.
      options: How the text is cut.

    Raises:
      DataError: A row has no values, a value is no number or missing, a label is missing; or nobody has said what the
        rows are, and they might be a table or have classes; names line and field.
      UserError: A column is named.
    """
    import pyarrow as pa

    require_no_names(columns)
    rows = _Rows(text, options)
    label = rows.take_label(columns.label_column) if columns.label_column else None
    rows.end(options.row_end)
    values = rows.numbers(may_miss=columns.missing != "error", has_label=label is not None)
    if (options.header, options.row_end, columns.label_column) == (None, None, None):
        rows.require_plain(values)
    offsets = np.concatenate([[0], np.cumsum(rows.lengths)])
    step_columns = rows.columns
    content = {VALUES: pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))}
    own_roles = {}
    if label is not None:
        content[LABEL] = label
        own_roles = {"label_column": LABEL}
    return Table(
        text.name,
        pa.table(content),
        lambda row: text.line(row + 1),
        form=FORM,
        own_roles=own_roles,
        column_of=lambda step: int(step_columns[step]),
    )


class _Rows:
    """The fields of rows, one after the other, of which labels and what fills the rows up are taken away."""

    def __init__(self, text: Text, options: TextOptions):
        self.text = text
        self.delimiter = options.delimiter or _find_delimiter(text, options.decimal)
        self.fields, self.lengths = cut_fields(text.content, self.delimiter)
        if options.decimal != ".":
            self.fields = plain_numbers.with_points(self.fields, options.decimal)
        self.columns = _count_within(self.lengths) + 1  # of each field, in its line
        if not self.lengths.size:
            remedy = "check the path"
            raise complaint(text.name, found="an empty file", expected="a row of numbers in each line", remedy=remedy)
        if '"' in text.content:
            self._take_quotes()
        is_blank = self.lengths == 1
        is_blank[is_blank] = np.asarray(self._lowered().take(self._at(self._starts()[is_blank]))) == ""
        if is_blank.any():
            line = text.line(int(np.argmax(is_blank)) + 1)
            expected = "a row of numbers in each line"
            raise complaint(text.name, line, 1, found="a blank line", expected=expected, remedy="remove it")

    def _take_quotes(self) -> None:
        """Takes away the quotes around whole fields."""
        import pyarrow.compute as pc

        self.fields = pc.replace_substring_regex(self.fields, r'^"([^"]*)"$', r"\1")
        is_left = np.asarray(pc.match_substring(self.fields, '"'))
        if is_left.any():
            self._refuse(int(np.argmax(is_left)), "a field without quotes in it", "mend the line")

    def take_label(self, where: str) -> "pa.Array":
        """Takes the first or last field of each row as its label; numbers in their shortest form."""
        import pyarrow as pa

        places = self._starts() if where == FIRST else np.cumsum(self.lengths) - 1
        labels = self.fields.take(self._at(places))
        is_lost = plain_numbers.is_missing(labels)
        if is_lost.any():
            expected = f"a class or a number {where} in the line" + (
                ", behind what fills it up" if where == LAST else ""
            )
            self._refuse(int(places[np.argmax(is_lost)]), expected, "fill it in, or remove the row")
        encoded = labels.dictionary_encode()
        shortest = pa.array([_shortest(label) for label in encoded.dictionary.to_pylist()], pa.string())
        is_kept = np.ones(len(self.fields), bool)
        is_kept[places] = False
        self._keep(is_kept)
        return shortest.take(encoded.indices)

    def end(self, row_end: str | None) -> None:
        """Takes away the fields of one kind that fill the rows up at their ends, and refuses rows without values."""
        if row_end is not None:
            is_value = np.asarray(self._lowered()) != {"nan": "nan", "empty": ""}[row_end]
            latest = np.maximum.accumulate(np.where(is_value, np.arange(is_value.size), -1))
            ends = np.cumsum(self.lengths)
            last = np.full(ends.size, -1)
            last[self.lengths > 0] = latest[ends[self.lengths > 0] - 1]
            self._keep(np.arange(is_value.size) <= np.repeat(last, self.lengths))
        if (self.lengths == 0).any():
            line = self.text.line(int(np.argmax(self.lengths == 0)) + 1)
            expected = "one at least"
            raise complaint(self.text.name, line, found="no values", expected=expected, remedy="remove the row")

    def numbers(self, *, may_miss: bool, has_label: bool) -> NDArray[np.float64]:
        """Returns the fields as numbers, NaN where one is missing."""
        values, is_bad = plain_numbers.parse_numbers(self.fields)
        if is_bad.any():
            remedy = "mend it, or remove the row"
            if not has_label:
                remedy += "; if rows have a class, give --label-column=first or --label-column=last"
            if self._row_of(int(np.argmax(is_bad))) == 0:
                remedy += "; if this line has the names of columns, give --header, or --input-columns with some of them"
            self._refuse(int(np.argmax(is_bad)), "a number", remedy)
        is_huge = np.abs(values) >= FLOAT32_OVERFLOW
        if is_huge.any():
            expected = "a number that float32 can hold, of magnitude below 3.4028236e38"
            self._refuse(int(np.argmax(is_huge)), expected, "rescale the data, or remove the row")
        is_lost = np.isnan(values)
        if is_lost.any() and not may_miss:
            self._refuse_missing(is_lost)
        return values

    def require_plain(self, values: NDArray[np.float64]) -> None:
        """Refuses rows that might be a table, or have a class or a number of their own beside their values."""
        count, name, line = self.lengths.size, self.text.name, self.text.line(1)
        as_values = "give --no-header if each row is a sequence of one feature and nothing else"
        if count > 1 and (self.lengths == self.lengths[0]).all():
            listed = ", ".join(quote(field) for field in self.fields[: min(4, int(self.lengths[0]))].to_pylist())
            raise complaint(
                name,
                line,
                found=f"only numbers ({listed}) where the names of columns should be, and as many in every row",
                expected="a header with a name for each column, or rows of different lengths",
                remedy=f"write a header if each row is a step; {as_values}, --label-column=first or --label-column=last"
                " if its class stands there, --row-end=nan or --row-end=empty if such fields fill up short rows",
            )
        if count < _FEWEST_TELLING:
            return
        starts = self._starts()
        if (np.diff(values[starts]) == 1).all():
            found = "first numbers that count the rows"
            remedy = f"remove them if they are an index; {as_values}"
            raise complaint(name, line, 1, found=found, expected="values", remedy=remedy)
        for where, places in ((FIRST, starts), (LAST, np.cumsum(self.lengths) - 1)):
            is_whole = values == np.floor(values)
            others = np.delete(is_whole, places)
            if is_whole[places].all() and others.sum() < others.size / 2:
                found = f"whole numbers {where} in every row, before others that are not" if where == FIRST else (
                    "whole numbers last in every row, behind others that are not"
                )  # fmt: skip
                remedy = f"give --label-column={where} if they are classes; {as_values}"
                raise complaint(name, line, int(self.columns[places[0]]), found=found, expected="values", remedy=remedy)

    def _refuse(self, place: int, expected: str, remedy: str) -> NoReturn:
        found = self.fields[place].as_py()
        line = self.text.line(self._row_of(place) + 1)
        raise complaint(
            self.text.name, line, int(self.columns[place]), found=quote(found), expected=expected, remedy=remedy
        )

    def _refuse_missing(self, is_lost: NDArray[np.bool_]) -> NoReturn:
        place = int(np.argmax(is_lost))
        row = self._row_of(place)
        end = int(self.lengths[: row + 1].sum())
        remedy = "give --missing=forward for the one before, --missing=mask for 0 and a mark, or remove the row"
        if is_lost[place:end].all():
            kind = "empty" if self.fields[place].as_py() == "" else "nan"
            remedy = f"give --row-end={kind} if it ends the row; else {remedy}"
        many = "the only one" if is_lost.sum() == 1 else f"the first of {int(is_lost.sum())} missing values"
        found = f"{quote(self.fields[place].as_py())}, {many}"
        column = int(self.columns[place])
        raise complaint(
            self.text.name, self.text.line(row + 1), column, found=found, expected="a number", remedy=remedy
        )

    def _keep(self, is_kept: NDArray[np.bool_]) -> None:
        counts = np.concatenate([[0], np.cumsum(is_kept)])
        ends = np.cumsum(self.lengths)
        self.lengths = counts[ends] - counts[ends - self.lengths]
        self.fields, self.columns = self.fields.filter(is_kept), self.columns[is_kept]

    def _row_of(self, place: int) -> int:
        return int(np.searchsorted(np.cumsum(self.lengths), place, side="right"))

    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths) - self.lengths

    def _lowered(self) -> "pa.Array":
        import pyarrow.compute as pc

        return pc.ascii_lower(self.fields)

    @staticmethod
    def _at(places: NDArray[np.int64]) -> "pa.Array":
        import pyarrow as pa

        return pa.array(places)


def cut_fields(content: str, delimiter: str) -> tuple["pa.Array", NDArray[np.int64]]:
    """Cuts every line into fields without the white space around them.

    Args:
      content: Lines.
      delimiter: Between two fields; a space stands for any run of spaces and tabs.

    Returns:
      The fields of all lines, and how many each line has.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = content.encode().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if text and not text.endswith(b"\n"):
        text += b"\n"
    if delimiter == " ":
        text = re.sub(rb"[ \t]+", b" ", text)
        text = re.sub(rb"^ | $", b"", text, flags=re.MULTILINE)
    codes = np.frombuffer(text, np.uint8)
    separators = np.flatnonzero((codes == ord("\n")) | (codes == ord(delimiter)))
    # Arrow's layout of strings: their bytes without the separators, and where each one starts.
    starts = np.zeros(separators.size + 1, np.int64)
    starts[1:] = separators - np.arange(separators.size)
    characters = text.translate(None, b"\n" + delimiter.encode())
    fields = pa.LargeStringArray.from_buffers(separators.size, pa.py_buffer(starts), pa.py_buffer(characters))
    lengths = np.diff(np.flatnonzero(codes[separators] == ord("\n")), prepend=-1)
    return pc.ascii_trim_whitespace(fields), lengths


def _find_delimiter(text: Text, decimal: str) -> str:
    found = [delimiter for delimiter in DELIMITERS if delimiter in text.content and delimiter != decimal]
    if len(found) > 1:
        listed = " and ".join(DELIMITERS[delimiter] for delimiter in found)
        remedy = "give --delimiter" + (", and --decimal=, if that is a decimal comma" if "," in found else "")
        raise complaint(text.name, text.line(1), found=listed, expected="one of them between numbers", remedy=remedy)
    if found == ["\t"] and " " in text.content and re.search(r"\S +\S", text.content):
        remedy = r"give --delimiter=' ' for runs of both, --delimiter='\t' for tabs"
        mixed = "tabs and spaces between numbers"
        raise complaint(text.name, text.line(1), found=mixed, expected="one of them", remedy=remedy)
    return found[0] if found else " "


def _count_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts the fields of each row from 0."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _shortest(label: str) -> str:
    """Writes a number that is one in its shortest form, without a point if it is whole; other texts as they are."""
    if not plain_numbers.is_written_number(label) or not re.search("[.eE+]", label):
        return label
    value = float(label)
    if abs(value) < _MOST_WHOLE and value == int(value):
        return str(int(value))
    return repr(value) if abs(value) < FLOAT32_OVERFLOW else label
