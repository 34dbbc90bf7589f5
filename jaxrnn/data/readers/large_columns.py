"""Columns of millions of rows, some rows at a time: those that stay in the cache."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.native_text import num_workers

ROWS_AT_ONCE = 1 << 16


def are_in_order(codes: NDArray[np.int32], times: NDArray[Any] | None) -> bool:
    """Whether rows stand in the order of their sequences, and within one their times rise."""
    for begin in range(0, codes.size - 1, ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE + 1)
        whose = codes[rows]
        if (whose[1:] < whose[:-1]).any():
            return False
        if times is not None:
            when = times[rows]
            if ((whose[1:] == whose[:-1]) & ~(when[1:] > when[:-1])).any():
                return False
    return True


def side_by_side(columns: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stacks columns as `np.stack` does behind the last axis, in threads: most of it waits for memory."""
    table = np.empty((columns[0].size, len(columns)))

    def copy(begin: int) -> None:
        rows = slice(begin, begin + ROWS_AT_ONCE)
        np.stack([column[rows] for column in columns], axis=1, out=table[rows])

    with ThreadPoolExecutor(num_workers()) as threads:
        for _ in threads.map(copy, range(0, len(table), ROWS_AT_ONCE)):
            pass  # raises what a copy raised
    return table
