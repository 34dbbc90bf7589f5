"""Tables, a row of which is a step: sequences by id, each in the order of its times.

A table says where its rows stand in a file, so that every message names the line and the column.
"""

import decimal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.large_columns import rise_within, side_by_side
from jaxrnn.data.readers.plain_numbers import is_text
from jaxrnn.data.sequences import (
    CATEGORIES,
    GROUPS,
    IDS,
    INPUTS,
    KNOWN,
    LABELS,
    STATICS,
    TARGETS,
    TIMES,
    Field,
    Schedule,
    Sequences,
    mark_of,
)
from jaxrnn.data.series.units import say_time
from jaxrnn.data.tables import cells
from jaxrnn.data.tables.columns import Columns, Names
from jaxrnn.data.tables.unnamed_columns import inputs_of

if TYPE_CHECKING:
    import pyarrow as pa

# What becomes of targets that are missing, where they may be: they have no marks.
_MISSING_TARGETS = {"error": "error", "forward": "forward", "mask": "keep"}


@dataclass(frozen=True)
class Table:
    """Columns, and where they come from.

    Attributes:
      name: What messages call the table.
      content: The columns.
      line_of: Gives the line, or the row, of a row of the content; counts from 1.
      number_of: The numbers of columns, counted from 1, where they are not those of the content.
      form: The format, in words.
      own_roles: Columns that have a role by their format, unless the caller names others: by the field of `Columns`.
      schedule: Frequency and horizon, if the format says them.
      part_of: Gives the table of its own file for a row of the content, and the row there, if there are several files.
      column_of: Gives the column of a step, where the steps of a list stand in columns of their own.
    """

    name: str
    content: "pa.Table"
    line_of: Callable[[int], int] = lambda row: row + 1
    number_of: Mapping[str, int] | None = None
    form: str = "a table"
    own_roles: Mapping[str, Names] = field(default_factory=dict)
    schedule: Schedule | None = None
    part_of: Callable[[int], tuple["Table", int]] | None = None
    column_of: Callable[[int], int] | None = None

    def refuse(self, row: int, column: str, *, found: str, expected: str, remedy: str) -> NoReturn:
        """Raises the complaint about a cell."""
        own, _ = self.part_of(row) if self.part_of else (self, row)
        number = self.column_of(row) if self.column_of else own.numbers().get(column) or self.numbers()[column]
        raise complaint(own.name, self.line_of(row), number, found=found, expected=expected, remedy=remedy)

    def numbers(self) -> Mapping[str, int]:
        """Returns the number of every column, counted from 1."""
        return self.number_of or {name: number for number, name in enumerate(self.content.column_names, 1)}

    def line_beside(self, row: int, other: int) -> str:
        """Says the line of a row in a complaint about another one; its file too, if that is another."""
        line = f"line {self.line_of(row)}"
        if self.part_of is None or self.part_of(row)[0] is self.part_of(other)[0]:
            return line
        return f"{line} of {quote(self.part_of(row)[0].name)}"

    def refuse_whole(self, *, found: str, expected: str, remedy: str) -> NoReturn:
        """Raises a complaint about the table as a whole."""
        raise complaint(self.name, found=found, expected=expected, remedy=remedy)


def read_table(table: Table, columns: Columns) -> Sequences:
    """Reads a table of steps.

    Sequences are in the order of their ids, whole numbers by size, so that they do not depend on the order of rows.

    Args:
      table: The steps.
      columns: What each column is.

    Raises:
      DataError: A column is missing or of no use in its role, a value is missing or no number, a time of a sequence
        is there twice, or what belongs to a whole sequence changes within it; names line and column.
    """
    require_columns(table, columns)
    inputs = inputs_of(table, columns)
    if not (inputs or columns.category_columns or columns.target_columns or columns.known_columns):
        table.refuse_whole(found="no column to read", expected="one at least", remedy="give --input-columns")
    order, lengths, ids, times = arrange(table, columns)
    sequences = Arranged(table, order, lengths)
    steps: dict[str, Field] = {}
    if inputs:
        steps[INPUTS] = sequences.numbers(tuple(inputs), columns.missing)
    if columns.category_columns:
        steps[CATEGORIES] = sequences.categories(tuple(columns.category_columns))
    if columns.target_columns:
        missing = _MISSING_TARGETS[columns.missing] if columns.targets_may_be_missing else "never"
        steps[TARGETS] = sequences.numbers(tuple(columns.target_columns), missing)
    if columns.known_columns:
        steps[KNOWN] = sequences.numbers(tuple(columns.known_columns), columns.missing)
    if times is not None and columns.time_column is not None:
        steps[TIMES] = Field((columns.time_column,), sequences.in_order(times)[:, None])
    if columns.label_column is not None and columns.each_step_has_a_label:
        steps[LABELS] = sequences.categories((columns.label_column,))
    return Sequences.from_lengths(lengths, steps, read_rows(sequences, columns, ids))


