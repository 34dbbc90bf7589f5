"""Prepared rows on disk: memory-mapped Arrow IPC files of one part each, and random access to them.

A shard is an Arrow IPC file with one record batch: of rows of numbers one column, `values`, a list a row; of sequences
a list a row for each field of steps, and beside them those of rows. Numbers have the shortest type that holds every one
of them exactly, so that reading them back gives what the text said, bit for bit.
"""

import itertools
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.foundation.errors import DataError

COLUMN = "values"
# Values of a shard at most, 64 MiB of float64: what preparing holds of each part.
MAX_SHARD_VALUES = 1 << 23
# Mapped pages may take this much of the memory before they are given back: the file's, so never lost.
MAX_MAPPED_BYTES = 1 << 28
_INTEGERS = (np.int8, np.int16, np.int32)
_PAGE_BYTES = mmap.PAGESIZE


def shorten(values: NDArray[Any]) -> NDArray[Any]:
    """Returns the values in the shortest of int8, int16, int32, float32, float64 that holds them all exactly."""
    low, high = values.min(initial=0), values.max(initial=0)
    if values.dtype.kind in "iu":
        return values.astype(next(integer for integer in (*_INTEGERS, np.int64) if _holds(integer, low, high)))
    for integer in _INTEGERS:
        if _holds(integer, low, high):
            short = values.astype(integer)
            if np.array_equal(short, values) and not (np.signbit(values) & (values == 0)).any():
                return short
            break  # a fraction, or a negative zero
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values.astype(np.float64)


class Block(NamedTuple):
    """Some rows, as they are written.

    Attributes:
      lengths: How many steps each has, (num_rows,).
      steps: What is known of every step, by name: numbers, (num_steps,) or (num_steps, columns), or texts of the first
        form.
      rows: What is known of every row, in the same way: (num_rows,) or (num_rows, columns).
    """

    lengths: NDArray[Any]
    steps: Mapping[str, NDArray[Any]]
    rows: Mapping[str, NDArray[Any]] = {}

    def part(self, first: int, last: int, begin: int, end: int) -> "Block":
        """Returns the rows from `first` to before `last`, whose steps are those from `begin` to before `end`."""
        # Copies: a view would keep all of a file in memory until its shard is full.
        steps = {name: values[begin:end].copy() for name, values in self.steps.items()}
        rows = {name: values[first:last].copy() for name, values in self.rows.items()}
        return Block(self.lengths[first:last].copy(), steps, rows)

    @classmethod
    def joined(cls, blocks: Sequence["Block"]) -> "Block":
        """Returns several blocks as one."""
        lengths = np.concatenate([block.lengths for block in blocks])
        steps, rows = (
            {name: np.concatenate([fields[name] for fields in each]) for name in each[0]}
            for each in ([block.steps for block in blocks], [block.rows for block in blocks])
        )
        return cls(lengths, steps, rows)


def _holds(integer: Any, low: Any, high: Any) -> bool:
    return bool(np.iinfo(integer).min <= low and high <= np.iinfo(integer).max)


def write_shard(path: Path, block: Block) -> list[str]:
    """Writes rows to a new file and waits until they are on the disk; returns the names of the columns' types."""
    import pyarrow as pa

    offsets = np.zeros(len(block.lengths) + 1, np.int32)
    np.cumsum(block.lengths, out=offsets[1:])
    types: list[str] = []
    arrays: dict[str, Any] = {}
    for values in (block.steps, block.rows):
        for name, column in values.items():
            held, dtype = _as_arrow(column)
            types.append(dtype)
            arrays[name] = pa.ListArray.from_arrays(pa.array(offsets), held) if values is block.steps else held
    batch = pa.record_batch(arrays)
    with path.open("xb") as file:
        with pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    return types


def _as_arrow(values: NDArray[Any]) -> tuple[Any, str]:
    """Returns numbers of the shortest type, or texts, as Arrow has them, and the type's name."""
    import pyarrow as pa

    if values.dtype.kind in "OU":
        return pa.array(values.tolist(), pa.large_string()), "text"
    short = shorten(values)
    flat = pa.array(short.reshape(-1))
    return (flat if short.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, short.shape[1])), short.dtype.name


