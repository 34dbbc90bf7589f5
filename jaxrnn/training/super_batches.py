"""Batches of a prepared data set, read ahead in threads: several of them at once, a super batch.

Reading is done by grain, and any super batch can be read first. How many batches one holds is a tuning constant: where
a run stands is counted in batches.
"""

import threading
from collections import OrderedDict
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.store.layout import Layout
from jaxrnn.data.store.readings import Group, Reading
from jaxrnn.models.objective import Batch
from jaxrnn.training.stream_order import EpochOrder, Seeds

# Values of a super batch, at most: bounds memory, with those read ahead, and the time of one call of the device.
SUPER_VALUES = 1 << 20
# Multiplications of a super batch, about half a second of a CPU: a signal is answered between two of them.
SUPER_PRODUCTS = 1 << 34
READING_THREADS = 2
READ_AHEAD = 3  # super batches that wait
_EPOCHS_KEPT = 3  # one that is being read to its end, the next one, and the one to be drawn


class SuperBatch(NamedTuple):
    """Some consecutive batches of an epoch.

    Attributes:
      batches: Padded to the longest of any part, or packed: arrays of (batches, rows, ...); of an ensemble, whose
        members draw rows of their own, of (batches, members, rows, ...).
      parts: The part that each batch is of, (batches,) int32.
      num_batches: How many there are; those behind are empty and not to be trained on.
    """

    batches: Batch
    parts: NDArray[np.int32]
    num_batches: int


