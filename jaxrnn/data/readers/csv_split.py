"""Records of CSV split into columns, of text or of numbers, by pyarrow."""

import codecs
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BLOCK_BYTES = (1 << 31) - 1  # what pyarrow takes
BLOCK_BYTES = 1 << 22


class Body(NamedTuple):
    """What stands behind the header.

    Attributes:
      source: The whole text.
      begin: Where it begins there.
    """

    source: bytes
    begin: int

    def __contains__(self, part: object) -> bool:
        """Whether bytes are in it."""
        return self.source.find(part, self.begin) >= 0  # type: ignore[arg-type]


def body_of(source: bytes, begin: int) -> Body:
    """Returns what stands in a text from `begin` on; pyarrow would take a byte order mark there for the file's own."""
    if source.startswith(codecs.BOM_UTF8, begin):
        return Body(codecs.BOM_UTF8 + source[begin:], 0)
    return Body(source, begin)


def read_csv(body: Body, names: list[str], kinds: Mapping[str, "pa.DataType"], delimiter: str) -> "pa.Table":
    """Splits records; columns are texts but for those of `kinds`, which have no missing cell.

    Raises:
      ArrowInvalid: A record has another number of cells, or a cell is not of its kind.
    """
    import pyarrow as pa

    size, is_quoted = len(body.source) - body.begin, b'"' in body
    if not is_quoted and size > BLOCK_BYTES:
        try:
            return _read(body, names, kinds, delimiter, BLOCK_BYTES, in_threads=True)
        except pa.ArrowInvalid as error:
            if "block" not in str(error):
                raise
    # In one block: a quoted cell may be as long as the file, and any line longer than a block.
    most = min(size + 1, _MOST_BLOCK_BYTES)
    return _read(body, names, kinds, delimiter, most, in_threads=False, newlines_in_values=is_quoted)


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

    numbered = [str(number) for number in range(len(names))]  # names may be there twice; that is said later
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(body.source).slice(body.begin)),
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
