"""How rows on disk become batches, decided from their lengths alone: the numbers of `arranging.arrange`, not the rows.

It holds four bytes a row where rows are bucketed or packed, and nothing where all are padded to one length.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.arranging import Batching, choose_batching, packed_batch_rows
from jaxrnn.data.batching import choose_lengths_of
from jaxrnn.data.packing import Placement, place_sequences
from jaxrnn.data.store.dataset import EXACT_ROWS


class PartLayout(NamedTuple):
    """Rows of one padded length.

    Attributes:
      num_rows: How many; of packed rows these.
      length: Values of a padded row; steps of a packed one.
      rows: Their numbers, in their order; None for 0, 1, .. Of packed rows those in them, one packed row after the
        other.
      firsts: Where the rows in each packed row begin, (num_rows + 1,); None for others.
    """

    num_rows: int
    length: int
    rows: NDArray[np.int32] | NDArray[np.int64] | None = None
    firsts: NDArray[np.int64] | None = None


class Layout(NamedTuple):
    """How the rows of one part of the data set are arranged; the counterpart of `arranging.Arranged`.

    Attributes:
      parts: Rows of one padded length each.
      batch_rows: Rows of a batch.
      batching: How they are arranged.
      target_steps: How many steps at the end of a padded row are there as targets alone.
    """

    parts: tuple[PartLayout, ...]
    batch_rows: int
    batching: Batching
    target_steps: int = 1

    @property
    def num_rows(self) -> tuple[int, ...]:
        return tuple(part.num_rows for part in self.parts)

    @property
    def lengths(self) -> list[int]:
        """The steps of each part's rows, targets not counted."""
        fewer = 0 if self.batching == "pack" else self.target_steps
        return [part.length - fewer for part in self.parts]

    @property
    def num_batches(self) -> tuple[int, ...]:
        return tuple(-(-part.num_rows // self.batch_rows) for part in self.parts)


def choose_batching_of(
    histogram: tuple[NDArray[np.int64], NDArray[np.int64]], batching: str, num_buckets: int, *, may_pack: bool
) -> Batching:
    """As `arranging.choose_batching`, from how many rows there are of each length: of very many rows from a sample."""
    distinct, counts = histogram
    total = int(counts.sum())
    if total > EXACT_ROWS:
        counts = np.ceil(counts * (EXACT_ROWS / total)).astype(np.int64)
    return choose_batching(np.repeat(distinct, counts), batching, num_buckets, may_pack=may_pack)


class Lengths(Protocol):
    """Rows of which only the lengths matter."""

    def __len__(self) -> int: ...

    def lengths(self) -> Iterator[NDArray[np.int32]]:
        """Yields the lengths of the rows, a shard at a time."""
        ...


def lay_out(
    rows: Lengths,
    histogram: tuple[NDArray[np.int64], NDArray[np.int64]],
    batching: Batching,
    *,
    batch_size: int,
    num_buckets: int,
    target_steps: int = 1,
) -> Layout:
    """Arranges rows as `arranging.arrange` does, without reading more than their lengths.

    Rows are packed within blocks of `EXACT_ROWS`, so that what is held has a bound.

    Args:
      rows: The rows; of two values each at least where one of them is a target alone.
      histogram: Distinct lengths, rising, and how many rows have each.
      batching: How.
      batch_size: Rows of a batch; where rows are packed, about as many of them.
      num_buckets: Padded lengths at most, of "bucket".
      target_steps: How many steps at the end of a row are there as targets alone: 1 of rows of numbers.
    """
    if batching == "pack":
        part = _pack(rows, int(histogram[0][-1]) - target_steps, target_steps)
        batch_rows = packed_batch_rows(batch_size, part.num_rows, len(rows))
        return Layout((part,), batch_rows, batching, target_steps)
    lengths = choose_lengths_of(*histogram, num_buckets if batching == "bucket" else 1)
    if len(lengths) == 1:
        return Layout((PartLayout(len(rows), lengths[0]),), batch_size, batching, target_steps)
    found: list[list[NDArray[Any]]] = [[] for _ in lengths]
    first = 0
    for shard_lengths in rows.lengths():
        bucket_of_row = np.searchsorted(np.asarray(lengths), shard_lengths)
        for number, numbers in enumerate(found):
            numbers.append((np.flatnonzero(bucket_of_row == number) + first).astype(_number_type(rows)))
        first += len(shard_lengths)
    parts = []
    while found:
        of_part = np.concatenate(found.pop(0))
        if len(of_part):
            parts.append(PartLayout(len(of_part), lengths[-len(found) - 1], of_part))
    return Layout(tuple(parts), batch_size, batching, target_steps)


def _number_type(rows: Lengths) -> type[np.int32] | type[np.int64]:
    return np.int32 if len(rows) < 2**31 else np.int64


def _pack(rows: Lengths, length: int, target_steps: int) -> PartLayout:
    orders: list[NDArray[Any]] = []
    sizes: list[NDArray[np.int64]] = []
    first = 0
    waiting = np.empty(0, np.int64)
    for shard_lengths in [*rows.lengths(), None]:
        if shard_lengths is not None:
            waiting = np.concatenate([waiting, shard_lengths.astype(np.int64) - target_steps])
        while len(waiting) >= EXACT_ROWS or (shard_lengths is None and len(waiting)):
            block, waiting = waiting[:EXACT_ROWS], waiting[EXACT_ROWS:]
            placed = place_sequences(block, length)
            order = np.lexsort((placed.start_of, placed.row_of))
            orders.append((order + first).astype(_number_type(rows)))
            sizes.append(np.bincount(placed.row_of, minlength=placed.num_rows))
            first += len(block)
    firsts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return PartLayout(len(firsts) - 1, length, np.concatenate(orders), firsts)


class PackedNumbers(NamedTuple):
    """Which rows lie in some packed rows.

    Attributes:
      rows: Their numbers, one packed row after the other.
      sizes: How many are in each packed row.
    """

    rows: NDArray[Any]
    sizes: NDArray[np.int64]

    def placed(self, lengths: NDArray[np.int64]) -> Placement:
        """Returns where rows of some steps begin: each behind the one before."""
        row_of = np.repeat(np.arange(len(self.sizes)), self.sizes)
        before = np.cumsum(lengths) - lengths
        firsts = np.minimum(np.cumsum(self.sizes) - self.sizes, max(len(before) - 1, 0))
        start_of = before - np.repeat(before[firsts], self.sizes) if len(before) else before
        return Placement(len(self.sizes), row_of, start_of)


def numbers_packed(part: PartLayout, numbers: NDArray[np.int64]) -> PackedNumbers:
    """Finds the rows that lie in some packed rows.

    Args:
      part: A part of packed rows.
      numbers: Which of them; -1 for one of nothing, which fills up a batch.
    """
    assert part.rows is not None
    assert part.firsts is not None
    is_real = numbers >= 0
    begins = np.where(is_real, part.firsts[numbers], 0)
    sizes = np.where(is_real, part.firsts[numbers + 1] - begins, 0)
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return PackedNumbers(part.rows[np.repeat(begins, sizes) + within], sizes)