def read_rows(sequences: "Arranged", columns: Columns, ids: Iterable[str] | None) -> dict[str, Field]:
    """Reads what belongs to whole sequences: ids, labels, numbers and categories.

    Raises:
      DataError: It changes within a sequence.
    """
    rows: dict[str, Field] = {}
    if ids is not None:
        rows[IDS] = Field((str(columns.id_column),), np.array(ids, object)[:, None])
    if columns.label_column is not None and not columns.each_step_has_a_label:
        rows[LABELS] = sequences.of_the_whole(sequences.categories((columns.label_column,)))
    if columns.group_column is not None:
        rows[GROUPS] = sequences.of_the_whole(sequences.categories((columns.group_column,)))
    if columns.static_columns:
        rows[STATICS] = sequences.of_the_whole(sequences.numbers(tuple(columns.static_columns), "never"))
    if columns.static_category_columns:
        rows[CATEGORIES] = sequences.of_the_whole(sequences.categories(tuple(columns.static_category_columns)))
    return rows


def require_columns(table: Table, columns: Columns) -> None:
    """Refuses a table that lacks a column, has two of one name, or no rows.

    Raises:
      DataError: It does.
    """
    names = table.content.column_names
    listed = ", ".join(quote(name) for name in names[:8]) + (", .." if len(names) > 8 else "")
    for name in names:
        if names.count(name) > 1:
            found = f"{names.count(name)} columns named {quote(name)}"
            table.refuse_whole(found=found, expected="names that differ", remedy="rename them")
    for name, role in columns.roles():
        if name not in names:
            remedy = f"mend --{role.replace('_', '-')}"
            table.refuse_whole(found=f"no column {quote(name)}", expected=f"one of {listed}", remedy=remedy)
    if not table.content.num_rows:
        table.refuse_whole(found="no rows", expected="one a step", remedy="check that it is the right file")


def arrange(
    table: Table, columns: Columns
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64], tuple[str, ...] | None, NDArray[Any] | None]:
    """Returns the rows in the order of ids and times, the lengths of the sequences, their ids, and the rows' times.

    The order is None where it is that of the table.

    Raises:
      DataError: A time of a sequence is there twice.
    """
    number = table.content.num_rows
    codes, lengths, ids, times = np.zeros(1, np.int32), np.array([number]), None, None
    if columns.id_column is not None:
        found = cells.runs(table, columns.id_column)
        codes, lengths, ids = found.codes, found.lengths, found.vocabulary
    if columns.time_column is not None:
        times = cells.times(table, columns.time_column)
    if (codes[1:] > codes[:-1]).all() and (times is None or rise_within(times, np.cumsum(lengths))):
        return None, lengths, ids, times  # as most tables are
    codes = np.repeat(codes, lengths)
    if times is None or columns.time_column is None:
        order = np.argsort(codes, kind="stable")
    else:
        order = np.lexsort((times, codes))  # stable: of two rows of one time the first stays before
        same = (np.diff(codes[order]) == 0) & (times[order][1:] == times[order][:-1])
        if same.any():
            second = order[1:][same].min()
            first = order[np.flatnonzero(order == second)[0] - 1]
            before = table.line_beside(int(first), int(second))
            _require_same_cells(table, columns.time_column, int(first), int(second))
            whose = "" if ids is None else f" of {quote(ids[codes[second]])}"
            table.refuse(
                int(second),
                columns.time_column,
                found=f"the time {quote(say_time(times[second]))}{whose} again, as in {before}",
                expected="each time of a sequence once",
                remedy="remove one of the two, or name what tells them apart with --id-column",
            )
    return order, np.bincount(codes).astype(np.int64), ids, times


def _require_same_cells(table: Table, column: str, first: int, second: int) -> None:
    """Refuses two times that are different numbers, and the same one in 64 bits."""
    content = table.content.column(column)
    if not is_text(content.type):
        return
    other, this = (str(content[row].as_py()).strip() for row in (first, second))
    try:
        are_same = decimal.Decimal(other) == decimal.Decimal(this)
    except decimal.InvalidOperation:  # no numbers
        return
    if not are_same:
        table.refuse(
            second,
            column,
            found=f"the time {quote(this)}, in 64 bits the same number as {quote(other)} in"
            f" {table.line_beside(first, second)}",
            expected="times that 64 bits tell apart",
            remedy="count them from a later begin",
        )


