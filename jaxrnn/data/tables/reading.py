"""Sequences out of what people have: files of tables, DataFrames, lists of arrays.

import jaxrnn
sequences = jaxrnn.read("panel.csv", id_column="unit", time_column="hour", input_columns=["speed", "load"])
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.options import ReadOptions
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.tables.columnar_tables import without_views
from jaxrnn.data.tables.columns import Columns, Names, TextOptions, Tokens
from jaxrnn.data.tables.files import paths_of, read_files
from jaxrnn.data.tables.lists import read_arrays, read_text_list
from jaxrnn.data.tables.ragged_rows import FORM as RAGGED_ROWS
from jaxrnn.data.tables.step_tables import Table, read_table
from jaxrnn.data.tables.texts import read_texts
from jaxrnn.data.tables.wide_tables import is_wide, read_wide_table
from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.checking import require

if TYPE_CHECKING:
    import pyarrow as pa

_BESIDE_TEXTS = ("id_column", "label_column")  # roles by a format that columns beside texts have too


def read(
    source: Any,
    *,
    id_column: str | None = None,
    time_column: str | None = None,
    input_columns: Names = (),
    category_columns: Names = (),
    target_columns: Names = (),
    known_columns: Names = (),
    label_column: str | None = None,
    static_columns: Names = (),
    group_column: str | None = None,
    text_column: str | None = None,
    tokens: Tokens | None = None,
    each_step_has_a_label: bool = False,
    missing: Literal["error", "forward", "mask"] = "error",
    targets_may_be_missing: bool = False,
    delimiter: str | None = None,
    comment: str | None = None,
    skip_lines: int = 0,
    decimal: str = ".",
    header: bool | None = None,
    row_end: Literal["nan", "empty"] | None = None,
    max_bytes: int = ReadOptions.max_bytes,
    labels: Sequence[Any] | None = None,
    ids: Sequence[Any] | None = None,
) -> Sequences:
    """Reads sequences of any lengths, or refuses what it cannot read with the place of the first fault.

    A table has a row for each step, in any order: the sequences come in the order of their ids, whole numbers by size,
    and each in the order of its times. A table of lists has a row for each sequence: the lists of a row are equally
    long, and a list of lists is one of steps with several features. The same steps give the same sequences, whatever
    holds them. A file without a header has a sequence of one feature in each row, and a text in each row of a table is
    a sequence of tokens.

    Args:
      source: The path of a CSV or TSV with a header, of rows without one, a Parquet or Arrow IPC file, JSON Lines, a
        ``.ts`` file of sktime and aeon or a ``.tsf`` file of Monash, compressed or not; the format is told from the
        content. Several paths in a list, or a pattern such as ``runs/*.csv``, are read as one table if they are alike;
        without ids each file of steps is a sequence. Or a DataFrame, or anything else with ``__arrow_c_stream__``; a
        list of arrays, (length, features) or (length,); or a list of texts, with `tokens`. What a format says of its
        own (the keys ``id`` and ``label`` of JSON Lines, the class of a ``.ts`` file) has its role unless other
        columns are named.
      id_column: Says which sequence a step belongs to; without one the table is a single sequence.
      time_column: Puts the steps of a sequence in order; without one they stand in the table's own.
      input_columns: Numbers to read at every step; if left out, all columns of numbers without another role.
      category_columns: Texts or whole numbers to read at every step, of which each different one is a category.
      target_columns: Numbers to predict.
      known_columns: Numbers of every step that are known ahead of it, as a price or a holiday is.
      label_column: A class or number that belongs to a whole sequence; in rows without a header "first" or "last".
      static_columns: Numbers that belong to a whole sequence.
      group_column: Says which sequences belong together, such as those of one person: a split keeps them on one side.
      text_column: Texts, each a sequence of tokens, which are categories of the steps.
      tokens: What the steps of a text are: "character" (the default), "word" or "byte".
      each_step_has_a_label: Labels may change within a sequence.
      missing: What becomes of inputs, and numbers known ahead, that are missing: "error", "forward" for the last one
        before, or "mask" for 0 and a further input for each that is 1 there, whether or not this file lacks any.
      targets_may_be_missing: It holds for targets too, as forecasting does, but "mask" leaves them NaN, without a mark;
        else a target that is missing is refused.
      delimiter: The character between two cells of a text; None takes the one of ``,``, a tab and ``;`` in its header.
      comment: Lines of a text that begin with it are left out.
      skip_lines: Lines before a text's header that are left out.
      decimal: The character before the decimals of a text's numbers.
      header: Whether the first line of a text names the columns; None tells it from the text, or refuses it in doubt.
      row_end: In rows without a header, fields that end a row: "nan" or "empty" ones behind its last value.
      max_bytes: The most bytes of data, after decompression.
      labels: The labels of a list of arrays or texts, one each.
      ids: The ids of a list of arrays or texts, one each; they stay in the list's order.

    Returns:
      The sequences: inputs and targets float64; categories and labels int32 with the texts they stand for.

    Raises:
      DataError: ``FILE:LINE:COLUMN: found ...; expected ...; what to do``, all counted from 1.
      UserError: An option is not one of its values.
      TypeError: The source is nothing that can be read.

    Example:
      >>> import jaxrnn
      >>> import pyarrow as pa
      >>> table = pa.table({"unit": ["b", "a", "b"], "hour": [2, 1, 1], "speed": [3.0, 1.0, 2.0]})
      >>> sequences = jaxrnn.read(table, id_column="unit", time_column="hour")
      >>> sequences
      Sequences(2, of 1 to 2 steps: 1 inputs; times; ids)
      >>> [array.tolist() for array in sequences.arrays("inputs")]
      [[[1.0]], [[2.0], [3.0]]]
      >>> texts = jaxrnn.read(["So, so good", "Bad"], tokens="word", labels=["good", "bad"])
      >>> [text.steps["categories"].texts() for text in texts]
      [['So', ',', 'so', 'good'], ['Bad']]
    """
    columns = Columns(
        id_column=id_column,
        time_column=time_column,
        input_columns=input_columns,
        category_columns=category_columns,
        target_columns=target_columns,
        known_columns=known_columns,
        label_column=label_column,
        static_columns=static_columns,
        group_column=group_column,
        each_step_has_a_label=each_step_has_a_label,
        text_column=text_column,
        tokens=tokens,
        missing=missing,
        targets_may_be_missing=targets_may_be_missing,
    )
    options = TextOptions(
        delimiter=delimiter, comment=comment, skip_lines=skip_lines, decimal=decimal, header=header, row_end=row_end
    )
    return read_source(source, columns, options, max_bytes=max_bytes, labels=labels, ids=ids)


def read_source(
    source: Any,
    columns: Columns,
    options: TextOptions,
    *,
    max_bytes: int,
    labels: Sequence[Any] | None = None,
    ids: Sequence[Any] | None = None,
) -> Sequences:
    """Does what `read` does, whose arguments are in `columns` and `options`."""
    tokens = columns.tokens
    is_list = isinstance(source, list | tuple)
    is_texts = is_list and columns.text_column is None and tokens is not None
    paths = None if is_texts else paths_of(source)
    for name, given in (("label", labels), ("id", ids)):
        hint = "; if the list holds texts, give tokens" if is_list else ""
        require(
            given is None or (is_list and paths is None),
            f"{name}s",
            "some",
            f"none: a table has them in its {name}_column{hint}",
        )
    if paths is not None:
        return _read_any(read_files(paths, columns, options, max_bytes=max_bytes), columns)
    options.refuse_for("the source")
    if is_list:
        named = ", ".join(name for name, _ in columns.roles())
        require(not named, "columns", named, "none: arrays have no names")
        if tokens is not None:
            return read_text_list(source, tokens, labels=labels, ids=ids)
        return read_arrays(source, labels=labels, ids=ids)
    return _read_any(_frame(source), columns)


def _frame(source: Any) -> Table:
    is_pandas = type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns")
    # A column alone, a Series, has a stream as well, of no columns.
    is_column = hasattr(source, "__arrow_c_stream__") and not hasattr(source, "columns") and hasattr(source, "dtype")
    if is_column or not (is_pandas or hasattr(source, "__arrow_c_stream__")):
        raise TypeError(
            f"source: got {type(source).__name__}; expected a path, a DataFrame or another table with"
            " __arrow_c_stream__, or a list of paths, arrays or texts"
        )
    import pyarrow as pa

    try:
        content = without_views(pa.table(source))
        if is_pandas:  # rows that were chosen from a DataFrame have numbers, which are no column of it
            numbered = [field.name for field in content.schema
                        if field.name.startswith("__index_level_") and pa.types.is_integer(field.type)]  # fmt: skip
            content = content.drop_columns(numbered)
    except (pa.ArrowException, ValueError) as error:  # ValueError: pandas has two columns of one name
        raise _complaint_about(source if is_pandas else None, str(error)) from error
    return Table("the table", content if not is_pandas else _with_zones_alike(content, source))


def _complaint_about(frame: Any, reason: str) -> DataError:
    """Makes the complaint about a table that Arrow does not take; names the column of a DataFrame of pandas."""
    import pyarrow as pa

    found, expected, remedy = quote(reason), "plain columns", "give each column one type"
    if frame is not None and not frame.columns.is_unique:
        name = str(frame.columns[frame.columns.duplicated()][0])
        found, expected, remedy = f"two columns named {quote(name)}", "names that differ", "rename them"
    elif frame is not None:
        for number, name in enumerate(frame.columns):
            try:
                pa.array(frame.iloc[:, number], from_pandas=True)
            except (pa.ArrowException, ValueError):
                found = f"values of different kinds in the column {quote(str(name))}"
                break
    return complaint("the table", found=found, expected=expected, remedy=remedy)


def _with_zones_alike(content: "pa.Table", frame: Any) -> "pa.Table":
    """Puts texts in the place of objects that are times of which some name their zone: Arrow takes others for UTC's."""
    import pyarrow as pa

    for number in range(min(frame.shape[1], content.num_columns)):
        if frame.dtypes.iloc[number].kind == "O" and pa.types.is_timestamp(content.schema.types[number]):
            times = [None if time is None or time != time else time for time in frame.iloc[:, number]]  # NaT is no time
            if len({time.tzinfo is not None for time in times if time is not None}) > 1:
                texts = pa.array([None if time is None else str(time) for time in times], pa.string())
                content = content.set_column(number, content.schema.names[number], texts)
    return content


def _read_any(table: Table, columns: Columns) -> Sequences:
    if table.form == RAGGED_ROWS:  # the label's place is the name of no column
        columns = dataclasses.replace(columns, label_column=None)
    columns = columns.without_absent(table.content.column_names)
    is_text, has_lists = columns.text_column is not None, is_wide(table)
    require(is_text or columns.tokens is None, "tokens", columns.tokens, "none without text_column")
    if is_text or has_lists or table.part_of is not None:
        own = {role: names for role, names in table.own_roles.items() if not is_text or role in _BESIDE_TEXTS}
        columns = columns.with_own(own, table.content.column_names)
    if is_text:
        sequences = read_texts(table, columns)
    else:
        sequences = read_wide_table(table, columns) if has_lists else read_table(table, columns)
    return dataclasses.replace(sequences, schedule=table.schedule)
