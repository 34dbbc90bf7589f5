"""Reads text rows at speed: blocks of lines, by compiled code, or checked and cut with NumPy and converted by Arrow.

The fast paths only ever accept. A block in which anything at all is unusual goes to
exact_parser.py, which reads it or raises the error of its first bad field.
"""

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers import short_integers
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.exact_parser import blank_line, is_blank, parse_row
from jaxrnn.data.readers.gathering import Gathered
from jaxrnn.data.readers.native import plain_text
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW, MAX_FIELD_LENGTH, ReadOptions

# Without compiled code threads hand Python's lock to each other at every step of smaller blocks, and temporaries of
# larger ones are mapped and unmapped anew for each. On two cores 256 KiB and 2 MiB then took about a sixth longer.
BLOCK_BYTES = 1 << 19
_MAX_HEADER_BYTES = 1 << 20
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BLANK_LINES = re.compile(rb"^[ \t\v\f]{0,%d}\n" % MAX_FIELD_LENGTH, re.MULTILINE)
_NEWLINE, _SPACE = ord("\n"), ord(" ")


@dataclass(frozen=True)
class Block:
    """The rows of a block: values (num_values,), lengths (num_rows,), and its lines in all."""

    values: NDArray[Any]  # float64, or int32 of whole numbers
    lengths: NDArray[np.int32]
    num_lines: int
    num_blank_lines: int = 0


