"""Blocks of rows put one behind the other while more are read."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.native.plain_text import num_workers

_FIRST_VALUES = 1 << 20  # there is room for where it is not known how many there may be
_MOST_PENDING = 8


class Gathered:
    """Rows of blocks, copied by threads: memory that is touched for the first time takes longer than the copying.

    Args:
      most_values: How many values there may be, if that is known: then there is room for all of them from the first.
        What is not written of it takes no memory where the system deals it out as it is touched, and is given back in
        the end. Without a number, or where the system does not promise so much, room is made as rows come, and they
        are put together in the end.
      most_rows: How many rows there may be, if that is known.
    """

    def __init__(self, most_values: int | None = None, most_rows: int | None = None):
        self._full: deque[tuple[NDArray[np.float64], NDArray[np.int64]]] = deque()
        self._num_values = self._num_rows = 0  # of all
        self._threads = ThreadPoolExecutor(num_workers())
        self._pending: deque[Future[None]] = deque()
        try:
            self._make_room(most_values or _FIRST_VALUES, (most_rows or most_values or _FIRST_VALUES) + 1)
        except MemoryError:
            self._make_room(_FIRST_VALUES, _FIRST_VALUES + 1)
        self._offsets[0], self._filled_offsets = 0, 1

    def _make_room(self, num_values: int, num_offsets: int) -> None:
        self._values, self._offsets = np.empty(num_values), np.empty(num_offsets, np.int64)
        self._filled = self._filled_offsets = 0

    def __enter__(self) -> "Gathered":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    def add(self, values: NDArray[Any], lengths: NDArray[np.int32]) -> None:
        """Puts a block behind those before: its values, (values,), and the lengths of its rows, (rows,)."""
        has_room = self._filled + values.size <= self._values.size
        if not has_room or self._filled_offsets + lengths.size > self._offsets.size:
            self._close()
            self._make_room(max(values.size, self._num_values), max(lengths.size, self._num_rows))
        begin, first = self._filled, self._filled_offsets
        self._filled += values.size
        self._filled_offsets += lengths.size
        to = self._values[begin : self._filled], self._offsets[first : self._filled_offsets]
        self._pending.append(self._threads.submit(_copy, values, lengths, *to, self._num_values))
        self._num_values += values.size
        self._num_rows += lengths.size
        self._wait(_MOST_PENDING)

    def rows(self) -> Ragged:
        """Returns the rows of all blocks; nothing can be added any more."""
        self._close()
        if len(self._full) == 1:
            values, offsets = self._full.pop()
        else:
            values, offsets = np.empty(self._num_values), np.empty(self._num_rows + 1, np.int64)
            begin = first = 0
            while self._full:  # each goes once it is copied: the peak is one copy, not two
                some, places = self._full.popleft()
                values[begin : begin + some.size] = some
                offsets[first : first + places.size] = places
                begin, first = begin + some.size, first + places.size
        for array in (values, offsets):
            array.flags.writeable = False
        return Ragged(values, offsets)

    def _close(self) -> None:
        """Gives back what room is left."""
        self._wait()
        self._values.resize(self._filled, refcheck=False)  # in place: of what is copied nobody else holds a part
        self._offsets.resize(self._filled_offsets, refcheck=False)
        self._full.append((self._values, self._offsets))

    def _wait(self, most: int = 0) -> None:
        while len(self._pending) > most:
            self._pending.popleft().result()  # raises what a copy raised


def _copy(
    values: NDArray[Any],
    lengths: NDArray[np.int32],
    to_values: NDArray[np.float64],
    to_offsets: NDArray[np.int64],
    begin: int,
) -> None:
    np.copyto(to_values, values)
    np.cumsum(lengths, out=to_offsets)
    to_offsets += begin
