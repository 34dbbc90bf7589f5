"""The cells of a table's column, as numbers, texts or times; the first that is none is refused by its line."""

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.complaints import quote
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.readers.plain_numbers import is_text, parse_numbers, plain_column, trimmed
from jaxrnn.data.sequences import encode

if TYPE_CHECKING:
    import pyarrow as pa

    from jaxrnn.data.tables.step_tables import Table

_FEWEST_COUNTED = 10


def is_number(table: "Table", column: str) -> bool:
    """Whether every cell of a column is a number or missing, and one at least a number."""
    import pyarrow as pa

    if plain_column(table.content.column(column), pa.float64()) is not None:
        return True
    array = column_of(table, column)
    if is_text(array.type):
        values, bad = parse_numbers(array)
        return not bad.any() and not np.isnan(values).all()
    return _is_numeric(array.type)


def is_mostly_numbers(table: "Table", column: str) -> bool:
    """Whether a column of texts has more numbers than cells that are neither numbers nor missing."""
    array = column_of(table, column)
    if not is_text(array.type):
        return False
    values, bad = parse_numbers(array)
    return bool((~np.isnan(values)).sum() > bad.sum())


def counts_rows(table: "Table", column: str) -> bool:
    """Whether a column of numbers only counts the rows, from any number; a few values may rise by 1 by chance."""
    values = numbers(table, column)
    return values.size >= _FEWEST_COUNTED and bool((np.diff(values) == 1).all())


def numbers(table: "Table", column: str) -> NDArray[np.float64]:
    """Returns the numbers of a column, NaN where one is missing.

    Raises:
      DataError: A cell is something else, or too large for float32.
    """
    import pyarrow as pa

    plain = plain_column(table.content.column(column), pa.float64())
    array = column_of(table, column) if plain is None else table.content.column(column)
    if plain is not None:
        values = plain
    elif is_text(array.type):
        values, bad = parse_numbers(array)
        if bad.any():
            row = int(np.argmax(bad))
            table.refuse(row, column, found=quote(array[row].as_py()), expected="a number", remedy=_NO_NUMBER)
    elif array.type == pa.float64() and not array.null_count:
        values = np.asarray(column_of(table, column))
    elif _is_numeric(array.type) or pa.types.is_boolean(array.type) or pa.types.is_null(array.type):
        # Whole numbers beyond 2^53 are rounded, as they are where they are written as text.
        values = np.asarray(array.cast(pa.float64(), safe=False).fill_null(float("nan")), np.float64)
    else:
        found = f"the column {quote(column)} of type {quote(str(array.type))}"
        table.refuse_whole(found=found, expected="numbers", remedy=_NO_NUMBER)
    if values.size and values.max() < FLOAT32_OVERFLOW and values.min() > -FLOAT32_OVERFLOW:  # and none is missing
        return values
    bad = ~((np.abs(values) < FLOAT32_OVERFLOW) | np.isnan(values))
    if bad.any():
        row = int(np.argmax(bad))
        expected = "a number that float32 can hold, of magnitude below 3.4028236e38"
        table.refuse(row, column, found=quote(str(array[row].as_py())), expected=expected, remedy="mend the value")
    return values


class Runs(NamedTuple):
    """A column of texts: the rows of a sequence mostly stand one behind the other.

    Attributes:
      codes: (runs,) int32: which text.
      ends: (runs,) int64: the row behind the last one that has it.
      vocabulary: The text that each number stands for, all of them there.
    """

    codes: NDArray[np.int32]
    ends: NDArray[np.int64]
    vocabulary: tuple[str, ...]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many rows each run has."""
        return np.diff(self.ends, prepend=0)


def encoded(table: "Table", column: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Returns what `runs` returns row by row.

    Returns:
      (rows,) int32, and the text that each number stands for.

    Raises:
      DataError: A cell is missing.
    """
    found = runs(table, column)
    return np.repeat(found.codes, found.lengths), found.vocabulary


