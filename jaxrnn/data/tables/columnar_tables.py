"""Whole tables of Parquet and Arrow IPC files, held against the limit of bytes before they are inflated."""

from typing import TYPE_CHECKING

from jaxrnn.data.readers.columnar_sizes import arrow_sizes, parquet_sizes, whole_file
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
        return Table(name, without_views(table))


def without_views(table: "pa.Table") -> "pa.Table":
    """Returns a table whose texts, and bytes, lie as Arrow's functions take them; many do not take polars's views."""
    import pyarrow as pa

    schema = pa.schema([pa.field(field.name, _without_views(field.type)) for field in table.schema])
    return table if schema.types == table.schema.types else table.cast(schema)


def _without_views(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_dictionary(kind) and _without_views(kind.value_type) != kind.value_type:
        return pa.dictionary(kind.index_type, _without_views(kind.value_type), ordered=kind.ordered)
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
