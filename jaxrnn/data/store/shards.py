"""Prepared rows on disk: memory-mapped Arrow IPC files of one part each, and random access to them.

A shard is an Arrow IPC file with one record batch of one column, `values`, a list a row. Its numbers have the shortest
type that holds every one of them exactly, so that reading them back gives what the text said, bit for bit.
"""

import itertools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import DataError

COLUMN = "values"
# Values of a shard at most, 64 MiB of float64: what preparing holds of each part.
MAX_SHARD_VALUES = 1 << 23
# Mapped pages may take this much of the memory before they are given back: the file's, so never lost.
MAX_MAPPED_BYTES = 1 << 28
# Values gathered at once: the temporaries stay in the processor's cache.
_CHUNK_VALUES = 1 << 17
_INTEGERS = (np.int8, np.int16, np.int32)
_PAGE_BYTES = mmap.PAGESIZE


def shorten(values: NDArray[Any]) -> NDArray[Any]:
    """Returns the values in the shortest of int8, int16, int32, float32, float64 that holds them all exactly."""
    low, high = values.min(initial=0), values.max(initial=0)
    for integer in _INTEGERS:
        if np.iinfo(integer).min <= low and high <= np.iinfo(integer).max:
            short = values.astype(integer)
            if np.array_equal(short, values) and not (np.signbit(values) & (values == 0)).any():
                return short
            break  # a fraction, or a negative zero
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values.astype(np.float64)


def write_shard(path: Path, values: NDArray[Any], lengths: NDArray[Any]) -> str:
    """Writes rows to a new file and waits until they are on the disk; returns the name of the numbers' type.

    Args:
      path: Where to.
      values: Flat, (num_values,).
      lengths: The rows' lengths, (num_rows,).
    """
    import pyarrow as pa

    short = shorten(values)
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(short))
    batch = pa.record_batch([column], names=[COLUMN])
    with path.open("xb") as file:
        with pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    return short.dtype.name


