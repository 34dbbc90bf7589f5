"""Blocks of rows put one behind the other while more are read."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.native_text import num_workers

_FIRST_VALUES = 1 << 20  # there is room for where it is not known how many there may be
_MOST_PENDING = 8


class Gathered:
    """Rows of blocks, copied by threads: memory that is touched for the first time takes longer than the copying.

    Args:
      most_values: How many values there may be, if that is known. Memory that is not written is never there, so more
        than come cost nothing; but where the system does not promise so much, arrays grow as they do without a number.
    """

    def __init__(self, most_values: int | None = None):
        try:
            self._make_room(_FIRST_VALUES if most_values is None else most_values)
        except MemoryError:
            self._make_room(_FIRST_VALUES)
        self._num_values = self._num_rows = 0
        self._threads = ThreadPoolExecutor(num_workers())
        self._pending: deque[Future[None]] = deque()

    def _make_room(self, most_values: int) -> None:
        self._values, self._offsets = np.empty(most_values), np.empty(most_values + 1, np.int64)
        self._offsets[0] = 0

    def __enter__(self) -> "Gathered":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    def add(self, values: NDArray[Any], lengths: NDArray[np.int32]) -> None:
        """Puts a block behind those before: its values, (values,), and the lengths of its rows, (rows,), at least 1."""
        begin, first = self._num_values, self._num_rows + 1
        self._num_values += values.size
        self._num_rows += lengths.size
        if self._num_values > self._values.size:
            self._wait()
            before = self._values[:begin], self._offsets[:first]
            self._make_room(2 * self._num_values)
            self._values[:begin], self._offsets[:first] = before
        to = self._values[begin : self._num_values], self._offsets[first : self._num_rows + 1]
        self._pending.append(self._threads.submit(_copy, values, lengths, *to, begin))
        self._wait(_MOST_PENDING)

    def rows(self) -> Ragged:
        """Returns the rows of all blocks."""
        self._wait()
        values, offsets = self._values[: self._num_values], self._offsets[: self._num_rows + 1]
        for array in (values, offsets):
            array.flags.writeable = False
        return Ragged(values, offsets)

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
