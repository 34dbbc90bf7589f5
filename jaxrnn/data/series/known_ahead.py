"""Numbers that are known ahead, found for the steps behind each series in sequences of their own."""

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import IDS, KNOWN, TIMES, Sequences
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.units import say_time
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import quoted

_MOST_NAMED = 3
_SLACK = 1e-3  # of a step


def match_known(sequences: Sequences, ahead: Sequences, frequency: Frequency, horizon: int) -> NDArray[np.float64]:
    """Finds, by id and time, the numbers known of the steps behind each series; others are left out of account.

    Without times the first `horizon` steps of each id are those behind its series, in their order. Without ids both
    are one series.

    Args:
      sequences: The series.
      ahead: Sequences with the numbers known ahead, whose ids and times are written as those of the series.
      frequency: How far apart the steps are.
      horizon: How many steps behind each series.

    Returns:
      (series * horizon, columns), in the order of the columns of ``sequences.steps["known"]``.

    Raises:
      DataError: Steps or columns are missing; says how many, and names ids and times.
    """
    names = sequences.steps[KNOWN].names
    held = ahead.steps[KNOWN].names if KNOWN in ahead.steps else ()
    for name in names:
        if name not in held:
            raise DataError(f"found no column {quoted(name)} of numbers known ahead; expected those of the series:"
                            f" {', '.join(map(quoted, names))}; add it, or mend --known-columns")  # fmt: skip
    values = ahead.steps[KNOWN].values[:, [held.index(name) for name in names]]
    places = _places(sequences, ahead, frequency, horizon)
    lost = np.argwhere(places < 0)
    if lost.size:
        _refuse(sequences, frequency, horizon, lost)
    return np.asarray(values[places.ravel()], np.float64)


def _places(sequences: Sequences, ahead: Sequences, frequency: Frequency, horizon: int) -> NDArray[np.int64]:
    """Returns which steps of `ahead` are behind each series, (series, horizon); -1 where there is none."""
    numbers = _numbers(sequences, ahead)
    found = np.full((len(sequences), horizon), -1, np.int64)
    has_series = np.flatnonzero(numbers >= 0)
    if TIMES not in sequences.steps:
        steps = np.arange(horizon)
        kept = ahead.offsets[numbers[has_series], None] + steps
        found[has_series] = np.where(steps < ahead.lengths[numbers[has_series], None], kept, -1)
        return found
    if TIMES not in ahead.steps:
        raise DataError("found no times of the numbers known ahead; expected them, as the series have; give the same"
                        " --time-column")  # fmt: skip
    given, held = ahead.steps[TIMES].values[:, 0], sequences.steps[TIMES].values[:, 0]
    if (given.dtype.kind == "M") != (held.dtype.kind == "M"):
        kinds = ["numbers", "dates"]
        raise DataError(f"found {kinds[given.dtype.kind == 'M']} for the times of the numbers known ahead; expected"
                        f" {kinds[held.dtype.kind == 'M']}, as the series have; write them in one form")  # fmt: skip
    if frequency.unit == "float":  # sums are off by their last bits
        last = np.full(len(ahead), np.nan)
        last[numbers[has_series]] = held[sequences.offsets[1:][has_series] - 1]
        series_of = np.full(len(ahead), -1)
        series_of[numbers[has_series]] = has_series
        owners = ahead.owners()
        steps = (given - last[owners]) / frequency.step
        is_behind = (np.abs(steps - np.round(steps)) < _SLACK) & (np.round(steps) >= 1) & (np.round(steps) <= horizon)
        behind = np.flatnonzero(is_behind)
        found[series_of[owners[behind]], np.round(steps[behind]).astype(np.int64) - 1] = behind
        return found
    wanted = _wanted(sequences, frequency, horizon)
    # All times of both in one order of ids and times: the place of a wanted one is where it would be put in.
    flat, owners = wanted[has_series].ravel(), np.repeat(numbers[has_series], horizon)
    times = np.concatenate([given, flat])
    _, ranks = np.unique(times, return_inverse=True)
    count = int(ranks.max(initial=0)) + 1
    keys = ahead.owners() * count + ranks[: len(given)]
    asked = owners * count + ranks[len(given) :]
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    found[has_series] = np.where(keys[place] == asked, place, -1).reshape(-1, horizon)
    return found


def _wanted(sequences: Sequences, frequency: Frequency, horizon: int) -> NDArray[np.generic]:
    times = sequences.steps[TIMES].values[:, 0]
    ids = sequences.ids()
    return frequency.continue_each(times, sequences.offsets, horizon, ids)


def _numbers(sequences: Sequences, ahead: Sequences) -> NDArray[np.int64]:
    """Returns which sequence of `ahead` has the id of each series; -1 where none has."""
    if IDS not in sequences.rows and IDS not in ahead.rows:
        if len(sequences) == len(ahead):
            return np.arange(len(ahead))
        raise DataError(f"found {len(ahead)} sequences of numbers known ahead, without ids; expected {len(sequences)},"
                        " one a series; give ids to both")  # fmt: skip
    for part, whose in ((sequences, "the series"), (ahead, "the numbers known ahead")):
        if IDS not in part.rows:
            raise DataError(f"found no ids of {whose}; expected them, as the other has; give the same --id-column")
    number_of = {text: number for number, text in enumerate(ahead.rows[IDS].texts())}
    return np.array([number_of.get(text, -1) for text in sequences.rows[IDS].texts()], np.int64)


def _refuse(sequences: Sequences, frequency: Frequency, horizon: int, lost: NDArray[np.int64]) -> None:
    times = _wanted(sequences, frequency, horizon) if TIMES in sequences.steps else None
    ids = sequences.ids()
    named = []
    for series, step in lost[:_MOST_NAMED].tolist():
        whose = "" if ids is None else f" of {quoted(ids[series])}"
        named.append((f"step {step + 1}" if times is None else say_time(times[series, step])) + whose)
    more = f" and {len(lost) - len(named)} more" if len(lost) > len(named) else ""
    raise DataError(
        f"found no numbers known ahead for {', '.join(named)}{more}; expected those of {horizon} steps behind each"
        f" series, {len(sequences) * horizon} in all; add the rows, or train with a smaller --horizon"
    )
