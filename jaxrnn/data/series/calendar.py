"""What a calendar says of times: where they stand in the year, the month, the week and the day."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxrnn.data.series.units import HOUR, MINUTE, Months, say_time
from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.checking import require

_THURSDAY = 3  # counted from Monday, and what 1970-01-01 was


def calendar_features(times: ArrayLike, names: Sequence[str]) -> NDArray[np.float64]:
    """Returns the sine and the cosine of the place in cycles of the calendar, so that the end of one meets its start.

    Args:
      times: (steps,) datetimes, those of UTC.
      names: Cycles, each a key of `CYCLES`.

    Returns:
      (steps, 2 * names): the sine and the cosine of the first, and so on.

    Raises:
      DataError: The times are numbers.
      UserError: There is no such cycle.

    Example:
      >>> calendar_features(["1970-01-01", "1970-04-01", "1970-07-01"], ["month"]).round(3).tolist()
      [[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]]
    """
    for name in names:
        require(name in CYCLES, "calendar", name, f"some of {', '.join(CYCLES)}, joined by commas")
    given = np.asarray(times)
    given = given.astype("M8[us]") if given.dtype.kind in "MU" else given
    if not names:
        return np.zeros((len(given), 0))
    if given.dtype.kind != "M":
        first = f", such as {say_time(given[0])}" if given.size else ""
        raise DataError(
            f"found numbers for times{first}; expected dates, of which a calendar tells the {names[0]}; leave"
            " --calendar out, or write the times as dates such as 2024-05-31"
        )
    months = Months.of(given)
    places = 2 * np.pi * np.stack([CYCLES[name](given, months) for name in names], axis=1)
    return np.stack([np.sin(places), np.cos(places)], axis=2).reshape(len(given), 2 * len(names))


def _days(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return times.astype("M8[D]").astype(np.int64)


def _years(days: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the first days of the years that days are of, and of the years after them."""
    years = days.astype("M8[D]").astype("M8[Y]")
    return years.astype("M8[D]").astype(np.int64), (years + np.timedelta64(1, "Y")).astype("M8[D]").astype(np.int64)


def _of_year(times: NDArray[np.datetime64], months: Months) -> NDArray[np.float64]:
    first, after = _years(_days(times))
    return (_days(times) - first) / (after - first)


def _weekday(times: NDArray[np.datetime64], months: Months) -> NDArray[np.float64]:
    return (_days(times) + _THURSDAY) % 7 / 7


def _week(times: NDArray[np.datetime64], months: Months) -> NDArray[np.float64]:
    """Weeks of ISO 8601: a week is of the year that its Thursday is of, and a year has 52 or 53 of them."""
    thursdays = _days(times) - (_days(times) + _THURSDAY) % 7 + _THURSDAY
    first, after = _years(thursdays)
    last = after - 1 - (after - 1) % 7  # the last Thursday: days since the first of 1970 that 7 divides are Thursdays
    return (thursdays - first) // 7 / ((last - first) // 7 + 1)


# The places in each cycle, from 0 at its start to 1 at its end.
CYCLES: dict[str, Callable[[Any, Months], NDArray[np.float64]]] = {
    "month": lambda _, months: months.numbers % 12 / 12,
    "quarter": lambda _, months: months.numbers % 12 // 3 / 4,
    "week": _week,
    "weekday": _weekday,
    "day": lambda _, months: (months.days - 1) / months.lengths,
    "dayofyear": _of_year,
    "hour": lambda _, months: months.within // HOUR / 24,
    "minute": lambda _, months: months.within % HOUR // MINUTE / 60,
}
