"""Which dates an axis is marked at, and how they are written there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Periods whose beginnings are marked: their unit, how many of it, and the share of an axis that a name takes.
_PERIODS = (
    *(("s", many, 0.24) for many in (1, 2, 5, 15, 30)),
    *(("m", many, 0.16) for many in (1, 2, 5, 15, 30)),
    *(("h", many, 0.16) for many in (1, 2, 3, 6, 12)),
    *(("D", many, 0.3) for many in (1, 2, 4, 7, 14)),
    *(("M", many, 0.21) for many in (1, 2, 3, 6)),
    *(("Y", factor * 10**power, 0.13) for power in range(6) for factor in (1, 2, 5)),
)
_MONDAY = 3  # 1970-01-01 was a Thursday


def date_ticks(dates: NDArray[Any]) -> tuple[NDArray[np.datetime64], list[str]]:
    """Returns the first dates of periods, and their names: of the shortest periods that leave room for these.

    They are dates of the data: the first of a month is no tick where steps are at the ends of months.

    Args:
      dates: (dates,) in any order; those that are no time do not count.

    Example:
      >>> import numpy as np
      >>> dates = np.arange("2020-11", "2022-03", dtype="M8[M]").astype("M8[us]")
      >>> date_ticks(dates)[1]
      ['2021-01', '2021-07', '2022-01']
    """
    dates = np.unique(dates[~np.isnat(dates)])
    places = as_numbers(dates)
    span, begins, unit = np.ptp(places) if len(dates) else 0.0, np.arange(len(dates)), "D"
    for unit, many, share in _PERIODS:
        numbers = dates.astype(f"M8[{unit}]").astype(np.int64)
        numbers = (numbers + (_MONDAY if unit == "D" and many % 7 == 0 else 0)) // many
        begins = np.flatnonzero(np.diff(numbers)) + 1  # the first date may be within its period
        if len(begins) == len(dates) - 1:
            begins = np.arange(len(dates))
        if len(begins) < 2 or np.diff(places[begins]).min() >= share * span:
            break
    if len(begins) < min(2, len(dates)):
        unit, begins = "D", np.array([0, len(dates) - 1])
    return dates[begins], [_write_date(date, unit) for date in dates[begins]]


def as_numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns numbers as they are, and dates as microseconds since 1970."""
    if values.dtype.kind != "M":
        return np.asarray(values, np.float64)
    return np.where(np.isnat(values), np.nan, values.astype("M8[us]").astype(np.int64).astype(np.float64))


def _write_date(date: Any, unit: str) -> str:
    if unit in "YMD":
        return str(date.astype(f"M8[{unit}]"))
    if unit == "s" or date != date.astype("M8[D]"):
        return str(date.astype(f"M8[{'s' if unit == 's' else 'm'}]")).partition("T")[2]
    return str(date.astype("M8[D]"))[-5:]
