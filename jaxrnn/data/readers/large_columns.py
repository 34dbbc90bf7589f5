"""Columns of millions of rows, some rows at a time: those that stay in the cache."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.native.plain_text import num_workers

ROWS_AT_ONCE = 1 << 16


def rise_within(times: NDArray[Any], ends: NDArray[np.int64]) -> bool:
    """Whether times rise from row to row within every run of rows that ends at one of `ends`."""
    for begin in range(0, times.size - 1, ROWS_AT_ONCE):
        some = times[begin : begin + ROWS_AT_ONCE + 1]
        rises = some[1:] > some[:-1]
        within = ends[slice(*np.searchsorted(ends, (begin + 1, begin + 1 + rises.size)))]
        rises[within - begin - 1] = True  # from one run to the next
        if not rises.all():
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
