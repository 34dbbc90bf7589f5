"""Records of plain text, read by compiled code (`plain_text`) into columns: of a text, or of a file as it is read.

Columns are read whole, blocks of lines at the same time: the lines of all blocks are counted first, so that every block
is written where it will lie.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.native import plain_text
from jaxrnn.foundation.files import read_at

# What a column holds.
TEXT, DECIMAL, WHOLE, UNREAD = range(4)
BLOCK_BYTES = 1 << 21  # of records
FILE_BLOCK_BYTES = 1 << 20  # of a file's, which stay in a core's cache from one look at them to the next
_MOST_LINE_BYTES = 1 << 14  # of a file's lines, where one goes on from block to block
_LINE_FEED = ord("\n")
_MOST_COLUMNS = 64
_MOST_BLOCK_BYTES = (1 << 31) - 1  # what the places of texts in a block can say

_scratch = threading.local()


class _Column(ctypes.Structure):
    _fields_ = (
        ("numbers", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("ends", ctypes.c_void_p),
        ("characters", ctypes.c_void_p),
        ("num_texts", ctypes.c_int64),
    )


class Texts(NamedTuple):
    """The texts of some rows of a column, each once for as many rows as have it one after the other.

    Attributes:
      rows: (texts,) int32: the first row of each.
      ends: (texts,) int32: where it ends among the characters.
      characters: UTF-8, one text after the other.
    """

    rows: NDArray[np.int32]
    ends: NDArray[np.int32]
    characters: NDArray[np.uint8]


class Records(NamedTuple):
    """Records as columns.

    Attributes:
      columns: Of each column an array of numbers, (rows,); or, for each block of rows, its texts; None of one not read.
      block_rows: How many rows each block has.
    """

    columns: list[NDArray[Any] | list[Texts] | None]
    block_rows: list[int]


class _Lines(NamedTuple):
    """Some lines, each with its line feed.

    Attributes:
      number: How many.
      codes: Returns their bytes, (bytes,) uint8, which may stand there until the thread asks again; None if they cannot
        be had.
    """

    number: int
    codes: Callable[[], NDArray[np.uint8] | None]


def read_records(source: bytes, begin: int, kinds: Sequence[int], delimiter: str) -> Records | None:
    """Reads lines of cells, as many on each as there are kinds; no cell is quoted.

    Args:
      source: A text.
      begin: Where the lines begin there.
      kinds: What each column holds: `TEXT`, `DECIMAL` or `WHOLE`; `UNREAD` of one whose cells nobody wants.
      delimiter: The character between two cells.

    Returns:
      The records; None if there is a quote, a blank line, a number that is not plain or another number of cells, or no
      library, or less memory than so many lines may take.
    """
    native = _library_for(kinds, delimiter)
    if native is None or begin >= len(source):
        return None
    try:
        blocks = _cut(source, begin)
        if any(len(block) > _MOST_BLOCK_BYTES for block in blocks):
            return None
        with ThreadPoolExecutor(plain_text.num_workers()) as threads:
            places = [block.ctypes.data for block in blocks]
            counts = threads.map(lambda block, at: native.JaxrnnCountLines1(at, len(block)), blocks, places)
            lines = [_Lines(count, block.view) for block, count in zip(blocks, counts, strict=True)]
            return _read_lines(native, threads, lines, kinds, delimiter)
    except MemoryError:  # before a line was looked at
        return None


def read_records_of_file(
    file: BinaryIO, num_bytes: int, begin: int, kinds: Sequence[int], delimiter: str
) -> Records | None:
    """Reads lines of ASCII as `read_records` does, of a file that is never in memory as a whole.

    The system reads each part twice, since what it has at hand is copied in less time than new memory is found.

    Args:
      file: A regular file.
      num_bytes: How many bytes it has.
      begin: Where the lines begin there.
      kinds: As in `read_records`.
      delimiter: As in `read_records`.

    Returns:
      The records; None where `read_records` returns it; if there is a NUL byte, or one that is not ASCII; if a line is
      long; or if the file was written to meanwhile or cannot be read.
    """
    native = _library_for(kinds, delimiter)
    if native is None or begin >= num_bytes or not hasattr(os, "preadv"):
        return None
    whole = _FileLines(native, file, begin, num_bytes)
    try:
        with ThreadPoolExecutor(plain_text.num_workers()) as threads:
            lines = []
            for found in threads.map(whole.look, range(begin, num_bytes, FILE_BLOCK_BYTES)):
                if found is None:
                    threads.shutdown(cancel_futures=True)
                    return None
                if found.number:
                    lines.append(found)
            records = _read_lines(native, threads, lines, kinds, delimiter)
    except (MemoryError, OSError, RuntimeError):  # RuntimeError: no more threads are to be had
        return None
    return records if os.fstat(file.fileno()).st_size == num_bytes else None


class _FileLines:
    """The lines of a file, some at a time in memory of the thread that reads them."""

    def __init__(self, native: ctypes.CDLL, file: BinaryIO, begin: int, end: int):
        self._native = native
        self._file = file
        self._begin = begin
        self._end = end

    def look(self, place: int) -> _Lines | None:
        """Finds the lines behind the first line feed of the block at a place, up to that of the next block.

        Returns:
          The lines; None if they are not plain, or one is long.
        """
        behind = min(place + FILE_BLOCK_BYTES, self._end)
        stop = min(behind + _MOST_LINE_BYTES, self._end)
        text = self._read(place, stop)
        if text is None:
            return None
        ends = [0, stop - place]
        for number, edge in enumerate((place, behind)):
            if self._begin < edge < self._end:
                found = text.find(b"\n", edge - place, stop - place)
                if found < 0 and stop < self._end:
                    return None
                ends[number] = found + 1 if found >= 0 else stop - place
        first, last = (place + end for end in ends)
        codes = self._ended(text, ends[0], ends[1], last)
        if self._native.JaxrnnSurvey1(codes.ctypes.data, len(codes)):
            return None
        count = self._native.JaxrnnCountLines1(codes.ctypes.data, len(codes))
        return _Lines(count, functools.partial(self._load, first, last))

    def _load(self, first: int, last: int) -> NDArray[np.uint8] | None:
        text = self._read(first, last)
        return None if text is None else self._ended(text, 0, last - first, last)

    def _ended(self, text: bytearray, begin: int, end: int, place: int) -> NDArray[np.uint8]:
        """Returns characters, the last line of the file with the line feed that it may lack."""
        if place == self._end and begin < end and text[end - 1] != _LINE_FEED:
            text[end] = _LINE_FEED
            end += 1
        return np.frombuffer(text, np.uint8)[begin:end]

    def _read(self, begin: int, end: int) -> bytearray | None:
        """Reads a part of the file into memory of the thread's own; None if the file has become shorter."""
        size = end - begin
        text = getattr(_scratch, "text", None)
        if text is None or len(text) <= size:
            text = _scratch.text = bytearray(max(size, FILE_BLOCK_BYTES + _MOST_LINE_BYTES) + 2)
        with memoryview(text) as view:
            return text if read_at(self._file, view[:size], begin) else None


