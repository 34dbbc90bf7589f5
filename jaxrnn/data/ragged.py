"""Rows of different lengths, held as one flat array and the offsets of the rows in it."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Values hashed or compared at once: the temporaries stay in the processor's cache.
_CHUNK_VALUES = 1 << 17
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step from one number to the next


@dataclass(frozen=True, eq=False, repr=False)
class Ragged:
    """An immutable list of rows of numbers, of any lengths.

    Row i is `values[offsets[i]:offsets[i + 1]]`. Arguments that are read-only arrays of the right
    type are kept as they are; all others are copied, so that nobody can change a row later.

    Args:
      values: The rows one after the other, float64, (num_values,).
      offsets: Where each row starts, and after the last row `num_values`: int64, (num_rows + 1,).

    Raises:
      TypeError: `offsets` are not integers, or `values` are not real numbers.
      ValueError: The arrays are not 1-D, or the offsets do not rise from 0 to `num_values`.

    Example:
      >>> import jaxrnn
      >>> rows = jaxrnn.Ragged.from_rows([[3, 5, 7], [1, 2]])
      >>> len(rows), rows.lengths.tolist(), rows[1].tolist()
      (2, [3, 2], [1.0, 2.0])
    """

    values: NDArray[np.float64]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        values, offsets = np.asarray(self.values), np.asarray(self.offsets)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"values are {values.dtype}; expected real numbers")
        if offsets.dtype.kind not in "iu":
            raise TypeError(f"offsets are {offsets.dtype}; expected integers")
        if values.ndim != 1 or offsets.ndim != 1:
            raise ValueError(
                f"values have shape {values.shape} and offsets {offsets.shape}; expected "
                "(num_values,) and (num_rows + 1,); build one from rows with Ragged.from_rows"
            )
        if not offsets.size or offsets[0] != 0 or offsets[-1] != values.size:
            ends = f"{offsets[0]} and {offsets[-1]}" if offsets.size else "nothing"
            raise ValueError(f"offsets start and end with {ends}; expected 0 and {values.size}, the number of values")
        frozen_offsets = _read_only(offsets, np.dtype(np.int64))
        falls = np.flatnonzero(frozen_offsets[1:] < frozen_offsets[:-1])
        if falls.size:
            row = int(falls[0])
            raise ValueError(
                f"offsets fall from {offsets[row]} to {offsets[row + 1]} at row {row}; "
                "expected each to be at least the one before"
            )
        object.__setattr__(self, "values", _read_only(values, np.dtype(np.float64)))
        object.__setattr__(self, "offsets", frozen_offsets)

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[float] | NDArray[np.generic]]) -> "Ragged":
        """Copies rows of numbers, such as lists or 1-D arrays.

        Raises:
          TypeError: A row is not a sequence of numbers; names the row, counted from 0.
        """
        rows = list(rows)
        lengths = np.empty(len(rows), np.int64)
        for index, row in enumerate(rows):
            # A string is a sequence too, and NumPy would read its characters as numbers.
            if isinstance(row, str | bytes) or not hasattr(row, "__len__"):
                raise TypeError(f"row {index} is a {type(row).__name__}; expected numbers in a list")
            lengths[index] = len(row)
        # np.fromiter would take None as nan and '1' as 1; np.asarray keeps their types to be seen.
        if not _is_numeric(values := list(chain.from_iterable(rows))):
            bad = next((index for index, row in enumerate(rows) if not _is_numeric(row)), "")
            raise TypeError(f"row {bad} is not a list of numbers")
        return cls.from_lengths(np.asarray(values, np.float64), lengths)

    @classmethod
    def from_lengths(cls, values: ArrayLike, lengths: ArrayLike) -> "Ragged":
        """Cuts flat values, (num_values,), into rows of the given lengths, (num_rows,)."""
        lengths = np.asarray(lengths)
        offsets = np.zeros(lengths.size + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        offsets.flags.writeable = False
        return cls(np.asarray(values), offsets)

    @property
    def num_values(self) -> int:
        """The number of values in all rows together."""
        return self.values.size

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of values of each row, int64, (num_rows,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> NDArray[np.float64]:
        """One row, as a read-only 1-D view; a negative index counts from the end."""
        if isinstance(index, slice):
            raise TypeError("found a slice; expected one row's index; select rows with take()")
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} rows")
        row %= len(self)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        ends = self.offsets.tolist()
        for start, end in pairwise(ends):
            yield self.values[start:end]

    def __eq__(self, other: object) -> bool:
        """Whether both hold equal rows in the same order; a NaN equals nothing."""
        if not isinstance(other, Ragged):
            return NotImplemented
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.values, other.values)

    # Rows that compare equal would need equal hashes, which costs a pass over all values.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "Ragged(0 rows)"
        lengths = self.lengths
        return f"Ragged({len(self)} rows, {self.num_values} values, lengths {lengths.min()} to {lengths.max()})"

    def take(self, indices: ArrayLike) -> "Ragged":
        """Copies the rows at `indices`, integers of shape (num_taken,), in their order.

        Raises:
          TypeError: The indices are not integers; turn a mask into them with np.flatnonzero.
          IndexError: An index is not that of a row.
        """
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
            raise TypeError(
                f"indices are {chosen.dtype} of shape {chosen.shape}; expected 1-D integers "
                "(np.flatnonzero turns a mask into them)"
            )
        starts, lengths = self.offsets[:-1][chosen], self.lengths[chosen]
        offsets = np.zeros(chosen.size + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        sources = np.repeat(starts - offsets[:-1], lengths)
        sources += np.arange(sources.size)
        values = self.values[sources]
        values.flags.writeable = offsets.flags.writeable = False
        return Ragged(values, offsets)

    def group_ids(self) -> NDArray[np.int64]:
        """Numbers the distinct rows: rows share an id exactly if they hold the same values.

        Ids count from 0 in the order in which the rows first appear. -0.0 equals 0.0, and a NaN
        equals a NaN of the same bits. Rows are sorted by a 64-bit hash and then compared with the
        first row of their hash, so that a collision costs a second round and never a wrong id.

        Returns:
          int64, (num_rows,).
        """
        seed = 0
        while True:
            hashes = self.row_hashes(seed)
            _, first_rows, groups = np.unique(hashes, return_index=True, return_inverse=True)
            if self._rows_equal(first_rows[groups]):
                break
            seed += 1
        rank = np.empty(first_rows.size, np.int64)
        rank[np.argsort(first_rows)] = np.arange(first_rows.size)
        return rank[groups]

    def unique_rows(self) -> "Ragged":
        """Copies each distinct row once, in the order of first appearance."""
        _, first_rows = np.unique(self.group_ids(), return_index=True)
        return self.take(first_rows)

    def row_hashes(self, seed: int) -> NDArray[np.uint64]:
        """A hash of each row, of its values and the seed alone: uniform on 64 bits, (num_rows,).

        It is the wrap-around sum of the values mixed with their positions. -0.0 counts as 0.0.
        """
        lengths = self.lengths
        salt = _mix(np.array([2 * seed + 1, 2 * seed + 2], np.uint64) * _GOLDEN) | np.uint64(1)
        hashes = _mix(lengths.astype(np.uint64) * salt[0])
        for first, last in self._chunks():
            start, end = self.offsets[first], self.offsets[last]
            filled = np.flatnonzero(lengths[first:last])
            if not filled.size:
                continue
            starts = self.offsets[first:last][filled] - start
            positions = np.arange(end - start) - np.repeat(starts, lengths[first:last][filled])
            mixed = _mix(_bits(self.values[start:end]) + positions.astype(np.uint64) * salt[1])
            # reduceat gives an element, not 0, for an empty segment: so only rows with values.
            hashes[first + filled] += np.add.reduceat(mixed, starts)
        return _mix(hashes)

    def _rows_equal(self, others: NDArray[np.int64]) -> bool:
        """Whether every row i holds the same values as row `others[i]`."""
        lengths = self.lengths
        if not np.array_equal(lengths, lengths[others]):
            return False
        shifts = self.offsets[others] - self.offsets[:-1]
        for first, last in self._chunks():
            start, end = self.offsets[first], self.offsets[last]
            sources = np.repeat(shifts[first:last], lengths[first:last])
            sources += np.arange(start, end)
            if not np.array_equal(_bits(self.values[start:end]), _bits(self.values[sources])):
                return False
        return True

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows of about `_CHUNK_VALUES` values and at most that many rows."""
        first = 0
        while first < len(self):
            limit = self.offsets[first] + _CHUNK_VALUES
            last = int(np.searchsorted(self.offsets, limit, side="right")) - 1
            last = min(max(last, first + 1), first + _CHUNK_VALUES)
            yield first, last
            first = last


def _read_only(array: NDArray[np.generic], dtype: np.dtype) -> NDArray:
    """`array` itself if it is read-only and of the type, else a read-only copy."""
    if array.flags.writeable or array.dtype != dtype or not array.flags.c_contiguous:
        array = np.array(array, dtype)
        array.flags.writeable = False
    return array


def _is_numeric(row: Sequence[object] | NDArray[np.generic]) -> bool:
    """Whether a row is flat and holds nothing but real numbers."""
    try:
        array = np.asarray(row)
    except ValueError:  # lists of different lengths in it
        return False
    return array.ndim == 1 and (array.dtype.kind in "fiu" or not array.size)


def _bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The bit patterns of the values, with -0.0 turned into 0.0."""
    return (values + 0.0).view(np.uint64)


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads each bit over all 64, in place (the finaliser of SplitMix64).

    The doubles of small integers differ only in their upper 16 bits, so a weighted sum of the
    patterns themselves would collide all the time.
    """
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits
