"""Writes the rows of one part of a prepared data set, as they come, into shards."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.store.dataset import shard_name
from jaxrnn.data.store.shards import MAX_SHARD_VALUES, Block, write_shard
from jaxrnn.foundation.files import hash_file


class PartWriter:
    """Collects the rows of a part and writes a shard whenever there are enough of them.

    Args:
      directory: Where to.
      name: The part's name.
      shard_rows: Rows of a shard at most.
      width: Numbers of a step.
    """

    def __init__(self, directory: Path, name: str, shard_rows: int, *, width: int = 1):
        self.name = name
        self.num_rows = 0
        self._directory = directory
        self._shard_rows = shard_rows
        self._most_steps = MAX_SHARD_VALUES // max(width, 1)
        self._blocks: list[Block] = []
        self._held_rows = self._held_steps = 0
        self._shards: list[dict[str, Any]] = []
        self._counts: dict[int, int] = {}
        self._ranges: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def add(self, block: Block) -> None:
        """Takes rows."""
        lengths = block.lengths
        ends = np.cumsum(lengths)
        first = 0
        self.num_rows += len(lengths)
        while first < len(lengths):
            begin = int(ends[first - 1]) if first else 0
            room = self._most_steps - self._held_steps
            fitting = int(np.searchsorted(ends, begin + room, side="right")) - first
            number = min(fitting, self._shard_rows - self._held_rows, len(lengths) - first)
            if number < 1 and self._held_rows:
                self._write()
                continue
            number = max(number, 1)
            end = int(ends[first + number - 1])
            self._blocks.append(block.part(first, first + number, begin, end))
            self._held_rows, self._held_steps = self._held_rows + number, self._held_steps + end - begin
            first += number

    def finish(self) -> dict[str, Any]:
        """Writes what is left; returns the part's description."""
        if self._held_rows:
            self._write()
        return {
            "rows": self.num_rows,
            "values": sum(shard["values"] for shard in self._shards),
            "lengths": sorted(self._counts.items()),
            "shards": self._shards,
        }

    def ranges(self) -> dict[str, tuple[list[float], list[float]]]:
        """Returns the least and the greatest number of each column of each field of float64."""
        return {name: (least.tolist(), greatest.tolist()) for name, (least, greatest) in self._ranges.items()}

    def _write(self) -> None:
        block = Block.joined(self._blocks)
        self._blocks, self._held_rows, self._held_steps = [], 0, 0
        path = self._directory / shard_name(self.name, len(self._shards))
        types = write_shard(path, block)
        for name, values in (*block.steps.items(), *block.rows.items()):
            if values.dtype == np.float64 and len(values):
                # Of what is known: a value to forecast may be missing.
                least, greatest = np.atleast_1d(np.fmin.reduce(values)), np.atleast_1d(np.fmax.reduce(values))
                before = self._ranges.get(name, (least, greatest))
                self._ranges[name] = np.fmin(before[0], least), np.fmax(before[1], greatest)
        for length, count in zip(*map(np.ndarray.tolist, np.unique(block.lengths, return_counts=True)), strict=True):
            self._counts[length] = self._counts.get(length, 0) + count
        self._shards.append(
            {
                "file": path.name,
                "rows": len(block.lengths),
                "values": int(np.sum(block.lengths)),
                "type": ", ".join(dict.fromkeys(types)),
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
            }
        )
