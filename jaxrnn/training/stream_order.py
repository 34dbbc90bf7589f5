"""Which rows of a prepared data set make which batch of an epoch, from the seed and the epoch alone.

A training part of up to `EXACT_ROWS` rows is drawn by `batch_order.draw_batches`, so that its batches are those of rows
in memory. Drawing 30 million rows that way takes tens of seconds, and reading them in an order without any locality one
page a row. Above that, blocks of `BLOCK_ROWS` neighbouring rows are shuffled among each other, and then the rows of
`WINDOW_ROWS` in that order: every row once an epoch, and batches of rows from thousands of places.
"""

import functools
import threading
from collections import OrderedDict
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.store.dataset import EXACT_ROWS
from jaxrnn.data.store.layout import Layout
from jaxrnn.training.batch_order import draw_batches

BLOCK_ROWS = 1 << 8
WINDOW_ROWS = 1 << 20
_WINDOWS_KEPT = 2  # of each part: a super batch may lie in two


class Seeds(NamedTuple):
    """What decides the order: the run's seed, and that of the split."""

    seed: int
    split_seed: int


class EpochOrder:
    """The batches of one epoch.

    Args:
      layout: How the rows are arranged.
      seeds: Seeds of the draw; None takes rows and parts as they come.
      epoch: Epochs finished.

    Attributes:
      parts: The part that each batch is of, (batches,).
      numbers: And which of that part's batches, (batches,).
    """

    def __init__(self, layout: Layout, seeds: Seeds | None, epoch: int):
        self._layout = layout
        self._seeds = seeds
        self._epoch = epoch
        self._exact: list[NDArray[np.int32]] | None = None
        self._windows: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()
        self._lock = threading.Lock()
        counts = layout.num_batches
        if seeds is not None and sum(layout.num_rows) <= EXACT_ROWS:
            orders, (self.parts, self.numbers) = jax.device_get(
                _draw_exactly(
                    np.uint32(seeds.seed),
                    np.int32(epoch),
                    np.uint32(seeds.split_seed),
                    layout.num_rows,
                    layout.batch_rows,
                )
            )
            self._exact = [order.reshape(-1) for order in orders]
            return
        self.parts = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        if seeds is not None and len(counts) > 1:
            # From the split's seed, as `draw_batches` does it: so the members of an ensemble run the same parts.
            np.random.default_rng([seeds.split_seed, epoch, len(counts)]).shuffle(self.parts)
        self.numbers = np.empty(len(self.parts), np.int32)
        for part, count in enumerate(counts):
            self.numbers[self.parts == part] = np.arange(count)
        if seeds is not None:
            self._blocks = [
                self._generator(part).permutation(rows // BLOCK_ROWS) for part, rows in enumerate(layout.num_rows)
            ]

    def rows(self, part: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns which of a part's rows stand at some places of the order; -1 behind the last."""
        num_rows = self._layout.num_rows[part]
        if self._exact is not None:
            found = self._exact[part][places].astype(np.int64)
        elif self._seeds is None:
            found = places
        else:
            found = np.full(len(places), -1, np.int64)
            window_of = places // WINDOW_ROWS
            for window in np.unique(window_of[places < num_rows]):
                chosen = (window_of == window) & (places < num_rows)
                found[chosen] = self._window(part, int(window))[places[chosen] - window * WINDOW_ROWS]
            return found
        return np.where(found < num_rows, found, -1)

    def _window(self, part: int, window: int) -> NDArray[np.int64]:
        """The rows of a window, shuffled; the rows behind the last whole block are those of the last window."""
        key = (part, window)
        with self._lock:
            if key in self._windows:
                self._windows.move_to_end(key)
                return self._windows[key]
            per_window = WINDOW_ROWS // BLOCK_ROWS
            blocks = self._blocks[part][window * per_window : (window + 1) * per_window]
            rows = (blocks[:, None] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).reshape(-1)
            if len(blocks) < per_window:
                num_rows = self._layout.num_rows[part]
                rows = np.concatenate([rows, np.arange(num_rows - num_rows % BLOCK_ROWS, num_rows)])
            # The last entry: NumPy fills short entropy up with zeros, and window 0 would share the blocks' stream.
            self._generator(part, window, 1).shuffle(rows)
            self._windows[key] = rows
            while len(self._windows) > _WINDOWS_KEPT * len(self._layout.parts):
                self._windows.popitem(last=False)
            return rows

    def _generator(self, *which: int) -> np.random.Generator:
        assert self._seeds is not None
        return np.random.default_rng([self._seeds.seed, self._epoch, *which])


@functools.partial(jax.jit, static_argnums=(3, 4))
def _draw_exactly(
    seed: jax.Array, epoch: jax.Array, split_seed: np.uint32, num_rows: tuple[int, ...], batch_rows: int
) -> tuple[list[jax.Array], tuple[jax.Array, jax.Array]]:
    orders, (_, parts, numbers) = draw_batches(
        seed,
        split_seed,
        epoch,
        num_rows=num_rows,
        filled_rows=[rows + -rows % batch_rows for rows in num_rows],
        batch_rows=batch_rows,
        shuffle=True,
    )
    return orders, (parts, numbers)
