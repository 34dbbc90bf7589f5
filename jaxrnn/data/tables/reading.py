"""Sequences out of what people have: files of tables, DataFrames, lists of arrays.

import jaxrnn
sequences = jaxrnn.read("panel.csv", id_column="unit", time_column="hour", input_columns=["speed", "load"])
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np

from jaxrnn.data.readers.columnar_reader import is_columnar
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.options import ReadOptions
from jaxrnn.data.readers.sources import decompressed, limited, open_file, require_size
from jaxrnn.data.sequences import IDS, INPUTS, LABELS, Field, Sequences, encode
from jaxrnn.data.tables.columnar_tables import read_columnar
from jaxrnn.data.tables.columns import Columns, Names
from jaxrnn.data.tables.delimited import read_delimited
from jaxrnn.data.tables.json_lines import is_json_lines, read_json_lines
from jaxrnn.data.tables.step_tables import Table, read_table
from jaxrnn.data.tables.ts_files import is_ts, read_ts
from jaxrnn.data.tables.wide_tables import is_wide, read_wide_table
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.checking import require

_HEAD_BYTES = 1 << 16


def read(
    source: Any,
    *,
    id_column: str | None = None,
    time_column: str | None = None,
    input_columns: Names = (),
    category_columns: Names = (),
    target_columns: Names = (),
    label_column: str | None = None,
    static_columns: Names = (),
    each_step_has_a_label: bool = False,
    missing: Literal["error", "forward", "mask"] = "error",
    delimiter: str | None = None,
    comment: str | None = None,
    skip_lines: int = 0,
    decimal: str = ".",
    max_bytes: int = ReadOptions.max_bytes,
    labels: Sequence[Any] | None = None,
    ids: Sequence[Any] | None = None,
) -> Sequences:
    """Reads sequences of any lengths, or refuses what it cannot read with the place of the first fault.

    A table has a row for each step, in any order: the sequences come in the order of their ids, whole numbers by size,
    and each in the order of its times. A table of lists has a row for each sequence: the lists of a row are equally
    long, and a list of lists is one of steps with several features. The same steps give the same sequences, whatever
    holds them.

    Args:
      source: The path of a CSV or TSV with a header, a Parquet or Arrow IPC file, JSON Lines, or a ``.ts`` file of
        sktime and aeon, compressed or not; the format is told from the content. Or a DataFrame, or anything else with
        ``__arrow_c_stream__``; or a list of arrays, (length, features) or (length,). In JSON Lines the keys ``id`` and
        ``label``, in a ``.ts`` file the class or target, have their roles unless others are named.
      id_column: Says which sequence a step belongs to; without one the table is a single sequence.
      time_column: Puts the steps of a sequence in order; without one they stand in the table's own.
      input_columns: Numbers to read at every step; if left out, all columns of numbers without another role.
      category_columns: Texts or whole numbers to read at every step, of which each different one is a category.
      target_columns: Numbers to predict.
      label_column: A class or number that belongs to a whole sequence.
      static_columns: Numbers that belong to a whole sequence.
      each_step_has_a_label: Labels may change within a sequence.
      missing: What becomes of inputs that are missing: "error", "forward" for the last one before, or "mask" for 0 and
        a further input that is 1 there.
      delimiter: The character between two cells of a text; None takes the one of ``,``, a tab and ``;`` in its header.
      comment: Lines of a text that begin with it are left out.
      skip_lines: Lines before a text's header that are left out.
      decimal: The character before the decimals of a text's numbers.
      max_bytes: The most bytes of data, after decompression.
      labels: The labels of a list of arrays, one each.
      ids: The ids of a list of arrays, one each; they stay in the list's order.

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
    """
    columns = Columns(
        id_column=id_column,
        time_column=time_column,
        input_columns=input_columns,
        category_columns=category_columns,
        target_columns=target_columns,
        label_column=label_column,
        static_columns=static_columns,
        each_step_has_a_label=each_step_has_a_label,
        missing=missing,
    )
    is_list = isinstance(source, list | tuple)
    require(is_list or labels is None, "labels", "some", "none: a table has them in its label_column")
    require(is_list or ids is None, "ids", "some", "none: a table has them in its id_column")
    text_options = {"delimiter": delimiter, "comment": comment, "skip_lines": skip_lines, "decimal": decimal}
    _require_text_options(**cast("Any", text_options))
    if isinstance(source, str | os.PathLike):
        return _read_any(_read_file(source, max_bytes, text_options), columns)
    _refuse_text_options(text_options, "the source")
    if is_list:
        given = ", ".join(name for name, _ in columns.roles())
        require(not given, "columns", given, "none: arrays have no names")
        return read_arrays(source, labels=labels, ids=ids)
    if hasattr(source, "__arrow_c_stream__") or type(source).__module__.partition(".")[0] == "pandas":
        import pyarrow as pa

        try:
            content = pa.table(source)
        except pa.ArrowException as error:
            remedy = "give each column one type"
            raise complaint("the table", found=quote(str(error)), expected="plain columns", remedy=remedy) from error
        return _read_any(Table("the table", content), columns)
    raise TypeError(
        f"source: got {type(source).__name__}; expected a path, a DataFrame or another table with __arrow_c_stream__, "
        "or a list of arrays"
    )


def read_arrays(
    arrays: Sequence[Any], *, labels: Sequence[Any] | None = None, ids: Sequence[Any] | None = None
) -> Sequences:
    """Makes sequences of arrays.

    Args:
      arrays: Of real numbers: (length, features) each, or (length,) for one feature.
      labels: One each; they become classes, or are read as numbers by a task that wants some.
      ids: One each.

    Raises:
      UserError: An array is of something else or has other features; or there are as many labels or ids no arrays.
    """
    found = []
    for number, array in enumerate(arrays):
        name, expected = f"array {number}", "(length, features) or (length,) real numbers"
        try:
            values = np.asarray(array)
        except ValueError as error:  # lists of different lengths in it
            raise UserError(f"{name}: got lists of different lengths; expected {expected}") from error
        require(values.dtype.kind in "fiu" or not values.size, name, values.dtype, expected)
        values = values[:, None] if values.ndim == 1 else values
        require(values.ndim == 2, name, f"shape {values.shape}", expected)
        found.append(values.astype(np.float64))
        require(bool(np.isfinite(found[-1]).all()), name, "NaN or infinite values", "finite ones")
        features = found[0].shape[1]
        require(values.shape[1] == features, name, f"{values.shape[1]} features", f"{features}, as the first has")
    require(bool(found), "source", "no arrays", "at least one")
    rows = {}
    for field, given in ((LABELS, labels), (IDS, ids)):
        if given is None:
            continue
        require(len(given) == len(found), field, f"{len(given)}", f"{len(found)}, one for each array")
        texts = [str(value) for value in given]
        if field == LABELS:
            codes, vocabulary = encode(texts)
            rows[field] = Field(("label",), codes[:, None], (vocabulary,))
        else:
            rows[field] = Field(("id",), np.array(texts, object)[:, None])
    names = tuple(str(number) for number in range(found[0].shape[1]))
    return Sequences.from_lengths(
        [len(values) for values in found], {INPUTS: Field(names, np.concatenate(found))}, rows
    )


def _require_text_options(delimiter: str | None, comment: str | None, skip_lines: int, decimal: str) -> None:
    single = "one ASCII character, no quote, digit or line end"
    for name, value in (("delimiter", delimiter), ("decimal", decimal)):
        is_single = value is None or (
            len(value) == 1 and value.isascii() and value not in '"\r\n' and not value.isdigit()
        )
        require(is_single, name, value, single)
    require(delimiter != decimal, "decimal", decimal, "another character than the delimiter")
    require(comment is None or bool(comment), "comment", comment, "one character or more")
    require(skip_lines >= 0, "skip_lines", skip_lines, "at least 0")


def _refuse_text_options(options: Mapping[str, Any], name: str) -> None:
    for option, value in options.items():
        require(value in (None, 0, "."), option, value, f"none: {name} is no CSV or TSV")


def _read_file(path: str | os.PathLike[str], max_bytes: int, text_options: Mapping[str, Any]) -> Table:
    name = os.fspath(path)
    with open_file(path) as file:
        require_size(name, os.fstat(file.fileno()), max_bytes)
        raw = limited(file, name=name, max_bytes=max_bytes)
        stream = decompressed(raw, name=name, max_bytes=max_bytes)
        is_table = is_columnar(stream)
        content = stream.read()
    head = content[:_HEAD_BYTES]
    if not (is_table or is_json_lines(head) or is_ts(head)):
        return read_delimited(content, name=name, **text_options)
    _refuse_text_options(text_options, name)
    if is_table:
        return read_columnar(content, name=name, max_bytes=max_bytes)
    return read_json_lines(content, name=name) if is_json_lines(head) else read_ts(content, name=name)


def _read_any(table: Table, columns: Columns) -> Sequences:
    if not is_wide(table):
        return read_table(table, columns)
    if table.has_own_roles:
        held = {name for name, _ in columns.roles()}
        for role, name in (("id_column", "id"), ("label_column", "label")):
            if name in table.content.column_names and name not in held and getattr(columns, role) is None:
                columns = dataclasses.replace(columns, **cast("Any", {role: name}))
    return read_wide_table(table, columns)
