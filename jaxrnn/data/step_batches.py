"""Encoded sequences as rectangular arrays: padded to a few lengths, in whole batches."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.batching import choose_bucket_lengths
from jaxrnn.data.encoding import Encoded


class StepBatch(NamedTuple):
    """Sequences padded to one length. As a pytree its leaves are arrays, on the host or on a device.

    Attributes:
      inputs: (rows, length, inputs) float32, 0 at padding.
      categories: (rows, length, columns) int32, 0 at padding.
      statics: (rows, statics) float32.
      targets: (rows,) or (rows, length) int32 classes, -1 where they do not count; or (rows, targets) float32.
      lengths: (rows,) int32; 0 for rows that only fill up a batch.
    """

    inputs: Any
    categories: Any
    statics: Any
    targets: Any
    lengths: Any


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
        held = taken(targets.astype(np.float32))
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
