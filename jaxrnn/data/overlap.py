"""Sequences that look like windows of one series: runs of their steps stand in the training sequences too."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from jaxrnn.data.sequences import CATEGORIES, INPUTS, Sequences

RUN = 8  # steps; shorter sequences are not looked at
# Runs of fewer different steps than these, an idle machine's say, stand in many sequences that have nothing in common.
LEAST_DIFFERENT = 5
_RUNS_AT_ONCE = 1 << 17  # bounds memory
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def count_overlapping(training: Sequences, others: Sequences) -> int:
    """Counts the sequences half of whose runs of 8 steps stand in training sequences too, number for number.

    Whole copies are among them. Sequences with categories are not looked at: words come again in texts that have
    nothing in common.

    Args:
      training: Sequences that train, of numbers.
      others: Sequences that do not.
    """
    if any(CATEGORIES in part.steps or INPUTS not in part.steps for part in (training, others)):
        return 0
    values = [np.ascontiguousarray(part.steps[INPUTS].values + 0.0) for part in (training, others)]  # -0 is 0
    if values[0].shape[1] != values[1].shape[1]:
        return 0
    together = np.concatenate(values)
    _, steps = np.unique(together.view([("", together.dtype)] * together.shape[1]), return_inverse=True)
    steps = steps.ravel()
    seen, _ = _runs(steps[: training.num_steps], training)
    runs, owners = _runs(steps[training.num_steps :], others)
    found = np.bincount(owners, np.isin(runs, seen), len(others))
    return int((found > np.bincount(owners, minlength=len(others)) / 2).sum())


def _runs(steps: NDArray[np.int64], sequences: Sequences) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Returns a hash of every run of different enough steps, and the sequence that each is in."""
    if len(steps) < RUN:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    owner, hashes, kept = sequences.owners(), [], []
    windows, last = sliding_window_view(steps, RUN), owner[RUN - 1 :]
    for start in range(0, len(windows), _RUNS_AT_ONCE):
        chosen = slice(start, start + _RUNS_AT_ONCE)
        ordered = np.sort(windows[chosen], axis=1)
        is_varied = (np.diff(ordered, axis=1) > 0).sum(axis=1) + 1 >= LEAST_DIFFERENT
        kept.append(is_varied & (owner[: len(last)][chosen] == last[chosen]))
        hashed = np.zeros(len(ordered), np.uint64)
        for column in windows[chosen].T:
            hashed = (hashed ^ column.astype(np.uint64)) * _FACTOR
        hashes.append(hashed)
    is_kept = np.concatenate(kept)
    return np.concatenate(hashes)[is_kept], last[is_kept]
