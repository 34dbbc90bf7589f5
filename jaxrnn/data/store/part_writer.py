"""Writes the rows of one part of a prepared data set, as they come, into shards."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.store.dataset import shard_name
from jaxrnn.data.store.shards import MAX_SHARD_VALUES, write_shard
from jaxrnn.foundation.files import hash_file


class PartWriter:
    """Collects the rows of a part and writes a shard whenever there are enough of them.

    Args:
      directory: Where to.
      name: The part's name.
      shard_rows: Rows of a shard at most.
    """

    def __init__(self, directory: Path, name: str, shard_rows: int):
        self.name = name
        self.num_rows = 0
        self._directory = directory
        self._shard_rows = shard_rows
        self._values: list[NDArray[Any]] = []
        self._lengths: list[NDArray[Any]] = []
        self._held_rows = self._held_values = 0
        self._shards: list[dict[str, Any]] = []
        self._counts: dict[int, int] = {}
        self._least, self._greatest = math.inf, -math.inf

    def add(self, values: NDArray[Any], lengths: NDArray[Any]) -> None:
        """Takes rows: flat values, (num_values,), and lengths, (num_rows,)."""
        ends = np.cumsum(lengths)
        first = 0
        self.num_rows += len(lengths)
        while first < len(lengths):
            begin = int(ends[first - 1]) if first else 0
            room = MAX_SHARD_VALUES - self._held_values
            fitting = int(np.searchsorted(ends, begin + room, side="right")) - first
            number = min(fitting, self._shard_rows - self._held_rows, len(lengths) - first)
            if number < 1 and self._held_rows:
                self._write()
                continue
            number = max(number, 1)
            end = int(ends[first + number - 1])
            self._values.append(values[begin:end])
            self._lengths.append(lengths[first : first + number])
            self._held_rows, self._held_values = self._held_rows + number, self._held_values + end - begin
            first += number

    def finish(self) -> dict[str, Any]:
        """Writes what is left; returns the part's description."""
        if self._held_rows:
            self._write()
        return {
            "rows": self.num_rows,
            "values": sum(shard["values"] for shard in self._shards),
            "min": self._least,
            "max": self._greatest,
            "lengths": sorted(self._counts.items()),
            "shards": self._shards,
        }

    def _write(self) -> None:
        values, lengths = np.concatenate(self._values), np.concatenate(self._lengths)
        self._values, self._lengths, self._held_rows, self._held_values = [], [], 0, 0
        path = self._directory / shard_name(self.name, len(self._shards))
        dtype = write_shard(path, values, lengths)
        self._least = min(self._least, float(values.min()))
        self._greatest = max(self._greatest, float(values.max()))
        for length, count in zip(*map(np.ndarray.tolist, np.unique(lengths, return_counts=True)), strict=True):
            self._counts[length] = self._counts.get(length, 0) + count
        self._shards.append(
            {
                "file": path.name,
                "rows": len(lengths),
                "values": len(values),
                "type": dtype,
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
            }
        )