def runs(table: "Table", column: str) -> Runs:
    """Numbers the texts of a column as `encode` does; only those that differ are looked at one by one.

    Whole numbers have no point, whatever type holds them.

    Raises:
      DataError: A cell is missing.
    """
    import pyarrow as pa

    array, ends = column_of(table, column, decode=False), None
    if pa.types.is_run_end_encoded(array.type):
        array, ends = array.values, np.asarray(array.run_ends, np.int64)
    if not pa.types.is_dictionary(array.type):
        try:
            array = array.dictionary_encode()
        except pa.ArrowNotImplementedError:
            found = f"the column {quote(column)} of type {quote(str(array.type))}"
            remedy = "leave it out, or write it as text"
            table.refuse_whole(found=found, expected="texts or numbers", remedy=remedy)
    dictionary, indices = _decoded(array.dictionary), array.indices
    if _holds_bytes(dictionary.type):
        found, remedy = f"bytes that are not UTF-8 in {quote(column)}", "write it as text, or leave it out"
        table.refuse_whole(found=found, expected="text", remedy=remedy)
    places = np.asarray(
        indices.cast(pa.int64()).fill_null(len(dictionary)) if indices.null_count else indices, copy=None
    )
    last = np.flatnonzero(np.append(places[1:] != places[:-1], True)[: places.size])
    places, ends = places[last].astype(np.int64), last + 1 if ends is None else ends[last]
    # A dictionary may hold what no cell has: a category of pandas that is not used.
    is_used = np.bincount(places, minlength=len(dictionary) + 1) > 0
    used = np.flatnonzero(is_used)
    listed, is_lost = _as_texts(dictionary.take(pa.array(used, mask=used == len(dictionary))))
    places = (np.cumsum(is_used) - 1)[places]
    if is_lost.any():
        table.refuse(
            int(np.append(0, ends)[np.argmax(is_lost[places])]),
            column,
            found=f"nothing in {quote(column)}",
            expected="a text or a number",
            remedy="fill it in, or remove the row",
        )
    codes, vocabulary = encode(listed)
    return Runs(codes[places], ends, vocabulary)


def _as_texts(array: "pa.Array") -> tuple[list[str], NDArray[np.bool_]]:
    """Returns values as text, and where there is none."""
    import pyarrow as pa

    lost = np.asarray(array.is_null())
    if pa.types.is_floating(array.type):
        lost = lost | np.isnan(np.asarray(array.fill_null(float("nan")), np.float64))
    listed: list[Any] = array.to_pylist()
    if pa.types.is_floating(array.type):
        listed = [int(value) if value is not None and np.isfinite(value) and value == int(value) else value
                  for value in listed]  # fmt: skip
    elif pa.types.is_boolean(array.type):
        listed = [str(value).lower() for value in listed]
    if array.null_count or not is_text(array.type):
        listed = [value if isinstance(value, str) else str(value) for value in listed]
    if not all(map(str.strip, listed)):
        lost = lost | np.array([not text.strip() for text in listed], bool)
    return listed, lost


def times(table: "Table", column: str) -> NDArray[Any]:
    """Returns the times of a column: whole numbers, numbers, or datetime64 of microseconds.

    Raises:
      DataError: A cell is missing or no time.
    """
    import pyarrow as pa

    whole = plain_column(table.content.column(column), pa.int64())
    if whole is not None:
        return whole
    array = column_of(table, column)
    kind = array.type
    if array.null_count:
        row = int(np.argmax(np.asarray(array.is_null())))
        table.refuse(row, column, found="no time", expected="one at every step", remedy="fill it in, or remove the row")
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            is_finer = np.asarray(array.cast(pa.int64())) % 1000 != 0
            if is_finer.any():
                row = int(np.argmax(is_finer))
                time = np.datetime64(int(array[row].value), "ns")
                remedy = "round them, in pandas by .dt.floor('us')"
                table.refuse(row, column, found=quote(str(time)), expected="microseconds at most", remedy=remedy)
        with _refused(table, column):
            return np.asarray(array.cast(pa.timestamp("us")))
    if pa.types.is_integer(kind):
        with _refused(table, column):
            return np.asarray(array.cast(pa.int64()))
    if is_text(kind):
        return _times_of_text(table, column, array)
    if not _is_numeric(kind):
        found = f"the column {quote(column)} of type {quote(str(kind))}"
        remedy = "make times of it, in pandas by .dt.to_timestamp() of periods"
        table.refuse_whole(found=found, expected=_TIME, remedy=remedy)
    values = numbers(table, column)
    if np.isnan(values).any():
        row = int(np.argmax(np.isnan(values)))
        table.refuse(row, column, found="no time", expected="one at every step", remedy="fill it in, or remove the row")
    return values


