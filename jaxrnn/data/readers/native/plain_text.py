"""Plain text read by compiled code, where it was built (hatch_build.py); other readers take whatever is not plain.

The library links to nothing of Python's and holds no lock of it, so that threads read blocks at the same time.
"""

import ctypes
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LIBRARY = Path(__file__).parent / "libplaintext.so"
_SURVEYED_BYTES = 1 << 20  # at once: what stays in a core's cache
_MOST_WORKERS = 4

_scratch = threading.local()


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
