"""Encoded sequences as rectangular arrays: padded to a few lengths, or several in a row, in whole batches."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.arranging import packed_batch_rows
from jaxrnn.data.batching import choose_bucket_lengths
from jaxrnn.data.encoding import Encoded
from jaxrnn.data.packing import Placement, flat_steps, number_segments, place_sequences


class StepBatch(NamedTuple):
    """Sequences padded to one length. As a pytree its leaves are arrays, on the host or on a device.

    Attributes:
      inputs: (rows, length, inputs) float32, 0 at padding.
      categories: (rows, length, columns) int32, 0 at padding.
      statics: (rows, statics) float32.
      targets: (rows,) or (rows, length) int32 classes, -1 where they do not count; or (rows, targets) float32; to
        forecast (rows, length, columns) float32.
      lengths: (rows,) int32; 0 for rows that only fill up a batch.
    """

    inputs: Any
    categories: Any
    statics: Any
    targets: Any
    lengths: Any

    def cut(self, length: int) -> "StepBatch":
        """Returns the first steps of every row, which hold all that is no padding."""
        every = self.targets.ndim == 3 or (self.targets.ndim == 2 and self.targets.dtype == np.int32)
        targets = self.targets[:, :length] if every else self.targets
        return self._replace(inputs=self.inputs[:, :length], categories=self.categories[:, :length], targets=targets)


class PackedSteps(NamedTuple):
    """Several sequences in a row. As a pytree its leaves are arrays, on the host or on a device.

    Attributes:
      inputs: (rows, length, inputs) float32, 0 at padding.
      categories: (rows, length, columns) int32, 0 at padding.
      statics: (rows, length, statics) float32, those of the sequence that a step belongs to.
      targets: (rows, length) int32 classes, those of whole sequences at their last steps and -1 elsewhere; or (rows,
        length, targets) float32, of which those at last steps count.
      segment_ids: (rows, length) int32 from 1, 0 at padding.
    """

    inputs: Any
    categories: Any
    statics: Any
    targets: Any
    segment_ids: Any


def pack_steps(rows: Encoded, *, batch_size: int) -> tuple[PackedSteps, int, int]:
    """Packs sequences into rows as long as the longest of them.

    Args:
      rows: Encoded sequences with targets.
      batch_size: About how many sequences a batch is to hold.

    Returns:
      ``(packed, num_rows, batch_rows)``: the rows filled up to whole batches, how many of them hold sequences, and how
      many make a batch.
    """
    lengths = rows.lengths
    length = int(lengths.max(initial=1))
    placed = place_sequences(lengths, length)
    batch_rows = packed_batch_rows(batch_size, placed.num_rows, len(rows))
    num_rows = placed.num_rows + -placed.num_rows % batch_rows
    return lay_steps(rows, placed, length, num_rows), placed.num_rows, batch_rows


def lay_steps(rows: Encoded, placed: Placement, length: int, num_rows: int) -> PackedSteps:
    """Lays sequences where they were placed.

    Args:
      rows: Encoded sequences with targets.
      placed: The row and the step at which each begins.
      length: Steps of a row.
      num_rows: Rows of the result, at least as many as were placed.
    """
    lengths = rows.lengths
    where = flat_steps(placed, lengths, length)

    def packed(values: NDArray[Any], places: NDArray[np.int64], fill: int = 0) -> NDArray[Any]:
        result = np.full((num_rows * length, *values.shape[1:]), fill, values.dtype)
        result[places] = values
        return result.reshape(num_rows, length, *values.shape[1:])

    owner = np.repeat(np.arange(len(rows)), lengths)
    targets = np.asarray(rows.targets)
    ends = where[rows.offsets[1:] - 1]
    if targets.ndim == 2:
        held = packed(targets.astype(np.float32), where if rows.every else ends)
    else:
        held = packed(targets, where if rows.every else ends, -1)
    segment_ids = np.zeros((num_rows, length), np.int32)
    segment_ids[: placed.num_rows] = number_segments(placed, lengths, length)
    steps = packed(rows.inputs, where), packed(rows.categories, where), packed(rows.statics[owner], where)
    return PackedSteps(*steps, held, segment_ids)


def pad_steps(rows: Encoded, indices: NDArray[np.int64], length: int, num_rows: int) -> StepBatch:
    """Pads some sequences to one length.

    Args:
      rows: Encoded sequences.
      indices: The numbers of those to pad, (taken,).
      length: The padded length, at least the longest one's.
      num_rows: Rows of the result, at least as many as indices: the others have length 0.
    """
    lengths = np.zeros(num_rows, np.int64)
    lengths[: len(indices)] = rows.lengths[indices]
    counts = np.arange(length)[None] < lengths[:, None]
    starts = np.zeros(num_rows, np.int64)
    starts[: len(indices)] = rows.offsets[indices]
    places = (starts[:, None] + np.arange(length))[counts]

    def padded(values: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        result = np.full((num_rows, length, *values.shape[1:]), fill, values.dtype)
        result[counts] = values[places]
        return result

    def taken(values: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        result = np.full((num_rows, *values.shape[1:]), fill, values.dtype)
        result[: len(indices)] = values[indices]
        return result

    targets = rows.targets
    if targets is None:
        held = np.full((num_rows, length) if rows.every else num_rows, -1, np.int32)
    elif targets.ndim == 2:
        held = (padded if rows.every else taken)(targets.astype(np.float32))
    else:
        held = (padded if rows.every else taken)(targets, -1)
    return StepBatch(padded(rows.inputs), padded(rows.categories), taken(rows.statics), held, lengths.astype(np.int32))


def arrange_steps(rows: Encoded, *, max_buckets: int, batch_size: int) -> list[tuple[NDArray[np.int64], StepBatch]]:
    """Pads every sequence to the shortest of a few lengths that holds it.

    Args:
      rows: Encoded sequences.
      max_buckets: Padded lengths at most.
      batch_size: Rows are filled up to a multiple of it.

    Returns:
      For every bucket the numbers of its sequences, in their order, and the padded ones.
    """
    lengths = choose_bucket_lengths(rows.lengths, max_buckets)
    bucket_of_row = np.searchsorted(np.asarray(lengths), rows.lengths)
    parts = []
    for number, length in enumerate(lengths):
        indices = np.flatnonzero(bucket_of_row == number)
        if len(indices):
            parts.append((indices, pad_steps(rows, indices, length, -(-len(indices) // batch_size) * batch_size)))
    return parts