_NO_NUMBER = (
    "mend it: digits such as 1234.5, or nothing where it is missing; or read the column as a category with"
    " --category-columns, or leave it out of --input-columns"
)
_TIME = "a whole number, a number, or a time such as 2024-05-31 or 2024-05-31 14:00:00"
_MONTH = r"^[0-9]{4}-[0-9]{2}$"
_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"


def _times_of_text(table: "Table", column: str, array: "pa.Array") -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    cut = trimmed(array)
    if pc.all(pc.match_substring_regex(cut, _MONTH)).as_py():  # a month is its first day
        cut = pc.replace_substring_regex(cut, "$", "-01")
    # `cast` takes hexadecimals too.
    is_whole = bool(pc.all(pc.match_substring_regex(cut, r"^-?[0-9]+$")).as_py())
    # Times that name their zone become those of UTC; a column has such times, or others, not both.
    for kind in (pa.int64(),) if is_whole else (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return np.asarray(cut.cast(kind))
    values, bad = parse_numbers(array)
    bad = bad | ~np.isfinite(values)
    if bad.any():
        # The first that is neither: a column of times with one word among them is a column of times.
        row = next(
            (number for number, text in enumerate(cut.to_pylist()) if not _is_time(text) and bad[number]),
            int(np.argmax(bad)),
        )
        has_zone = np.asarray(pc.match_substring_regex(cut, _ZONE))
        is_mixed = 0 < has_zone.sum() < has_zone.size and all(map(_is_time, cut.to_pylist()))
        expected = "a zone at every time, or at none" if is_mixed else _TIME
        remedy = "mend it, all in one form" if is_mixed else "mend it, the year first and all in one form"
        table.refuse(row, column, found=quote(array[row].as_py()), expected=expected, remedy=remedy)
    return values


def holds_times(table: "Table", column: str) -> bool:
    """Whether every cell of a column is a date or a time."""
    import pyarrow as pa

    array = column_of(table, column)
    if not is_text(array.type):
        return pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)
    texts = set(trimmed(array).to_pylist())
    return None not in texts and all(_is_time(text) for text in texts)


def repeats(table: "Table", column: str) -> bool:
    """Whether a column holds the same values over and over, as one of ids does."""
    array = column_of(table, column)
    return not array.null_count and len(array.unique()) <= len(array) / 2


def _is_time(text: str) -> bool:
    import pyarrow as pa

    text += "-01" if re.match(_MONTH, text) else ""
    for zone in (None, "UTC"):
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pa.array([text]).cast(pa.timestamp("us", tz=zone))
            return True
    return False


@contextlib.contextmanager
def _refused(table: "Table", column: str) -> Any:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowInvalid as error:
        found = f"times in {quote(column)} that cannot be held ({quote(str(error))})"
        table.refuse_whole(found=found, expected=_TIME, remedy="mend them")


def _is_numeric(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def column_of(table: "Table", column: str, *, decode: bool = True) -> "pa.Array":
    """Returns a column in one piece; what a dictionary or runs hold in full, unless `decode` is False."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks = table.content.column(column)
    if pa.types.is_string(chunks.type) or pa.types.is_string_view(chunks.type):
        chunks = chunks.cast(pa.large_string())  # together they may be longer than a string's offsets can say
    array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type) and decode:
        array = array.dictionary_decode()
    if pa.types.is_run_end_encoded(array.type) and (decode or not _has_whole_runs(array)):
        array = pc.run_end_decode(array)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    return _decoded(array)


def _decoded(array: "pa.Array") -> "pa.Array":
    """Returns bytes as the text that they are, if they are UTF-8: some writers of Parquet do not say so."""
    import pyarrow as pa

    if not _holds_bytes(array.type):
        return array
    with contextlib.suppress(pa.ArrowInvalid):
        return array.cast(pa.large_binary()).cast(pa.large_string())
    return array


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _has_whole_runs(array: "pa.RunEndEncodedArray") -> bool:
    """Whether it is no part of another, whose runs may begin before it and end behind it."""
    ends = array.run_ends
    return len(array) == (ends[-1].as_py() if len(ends) else 0)
