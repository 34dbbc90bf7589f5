"""Plain text read by compiled code, where it was built (hatch_build.py); other readers take whatever is not plain.

The library links to nothing of Python's and holds no lock of it, so that threads read blocks at the same time.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LIBRARY = Path(__file__).parent / "native" / "libplaintext.so"
# What a column holds.
TEXT, DECIMAL, WHOLE, UNREAD = range(4)
BLOCK_BYTES = 1 << 21  # of records
_SURVEYED_BYTES = 1 << 20  # at once: what stays in a core's cache
_MOST_COLUMNS = 64
_MOST_BLOCK_BYTES = (1 << 31) - 1  # what the places of texts in a block can say
_MOST_WORKERS = 4

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


def num_workers() -> int:
    """Returns how many threads read: more wait for memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, usable)


@functools.cache
def library() -> ctypes.CDLL | None:
    """Loads the library; None where it was not built, or is not for this machine."""
    try:
        found = ctypes.CDLL(str(LIBRARY))
        functions = [found.JaxrnnCountLines1, found.JaxrnnReadRows1, found.JaxrnnReadTable1, found.JaxrnnSurvey1]
    except (OSError, AttributeError):
        return None
    size, pointer, character = ctypes.c_int64, ctypes.c_void_p, ctypes.c_char
    count_lines, read_rows, read_table, survey_text = functions
    count_lines.argtypes, count_lines.restype = [pointer, size], size
    read_rows.argtypes = [pointer, size, character, ctypes.c_int, size, size, pointer, pointer, size, pointer, pointer]
    read_table.argtypes = [pointer, size, character, size, pointer, pointer, size]
    survey_text.argtypes = [pointer, size]
    return found


class Survey(NamedTuple):
    """What there is in a text.

    Attributes:
      is_ascii: Whether all of it is ASCII.
      has_nul: Whether a NUL byte is in it.
      last_quote: The place of its last quote, -1 without one.
    """

    is_ascii: bool
    has_nul: bool
    last_quote: int


def survey(source: bytes) -> Survey:
    """Looks through a text, pieces of a large one at the same time."""
    native = library()
    if native is None or len(source) <= _SURVEYED_BYTES:
        return Survey(source.isascii(), b"\0" in source, source.rfind(b'"'))
    codes = np.frombuffer(source, np.uint8)
    begins = range(0, len(source), _SURVEYED_BYTES)
    pieces = [codes[begin : begin + _SURVEYED_BYTES] for begin in begins]

    def look(piece: NDArray[np.uint8]) -> int:
        return native.JaxrnnSurvey1(piece.ctypes.data, len(piece))

    try:
        with ThreadPoolExecutor(num_workers()) as threads:
            found = [*threads.map(look, pieces)]
    except RuntimeError:  # no more threads are to be had
        found = [*map(look, pieces)]
    quoted = [begin for begin, what in zip(begins, found, strict=True) if what & 4]
    last = source.rfind(b'"', quoted[-1], quoted[-1] + _SURVEYED_BYTES) if quoted else -1
    return Survey(not any(what & 2 for what in found), any(what & 1 for what in found), last)


def read_rows(text: bytes, delimiter: bytes, least: int, most: int) -> tuple[NDArray[Any], NDArray[np.int32]] | None:
    """Reads rows of numbers: decimal, of magnitudes that float32 can hold, spaces around them or not.

    Args:
      text: Lines, each with its line feed.
      delimiter: The character between two values; none that a number may hold.
      least: The fewest values of a row.
      most: The most values of a row.

    Returns:
      The values, (values,), int32 where all are short integers, and the lengths of the rows, (rows,); None if
      anything else is among them, or there is no library.
    """
    native = library()
    if native is None or not text:
        return None
    capacity = len(text) // 2
    buffers = getattr(_scratch, "buffers", None)
    if buffers is None or buffers[1].size < capacity:
        # Of this thread's own: new ones would cost page faults as long as the reading.
        buffers = _scratch.buffers = np.empty(capacity), np.empty(capacity, np.int32)
    values, lengths = buffers
    num_values, num_rows = ctypes.c_int64(), ctypes.c_int64()
    for kind in (np.int32, np.float64):
        if native.JaxrnnReadRows1(
            text, len(text), delimiter, kind == np.int32, least, most, values.ctypes.data, lengths.ctypes.data,
            capacity, ctypes.addressof(num_values), ctypes.addressof(num_rows),
        ):  # fmt: skip
            return values.view(kind)[: num_values.value].copy(), lengths[: num_rows.value].copy()
    return None


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
    native, character = library(), delimiter.encode()
    may_be_of_numbers = delimiter.isalnum() or delimiter in "+-."
    if native is None or len(character) != 1 or may_be_of_numbers or len(kinds) > _MOST_COLUMNS or begin >= len(source):
        return None
    try:
        return _read_records(native, source, begin, kinds, character)
    except MemoryError:  # before a line was looked at
        return None


def _read_records(
    native: ctypes.CDLL, source: bytes, begin: int, kinds: Sequence[int], character: bytes
) -> Records | None:
    blocks = _cut(source, begin)
    if any(len(block) > _MOST_BLOCK_BYTES for block in blocks):
        return None
    with ThreadPoolExecutor(num_workers()) as threads:
        places = [block.ctypes.data for block in blocks]
        block_rows = [*threads.map(lambda block, at: native.JaxrnnCountLines1(at, len(block)), blocks, places)]
        number = sum(block_rows)
        make: dict[int, Callable[[], Any]] = {
            TEXT: list,
            DECIMAL: lambda: np.empty(number),
            WHOLE: lambda: np.empty(number, np.int64),
            UNREAD: lambda: None,
        }
        columns = [make[kind]() for kind in kinds]

        def read(block: NDArray[np.uint8], first: int, rows: int) -> list[Texts] | None:
            given, texts = (_Column * len(kinds))(), []
            for to, kind, column in zip(given, kinds, columns, strict=True):
                if kind == TEXT:
                    # Memory that is not written is never there.
                    one = Texts(np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(len(block), np.uint8))
                    to.rows, to.ends, to.characters = (part.ctypes.data for part in one)
                    texts.append((to, one))
                elif kind != UNREAD:
                    to.numbers = column.ctypes.data + first * column.itemsize
            if not native.JaxrnnReadTable1(
                block.ctypes.data, len(block), character, len(kinds), bytes(kinds), ctypes.addressof(given), rows
            ):
                return None
            return [_copied(one, to.num_texts) for to, one in texts]

        firsts = np.cumsum([0, *block_rows[:-1]]).tolist()
        for texts in threads.map(read, blocks, firsts, block_rows):
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
