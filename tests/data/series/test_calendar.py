"""What is read off times is what Python's own calendar says of them."""

import datetime
import math

import numpy as np
import pytest

from jaxrnn.data.series.calendar import CYCLES, calendar_features
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.settings.task_config import CALENDAR

TIMES = [
    "2024-01-01", "2024-02-29 23:59:59.999999", "2024-12-31 12:30:00", "2023-12-31", "2020-12-31", "2021-01-03",
    "2021-01-04", "1969-12-31 01:02:03", "1900-03-01", "2016-01-03", "2015-12-31", "1970-01-01", "0004-02-29",
]  # fmt: skip


def place(name: str, time: datetime.datetime) -> float:
    """The place of a time in a cycle, from 0 to 1, by the standard library."""
    days_of_year = 366 if time.year % 4 == 0 and (time.year % 100 != 0 or time.year % 400 == 0) else 365
    year, week, weekday = time.isocalendar()
    after = datetime.date(time.year + time.month // 12, time.month % 12 + 1, 1)
    return {
        "month": (time.month - 1) / 12,
        "quarter": (time.month - 1) // 3 / 4,
        "week": (week - 1) / datetime.date(year, 12, 28).isocalendar()[1],
        "weekday": (weekday - 1) / 7,
        "day": (time.day - 1) / (after - datetime.timedelta(days=1)).day,
        "dayofyear": (time.timetuple().tm_yday - 1) / days_of_year,
        "hour": time.hour / 24,
        "minute": time.minute / 60,
    }[name]


def test_places_are_those_of_the_standard_library() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.integers(-(10**10), 10**10, 500) * 10**6
    times = np.concatenate([np.array(TIMES, "M8[us]"), drawn.view("M8[us]")])
    names = list(CYCLES)
    found = calendar_features(times, names)
    assert found.shape == (len(times), 16)
    expected = [
        [part(2 * math.pi * place(name, time)) for name in names for part in (math.sin, math.cos)]
        for time in times.tolist()
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_years_before_the_first_have_a_calendar_too() -> None:
    # The calendar repeats every 400 years.
    times = np.array(["2021-01-03 05:00", "2020-02-29", "2019-12-31"], "M8[us]")
    before = np.array(["-1979-01-03 05:00", "-1980-02-29", "-1981-12-31"], "M8[us]")
    np.testing.assert_array_equal(calendar_features(before, list(CYCLES)), calendar_features(times, list(CYCLES)))


def test_some_names_in_their_order() -> None:
    found = calendar_features(np.array(["2024-06-16 06:00"], "M8[us]"), ["hour", "day"])
    np.testing.assert_allclose(found, [[1, 0, 0, -1]], atol=1e-12)
    assert calendar_features(np.array([1, 2]), []).shape == (2, 0)


def test_what_has_no_calendar_is_refused() -> None:
    for times in ([1950, 1951], [0.5]):
        with pytest.raises(DataError, match=f"found numbers for times, such as {times[0]}; expected dates, .* month"):
            calendar_features(times, ["month"])
    with pytest.raises(UserError, match="calendar: got 'moon'; expected some of month, quarter"):
        calendar_features(np.array(["2024-06-16"], "M8[us]"), ["moon"])


def test_settings_know_the_same_cycles() -> None:
    assert set(CALENDAR) == set(CYCLES)


def test_of_no_steps_there_are_no_features():
    """As where a program is compiled before anything is read."""
    assert calendar_features(np.array([], "M8[us]"), ("month", "hour")).shape == (0, 4)
