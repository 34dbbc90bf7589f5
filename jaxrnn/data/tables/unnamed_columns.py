"""Which columns of a table of steps are inputs, where the caller has named none."""

from typing import TYPE_CHECKING

from jaxrnn.data.readers.complaints import quote
from jaxrnn.data.tables import cells
from jaxrnn.data.tables.columns import Columns

if TYPE_CHECKING:
    from jaxrnn.data.tables.step_tables import Table

# Columns of such names are rarely values: a table that has one is read when its role is given.
_NO_VALUES = {
    "",
    "unnamed: 0",
    "index",
    "__index_level_0__",
    "id",
    "unique_id",
    "ds",
    "date",
    "time",
    "timestamp",
    "year",
}
_ROLES = "--input-columns, --category-columns, --target-columns, --static-columns, --label-column, --id-column"
_ROLES += ", --time-column, --known-columns, --text-column"


def inputs_of(table: "Table", columns: Columns) -> list[str]:
    """Returns the columns of numbers that are read at every step.

    Args:
      table: The steps.
      columns: Names them; or says which ones a model reads, of which those are taken that there are; else all columns
        of numbers without a role are, if none of them looks like anything but values.

    Raises:
      DataError: A column without a role is no number, or may be something else than values; or a table has none of a
        model's columns.
    """
    if columns.input_columns:
        return list(columns.input_columns)
    if columns.of_model is None:
        return _find_inputs(table, columns)
    held = [name for name in columns.of_model if name in table.content.column_names]
    if columns.of_model and not held:
        found = f"none of the columns that the model reads, such as {quote(columns.of_model[0])}"
        remedy = "rename the columns, or name others by --input-columns"
        table.refuse_whole(found=found, expected="all of them", remedy=remedy)
    return held


def _find_inputs(table: "Table", columns: Columns) -> list[str]:
    """Takes the columns of numbers that have no role, if none of them looks like anything but values."""
    taken = {name for name, _ in columns.roles()}
    left = [name for name in table.content.column_names if name not in taken]
    are_numbers = {name: cells.is_number(table, name) for name in left}
    for name in left:
        if not are_numbers[name] and cells.is_mostly_numbers(table, name):
            cells.numbers(table, name)  # says which cell is none
        if not are_numbers[name]:
            found, expected = f"the column {quote(name)}, which is not of numbers, without a role", "only numbers"
        elif name.lower() in _NO_VALUES or cells.counts_rows(table, name):
            found, expected = (
                f"the column {quote(name)} without a role",
                "values: it looks like an index, an id or a time",
            )
        else:
            continue
        remedy = f"say what each column is ({_ROLES}), for one {_likely_role(table, columns, name, left, are_numbers)}"
        table.refuse_whole(found=found, expected=expected, remedy=remedy)
    return left


def _likely_role(table: "Table", columns: Columns, name: str, left: list[str], are_numbers: dict[str, bool]) -> str:
    """Returns a flag that may well be missing: of times, of ids, or else of the columns that are values."""
    if not are_numbers[name] and columns.time_column is None and cells.holds_times(table, name):
        return f"--time-column={name}"
    if not are_numbers[name] and columns.id_column is None and cells.repeats(table, name):
        return f"--id-column={name}"
    chosen = ",".join(name for name in left if name.lower() not in _NO_VALUES and are_numbers[name])
    return f"--input-columns={chosen or 'NAME'}"
