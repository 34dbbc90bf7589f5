"""The calendar in whole numbers: what `calendar_features` reads off times, in an exported program.

Years begin in March here, so that a leap day is the last of its year; 400 of them always have as many days.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.series.units import DAY, HOUR, MINUTE

_DAYS_OF_CYCLE = 146_097  # 400 years
_FIRST_MARCH = 719_468  # days from 1 March of the year 0 to 1970-01-01
_THURSDAY = 3  # counted from Monday, and what 1970-01-01 was
_LENGTHS = np.array([31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28], np.int64)  # March to February
_STARTS = np.concatenate([[0], np.cumsum(_LENGTHS)[:-1]])
_JANUARY, _BEFORE_MARCH = 10, 59


class _Dates(NamedTuple):
    """Days taken apart: the month from 0 for January, the day from 0, and where in their years they stand."""

    month: Any
    day: Any
    month_length: Any
    day_of_year: Any
    year_length: Any


def calendar(ops: Any, times: Any, names: Sequence[str]) -> Any:
    """Returns the sine and the cosine of the place in cycles of the calendar: (batch, time, 2 * names) float32.

    Args:
      ops: The operations of a format.
      times: (batch, time) int64 microseconds since 1970.
      names: The cycles.
    """
    days = ops.floor_divide(times, DAY)
    within = times - days * np.int64(DAY)
    dates = _take_apart(ops, days)

    def part(whole: Any, of: Any) -> Any:
        return ops.cast(whole, np.float64) / (float(of) if isinstance(of, int) else ops.cast(of, np.float64))

    def place(name: str) -> Any:
        if name == "month":
            return part(dates.month, 12)
        if name == "quarter":
            return part(ops.floor_divide(dates.month, 3), 4)
        if name == "week":
            return part(*_week(ops, days))
        if name == "weekday":
            return part(ops.modulo(days + np.int64(_THURSDAY), 7), 7)
        if name == "day":
            return part(dates.day, dates.month_length)
        if name == "dayofyear":
            return part(dates.day_of_year, dates.year_length)
        if name == "hour":
            return part(ops.floor_divide(within, HOUR), 24)
        assert name == "minute", name
        return part(ops.floor_divide(ops.modulo(within, HOUR), MINUTE), 60)

    angles = [place(name) * (2 * np.pi) for name in names]
    return ops.cast(
        ops.concat([ops.unsqueeze(wave(angle), 2) for angle in angles for wave in (ops.sin, ops.cos)]), np.float32
    )


def _start(ops: Any, year: Any) -> Any:
    """Returns the first day of a year that begins in March, counted from that of year 0."""
    leap_days = ops.floor_divide(year, 4) - ops.floor_divide(year, 100) + ops.floor_divide(year, 400)
    return year * np.int64(365) + leap_days


def _take_apart(ops: Any, days: Any) -> _Dates:
    in_cycle = ops.modulo(days + np.int64(_FIRST_MARCH), _DAYS_OF_CYCLE)
    guess = ops.floor_divide(in_cycle * np.int64(400), _DAYS_OF_CYCLE)  # off by one at most
    late = ops.cast(_start(ops, guess + np.int64(1)) <= in_cycle, np.int64)
    early = ops.cast(_start(ops, guess) > in_cycle, np.int64)
    year = guess + late - early
    first = _start(ops, year)
    of_march = in_cycle - first
    number = ops.unsqueeze(of_march, 2) >= _STARTS[1:]
    march_month = ops.sum(ops.cast(number, np.int64), 2)
    is_next = march_month >= np.int64(_JANUARY)  # January and February are of the next year
    month = ops.modulo(march_month + np.int64(2), 12)
    has_leap_end = _start(ops, year + np.int64(1)) - first - np.int64(365)
    leap_of_own = first - _start(ops, year - np.int64(1)) - np.int64(365)
    is_february = ops.cast(march_month >= np.int64(_JANUARY + 1), np.int64)
    since_january = ops.where(
        is_next, of_march - np.int64(_STARTS[_JANUARY]), of_march + np.int64(_BEFORE_MARCH) + leap_of_own
    )
    return _Dates(
        month,
        of_march - ops.lookup(_STARTS, march_month),
        ops.lookup(_LENGTHS, march_month) + is_february * has_leap_end,
        since_january,
        ops.where(is_next, has_leap_end, leap_of_own) + np.int64(365),
    )


def _week(ops: Any, days: Any) -> tuple[Any, Any]:
    """Returns the week of ISO 8601, from 0, and how many its year has: that of its Thursday."""
    weekday = ops.modulo(days + np.int64(_THURSDAY), 7)
    thursdays = days - weekday + np.int64(_THURSDAY)
    dates = _take_apart(ops, thursdays)
    first = thursdays - dates.day_of_year
    last_day = first + dates.year_length - np.int64(1)
    last = last_day - ops.modulo(last_day, 7)  # days since the first of 1970 that 7 divides are Thursdays
    return ops.floor_divide(dates.day_of_year, 7), ops.floor_divide(last - first, 7) + np.int64(1)