class SuperBatches:
    """The super batches of several epochs, one after the other: any of them by its number.

    Args:
      reading: Where from.
      layout: How they are arranged.
      seeds: Seeds of the shuffling, of an ensemble of its first member; None for none.
      members: How many members draw rows of their own; 0 where there is no ensemble.
      epochs: How many.
      products_per_step: Multiplications of a step of a row.
      width: Numbers of a step.
      rows_of_batch: Which rows of every batch to read, as one of several processes reads its own; None for all. Rows
        behind a batch's last one are empty.
    """

    def __init__(
        self,
        reading: Reading,
        layout: Layout,
        *,
        seeds: Seeds | None,
        members: int = 0,
        epochs: int = 1,
        products_per_step: int = 1,
        width: int = 1,
        rows_of_batch: slice | None = None,
    ):
        self._reading = reading
        self._layout = layout
        self._seeds = [seeds and seeds._replace(seed=seeds.seed + member) for member in range(max(members, 1))]
        self._members = members
        self._epochs = epochs
        own = rows_of_batch or slice(0, layout.batch_rows)
        self._places = np.arange(own.start, own.stop)
        self._length = max(part.length for part in layout.parts)
        batch_steps = layout.batch_rows * self._length * max(members, 1)
        limit = min(SUPER_VALUES // (batch_steps * width), SUPER_PRODUCTS // (batch_steps * products_per_step))
        self.num_batches = num_batches = sum(layout.num_batches)  # of an epoch
        self.size = min(max(limit, 1), num_batches)  # batches of a super batch at most
        self.per_epoch = -(-num_batches // self.size)  # super batches
        self._orders: OrderedDict[int, Future[list[EpochOrder]]] = OrderedDict()
        self._drawing = ThreadPoolExecutor(1)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.per_epoch * self._epochs

    def __getitem__(self, number: int) -> SuperBatch:
        epoch, number = divmod(number, self.per_epoch)
        orders = self._order(epoch)
        chosen = slice(number * self.size, (number + 1) * self.size)
        parts, numbers = orders[0].parts[chosen], orders[0].numbers[chosen].astype(np.int64)  # of all members the same
        batches = self._read(orders, parts, numbers)
        padded_parts = np.zeros(self.size, np.int32)
        padded_parts[: len(parts)] = parts
        return SuperBatch(batches, padded_parts, len(parts))

    def _read(self, orders: list[EpochOrder], parts: NDArray[np.int32], numbers: NDArray[np.int64]) -> Batch:
        shape = (self.size, len(orders), len(self._places))
        if self._layout.batching == "pack":
            found = np.full(shape, -1, np.int64)
            found[: len(numbers)] = self._rows_at(orders, 0, numbers)
            read = self._reading.pack(self._layout.parts[0], found.reshape(-1))
        else:
            groups = []
            places = np.arange(np.prod(shape)).reshape(shape)
            for part in np.unique(parts):
                of_part = np.flatnonzero(parts == part)
                layout = self._layout.parts[part]
                rows = self._rows_at(orders, int(part), numbers[of_part]).reshape(-1)
                if layout.rows is not None:
                    rows = np.where(rows >= 0, layout.rows[rows], -1)
                groups.append(Group(places[of_part].reshape(-1), rows, layout.length))
            read = self._reading.pad(groups, places.size, self._length)
        leading = shape if self._members else (shape[0], shape[2])
        return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), read)

    def shapes(self, rows_of_batch: int) -> tuple[Batch, jax.ShapeDtypeStruct]:
        """Returns the shapes of `SuperBatch.batches` and `parts` for batches of so many rows."""
        nothing = np.full(1, -1, np.int64)
        if self._layout.batching == "pack":
            read = self._reading.pack(self._layout.parts[0], nothing)
        else:
            read = self._reading.pad([Group(np.arange(1), nothing, self._length)], 1, self._length)
        shape = (self.size, *[self._members] * (self._members > 0), rows_of_batch)
        batches = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*shape, *leaf.shape[1:]), leaf.dtype), read)
        return batches, jax.ShapeDtypeStruct((self.size,), np.int32)

    def _rows_at(self, orders: list[EpochOrder], part: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some batches of a part: (batches, members, rows read of each), -1 where there is none."""
        size = self._layout.batch_rows
        places = numbers[:, None] * size + np.minimum(self._places, size - 1)
        found = [order.rows(part, places.reshape(-1)).reshape(places.shape) for order in orders]
        return np.where(self._places < size, np.stack(found, axis=1), -1)

    def _order(self, epoch: int) -> list[EpochOrder]:
        """The orders of an epoch, one a member, drawn while the one before is read."""
        with self._lock:
            for wanted in range(epoch, min(epoch + 2, self._epochs)):
                if wanted not in self._orders:
                    self._orders[wanted] = self._drawing.submit(self._draw, wanted)
            order = self._orders[epoch]
            while len(self._orders) > _EPOCHS_KEPT:
                self._orders.popitem(last=False)
        return order.result()

    def _draw(self, epoch: int) -> list[EpochOrder]:
        return [EpochOrder(self._layout, seeds, epoch) for seeds in self._seeds]


def read_ahead(source: SuperBatches, *, epoch: int = 0, batch: int = 0) -> Generator[SuperBatch, None, None]:
    """Yields super batches from a batch of an epoch on, read ahead in threads.

    Args:
      source: The super batches of all epochs.
      epoch: The epoch to begin in.
      batch: The batch of that epoch to begin at; where a super batch holds it in its middle, those before it are left
        out of the first one.
    """
    import grain

    number, offset = divmod(batch, source.size)
    if batch >= source.num_batches:  # the epoch's batches are all done
        number, offset = source.per_epoch, 0
    options = grain.ReadOptions(num_threads=READING_THREADS, prefetch_buffer_size=READ_AHEAD)
    iterator = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    iterator.set_state({"next_index": epoch * source.per_epoch + number})
    try:
        for first in iterator:
            yield _without_first(first, offset) if offset else first
            break
        yield from iterator
    finally:
        iterator.close()


def _without_first(batch: SuperBatch, number: int) -> SuperBatch:
    """Returns a super batch of the same shape without its first batches; they come again behind its end."""
    batches, parts = jax.tree.map(lambda leaf: np.roll(leaf, -number, axis=0), (batch.batches, batch.parts))
    return SuperBatch(batches, parts, batch.num_batches - number)