class Arranged:
    """Reads columns into the order of the sequences.

    Args:
      table: Where they stand.
      order: The rows of the table, in the order of the sequences and of their steps; None if they stand so.
      lengths: How many steps each sequence has.
    """

    def __init__(self, table: Table, order: NDArray[np.int64] | None, lengths: NDArray[np.int64]):
        self.table = table
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self._order = order

    @property
    def order(self) -> NDArray[np.int64]:
        """The rows of the table, in the order of the sequences and of their steps."""
        return np.arange(self.table.content.num_rows) if self._order is None else self._order

    def in_order(self, values: Any) -> Any:
        """Puts what belongs to the rows of the table into the order of the sequences."""
        return values if self._order is None else values[self._order]

    def numbers(self, names: tuple[str, ...], missing: str) -> Field:
        """Reads columns of numbers; what is missing is refused, filled, marked or kept; "never": it may not be."""
        found, marks = [], {}
        for name in names:
            values = self.in_order(cells.numbers(self.table, name))
            if missing == "mask":  # of a column that lacks nothing too: the next file may lack some, and has to fit
                mark = mark_of(name)
                if mark in names:
                    expected = "no such name: missing = mask adds it"
                    self.table.refuse_whole(found=quote(mark), expected=expected, remedy="rename the column")
                lost = np.isnan(values)
                marks[mark] = lost.astype(np.float64)
                values = np.where(lost, 0.0, values)
            elif missing != "keep" and np.isnan(values.min(initial=0.0)):  # NaN counts as the least
                lost = np.isnan(values)
                if missing == "forward":
                    values = self._filled(name, values, lost)
                else:
                    self._refuse_missing(name, lost, is_input=missing == "error")
            found.append(values)
        return Field((*names, *marks), side_by_side([*found, *marks.values()]))

    def categories(self, names: tuple[str, ...]) -> Field:
        """Reads columns of texts, each different one a category."""
        pairs = [cells.encoded(self.table, name) for name in names]
        codes = self.in_order(np.stack([codes for codes, _ in pairs], axis=1))
        return Field(names, codes, tuple(vocabulary for _, vocabulary in pairs))

    def of_the_whole(self, field: Field) -> Field:
        """Takes a value of each sequence, and refuses one that changes within it."""
        begins = np.repeat(self.starts, self.lengths)
        changed = field.values != field.values[begins]
        for number, name in enumerate(field.names):
            if changed[:, number].any():
                rows = self.order[changed[:, number]]
                row = int(rows.min())
                at = int(np.flatnonzero(self.order == row)[0])
                first = int(self.order[begins[at]])
                values = field.texts(number)
                self.table.refuse(
                    row,
                    name,
                    found=f"{quote(values[at])} where {self.table.line_beside(first, row)} of the same sequence has"
                    f" {quote(values[int(begins[at])])}",
                    expected="one value for a whole sequence",
                    remedy="mend the line, or the --id-column; or take it as an input, for what changes",
                )
        return field.take(self.starts)

    def _filled(self, name: str, values: NDArray[np.float64], lost: NDArray[np.bool_]) -> NDArray[np.float64]:
        places = np.where(lost, -1, np.arange(values.size))
        latest = np.maximum.accumulate(places)
        begins = np.repeat(self.starts, self.lengths)
        if (latest < begins).any():
            row = int(self.order[latest < begins].min())
            self.table.refuse(
                row,
                name,
                found="a missing value before the first of its sequence",
                expected="one before it that can stand for it, since missing is forward",
                remedy="give --missing=mask, or remove the step",
            )
        return values[latest]

    def _refuse_missing(self, name: str, lost: NDArray[np.bool_], *, is_input: bool) -> NoReturn:
        ways = "give --missing=forward for the one before, --missing=mask for 0 and a mark, or remove the step"
        many = "the only one" if lost.sum() == 1 else f"the first of {int(lost.sum())}"
        self.table.refuse(
            int(self.order[lost].min()),
            name,
            found=f"a missing value in {quote(name)}, {many}",
            expected="a number",
            remedy=ways if is_input else "fill it in, or remove the sequence; --missing is of inputs only",
        )
