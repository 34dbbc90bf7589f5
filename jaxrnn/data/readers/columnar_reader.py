"""Reads a list column of a Parquet or Arrow IPC file, a batch at a time."""

from collections.abc import Iterator
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.columnar_sizes import arrow_sizes, parquet_sizes, whole_file
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW, ReadOptions
from jaxrnn.data.readers.sources import too_many_bytes

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET = b"PAR1"
_ARROW_FILE = b"ARROW1"
_ARROW_STREAM = b"\xff\xff\xff\xff"
# Few enough that a run-length code for billions of values is caught after a small share of them.
_BATCH_ROWS = 1 << 13
_VALUE_BYTES = 8  # of a value, and of a row's length
_EXPECTED_TYPE = "a column of lists of ints or floats"


def is_columnar(stream: BufferedReader) -> bool:
    """Whether the first bytes are those of a Parquet file or of an Arrow file or stream."""
    return stream.peek(len(_ARROW_FILE)).startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM))


def read_columns(stream: BufferedReader, *, name: str, options: ReadOptions) -> Ragged:
    """Reads the rows of a list column: `read_column_blocks` of all bytes of a stream.

    The whole file is read into memory first, within the stream's own limit of bytes: both formats
    keep their index at the end, and the stream may be a pipe. What it says of itself that it inflates
    to, and then the values, batch by batch, count against the same limit before they are made.

    Raises:
      DataError: It is no such file, has no such column, or the first element that is refused.
    """
    import pyarrow as pa

    blocks = list(read_column_blocks(pa.py_buffer(stream.read()), name=name, options=options))
    return Ragged.from_lengths(*map(np.concatenate, zip(*blocks, strict=True)))


def read_column_blocks(
    content: "pa.Buffer", *, name: str, options: ReadOptions
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Reads the rows of a list column, a few thousand at a time: values (num_values,) and lengths (num_rows,).

    Args:
      content: The file, mapped into memory perhaps.
      name: What messages call it.
      options: How to read it.

    Raises:
      DataError: As `read_columns` does.
    """

    num_rows = num_bytes = 0
    with whole_file(name):
        for batch in _batches(content, name, options):
            # Offsets out of range would be read as they stand, past the end of the buffers.
            batch.validate(full=True)
            for start in range(0, len(batch), _BATCH_ROWS):
                rows = batch.slice(start, _BATCH_ROWS)
                num_bytes += _VALUE_BYTES * (len(rows.flatten()) + len(rows))
                if num_bytes > options.max_bytes:
                    raise too_many_bytes(name, options.max_bytes)
                yield _convert(rows, name, num_rows, options)
                num_rows += len(rows)
    if not num_rows:
        raise complaint(name, found="no rows", expected=_EXPECTED_TYPE, remedy="check that it is the right file")


def _batches(content: "pa.Buffer", name: str, options: ReadOptions) -> Iterator["pa.Array"]:
    """Yields the chosen column's arrays."""
    import pyarrow as pa

    head = memoryview(content)[: len(_ARROW_FILE)].tobytes()
    if head.startswith(_PARQUET):
        yield from _parquet_batches(content, name, options)
        return
    is_file = head.startswith(_ARROW_FILE)
    if any(size > options.max_bytes for size in arrow_sizes(content, is_file=is_file)):
        raise too_many_bytes(name, options.max_bytes)
    file = pa.BufferReader(content)
    # The batch reader of a stream and that of a file share no base class, only these names.
    reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
    index = reader.schema.names.index(_choose_column(reader.schema, name, options))
    if is_file:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number).column(index)
    else:
        for batch in reader:
            yield batch.column(index)


def _parquet_batches(content: "pa.Buffer", name: str, options: ReadOptions) -> Iterator["pa.Array"]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(content) as parquet:
        column = _choose_column(parquet.schema_arrow, name, options)
        num_bytes = 0
        # No look at metadata.row_group(i).column(j): pyarrow 26 ends the process there on a damaged file.
        for num_values, page_bytes in parquet_sizes(memoryview(content).cast("B"), column):
            num_bytes += _VALUE_BYTES * num_values
            if max(num_bytes, page_bytes) > options.max_bytes:
                raise too_many_bytes(name, options.max_bytes)
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=[column]):
            yield batch.column(0)


