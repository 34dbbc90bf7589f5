"""Rows and sequences on the disk as the arrays of a batch: padded or packed, in the network's units."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.batching import Bucket
from jaxrnn.data.encoding import Encoded, Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.packing import PackedRows, flat_steps, number_segments
from jaxrnn.data.sequences import TIMES
from jaxrnn.data.step_batches import PackedSteps, StepBatch, lay_steps, pad_steps
from jaxrnn.data.store.layout import PartLayout, numbers_packed
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.data.store.sharded_sequences import NOT_TRAINED_ON, ShardedSequences
from jaxrnn.settings.config import Config


class Group(NamedTuple):
    """Rows that are padded to one length.

    Attributes:
      places: Where they stand among the rows of the result, (rows,).
      rows: Their numbers; -1 for a row of nothing, which fills up a batch.
      length: At least that of the longest, targets included.
    """

    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    length: int


class Reading(Protocol):
    """What batches are read from."""

    def pad(self, groups: Sequence[Group], num_rows: int, length: int) -> Any:
        """Returns rows padded to the longest length of any group, and rows of nothing where no group has one.

        Args:
          groups: Rows of one padded length each.
          num_rows: Rows of the result.
          length: Steps of a row of it, targets included.
        """
        ...

    def pack(self, part: PartLayout, numbers: NDArray[np.int64]) -> Any:
        """Returns packed rows.

        Args:
          part: A part of packed rows.
          numbers: Which of them; -1 for one of nothing.
        """
        ...


class RowReading:
    """Rows of numbers as batches; methods as those of `Reading`.

    Args:
      rows: Where from.
      normalizer: For the values.
    """

    def __init__(self, rows: ShardedRows, normalizer: Normalizer):
        self._rows = rows
        self._normalizer = normalizer

    def pad(self, groups: Sequence[Group], num_rows: int, length: int) -> Bucket:
        batch = Bucket(np.zeros((num_rows, length), np.float32), np.zeros(num_rows, np.int32))
        for group in groups:
            padded = self._rows.pad(group.rows, group.length, self._normalizer)
            batch.values[group.places, : group.length] = padded.values
            batch.lengths[group.places] = padded.lengths
        return batch

    def pack(self, part: PartLayout, numbers: NDArray[np.int64]) -> PackedRows:
        held = numbers_packed(part, numbers)
        taken = self._normalizer.normalize_rows(self._rows.take(held.rows))
        lengths, ends = taken.lengths - 1, taken.offsets[1:]
        is_input, is_target = np.ones((2, taken.num_values), bool)
        is_input[ends - 1] = is_target[taken.offsets[:-1]] = False
        placed = held.placed(lengths)
        where = flat_steps(placed, lengths, part.length)
        inputs, targets = np.zeros((2, len(numbers), part.length), np.float32)
        inputs.reshape(-1)[where], targets.reshape(-1)[where] = taken.values[is_input], taken.values[is_target]
        return PackedRows(inputs, targets, number_segments(placed, lengths, part.length))


class SequenceReading:
    """Sequences as batches; methods as those of `Reading`, and of `jaxrnn.data.store.layout.Lengths`.

    Args:
      sequences: Where from.
      encoding: Takes them to the network's units.
      config: Says what is predicted.
      target_steps: How many steps at the end of each sequence are predicted and not read.
      trains: Whether they train, which of series to forecast makes every step an origin.
    """

    def __init__(
        self,
        sequences: ShardedSequences,
        encoding: Encoding,
        config: Config,
        target_steps: int,
        *,
        trains: bool = False,
    ):
        self._sequences = sequences
        self._encode_as = encoding.encode_training if trains else encoding.encode
        self._without = NOT_TRAINED_ON - ({TIMES} if encoding.reads_times else set())
        self._task = config.task.task
        self._every = config.training.target == "every"
        self._target_steps = target_steps

    def __len__(self) -> int:
        return len(self._sequences)

    def lengths(self) -> Any:
        """Yields how many steps the network reads of each sequence, a shard at a time."""
        return (lengths - self._target_steps for lengths in self._sequences.lengths())

    def pad(self, groups: Sequence[Group], num_rows: int, length: int) -> StepBatch:
        rows = np.full(num_rows, -1, np.int64)
        for group in groups:
            rows[group.places] = group.rows
        is_real = rows >= 0
        count = int(is_real.sum())
        padded = pad_steps(self._encode(rows[is_real]), np.arange(count), length, count + 1)  # and one of nothing
        places = np.where(is_real, np.cumsum(is_real) - 1, count)
        return StepBatch(*(leaf[places] for leaf in padded))

    def pack(self, part: PartLayout, numbers: NDArray[np.int64]) -> PackedSteps:
        held = numbers_packed(part, numbers)
        encoded = self._encode(held.rows)
        return lay_steps(encoded, held.placed(encoded.lengths), part.length, len(numbers))

    def _encode(self, numbers: NDArray[Any]) -> Encoded:
        return self._encode_as(self._sequences.take(numbers, without=self._without), self._task, every=self._every)
