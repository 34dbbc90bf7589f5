"""Steps that are missing between those of a series: found, refused, filled in or marked."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import INPUTS, KNOWN, TARGETS, TIMES, Field, Sequences, mark_of
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.units import say_time
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten

# More steps than these, as a multiple of those that are there, are rather a wrong time than missing.
_MOST_TIMES, _MOST_BESIDES = 10, 1_000_000


class Gaps(NamedTuple):
    """Where steps are missing.

    Attributes:
      places: The last steps before each gap, (gaps,).
      missing: How many steps each gap lacks, (gaps,).
    """

    places: NDArray[np.int64]
    missing: NDArray[np.int64]

    @property
    def total(self) -> int:
        """How many steps are missing in all."""
        return int(self.missing.sum())


def find_gaps(sequences: Sequences, frequency: Frequency) -> Gaps:
    """Finds the steps that are missing between those of each series.

    Raises:
      DataError: Times are not of the frequency; names the series and two of its times.
    """
    if TIMES not in sequences.steps:
        return Gaps(np.zeros(0, np.int64), np.zeros(0, np.int64))
    times = sequences.steps[TIMES].values[:, 0]
    steps = np.diff(frequency.positions(times, sequences.offsets, sequences.ids()))
    places = np.flatnonzero(steps > 1)  # from one series to the next they fall to 0
    return Gaps(places, steps[places] - 1)


def fill_gaps(sequences: Sequences, frequency: Frequency, missing: Literal["error", "forward", "mask"]) -> Sequences:
    """Puts in the steps that are missing between those of each series, as `missing` says.

    Args:
      sequences: Series with times.
      frequency: How far apart their steps are.
      missing: "error" refuses gaps; "forward" repeats the step before; "mask" writes 0 for inputs and numbers known
        ahead, and 1 for their marks, NaN for targets, and repeats categories and labels.

    Returns:
      The sequences themselves if no step is missing.

    Raises:
      DataError: A step is missing and `missing` is "error", or far more steps are missing than are there; names the
        series, the two times around the first gap, and how many steps it lacks.
      ValueError: Inputs to be marked were not read with ``missing="mask"``, which gives them marks.

    Example:
      >>> import jaxrnn, pyarrow as pa
      >>> table = pa.table({"year": [1990, 1991, 1993], "price": [1.0, 2.0, 4.0]})
      >>> sequences = jaxrnn.read(table, time_column="year")
      >>> frequency = Frequency.of(sequences)
      >>> fill_gaps(sequences, frequency, "forward").arrays("inputs")[0].ravel().tolist()
      [1.0, 2.0, 2.0, 4.0]
    """
    gaps = find_gaps(sequences, frequency)
    if not gaps.places.size:
        return sequences
    too_many = float(gaps.missing.astype(np.float64).sum()) > _MOST_TIMES * sequences.num_steps + _MOST_BESIDES
    if missing == "error" or too_many:
        _refuse(sequences, frequency, gaps, too_many)
    copies = np.ones(sequences.num_steps, np.int64)
    copies[gaps.places] += gaps.missing
    sources = np.repeat(np.arange(sequences.num_steps), copies)
    starts = np.cumsum(copies) - copies
    after = np.arange(sources.size) - starts[sources]  # how many steps behind the one that is there
    is_new = after > 0
    steps = {name: field.take(sources) for name, field in sequences.steps.items()}
    if missing == "mask":
        for name in (INPUTS, KNOWN):
            if name in steps:
                steps[name] = _marked(name, steps[name], is_new)
        if TARGETS in steps:
            values = np.where(is_new[:, None], np.nan, steps[TARGETS].values)
            steps[TARGETS] = dataclasses.replace(steps[TARGETS], values=values)
    times = steps[TIMES].values[:, 0].copy()
    given = sequences.steps[TIMES].values[:, 0]
    times[is_new] = frequency.times_after(given, sequences.offsets, sources[is_new], after[is_new])
    steps[TIMES] = dataclasses.replace(steps[TIMES], values=times[:, None])
    ends = np.concatenate([[0], np.cumsum(copies)])
    return dataclasses.replace(sequences, offsets=ends[sequences.offsets], steps=steps)


def _marked(name: str, field: Field, is_new: NDArray[np.bool_]) -> Field:
    marks = {mark_of(column) for column in field.names} & set(field.names)
    lacking = [column for column in field.names if column not in marks and mark_of(column) not in marks]
    if lacking:
        raise ValueError(f"{name}: got no mark of {lacking[0]}; expected those that missing='mask' reads")
    put = np.array([1.0 if column in marks else 0.0 for column in field.names])
    return dataclasses.replace(field, values=np.where(is_new[:, None], put, field.values))


def _refuse(sequences: Sequences, frequency: Frequency, gaps: Gaps, too_many: bool) -> None:
    number = int(np.argmax(gaps.missing)) if too_many else 0
    place, lost = int(gaps.places[number]), int(gaps.missing[number])
    owner = int(np.searchsorted(sequences.offsets, place, side="right")) - 1
    ids = sequences.ids()
    name = f"series {owner}" if ids is None else f"series {escape(shorten(ids[owner], 40))!r}"
    before, behind = (say_time(time) for time in sequences.steps[TIMES].values[place : place + 2, 0])
    others = "" if gaps.places.size == 1 else f", {gaps.total} in {gaps.places.size} gaps of all series"
    ways = "give --missing=forward to repeat the step before, --missing=mask to mark them, or add the rows"
    raise DataError(
        f"{name}: found {lost} step{'' if lost == 1 else 's'} missing between {before} and {behind}{others}; expected"
        f" every step ({frequency.in_words}); {'check the times: so many are not filled in' if too_many else ways}"
    )
