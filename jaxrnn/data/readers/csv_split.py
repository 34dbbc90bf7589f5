"""Records of CSV split into columns, of text or of numbers: by compiled code where they are plain, by pyarrow else."""

import codecs
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from jaxrnn.data.readers.native import records as native

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BLOCK_BYTES = (1 << 31) - 1  # what pyarrow takes
BLOCK_BYTES = 1 << 22


class Body(NamedTuple):
    """What stands behind the header.

    Attributes:
      source: The whole text.
      begin: Where it begins there.
      is_quoted: Whether a quote is in it.
    """

    source: bytes
    begin: int
    is_quoted: bool

    def __contains__(self, part: object) -> bool:
        """Whether bytes are in it."""
        return self.source.find(part, self.begin) >= 0  # type: ignore[arg-type]

    def records(self, kinds: Sequence[int], delimiter: str) -> native.Records | None:
        """Reads what is plain, columns of the kinds of `native.records`."""
        return native.read_records(self.source, self.begin, kinds, delimiter)


class FileBody(NamedTuple):
    """What stands behind the header of a file that is not read yet.

    Attributes:
      file: A regular file.
      num_bytes: How many bytes it has.
      begin: Where it begins there.
    """

    file: BinaryIO
    num_bytes: int
    begin: int

    def records(self, kinds: Sequence[int], delimiter: str) -> native.Records | None:
        """Reads what is plain, columns of the kinds of `native.records`."""
        return native.read_records_of_file(self.file, self.num_bytes, self.begin, kinds, delimiter)


def read_csv(body: Body, names: list[str], kinds: Mapping[str, "pa.DataType"], delimiter: str) -> "pa.Table":
    """Splits records; columns are texts but for those of `kinds`, which have no missing cell.

    Raises:
      ArrowInvalid: A record has another number of cells, or a cell is not of its kind.
    """
    import pyarrow as pa

    size = len(body.source) - body.begin
    if not body.is_quoted and size > BLOCK_BYTES:
        try:
            return _read(body, names, kinds, delimiter, BLOCK_BYTES, in_threads=True)
        except pa.ArrowInvalid as error:
            if "block" not in str(error):
                raise
    # In one block: a quoted cell may be as long as the file, and any line longer than a block.
    most = min(size + len(codecs.BOM_UTF8) + 1, _MOST_BLOCK_BYTES)
    return _read(body, names, kinds, delimiter, most, in_threads=False, newlines_in_values=body.is_quoted)


def read_plain(
    body: Body | FileBody, names: list[str], kinds: Mapping[str, "pa.DataType"], delimiter: str
) -> "pa.Table | None":
    """Splits records none of whose cells is quoted as `read_csv` does; columns of texts may be run-end encoded.

    Args:
      body: The records.
      names: Those of the columns.
      kinds: The types of columns of numbers, float64 and int64, and null for columns that nobody reads; others are
        texts.
      delimiter: The character between two cells.

    Returns:
      The table; None if anything in it is not plain, or too large for float32, or the compiled code is missing.
    """
    import pyarrow as pa

    kind_of = {pa.float64(): native.DECIMAL, pa.int64(): native.WHOLE, pa.null(): native.UNREAD}
    records = body.records([kind_of.get(kinds.get(name), native.TEXT) for name in names], delimiter)
    if records is None:
        return None
    number = sum(records.block_rows)
    columns: list[Any] = []
    for column in records.columns:
        if column is None:
            columns.append(pa.nulls(number))
        elif isinstance(column, np.ndarray):
            columns.append(pa.array(column))
        else:
            columns.append(_texts_of(column, records.block_rows))
    return pa.table(columns, names=names)


def _texts_of(blocks: list[native.Texts], block_rows: list[int]) -> "pa.RunEndEncodedArray | pa.ChunkedArray":
    """Returns a column: runs of the same text, or texts as they are where few rows have that of the row before."""
    import pyarrow as pa

    texts = []
    for block in blocks:
        ends = np.concatenate([np.zeros(1, np.int32), block.ends])
        texts.append(pa.StringArray.from_buffers(block.ends.size, pa.py_buffer(ends), pa.py_buffer(block.characters)))
    if sum(map(len, texts)) > sum(block_rows) // 2:
        lengths = [np.diff([*block.rows, rows]) for block, rows in zip(blocks, block_rows, strict=True)]
        places = [np.repeat(np.arange(part.size), part) for part in lengths]
        return pa.chunked_array([array.take(pa.array(part)) for array, part in zip(texts, places, strict=True)])
    firsts = np.cumsum([0, *block_rows])
    starts = np.concatenate([block.rows + first for block, first in zip(blocks, firsts, strict=False)] + [firsts[-1:]])
    listed = pa.concat_arrays([array.cast(pa.large_string()) for array in texts])
    return pa.RunEndEncodedArray.from_arrays(pa.array(starts[1:]), listed)


def _read(
    body: Body,
    names: list[str],
    kinds: Mapping[str, "pa.DataType"],
    delimiter: str,
    block_bytes: int,
    *,
    in_threads: bool,
    newlines_in_values: bool = False,
) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv

    content = pa.py_buffer(body.source).slice(body.begin)
    if body.source.startswith(codecs.BOM_UTF8, body.begin):  # pyarrow takes it for the file's own
        content = pa.py_buffer(codecs.BOM_UTF8 + body.source[body.begin :])
    numbered = [str(number) for number in range(len(names))]  # names may be there twice; that is said later
    table = csv.read_csv(
        pa.BufferReader(content),
        read_options=csv.ReadOptions(column_names=numbered, block_size=block_bytes, use_threads=in_threads),
        parse_options=csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=newlines_in_values, ignore_empty_lines=False
        ),
        convert_options=csv.ConvertOptions(
            column_types={number: kinds.get(name, pa.string()) for number, name in zip(numbered, names, strict=True)},
            strings_can_be_null=False,
            null_values=[],
        ),
    )
    return table.rename_columns(names)