def _library_for(kinds: Sequence[int], delimiter: str) -> ctypes.CDLL | None:
    may_be_of_numbers = delimiter.isalnum() or delimiter in "+-."
    is_readable = len(delimiter.encode()) == 1 and not may_be_of_numbers and len(kinds) <= _MOST_COLUMNS
    return plain_text.library() if is_readable else None


def _read_lines(
    native: ctypes.CDLL, threads: ThreadPoolExecutor, lines: list[_Lines], kinds: Sequence[int], delimiter: str
) -> Records | None:
    number = sum(some.number for some in lines)
    make: dict[int, Callable[[], Any]] = {
        TEXT: list,
        DECIMAL: lambda: np.empty(number),
        WHOLE: lambda: np.empty(number, np.int64),
        UNREAD: lambda: None,
    }
    columns = [make[kind]() for kind in kinds]

    def read(some: _Lines, first: int) -> list[Texts] | None:
        codes = some.codes()
        if codes is None:
            return None
        given, texts = (_Column * len(kinds))(), []
        for to, kind, column in zip(given, kinds, columns, strict=True):
            if kind == TEXT:
                # Memory that is not written is never there.
                rows, ends = np.empty((2, some.number), np.int32)
                one = Texts(rows, ends, np.empty(len(codes), np.uint8))
                to.rows, to.ends, to.characters = (part.ctypes.data for part in one)
                texts.append((to, one))
            elif kind != UNREAD:
                to.numbers = column.ctypes.data + first * column.itemsize
        is_plain = native.JaxrnnReadTable1(
            codes.ctypes.data, len(codes), delimiter.encode(), len(kinds), bytes(kinds), ctypes.addressof(given),
            some.number,
        )  # fmt: skip
        return [_copied(one, to.num_texts) for to, one in texts] if is_plain else None

    block_rows = [some.number for some in lines]
    firsts = np.cumsum([0, *block_rows[:-1]]).tolist()
    for texts in threads.map(read, lines, firsts):
        if texts is None:
            threads.shutdown(cancel_futures=True)
            return None
        of_texts = (column for column in columns if isinstance(column, list))
        for column, one in zip(of_texts, texts, strict=True):
            column.append(one)
    return Records(columns, block_rows)


def _copied(texts: Texts, number: int) -> Texts:
    ends = texts.ends[:number].copy()
    return Texts(texts.rows[:number].copy(), ends, texts.characters[: ends[-1] if number else 0].copy())


def _cut(source: bytes, begin: int) -> list[NDArray[np.uint8]]:
    """Cuts lines into blocks; the last line gets the line feed that it may lack."""
    codes, blocks, end = np.frombuffer(source, np.uint8), [], len(source)
    while begin < end:
        stop = source.find(b"\n", min(begin + BLOCK_BYTES, end)) + 1 or source.rfind(b"\n", begin) + 1
        if not stop:
            blocks.append(np.frombuffer(source[begin:] + b"\n", np.uint8))
            break
        blocks.append(codes[begin:stop])
        begin = stop
    return blocks