class Shard:
    """One file, mapped.

    Args:
      path: The file.
      steps: The names of its columns of steps.
      rows: The names of those of rows.

    Attributes:
      offsets: Where each row begins among the steps, (num_rows + 1,); a view of the file.
      columns: By name (num_steps,) or (num_steps, columns), of rows (num_rows,) or (num_rows, columns): views of it;
        of texts an array of Arrow's.

    Raises:
      DataError: It is not what `write_shard` writes.
    """

    def __init__(self, path: Path, steps: Sequence[str] = (COLUMN,), rows: Sequence[str] = ()):
        import pyarrow as pa

        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
            batch = reader.get_batch(0)
            held = {name: batch.column(reader.schema.names.index(name)) for name in (*steps, *rows)}
            self.offsets: NDArray[np.int32] = held[steps[0]].offsets.to_numpy()
            self.columns = {
                name: _as_numpy(column.values if name in steps else column) for name, column in held.items()
            }
            is_same = all(np.array_equal(held[name].offsets.to_numpy(), self.offsets) for name in steps[1:])
        except (OSError, ValueError, AttributeError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read ({error}); expected a shard; prepare the data again") from error
        falls = (self.offsets[1:] < self.offsets[:-1]).any()
        if not is_same or not len(self.offsets) or falls or self.offsets[0] != 0:
            raise DataError(f"{path}: its rows lie outside of its values; expected a shard; prepare the data again")
        for name, column in self.columns.items():
            if len(column) != (self.offsets[-1] if name in steps else len(self.offsets) - 1):
                raise DataError(f"{path}: its rows lie outside of its values; expected a shard; prepare the data again")

    @property
    def values(self) -> NDArray[Any]:
        """The numbers of a shard of rows of numbers, (num_values,)."""
        return self.columns[COLUMN]

    def release(self) -> None:
        if hasattr(self._map, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _as_numpy(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        return column.values.to_numpy().reshape(-1, column.type.list_size)
    return column if pa.types.is_large_string(column.type) else column.to_numpy()


class ShardFiles:
    """Shards of one part, in the order of their rows; a part of the memory they take comes and goes.

    Args:
      shards: The shards.
    """

    def __init__(self, shards: Sequence[Shard]):
        self.shards = list(shards)
        self.firsts = np.cumsum([0, *(len(shard.offsets) - 1 for shard in self.shards)])
        self.release_all()

    def __len__(self) -> int:
        return int(self.firsts[-1])

    @property
    def num_steps(self) -> int:
        """The steps of all rows together."""
        return sum(int(shard.offsets[-1]) for shard in self.shards)

    def lengths(self) -> Iterator[NDArray[np.int32]]:
        """Yields the lengths of the rows, a shard at a time."""
        for shard in self.shards:
            yield np.diff(shard.offsets)
            self.release_pages()

    def places(self, num_steps: int) -> Iterator[tuple[Shard, slice, slice]]:
        """Yields all rows in their order, in blocks of about so many steps, a long row by itself.

        Returns:
          Each time a shard, and which of its rows and of its steps are in the block.
        """
        for shard in self.shards:
            first, last = 0, len(shard.offsets) - 1
            while first < last:
                limit = int(shard.offsets[first]) + num_steps
                end = max(int(np.searchsorted(shard.offsets, limit, side="right")) - 1, first + 1)
                yield shard, slice(first, end), slice(int(shard.offsets[first]), int(shard.offsets[end]))
                self.release_pages()
                first = end

    def by_shard(self, rows: NDArray[np.integer]) -> Iterator[tuple[Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Yields each shard that holds some rows, their places in `rows`, and in the shard, rising."""
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self.firsts)
        for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
            if begin < end:
                chosen = order[begin:end]
                yield self.shards[number], chosen, rows[chosen].astype(np.int64) - self.firsts[number]

    def gather(
        self, rows: NDArray[np.integer], steps: NDArray[np.integer] | None = None
    ) -> tuple[NDArray[np.int64], list["Gathered"]]:
        """Finds the steps of the rows of some numbers.

        Args:
          rows: Which, (count,).
          steps: How many of each row's first steps, at most as many as it has, (count,); None for all.

        Returns:
          The rows' lengths, in their order, and where in each shard the steps lie and where they go.
        """
        lengths = np.empty(len(rows), np.int64)
        where = list(self.by_shard(rows))
        for shard, chosen, local in where:
            lengths[chosen] = shard.offsets[local + 1] - shard.offsets[local] if steps is None else steps[chosen]
        ends = np.cumsum(lengths)
        found = []
        for shard, chosen, local in where:
            sizes = lengths[chosen]
            within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            sources = np.repeat(shard.offsets[local].astype(np.int64), sizes) + within
            found.append(Gathered(shard, local, chosen, sources, np.repeat(ends[chosen] - sizes, sizes) + within))
        return lengths, found

    def release_pages(self) -> None:
        """Gives mapped pages back once they are many: the kernel counts them as this process's memory."""
        if _mapped_bytes() > MAX_MAPPED_BYTES + _START_BYTES:
            self.release_all()

    def release_all(self) -> None:
        """Gives all mapped pages back."""
        for shard in self.shards:
            shard.release()


class Gathered(NamedTuple):
    """Rows of a shard, among others.

    Attributes:
      shard: The shard.
      rows: Which of its rows.
      to_rows: Where these stand among all.
      steps: Which of its steps.
      to_steps: Where these stand among all.
    """

    shard: Shard
    rows: NDArray[np.int64]
    to_rows: NDArray[np.int64]
    steps: NDArray[np.int64]
    to_steps: NDArray[np.int64]


def _mapped_bytes() -> int:
    """The memory that pages of files take in this process; huge where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * _PAGE_BYTES
    except OSError:
        return 1 << 62


# What the libraries themselves take, allowing for those that are imported later.
_START_BYTES = 1 << 29
