"""How large a columnar file says its data is, read from its own index before anything is inflated.

A run-length code makes billions of values from a few bytes, and a compressed buffer inflates a thousandfold, so the
size of a file bounds nothing. Parquet's index and page headers (Thrift's compact protocol) and Arrow's messages
(FlatBuffers) say what a file inflates to. They are read here in plain Python: pyarrow ends the process on some damaged
indices where it is asked for the sizes of columns.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.foundation.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_DEPTH = 32
_PARQUET_TAIL_BYTES = 8  # the index's length, and PAR1
_MAX_PAGE_HEADER_BYTES = 1 << 20  # headers hold a page's least and greatest value, which others may have made long
_ARROW_TAIL_BYTES = 10  # the index's length, and ARROW1
_BLOCK = struct.Struct("<qi4xq")  # where a message starts, bytes of its metadata, of its body
_SPAN = struct.Struct("<qq")  # where a buffer starts in the body, its bytes
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # kinds of messages


@contextlib.contextmanager
def whole_file(name: str) -> Iterator[None]:
    """Turns what pyarrow and the functions here raise on a damaged file into a complaint about it."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, EOFError, OSError, ValueError, KeyError, OverflowError) as error:
        raise complaint(
            name,
            found=f"a columnar file that cannot be read ({quote(str(error))})",
            expected="a whole Parquet or Arrow IPC file",
            remedy="it is damaged or cut short: fetch or write it again",
        ) from error


def parquet_sizes(content: memoryview, column: str) -> Iterator[tuple[int, int]]:
    """Yields ``(values, bytes of the page)`` of every page of a column, as the headers of the pages say.

    Args:
      content: The file, as unsigned bytes.
      column: The name of a column of lists.

    Raises:
      ValueError: The index or a header is damaged.
    """
    length = int.from_bytes(content[-_PARQUET_TAIL_BYTES:-4], "little")
    start = len(content) - _PARQUET_TAIL_BYTES - length
    if start < 0:
        raise ValueError("the index is longer than the file")
    index, _ = _read_struct(content[:-_PARQUET_TAIL_BYTES], start)
    for group in _field(index, 4, list):
        for chunk in _field(group, 1, list):
            described = _field(chunk, 3, dict)
            path = _field(described, 3, list)
            if path and path[0] == column.encode():
                yield from _page_sizes(content, described)


def _page_sizes(content: memoryview, chunk: dict[int, Any]) -> Iterator[tuple[int, int]]:
    total, size, start, dictionary = (_field(chunk, number, int) for number in (5, 7, 9, 11))
    if 0 < dictionary < start:
        start = dictionary
    if not (0 <= start <= len(content) and 0 <= size <= len(content) - start):
        raise ValueError("a column lies outside of the file")
    pages, position, values = content[start : start + size], 0, 0
    while values < total and position < len(pages):
        header, position = _read_struct(pages[: position + _MAX_PAGE_HEADER_BYTES], position)
        inflated, compressed = _field(header, 2, int), _field(header, 3, int)
        num_values = sum(_field(_field(header, number, dict), 1, int) for number in (5, 8))
        if min(inflated, compressed, num_values) < 0:
            raise ValueError("a page of negative size")
        yield num_values, inflated
        position, values = position + compressed, values + num_values


def arrow_sizes(content: "pa.Buffer", *, is_file: bool) -> Iterator[int]:
    """Yields how many bytes the buffers of every batch and dictionary inflate to.

    Args:
      content: An Arrow IPC file or stream.
      is_file: Which of them.

    Raises:
      ValueError: The index or a message is damaged.
    """
    import pyarrow as pa

    if is_file:
        view = memoryview(content)
        length = int.from_bytes(view[-_ARROW_TAIL_BYTES : -_ARROW_TAIL_BYTES + 4], "little")
        index = _Table(view[:-_ARROW_TAIL_BYTES][len(view) - _ARROW_TAIL_BYTES - length :])
        blocks = [block for field in (2, 3) for block in index.structs(field, _BLOCK)]
        for offset, metadata_bytes, body_bytes in blocks:
            if min(offset, metadata_bytes, body_bytes) < 0 or offset + metadata_bytes + body_bytes > len(view):
                raise ValueError("a batch lies outside of the file")
            yield _inflated_size(pa.ipc.read_message(content.slice(offset, metadata_bytes + body_bytes)))
        return
    reader = pa.ipc.MessageReader.open_stream(content)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        yield _inflated_size(message)