def _choose_column(schema: "pa.Schema", name: str, options: ReadOptions) -> str:
    """The name of the column to read."""
    candidates = [field.name for field in schema if _is_list_of_numbers(field.type)]
    listed = ", ".join(quote(candidate) for candidate in candidates[:5])
    if options.column is not None:
        matches = [field for field in schema if field.name == options.column]
        if len(matches) == 1 and options.column in candidates:
            return options.column
        found = f"{len(matches) or 'no'} columns named {quote(options.column)}"
        if len(matches) == 1:
            found = f"the column {quote(options.column)} of type {quote(str(matches[0].type))}"
        remedy = f"give --column with one of {listed}" if candidates else "the file has no column of lists of numbers"
        raise complaint(name, found=found, expected=_EXPECTED_TYPE, remedy=remedy)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise complaint(
            name,
            found=f"{len(candidates)} columns of lists",
            expected="one",
            remedy=f"give --column with one of {listed}",
        )
    types = ", ".join(f"{quote(field.name)} {quote(str(field.type))}" for field in list(schema)[:5])
    raise complaint(
        name,
        found=f"only columns of other types ({types})" if types else "no columns",
        expected=_EXPECTED_TYPE,
        remedy="write each sequence as a list",
    )


def _is_list_of_numbers(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and (types.is_integer(kind.value_type) or types.is_floating(kind.value_type))


def _convert(
    array: "pa.Array", name: str, num_rows_before: int, options: ReadOptions
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The values (num_values,) and lengths (num_rows,) of an array of lists, checked."""
    import pyarrow.compute as pc

    if array.null_count:
        row = int(np.argmax(np.asarray(array.is_null()))) + num_rows_before
        raise complaint(
            name, row + 1,
            found="null in place of a row", expected="a list of numbers", remedy="remove the row",
        )  # fmt: skip
    lengths = np.asarray(pc.list_value_length(array)).astype(np.int64)
    flat = array.flatten()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Numbers and not objects, nulls included: those are found by their own mask.
    values = np.asarray(flat.fill_null(0)).astype(np.float64)
    is_null = np.asarray(flat.is_null())
    bad_values = is_null | ~(np.abs(values) < FLOAT32_OVERFLOW)
    bad_lengths = (lengths < options.min_length) | (lengths > options.max_row_length)
    first_bad_row = int(np.argmax(bad_lengths)) if bad_lengths.any() else lengths.size
    if bad_values.any():
        index = int(np.argmax(bad_values))
        row = int(np.searchsorted(offsets, index, side="right")) - 1
        if row < first_bad_row:
            is_huge = np.isfinite(values[index])
            raise complaint(
                name, num_rows_before + row + 1, index - int(offsets[row]) + 1,
                found="null" if is_null[index] else quote(repr(float(values[index]))),
                expected="a number that float32 can hold, of magnitude below 3.4028236e38"
                if is_huge and not is_null[index] else "a finite number",
                remedy="remove the row, or mend the value",
            )  # fmt: skip
    if first_bad_row < lengths.size:
        length = int(lengths[first_bad_row])
        if length > options.max_row_length:
            raise complaint(
                name, num_rows_before + first_bad_row + 1, options.max_row_length + 1,
                found=f"a row of {length} values",
                expected=f"at most {options.max_row_length}",
                remedy="split the row, or raise --max-row-length",
            )  # fmt: skip
        raise complaint(
            name, num_rows_before + first_bad_row + 1, length + 1,
            found=f"a row of {length} value{'' if length == 1 else 's'}",
            expected=f"at least {options.min_length}, the last to be predicted from the others",
            remedy="remove the row",
        )  # fmt: skip
    return values, lengths
