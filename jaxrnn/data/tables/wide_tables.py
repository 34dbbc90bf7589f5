"""Tables whose cells are lists, a row of which is a whole sequence: turned into tables of steps."""

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.complaints import quote
from jaxrnn.data.sequences import IDS, Sequences
from jaxrnn.data.tables import cells
from jaxrnn.data.tables.columns import Columns
from jaxrnn.data.tables.step_tables import Table, read_table, require_columns

if TYPE_CHECKING:
    import pyarrow as pa

_ROW = "\0row"  # no file has a column of that name


def is_wide(table: Table) -> bool:
    """Whether a column holds lists."""
    return any(_is_list(kind) for kind in table.content.schema.types)


def read_wide_table(table: Table, columns: Columns) -> Sequences:
    """Reads a table of sequences.

    Lists of one row are equally long, each number a step; of lists of lists the inner ones are steps of one feature or
    several, named NAME.0, NAME.1 and so on. Columns without lists belong to a whole sequence.

    Args:
      table: The sequences.
      columns: What each column is; if no inputs are named, all lists of numbers without another role are.

    Raises:
      DataError: As `read_table` does; or lists of a row differ in length, or are empty.
    """
    import pyarrow as pa

    require_columns(table, columns)
    if columns.id_column is not None and not _is_list(_type_of(table, columns.id_column)):
        require_each_id_once(table, columns.id_column)
    taken = {name for name, _ in columns.roles()}
    lists = [name for name in table.content.column_names if _is_list(_type_of(table, name))]
    model, free = columns.of_model, () if columns.input_columns else lists
    if model is not None:  # NAME.0, NAME.1 and so on are features of a list
        held = [name for name in free if any(one == name or one.startswith(f"{name}.") for one in model)]
        free = held if held or not model else free
    used = [name for name in lists if name in taken or name in free]
    if not used:
        table.refuse_whole(
            found="no lists in the columns that are named", expected="one", remedy="mend --input-columns"
        )
    flat, lengths = _flatten(table, used)
    parents = np.repeat(np.arange(table.content.num_rows), lengths)
    content = _long_table(table, flat, parents, {name for name in taken if name not in lists})
    if columns.id_column is None:
        content = content.append_column(_ROW, pa.array(parents))
    inputs = columns.input_columns or [name for name in used if name not in taken]
    roles = {
        field: tuple(new for name in names for new in flat.get(name, {name: None}))
        for field, names in (
            ("input_columns", inputs),
            ("category_columns", columns.category_columns),
            ("target_columns", columns.target_columns),
            ("known_columns", columns.known_columns),
        )
    }
    number = table.numbers()
    places = {**number, **{new: number[name] for name, features in flat.items() for new in features}}
    part_of = table.part_of
    long = Table(
        table.name,
        content,
        lambda row: table.line_of(int(parents[row])),
        places,
        part_of=None if part_of is None else lambda row: part_of(int(parents[row])),
        column_of=table.column_of,
    )
    changed: Columns = dataclasses.replace(columns, id_column=columns.id_column or _ROW, **cast("Any", roles))
    sequences = read_table(long, changed)
    if columns.id_column is None:
        return Sequences(
            sequences.offsets, sequences.steps, {name: field for name, field in sequences.rows.items() if name != IDS}
        )
    return sequences


def require_each_id_once(table: Table, column: str) -> None:
    """Refuses a table of sequences that has an id twice.

    Raises:
      DataError: It does; names both lines.
    """
    codes, ids = cells.encoded(table, column)
    if len(ids) == codes.size:
        return
    order = np.argsort(codes, kind="stable")
    second = int(order[1:][np.diff(codes[order]) == 0].min())
    first = int(np.argmax(codes == codes[second]))
    table.refuse(
        second,
        column,
        found=f"the id {quote(ids[codes[second]])} again, as in {table.line_beside(first, second)}",
        expected="each id once",
        remedy="remove one of the two; or if a row is a step, write a column for each of its features, not a list",
    )


def _is_list(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _type_of(table: Table, name: str) -> "pa.DataType":
    return table.content.schema.field(table.content.column_names.index(name)).type


def _flatten(table: Table, names: list[str]) -> tuple[dict[str, dict[str, "pa.Array"]], NDArray[np.int64]]:
    """Returns the steps of every list column, by the names of its features, and the lengths of the rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    flat: dict[str, dict[str, pa.Array]] = {}
    lengths: NDArray[np.int64] | None = None
    for name in names:
        array = pa.concat_arrays(table.content.column(name).chunks)
        if array.null_count:
            row = int(np.argmax(np.asarray(array.is_null())))
            table.refuse(row, name, found="no list", expected="one of the steps", remedy="remove the row")
        found = np.asarray(pc.list_value_length(array)).astype(np.int64)
        lengths = found if lengths is None else lengths
        for bad, expected in (
            (found != lengths, f"as many steps as {quote(names[0])} has there"),
            (found == 0, "a step at least"),
        ):
            if bad.any():
                row = int(np.argmax(bad))
                steps = f"{found[row]} step{'' if found[row] == 1 else 's'}"
                table.refuse(row, name, found=steps, expected=expected, remedy="mend the row, or remove it")
        steps = array.flatten()
        flat[name] = _features(table, name, steps, found) if _is_list(steps.type) else {name: steps}
    return flat, np.zeros(0, np.int64) if lengths is None else lengths


def _features(table: Table, name: str, steps: "pa.Array", lengths: NDArray[np.int64]) -> dict[str, "pa.Array"]:
    """Splits steps of several features."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.asarray(pc.list_value_length(steps).fill_null(-1)).astype(np.int64)
    features = int(sizes[0]) if sizes.size else 0
    if (sizes != features).any() or features < 1:
        step = int(np.argmax(sizes != features)) if (sizes != features).any() else 0
        row = int(np.searchsorted(np.cumsum(lengths), step, side="right"))
        table.refuse(
            row,
            name,
            found=f"a step of {max(int(sizes[step]), 0)} feature{'' if sizes[step] == 1 else 's'}",
            expected=f"{features}, as the first step of the file has" if features > 0 else "one at least",
            remedy="mend the row, or remove it",
        )
    values = steps.flatten()
    if features == 1:
        return {name: values}
    index = np.arange(len(steps)) * features
    return {f"{name}.{number}": values.take(pa.array(index + number)) for number in range(features)}


def _long_table(
    table: Table, flat: dict[str, dict[str, "pa.Array"]], parents: NDArray[np.int64], whole: set[str]
) -> "pa.Table":
    """Puts the steps beside what belongs to their sequences."""
    import pyarrow as pa

    columns = {new: array for features in flat.values() for new, array in features.items()}
    for name in table.content.column_names:
        if name in whole:
            column = table.content.column(name)
            # Of texts the steps share the one of their sequence.
            is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            columns[name] = (column.dictionary_encode() if is_text else column).take(pa.array(parents))
    return pa.table(columns)