def _inflated_size(message: "pa.ipc.Message") -> int:
    """The bytes that the compressed buffers of a message inflate to: each begins with that number."""
    root = _Table(memoryview(message.metadata))
    kind, batch = root.byte(1), root.table(2)
    if kind == _DICTIONARY_BATCH and batch:
        batch = batch.table(1)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None or batch.table(3) is None:
        return 0
    body, total = memoryview(message.body), 0
    for start, length in batch.structs(2, _SPAN):
        if start < 0 or length < 0 or start + length > len(body):
            raise ValueError("a buffer lies outside of its batch")
        if length >= 8:
            # -1 says that the rest is not compressed.
            total += max(0, int.from_bytes(body[start : start + 8], "little", signed=True))
    return total


class _Table:
    """A table of FlatBuffers; fields are numbered in the order of their schema.

    Args:
      data: All bytes.
      position: Where the table stands; None for the root.
    """

    def __init__(self, data: memoryview, position: int | None = None):
        self._data = data
        self._position = self._unpack("<I", 0) if position is None else position
        self._vtable = self._position - self._unpack("<i", self._position)

    def _unpack(self, form: str, position: int) -> int:
        if not 0 <= position <= len(self._data) - struct.calcsize(form):
            raise ValueError("a message points out of itself")
        return struct.unpack_from(form, self._data, position)[0]

    def _place(self, field: int) -> int | None:
        """Where a field stands; None where it is left out."""
        if 4 + 2 * field >= self._unpack("<H", self._vtable):
            return None
        offset = self._unpack("<H", self._vtable + 4 + 2 * field)
        return self._position + offset if offset else None

    def byte(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else self._unpack("<B", place)

    def table(self, field: int) -> "_Table | None":
        place = self._place(field)
        return None if place is None else _Table(self._data, place + self._unpack("<I", place))

    def structs(self, field: int, form: struct.Struct) -> Iterator[tuple[int, ...]]:
        place = self._place(field)
        if place is None:
            return
        start = place + self._unpack("<I", place)
        end = start + 4 + self._unpack("<I", start) * form.size
        if end > len(self._data):
            raise ValueError("a message points out of itself")
        yield from form.iter_unpack(self._data[start + 4 : end])


def _field(fields: Any, number: int, kind: type) -> Any:
    """A field of a struct; 0 or nothing where it is left out."""
    value = fields.get(number, kind()) if isinstance(fields, dict) else None
    if type(value) is not kind:
        raise ValueError("a field of another type than it should have")
    return value


def _read_struct(data: memoryview, position: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Reads a struct of Thrift's compact protocol: values by the numbers of their fields, and where it ends.

    Whole numbers are ints, texts memoryviews, structs dicts; every element takes a byte at least, so that nothing read
    is larger than the data.
    """
    fields: dict[int, Any] = {}
    number = 0
    while kind := _byte(data, position):
        position += 1
        if kind >> 4:
            number += kind >> 4
        else:
            number, position = _read_integer(data, position)
        kind &= 15
        if kind in (1, 2):  # true and false are kinds of their own
            fields[number] = kind == 1
        else:
            fields[number], position = _read_value(data, position, kind, depth)
    return fields, position + 1


def _read_value(data: memoryview, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise ValueError("structures within structures")
    if kind in (4, 5, 6):
        return _read_integer(data, position)
    if kind in (1, 2, 3):
        return _byte(data, position), position + 1
    if kind == 7:
        return None, position + 8
    if kind == 8:
        length, position = _read_varint(data, position)
        if length > len(data) - position:
            raise ValueError("a text longer than the file")
        return data[position : position + length], position + length
    if kind in (9, 10):
        head, position = _byte(data, position), position + 1
        length = head >> 4
        if length == 15:
            length, position = _read_varint(data, position)
        if length > len(data) - position:
            raise ValueError("a list longer than the file")
        values = []
        for _ in range(length):
            value, position = _read_value(data, position, head & 15, depth + 1)
            values.append(value)
        return values, position
    if kind == 12:
        return _read_struct(data, position, depth + 1)
    raise ValueError(f"a field of the unknown kind {kind}")


def _byte(data: memoryview, position: int) -> int:
    if position >= len(data):
        raise ValueError("it ends within a structure")
    return data[position]


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(data, position)
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than 64 bits")


def _read_integer(data: memoryview, position: int) -> tuple[int, int]:
    """A signed number: 0, -1, 1, -2, ... are counted."""
    value, position = _read_varint(data, position)
    return (value >> 1) ^ -(value & 1), position
