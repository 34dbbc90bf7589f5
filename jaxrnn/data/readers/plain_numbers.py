"""Texts as numbers: columns of plain ones without a look at each cell by patterns, others as people write them."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

_THREADS = 2
# How people write that there is no value; all of them in any case.
_MISSING = ["", "nan", "na", "n/a", "null", "none", "-"]
# What `cast` takes is more than people write: hexadecimals, infinities.
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def is_text(kind: "pa.DataType") -> bool:
    """Whether a type is one of texts."""
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def plain_column(column: "pa.ChunkedArray", kind: "pa.DataType") -> NDArray[Any] | None:
    """Reads a column as `plain_numbers` does, its pieces in two threads."""
    chunks = column.chunks
    if len(chunks) < 2 or not is_text(column.type):
        found = [plain_numbers(chunk, kind) for chunk in chunks]
    else:
        with ThreadPoolExecutor(_THREADS) as threads:
            found = [*threads.map(lambda chunk: plain_numbers(chunk, kind), chunks)]
    plain = [values for values in found if values is not None]
    return np.concatenate(plain) if plain and len(plain) == len(chunks) else None


def plain_numbers(array: "pa.Array", kind: "pa.DataType") -> NDArray[Any] | None:
    """Reads texts if all of them are plain numbers.

    Args:
      array: The texts.
      kind: float64, or int64 for whole numbers.

    Returns:
      The numbers; None if a text is something else, or missing, or there is none.
    """
    import pyarrow as pa

    if not is_text(array.type) or array.null_count or not len(array):
        return None
    # `cast` takes more than people write: hexadecimals, infinities.
    characters = b"0123456789-" if pa.types.is_integer(kind) else b"0123456789+-.eE"
    _, places, content = array.buffers()
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    offsets = np.frombuffer(places, width, count=array.offset + len(array) + 1)
    begin, end = (int(offsets[array.offset + number]) for number in (0, len(array)))
    if content is None or content.slice(begin, end - begin).to_pybytes().translate(None, characters):
        return None
    try:
        return array.cast(kind).to_numpy()
    except pa.ArrowInvalid:
        return None


def trimmed(array: "pa.Array") -> "pa.Array":
    """Returns texts without the white space around them."""
    import pyarrow.compute as pc

    return pc.ascii_trim_whitespace(array)


def is_written_number(text: str) -> bool:
    """Whether a text is a decimal number."""
    return re.fullmatch(_NUMBER, text, re.ASCII) is not None


def is_missing(array: "pa.Array") -> NDArray[np.bool_]:
    """Where texts say that there is no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.is_in(pc.utf8_lower(array), pa.array(_MISSING, array.type)).fill_null(True))


def with_points(array: "pa.Array", decimal: str) -> "pa.Array":
    """Writes a point where a text that is a number has another character."""
    import pyarrow.compute as pc

    pattern = rf"^\s*[+-]?[0-9]*{'[' + decimal + ']'}[0-9]*([eE][+-]?[0-9]+)?\s*$"
    return pc.if_else(pc.match_substring_regex(array, pattern), pc.replace_substring(array, decimal, "."), array)


def parse_numbers(array: "pa.Array") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Reads texts as numbers; returns them, NaN where one is missing or bad, and where they are bad."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = plain_numbers(array, pa.float64())
    if plain is not None:
        return plain, np.zeros(plain.size, bool)
    cut = trimmed(array)
    is_lost = is_missing(cut) | np.asarray(cut.is_null())
    is_written = pc.match_substring_regex(cut, _NUMBER)
    bad = ~np.asarray(is_written.fill_null(False)) & ~is_lost
    kept = pc.if_else(pa.array(~bad & ~is_lost), cut, pa.scalar(None, cut.type))
    # A sign that `cast` does not take.
    unsigned = pc.replace_substring_regex(kept, r"^\+", "")
    return np.asarray(unsigned.cast(pa.float64()).fill_null(float("nan")), np.float64), bad
