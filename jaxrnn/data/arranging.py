"""How rows become the arrays that batches are drawn from: padded to one length, to a few, or packed."""

from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrnn.data.batching import bucket_rows, choose_bucket_lengths
from jaxrnn.data.packing import pack_rows, place_sequences
from jaxrnn.data.ragged import Ragged

Batching = Literal["pad", "bucket", "pack"]

# Packed rows compute an output at every step and start afresh between sequences: they must save this share of the steps
# that buckets take.
MIN_SAVING_OF_PACKING = 0.25
# Packed batches of more rows than a few are rounded down to a multiple of this, so that 2, 4 or 8 devices share them.
EVEN_ROWS = 8


class Arranged(NamedTuple):
    """Rows ready to be drawn in batches.

    Attributes:
      parts: `Bucket` or `PackedRows` of whole batches, of one padded length each.
      num_rows: How many rows of each part are real.
      batch_rows: Rows of a batch.
      batching: How they are arranged.
    """

    parts: tuple[Any, ...]
    num_rows: tuple[int, ...]
    batch_rows: int
    batching: Batching

    @property
    def lengths(self) -> list[int]:
        """The steps of each part's rows, targets not counted."""
        return [part[0].shape[1] - (self.batching != "pack") for part in self.parts]


def choose_batching(lengths: np.ndarray, batching: str, num_buckets: int, *, may_pack: bool = True) -> Batching:
    """Resolves "auto": packing where it computes far fewer steps than buckets, else buckets.

    Args:
      lengths: The rows' lengths, targets included.
      batching: "auto", or what is to be returned.
      num_buckets: Padded lengths at most.
      may_pack: False leaves packing out of the choice.
    """
    if batching != "auto":
        return batching  # type: ignore[return-value]
    if not may_pack:
        return "bucket"
    steps = lengths - 1
    chosen = np.asarray(choose_bucket_lengths(lengths, num_buckets)) - 1
    bucket_steps = int(chosen[np.searchsorted(chosen, steps)].sum())
    longest = int(steps.max(initial=1))
    packed_steps = place_sequences(steps, longest).num_rows * longest
    return "pack" if packed_steps <= (1 - MIN_SAVING_OF_PACKING) * bucket_steps else "bucket"


def arrange(rows: Ragged, batching: Batching, *, batch_size: int, num_buckets: int) -> Arranged:
    """Arranges normalised rows.

    Args:
      rows: Rows of at least two values each.
      batching: How.
      batch_size: Rows of a batch; where rows are packed, about as many of them.
      num_buckets: Padded lengths at most, of "bucket".
    """
    if batching == "pack":
        packed_rows = place_sequences(rows.lengths - 1, int(rows.lengths.max()) - 1).num_rows
        batch_rows = packed_batch_rows(batch_size, packed_rows, len(rows))
        return Arranged((pack_rows(rows, multiple_of=batch_rows),), (packed_rows,), batch_rows, batching)
    lengths = choose_bucket_lengths(rows.lengths, num_buckets if batching == "bucket" else 1)
    buckets = bucket_rows(rows, lengths, multiple_of=batch_size)
    return Arranged(
        tuple(bucket for _, bucket in buckets), tuple(len(indices) for indices, _ in buckets), batch_size, batching
    )


def packed_batch_rows(batch_size: int, packed_rows: int, num_sequences: int) -> int:
    """Returns how many packed rows hold about `batch_size` sequences; a multiple of 8 where they are many."""
    batch_rows = max(1, round(batch_size * packed_rows / num_sequences))
    return batch_rows - batch_rows % EVEN_ROWS if batch_rows >= 2 * EVEN_ROWS else batch_rows


def in_chunks(part: Any, chunk: int) -> Any:
    """Cuts an array of whole chunks into (chunks, rows, length)."""
    return type(part)(*(leaf.reshape(leaf.shape[0] // chunk, chunk, *leaf.shape[1:]) for leaf in part))
