"""What times are counted in: months whose days keep their place, business days, microseconds; and their words."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.foundation.errors import DataError

Unit = Literal["none", "integer", "float", "microsecond", "business_day", "month", "unknown"]

SECOND = 10**6  # microseconds
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND, 7 * 86_400 * SECOND
MONTH_END = 31  # as a day of months: in shorter ones it is the last
MAX_YEARS = 290_000  # from 1970 on, what int64 microseconds hold
_BUSINESS_DAYS = 5
_MONDAY = 3  # 1970-01-01 was a Thursday
_NAMES = {WEEK: "week", DAY: "day", HOUR: "hour", MINUTE: "minute", SECOND: "second"}
_MONTHS = {1: "monthly", 3: "quarterly", 12: "yearly"}
_DURATIONS = {WEEK: "weekly", DAY: "daily", HOUR: "hourly", MINUTE: "every minute", SECOND: "every second"}


class Months(NamedTuple):
    """Times, taken apart; integers of shape (steps,).

    Attributes:
      numbers: Months since January 1970.
      days: Days of the month, from 1.
      lengths: Days that the month has.
      within: Microseconds since midnight.
    """

    numbers: NDArray[np.int64]
    days: NDArray[np.int64]
    lengths: NDArray[np.int64]
    within: NDArray[np.int64]

    @classmethod
    def of(cls, times: NDArray[np.datetime64]) -> "Months":
        """Takes datetime64[us] times apart."""
        months, days = times.astype("M8[M]"), times.astype("M8[D]")
        first = months.astype("M8[D]").astype(np.int64)
        within = times.astype(np.int64) - days.astype(np.int64) * DAY
        return cls(months.astype(np.int64), days.astype(np.int64) - first + 1, month_lengths(months), within)

    def days_kept(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the day of the month that each series keeps, `MONTH_END` where all are their months' last days.

        Args:
          offsets: Where each series starts, and the last ends; none is empty.
        """
        inner = np.where(self.days < self.lengths, self.days, 0)
        kept = np.maximum.reduceat(inner, offsets[:-1])
        return np.where(kept == 0, MONTH_END, kept)


def month_lengths(months: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Returns how many days each datetime64[M] has."""
    return ((months + np.timedelta64(1, "M")).astype("M8[D]") - months.astype("M8[D]")).astype(np.int64)


def times_of_months(
    numbers: NDArray[np.int64], days: NDArray[np.int64], within: NDArray[np.int64]
) -> NDArray[np.datetime64]:
    """Returns times of months since January 1970; days that a month does not have are its last one.

    Raises:
      DataError: datetime64[us] cannot hold one.
    """
    require_years(np.abs(numbers).max(initial=0) / 12)
    months = numbers.astype("M8[M]")
    first = months.astype("M8[D]").astype(np.int64)
    return ((first + np.minimum(days, month_lengths(months)) - 1) * DAY + within).astype("M8[us]")


def require_years(years: float) -> None:
    """Refuses times too far from 1970.

    Raises:
      DataError: They are.
    """
    if years > MAX_YEARS:
        raise DataError(
            f"times: found some {years:.0f} years from 1970; expected at most {MAX_YEARS}; mend the times, or their"
            " frequency"
        )


def is_weekend(times: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Whether datetime64[us] times are of a Saturday or a Sunday."""
    return (times.astype("M8[D]").astype(np.int64) + _MONDAY) % 7 >= _BUSINESS_DAYS


def business_days(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Numbers Mondays to Fridays; a weekend counts as the Monday after it."""
    weeks, days = np.divmod(times.astype("M8[D]").astype(np.int64) + _MONDAY, 7)
    return weeks * _BUSINESS_DAYS + np.minimum(days, _BUSINESS_DAYS)


def times_of_business_days(numbers: NDArray[np.int64], within: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Returns the times of numbers that `business_days` gives."""
    weeks, days = np.divmod(numbers, _BUSINESS_DAYS)
    require_years(float(np.abs(weeks).max(initial=0)) / 52)
    return ((weeks * 7 + days - _MONDAY) * DAY + within).astype("M8[us]")


def season_of(unit: Unit, step: float) -> int:
    """Returns how many steps make the season that is usual: a year of months and weeks, a week of days, else a day."""
    if unit == "month":
        return int(12 // step) if 12 % step == 0 else 1
    if unit == "business_day":
        return _BUSINESS_DAYS
    if unit != "microsecond":
        return 1
    for length, steps in ((WEEK, 52), (DAY, 7)):
        if step % length == 0:
            many = int(step // length)
            return steps // many if steps % many == 0 else 1
    return int(DAY // step) if DAY % step == 0 else 1


def in_words(unit: Unit, step: float) -> str:
    """Says a frequency, such as "monthly" or "every 15 minutes"."""
    if unit == "none":
        return "steps without times"
    if unit == "unknown":
        return "of one step"
    if unit == "integer":
        return f"whole numbers, {step} apart"
    if unit == "float":
        return f"numbers, {step:.12g} apart"
    if unit == "business_day":
        return "every business day"
    if unit == "month":
        if step % 12 == 0 and step > 12:
            return f"every {step // 12} years"
        return _MONTHS.get(int(step), f"every {step} months")
    if step in _DURATIONS:
        return _DURATIONS[int(step)]
    return f"every {duration(int(step))}"


def duration(step: int) -> str:
    """Says microseconds, in the largest unit that they are whole numbers of."""
    for length, name in _NAMES.items():
        if step % length == 0:
            return f"{step // length} {name}{'' if step == length else 's'}"
    return f"{step / SECOND:g} seconds"


def say_time(time: Any) -> str:
    """Writes a time for a message: a datetime without the parts that are 0."""
    if isinstance(time, np.datetime64):
        text = str(time)
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return text.removesuffix("T00:00:00").replace("T", " ")
    return str(time)
