"""Columns of texts that are plain numbers throughout, read without a look at each cell by patterns."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

_THREADS = 2


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
