"""Prepared rows of numbers: random access to their shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.store.shards import Shard, ShardFiles

# Values gathered at once: the temporaries stay in the processor's cache.
_CHUNK_VALUES = 1 << 17


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
        self._files = ShardFiles([Shard(path) for path in paths])
        self._tables: dict[tuple[Normalizer, str], NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return len(self._files)

    @property
    def num_values(self) -> int:
        """The number of values in all rows together."""
        return self._files.num_steps

    def lengths(self) -> Iterator[NDArray[np.int32]]:
        """Yields the lengths of the rows, a shard at a time."""
        return self._files.lengths()

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """Copies the rows of some numbers, in their order."""
        lengths, found = self._files.gather(rows)
        values = np.empty(int(lengths.sum()), np.float64)
        for one in found:
            values[one.to_steps] = one.shard.values[one.steps]
        self._files.release_pages()
        values.flags.writeable = False
        return Ragged.from_lengths(values, lengths)

    def blocks(self, num_values: int) -> Iterator[Ragged]:
        """Yields all rows in their order, in blocks of about so many values, a long row by itself."""
        for shard, rows, steps in self._files.places(num_values):
            values = shard.values[steps].astype(np.float64)
            values.flags.writeable = False
            yield Ragged.from_lengths(values, np.diff(shard.offsets[rows.start : rows.stop + 1]))

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
        for shard, chosen, local in self._files.by_shard(rows):
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
        self._files.release_pages()
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
