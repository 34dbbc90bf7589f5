"""Whole tables of Parquet and Arrow IPC files, held against the limit of bytes before they are inflated."""

from typing import TYPE_CHECKING

from jaxrnn.data.readers.columnar_sizes import arrow_sizes, parquet_sizes, whole_file
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.sources import too_many_bytes
from jaxrnn.data.tables.step_tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

_VALUE_BYTES = 8


def read_columnar(content: bytes, *, name: str, max_bytes: int) -> Table:
    """Reads a table.

    Args:
      content: The file.
      name: What messages call it.
      max_bytes: The most bytes that it may inflate to.

    Raises:
      DataError: It is damaged, or too large.
    """
    with whole_file(name):
        table = _parquet(content, name, max_bytes) if content[:4] == b"PAR1" else _arrow(content, name, max_bytes)
        table.validate(full=True)
        return Table(name, with_plain_texts(table, name))


def with_plain_texts(table: "pa.Table", name: str) -> "pa.Table":
    """Returns a table whose texts lie as Arrow's functions take them.

    Polars has views, which many of them do not take; other writers do not say that their bytes are text.

    Args:
      table: Any.
      name: What messages call it.

    Raises:
      DataError: Bytes are not UTF-8; names the column.
    """
    import pyarrow as pa

    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = _without_views(field.type)
        if kind == field.type:
            columns.append(column)
            continue
        try:
            if pa.types.is_fixed_size_binary(field.type):
                column = column.cast(pa.binary())
            elif _holds_bytes(field.type) and pa.types.is_dictionary(field.type):
                column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], field.type.value_type)
                kind = pa.large_string()
            columns.append(column.cast(kind))
        except pa.ArrowInvalid as error:
            found = f"bytes that are not UTF-8 in the column {quote(field.name)}"
            remedy = "write the column as text, or leave it out of the file"
            raise complaint(name, found=found, expected="text", remedy=remedy) from error
    return pa.table(columns, names=table.column_names) if columns else table


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    are = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_so(kind) for is_so in are)


def _without_views(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_string_view(kind) or _holds_bytes(kind):
        return pa.large_string()
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        return pa.dictionary(kind.index_type, pa.large_string(), ordered=kind.ordered)
    if pa.types.is_large_list(kind):
        return pa.large_list(_without_views(kind.value_type))
    return pa.list_(_without_views(kind.value_type)) if pa.types.is_list(kind) else kind


def _parquet(content: bytes, name: str, max_bytes: int) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(content)) as parquet:
        total = 0
        for field in parquet.schema_arrow:
            for num_values, page_bytes in parquet_sizes(memoryview(content), field.name):
                total += max(_VALUE_BYTES * num_values, page_bytes)
                if total > max_bytes:
                    raise too_many_bytes(name, max_bytes)
        return parquet.read()


def _arrow(content: bytes, name: str, max_bytes: int) -> "pa.Table":
    import pyarrow as pa

    buffer = pa.py_buffer(content)
    is_file = content.startswith(b"ARROW1")
    if sum(arrow_sizes(buffer, is_file=is_file)) > max_bytes:
        raise too_many_bytes(name, max_bytes)
    source = pa.BufferReader(buffer)
    reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
    return reader.read_all()
