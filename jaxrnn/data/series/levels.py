"""A series in its own units: its changes over their mean size so far, so that no step tells of a later one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten


class Levels(NamedTuple):
    """Values of series one after the other, (steps, targets) each; no step depends on later ones.

    Attributes:
      values: The value, or where it is missing the last one before; before the first one, that one.
      is_known: Whether it is there.
      changes: What it has changed by since the last one known; 0 at the first and where it is missing.
      scales: The mean size of the changes so far; 0 as long as there is none.
      num_changes: How many changes that is the mean of.
      first: The first value of each series, (series, targets).
    """

    values: NDArray[np.float64]
    is_known: NDArray[np.bool_]
    changes: NDArray[np.float64]
    scales: NDArray[np.float64]
    num_changes: NDArray[np.float64]
    first: NDArray[np.float64]


def measure_levels(names: tuple[str, ...], values: NDArray[np.float64], offsets: NDArray[np.int64]) -> Levels:
    """Finds the levels of series and how much they change.

    Args:
      names: What each target is called.
      values: (steps, targets), NaN where missing.
      offsets: Where each series starts, (series + 1,).

    Raises:
      DataError: A series has no value at all, or changes by more than float64 holds.
    """
    lengths = require_steps(offsets)
    is_known = ~np.isnan(values)
    begins, ends = (np.repeat(bounds, lengths)[:, None] for bounds in (offsets[:-1], offsets[1:]))
    places = np.arange(len(values))[:, None]
    latest = np.maximum.accumulate(np.where(is_known, places, -1), axis=0)
    following = np.minimum.accumulate(np.where(is_known, places, len(values))[::-1], axis=0)[::-1]
    source = np.where(latest >= begins, latest, following)  # before the first one: the first
    lost = source >= ends
    if lost.any():
        step, column = np.argwhere(lost)[0]
        number = int(np.searchsorted(offsets, step, side="right")) - 1
        raise DataError(
            f"sequence {number}: found no value of {escape(shorten(names[column]))!r}; expected one at least to"
            " forecast from"
        )
    filled = np.take_along_axis(values, source, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        changes = np.diff(filled, axis=0, prepend=filled[:1])
    changes[offsets[:-1][lengths > 0]] = 0.0
    if not np.isfinite(changes).all():
        raise DataError("found values whose changes float64 does not hold; expected smaller ones; divide them")
    sums = cumulate(np.abs(changes), offsets)
    numbers = np.maximum(cumulate(is_known.astype(np.float64), offsets) - 1, 0)  # the first value has not changed
    scales = np.divide(sums, numbers, out=np.zeros_like(sums), where=numbers > 0)
    return Levels(filled, is_known, changes, scales, numbers, filled[offsets[:-1]])


def require_steps(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the lengths of series, none of which is empty.

    Raises:
      DataError: One is.
    """
    lengths = np.diff(offsets)
    if not lengths.all():
        raise DataError(f"sequence {int(np.argmin(lengths))}: found no steps; expected one at least to forecast from")
    return lengths


def cumulate(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Adds up each series by itself, from its start: one of large values takes no digits of the others.

    Args:
      values: (steps, columns).
      offsets: Where each series starts, (series + 1,).
    """
    result = np.empty_like(values)
    lengths = np.diff(offsets)
    for length in np.unique(lengths):  # those that are equally long at once
        places = offsets[:-1][lengths == length][:, None] + np.arange(length)
        result[places] = np.cumsum(values[places], axis=1)
    return result


def mean_changes(
    levels: NDArray[np.float64], offsets: NDArray[np.int64], most: int | None = None
) -> NDArray[np.float64]:
    """Returns the mean change of a step over the steps before each, which depends on no later one.

    Args:
      levels: (steps, targets).
      offsets: Where each series starts, (series + 1,).
      most: Over so many steps, or as many as there are; None for all since the first.

    Returns:
      (steps, targets); 0 at the first step of a series.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    place = np.arange(len(levels)) - offsets[owner]
    back = place if most is None else np.minimum(place, most)
    return (levels - levels[np.arange(len(levels)) - back]) / np.maximum(back, 1)[:, None]


def naive_errors(
    levels: NDArray[np.float64], is_known: NDArray[np.bool_], offsets: NDArray[np.int64], lag: int
) -> NDArray[np.float64]:
    """Returns the mean size of the changes over some steps of each series: what MASE divides by.

    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006: the mean absolute error of the
    (seasonal) naive forecast within the training steps.

    Args:
      levels: (steps, targets).
      is_known: Whether a level is a value of that step; changes to others do not count.
      offsets: Where each series starts, (series + 1,).
      lag: The steps of a season; series that are not longer have the changes of single steps.

    Returns:
      (series, targets); 0 of series that do not change.
    """
    result = np.zeros((len(offsets) - 1, levels.shape[1]))
    lengths = np.diff(offsets)
    for length in np.unique(lengths[lengths > 1]):
        alike = np.flatnonzero(lengths == length)
        places = offsets[alike][:, None] + np.arange(length)
        rows, counts = levels[places], is_known[places]
        steps = lag if length > lag else 1
        errors, counts = np.abs(rows[:, steps:] - rows[:, :-steps]), counts[:, steps:]
        result[alike] = (errors * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return result


def power_of_two_below(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the largest power of two that is not above each number; 1 of 0. Dividing by it rounds nothing."""
    exponents = np.frexp(np.where(scales > 0, scales, 1.0))[1] - 1
    return np.where(scales > 0, np.ldexp(1.0, exponents), 1.0)