class _Shard:
    """One file, mapped: values (num_values,) and offsets (num_rows + 1,) are views of it.

    Raises:
      DataError: It is not what `write_shard` writes.
    """

    def __init__(self, path: Path):
        import pyarrow as pa

        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
            column = reader.get_batch(0).column(reader.schema.names.index(COLUMN))
            self.offsets: NDArray[np.int32] = column.offsets.to_numpy()
            self.values: NDArray[Any] = column.values.to_numpy()
        except (OSError, ValueError, AttributeError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read ({error}); expected a shard; prepare the data again") from error
        falls = (self.offsets[1:] < self.offsets[:-1]).any()
        if not len(self.offsets) or falls or self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise DataError(f"{path}: its rows lie outside of its values; expected a shard; prepare the data again")

    def release(self) -> None:
        if hasattr(self._map, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class Rows(NamedTuple):
    """Some rows padded to one length: (rows, length) float32, 0 at padding, and (rows,) int32."""

    values: NDArray[np.float32]
    lengths: NDArray[np.int32]


class ShardedRows:
    """The rows of one part, in the order of the source; a part of the memory they take comes and goes.

    Args:
      paths: Shards, in the order of their rows.

    Raises:
      DataError: A shard is not one.
    """

    def __init__(self, paths: list[Path]):
        self._shards = [_Shard(path) for path in paths]
        self._firsts = np.cumsum([0, *(len(shard.offsets) - 1 for shard in self._shards)])
        self._tables: dict[tuple[Normalizer, str], NDArray[np.float32]] = {}
        self._release_all()

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def num_values(self) -> int:
        """The number of values in all rows together."""
        return sum(len(shard.values) for shard in self._shards)

    def lengths(self) -> Iterator[NDArray[np.int32]]:
        """Yields the lengths of the rows, a shard at a time."""
        for shard in self._shards:
            yield np.diff(shard.offsets)
            self._release_pages()

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """Copies the rows of some numbers, in their order."""
        lengths = np.empty(len(rows), np.int64)
        where = list(self._by_shard(rows))
        for shard, chosen, local in where:
            lengths[chosen] = shard.offsets[local + 1] - shard.offsets[local]
        ends = np.cumsum(lengths)
        values = np.empty(int(ends[-1]) if len(rows) else 0, np.float64)
        for shard, chosen, local in where:
            sizes = lengths[chosen]
            within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            sources = np.repeat(shard.offsets[local].astype(np.int64), sizes) + within
            values[np.repeat(ends[chosen] - sizes, sizes) + within] = shard.values[sources]
        self._release_pages()
        values.flags.writeable = False
        return Ragged.from_lengths(values, lengths)

    def blocks(self, num_values: int) -> Iterator[Ragged]:
        """Yields all rows in their order, in blocks of about so many values, a long row by itself."""
        for shard in self._shards:
            first, last = 0, len(shard.offsets) - 1
            while first < last:
                limit = int(shard.offsets[first]) + num_values
                end = max(int(np.searchsorted(shard.offsets, limit, side="right")) - 1, first + 1)
                begin = shard.offsets[first]
                values = shard.values[begin : shard.offsets[end]].astype(np.float64)
                values.flags.writeable = False
                yield Ragged.from_lengths(values, np.diff(shard.offsets[first : end + 1]))
                self._release_pages()
                first = end

    def pad(self, rows: NDArray[np.integer], length: int, normalizer: Normalizer) -> Rows:
        """Copies rows, normalised and padded.

        Args:
          rows: Their numbers; -1 for a row of nothing, which fills up a batch.
          length: At least that of the longest.
          normalizer: As in memory: computed in float64, then rounded.
        """
        padded = Rows(np.zeros((len(rows), length), np.float32), np.zeros(len(rows), np.int32))
        steps = np.arange(length)
        size = max(1, _CHUNK_VALUES // length)
        for shard, chosen, local in self._by_shard(rows):
            table = self._table(shard.values.dtype, normalizer)
            for start in range(0, len(chosen), size):
                to, which = chosen[start : start + size], local[start : start + size]
                begins = shard.offsets[which]
                lengths = shard.offsets[which + 1] - begins
                found = shard.values.take(begins[:, None] + steps, mode="clip")
                if table is not None:
                    normal = table.take(found.view(f"u{found.itemsize}"))
                else:
                    normal = normalizer.normalize(found.astype(np.float64)).astype(np.float32)
                normal[steps >= lengths[:, None]] = 0
                padded.values[to], padded.lengths[to] = normal, lengths
        self._release_pages()
        return padded

    def _table(self, dtype: np.dtype, normalizer: Normalizer) -> NDArray[np.float32] | None:
        """The normalised value of every number of a short type; None where there are too many."""
        if dtype.kind != "i" or dtype.itemsize > 2:
            return None
        key = (normalizer, dtype.name)
        if key not in self._tables:
            numbers = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype)
            self._tables[key] = normalizer.normalize(numbers.astype(np.float64)).astype(np.float32)
        return self._tables[key]

    def _by_shard(self, rows: NDArray[np.integer]) -> Iterator[tuple[_Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Yields each shard that holds some rows, their places in `rows`, and in the shard, rising."""
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self._firsts)
        for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
            if begin < end:
                chosen = order[begin:end]
                yield self._shards[number], chosen, rows[chosen].astype(np.int64) - self._firsts[number]

    def _release_pages(self) -> None:
        """Gives mapped pages back once they are many: the kernel counts them as this process's memory."""
        if _mapped_bytes() > MAX_MAPPED_BYTES + _START_BYTES:
            self._release_all()

    def _release_all(self) -> None:
        for shard in self._shards:
            shard.release()


def _mapped_bytes() -> int:
    """The memory that pages of files take in this process; huge where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * _PAGE_BYTES
    except OSError:
        return 1 << 62


# What the libraries themselves take, allowing for those that are imported later.
_START_BYTES = 1 << 29