def read_text(
    stream: BufferedReader, *, name: str, options: ReadOptions, num_bytes: int | None = None
) -> tuple[Ragged, int]:
    """Reads the rows of a text stream, of so many bytes if that is known.

    Returns:
      The rows, and the number of blank lines skipped.

    Raises:
      DataError: The first line that is refused, or a stream without rows.
    """
    num_blank_lines = 0
    # A value takes two bytes at least, with what ends it.
    most = None if num_bytes is None else num_bytes // 2 + 1
    with Gathered(most, None if most is None else most // options.min_length + 1) as gathered:
        for block in read_text_blocks(stream, name=name, options=options):
            gathered.add(block.values, block.lengths)
            num_blank_lines += block.num_blank_lines
        return gathered.rows(), num_blank_lines


def read_text_blocks(stream: BufferedReader, *, name: str, options: ReadOptions) -> Iterator[Block]:
    """Reads the rows of a text stream, a block at a time; holds a few blocks of `BLOCK_BYTES`.

    Raises:
      DataError: The first line that is refused, or a stream without rows, once all are read.
    """
    _skip_byte_order_mark(stream, name)
    is_empty = not stream.peek(1)
    line_number = 1
    if options.header and not is_empty:
        _skip_header(stream, name)
        line_number = 2
    num_rows = num_blank_lines = 0
    for text, block in _read_blocks(stream, options):
        if block is None:
            block = _parse_exactly(text, name=name, line_number=line_number, options=options)
        line_number += block.num_lines
        num_rows += block.lengths.size
        num_blank_lines += block.num_blank_lines
        yield block
    if not num_rows:
        found = "an empty file" if is_empty else "no rows"
        if num_blank_lines:
            found += f", only {num_blank_lines} blank line{'s' if num_blank_lines > 1 else ''}"
        elif not is_empty:
            found += ", only a header"
        raise complaint(
            name,
            found=found,
            expected="one row of numbers on each line",
            remedy="check that it is the right file" + (", and --header" if options.header else ""),
        )


def _read_blocks(stream: BufferedReader, options: ReadOptions) -> Iterator[tuple[bytes, Block | None]]:
    """Parses blocks in threads, a few at a time, and yields them in the order of the file."""
    num_workers = plain_text.num_workers()
    pending: deque[tuple[bytes, Future[Block | None]]] = deque()
    with ThreadPoolExecutor(num_workers) as executor:
        for text in _cut_blocks(stream, options):
            pending.append((text, executor.submit(_parse_fast, text, options)))
            if len(pending) > 2 * num_workers:
                text, future = pending.popleft()
                yield text, future.result()
        while pending:
            text, future = pending.popleft()
            yield text, future.result()


def _cut_blocks(stream: BufferedReader, options: ReadOptions) -> Iterator[bytes]:
    """Yields whole lines, in blocks, all ending with a line feed.

    A line that has passed a limit is yielded unfinished, as the last block: the exact pass then
    refuses it, and the rest is never read.
    """
    delimiter = options.delimiter.encode()
    unfinished: list[bytes] = []
    num_delimiters = 0
    carriage_return = b""
    while chunk := stream.read(BLOCK_BYTES):
        # A carriage return at the end waits for the line feed that may follow it.
        chunk = carriage_return + chunk
        carriage_return = b"\r" if chunk.endswith(b"\r") else b""
        chunk = chunk[: len(chunk) - len(carriage_return)]
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join([*unfinished, chunk[:cut]])
            unfinished, num_delimiters = [], 0
        unfinished.append(chunk[cut:])
        num_delimiters += chunk.count(delimiter, cut)
        if num_delimiters >= options.max_row_length or _is_long_field(unfinished, delimiter):
            yield b"".join(unfinished)
            return
    rest = b"".join(unfinished)
    if rest or carriage_return:
        yield rest + b"\n"


def _is_long_field(pieces: list[bytes], delimiter: bytes) -> bool:
    """Whether the last field of an unfinished line is longer than any number."""
    tail = b""
    for piece in reversed(pieces):
        tail = piece[-MAX_FIELD_LENGTH - 1 :] + tail
        if delimiter in tail:
            return False
        if len(tail) > MAX_FIELD_LENGTH:
            return True
    return False


def _parse_fast(text: bytes, options: ReadOptions) -> Block | None:
    """Parses a block of plain rows; None for any other."""
    block = _parse_plain(text, options)
    if block is None and options.blank_lines == "skip":
        filled, num_blank_lines = _BLANK_LINES.subn(b"", text)
        if not num_blank_lines:
            return None
        if not filled:
            return Block(np.empty(0), np.empty(0, np.int32), num_blank_lines, num_blank_lines)
        block = _parse_plain(filled, options)
        if block is not None:
            num_lines = block.num_lines + num_blank_lines
            block = Block(block.values, block.lengths, num_lines, num_blank_lines)
    return block


def _parse_plain(text: bytes, options: ReadOptions) -> Block | None:
    """Parses a block of numbers, delimiters, line feeds and spaces around numbers, else None.

    What this takes, float() and the exact pass take too: Arrow converts digits, sign, point and
    exponent, correctly rounded, and nothing else that the allowed bytes could spell.
    """
    delimiter = options.delimiter.encode()
    if not text.endswith(b"\n"):
        return None
    plain = plain_text.read_rows(text, delimiter, options.min_length, options.max_row_length)
    if plain is not None:
        return Block(*plain, num_lines=plain[1].size)
    separators, field_lengths = _cut_fields(text, delimiter)
    values: Any = None
    if b"." not in text:
        values = short_integers.parse_short_integers(text, separators, field_lengths)
    if values is None:
        # A field of just the limit goes to the exact pass as well, which takes it.
        if text.translate(None, b"0123456789+-.eE \n" + delimiter) or field_lengths.max() >= MAX_FIELD_LENGTH:
            return None
        if delimiter != b" " and b" " in text:
            stripped = _strip_spaces(text, delimiter)
            if stripped is None:
                return None
            text = stripped
            separators, _ = _cut_fields(text, delimiter)
    ends_row = np.frombuffer(text, np.uint8)[separators] == _NEWLINE
    lengths = np.diff(np.flatnonzero(ends_row), prepend=-1).astype(np.int32)
    if lengths.min() < options.min_length or lengths.max() > options.max_row_length:
        return None
    if values is None:
        values = _cast(text, separators, delimiter)
        if values is None or not (values.max() < FLOAT32_OVERFLOW and values.min() > -FLOAT32_OVERFLOW):
            return None
    return Block(values, lengths, num_lines=lengths.size)


def _cut_fields(text: bytes, delimiter: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns where the separator behind each field stands, and the field's length."""
    separators = np.flatnonzero(_is_separator(np.frombuffer(text, np.uint8), delimiter))
    lengths = np.empty_like(separators)
    lengths[0] = separators[0]
    np.subtract(separators[1:], separators[:-1], out=lengths[1:])
    lengths[1:] -= 1
    return separators, lengths


def _cast(text: bytes, separators: NDArray[np.int64], delimiter: bytes) -> NDArray[np.float64] | None:
    """Converts fields by Arrow's cast; None if one of them is no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Arrow's layout of strings: their bytes without the separators, and where each one starts.
    starts = np.zeros(separators.size + 1, np.int64)
    starts[1:] = separators - np.arange(separators.size)
    characters = text.translate(None, b"\n" + delimiter)
    strings = pa.LargeStringArray.from_buffers(separators.size, pa.py_buffer(starts), pa.py_buffer(characters))
    try:
        return pc.cast(strings, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return None


def _is_separator(codes: NDArray[np.uint8], delimiter: bytes) -> NDArray[np.bool_]:
    return (codes == _NEWLINE) | (codes == delimiter[0])


def _strip_spaces(text: bytes, delimiter: bytes) -> bytes | None:
    """The text without its spaces, or None if one of them is inside a field."""
    codes = np.frombuffer(text, np.uint8)
    kept = np.flatnonzero(codes != _SPACE)
    stripped = codes[kept]
    in_field = ~_is_separator(stripped, delimiter)
    if np.any(in_field[:-1] & in_field[1:] & (np.diff(kept) > 1)):
        return None
    return stripped.tobytes()


def _parse_exactly(text: bytes, *, name: str, line_number: int, options: ReadOptions) -> Block:
    """Parses a block line by line; raises the DataError of its first bad line."""
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    if not lines[-1]:
        lines.pop()
    values: list[float] = []
    lengths: list[int] = []
    for number, line in enumerate(lines, line_number):
        if is_blank(line) and len(line) <= MAX_FIELD_LENGTH:
            if options.blank_lines == "error":
                raise blank_line(name, number, options)
            continue
        row = parse_row(line, name=name, line_number=number, options=options)
        values += row
        lengths.append(len(row))
    return Block(
        np.array(values, np.float64),
        np.array(lengths, np.int32),
        num_lines=len(lines),
        num_blank_lines=len(lines) - len(lengths),
    )


def _skip_byte_order_mark(stream: BufferedReader, name: str) -> None:
    head = stream.peek(len(_UTF8_MARK))
    if head.startswith(_UTF8_MARK):
        stream.read(len(_UTF8_MARK))
    elif head.startswith(_UTF16_MARKS):
        raise complaint(
            name, 1, 1,
            found=f"{quote(head[:2].decode('utf-8', 'surrogateescape'))}, the mark of UTF-16",
            expected="UTF-8 text",
            remedy="save the file as UTF-8",
        )  # fmt: skip


def _skip_header(stream: BufferedReader, name: str) -> None:
    """Reads past the first line end: LF, CRLF or CR."""
    num_bytes = 0
    while head := stream.peek(1):
        match = re.search(rb"[\r\n]", head)
        num_bytes += match.end() if match else len(head)
        if num_bytes > _MAX_HEADER_BYTES:
            raise complaint(
                name, 1, 1,
                found=f"a header of more than {_MAX_HEADER_BYTES} bytes",
                expected="a line of column names",
                remedy="check that the file is text, or leave out --header",
            )  # fmt: skip
        if match:
            stream.read(match.end())
            if match[0] == b"\r" and stream.peek(1).startswith(b"\n"):
                stream.read(1)
            return
        stream.read(len(head))
