"""Frequencies are told from times, continue them as pandas does, and number their steps; what is irregular is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.foundation.errors import DataError

OFFSETS = {  # of pandas: what is said of each, and its season
    "YE": ("yearly", 1), "YS": ("yearly", 1), "QE": ("quarterly", 4), "QS": ("quarterly", 4), "ME": ("monthly", 12),
    "MS": ("monthly", 12), "W": ("weekly", 52), "D": ("daily", 7), "B": ("every business day", 5), "h": ("hourly", 24),
    "15min": ("every 15 minutes", 96), "30s": ("every 30 seconds", 2880), "2D": ("every 2 days", 1),
    "3MS": ("quarterly", 4), "4h": ("every 4 hours", 6), "2ME": ("every 2 months", 6), "W-WED": ("weekly", 52),
    "2YS": ("every 2 years", 1), "2W": ("every 2 weeks", 26), "7min": ("every 7 minutes", 1),
    "500ms": ("every 0.5 seconds", 172800),
}  # fmt: skip


def dates(*texts: str) -> np.ndarray:
    return np.array(texts, "M8[us]")


def joined(*series: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(series), np.cumsum([0, *map(len, series)])


@pytest.mark.parametrize("offset", OFFSETS)
def test_what_pandas_counts_is_told_continued_and_numbered(offset: str) -> None:
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(sum(map(ord, offset)))
    for _ in range(30):
        start = pandas.Timestamp("1890-01-01") + pandas.Timedelta(minutes=int(generator.integers(10**8)))
        times = pandas.date_range(start, periods=60, freq=offset).to_numpy()
        seen = int(generator.integers(7, 30))  # of business days seven hold a weekend
        frequency = Frequency.infer(times[:seen])
        assert (frequency.in_words, frequency.season) == OFFSETS[offset]
        found = frequency.continue_from(times[:seen], 60 - seen)
        assert found.dtype == np.dtype("M8[us]")
        assert (found == times[seen:]).all(), (start, seen)
        assert frequency.positions(times).tolist() == list(range(60))
        kept = np.sort(generator.choice(60, 40, replace=False))
        assert frequency.positions(times[kept]).tolist() == (kept - kept[0]).tolist()
        assert Frequency.from_json(json.loads(json.dumps(frequency.to_json()))) == frequency
        assert hash(Frequency(**frequency.to_json())) == hash(frequency)


@pytest.mark.parametrize("offset", ["ME", "MS", "D", "B", "h", "W"])
def test_gaps_do_not_hide_the_frequency(offset: str) -> None:
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(3)
    times = pandas.date_range("2019-01-01", periods=200, freq=offset).to_numpy()
    whole = Frequency.infer(times)
    for _ in range(20):
        kept = np.sort(generator.choice(200, 130, replace=False))
        assert Frequency.infer(times[kept]) == whole


class TestMonths:
    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            (("2023-01-31", "2023-02-28"), ["2023-03-31", "2023-04-30"]),
            (("2023-01-30", "2023-02-28"), ["2023-03-30", "2023-04-30", "2023-05-30"]),
            (("2023-01-28", "2023-02-28"), ["2023-03-28", "2023-04-28"]),
            (("2023-12-29", "2024-01-29"), ["2024-02-29", "2024-03-29"]),
            (("2022-12-29", "2023-01-29"), ["2023-02-28", "2023-03-29"]),
            (("2020-02-29", "2021-02-28"), ["2022-02-28", "2023-02-28", "2024-02-29"]),
            (("2024-01-15 12:30", "2024-02-15 12:30"), ["2024-03-15T12:30"]),
            (("-0001-11-30", "-0001-12-31"), ["0000-01-31", "0000-02-29"]),
            (("1969-11-30", "1969-12-31"), ["1970-01-31"]),
        ],
    )
    def test_days_keep_their_place(self, seen: tuple[str, ...], expected: list[str]) -> None:
        times = dates(*seen)
        found = Frequency.infer(times).continue_from(times, len(expected))
        assert found.tolist() == dates(*expected).tolist()

    def test_a_last_time_alone_takes_the_day_of_the_others(self) -> None:
        frequency = Frequency.infer(dates("2023-10-31", "2023-11-30", "2023-12-31"))
        found = frequency.continue_from(np.datetime64("2024-02-29"), 2)
        assert found.tolist() == dates("2024-03-31", "2024-04-30").tolist()
        at_28 = Frequency.infer(dates("2023-10-28", "2023-11-28"))
        assert at_28.continue_from(np.datetime64("2023-02-28"), 1).tolist() == dates("2023-03-28").tolist()

    @pytest.mark.parametrize("day", [1, 15, 28, 29, 30, 31])
    @pytest.mark.parametrize("step", [1, 2, 3, 5, 6, 12, 36])
    def test_what_forty_steps_show_goes_on(self, day: int, step: int) -> None:
        for month in range(1, 13):
            months = np.datetime64(f"{1951 + day}-{month:02}") + np.arange(200) * np.timedelta64(step, "M")
            lengths = ((months + np.timedelta64(1, "M")).astype("M8[D]") - months.astype("M8[D]")).astype(int)
            times = (months.astype("M8[D]") + (np.minimum(day, lengths) - 1).astype("m8[D]")).astype("M8[us]")
            times += np.timedelta64(6, "h")
            frequency = Frequency.infer(times[:40])
            assert (frequency.unit, frequency.step) == ("month", step)
            assert frequency.continue_from(times[:40], 160).tolist() == times[40:].tolist()
            kept = np.delete(times, [5, 6, 20, 39])
            assert np.flatnonzero(np.diff(frequency.positions(kept)) > 1).tolist() == [4, 17, 35]

    def test_each_series_keeps_its_own_day(self) -> None:
        series = [dates("2023-01-31", "2023-02-28"), dates("2023-01-28", "2023-02-28"), dates("2023-02-10")]
        times, offsets = joined(*series, dates("2023-02-28"))
        frequency = Frequency.infer(times, offsets)
        assert (frequency.in_words, frequency.day) == ("monthly", 31)
        found = frequency.continue_each(times, offsets, 1)[:, 0]
        assert found.tolist() == dates("2023-03-31", "2023-03-28", "2023-03-10", "2023-03-31").tolist()


class TestBusinessDays:
    def test_a_weekend_anywhere_makes_them_days(self) -> None:
        weeks = np.arange("2024-01-01", "2024-02-01", dtype="M8[D]")
        workdays = weeks[np.is_busday(weeks)]
        assert Frequency.infer(workdays).in_words == "every business day"
        assert Frequency.infer(*joined(workdays, dates("2024-01-06", "2024-01-07"))).in_words == "daily"
        assert Frequency.infer(workdays[:5]).in_words == "daily"  # Monday to Friday
        assert Frequency.infer(weeks).in_words == "daily"
        assert Frequency.infer(np.delete(weeks, [5, 6, 13])).in_words == "daily"

    def test_a_holiday_is_a_gap(self) -> None:
        weeks = np.arange("1969-12-01", "1970-02-01", dtype="M8[D]")
        workdays = weeks[np.is_busday(weeks)]
        kept = np.delete(workdays, [18, 23])
        frequency = Frequency.infer(kept)
        assert frequency.unit == "business_day"
        assert np.flatnonzero(np.diff(frequency.positions(kept)) != 1).tolist() == [17, 21]


class TestNumbers:
    @pytest.mark.parametrize(
        ("times", "step", "after"),
        [
            ([1950, 1951, 1953], 1, [1954, 1955]),
            ([-4, -2, 0], 2, [2, 4]),
            ([0, 3600, 7200], 3600, [10800, 14400]),
            ([7], 1, [8, 9]),
        ],
    )
    def test_whole_numbers(self, times: list[int], step: int, after: list[int]) -> None:
        frequency = Frequency.infer(times)
        assert (frequency.unit, frequency.step, frequency.season) == ("integer", step, 1)
        assert frequency.continue_from(times, 2).tolist() == after
        assert frequency.continue_from(times[-1], 2).tolist() == after

    def test_floats(self) -> None:
        times = np.cumsum(np.full(1000, 0.1)) + 1e4
        frequency = Frequency.infer(np.delete(times, [3, 4, 500]))
        assert (frequency.unit, frequency.step) == ("float", 0.1)
        assert np.flatnonzero(np.diff(frequency.positions(np.delete(times, [3, 4]))) != 1).tolist() == [2]
        np.testing.assert_allclose(frequency.continue_from(times[:500], 500), times[500:], rtol=1e-12)
        assert Frequency.infer([0.5]).continue_from([0.5], 2).tolist() == [1.5, 2.5]

    def test_without_times_steps_are_numbered(self) -> None:
        frequency = Frequency.infer(None)
        assert frequency == Frequency()
        assert frequency.continue_each(None, [0, 3, 4], 2).tolist() == [[3, 4], [1, 2]]

    def test_numbers_that_leave_their_type_are_refused(self) -> None:
        times = [2**63 - 3, 2**63 - 2]
        with pytest.raises(DataError, match="expected whole numbers that int64 holds"):
            Frequency.infer(times).continue_from(times, 2)
        with pytest.raises(DataError, match="which are too far apart"):
            Frequency.infer([-(2**63), 2**63 - 1])
        years = dates("0000-01-01", "250000-01-01")
        with pytest.raises(DataError, match="found some 498030 years from 1970"):
            Frequency.infer(years).continue_from(years, 1)


class TestOneStep:
    def test_takes_the_frequency_of_the_others(self) -> None:
        times, offsets = joined(dates("2024-02-28"), dates("2024-01-01", "2024-01-02"))
        frequency = Frequency.infer(times, offsets)
        assert frequency.in_words == "daily"
        assert frequency.continue_each(times, offsets, 1)[:, 0].tolist() == dates("2024-02-29", "2024-01-03").tolist()

    def test_dates_alone_do_not_go_on(self) -> None:
        frequency = Frequency.infer(dates("2024-02-28"), ids=["a"])
        assert (frequency.unit, frequency.season) == ("unknown", 1)
        assert frequency.positions(dates("2024-02-28")).tolist() == [0]
        with pytest.raises(DataError, match="found one step, at 2024-02-28, as in all series; expected two steps"):
            frequency.continue_from(dates("2024-02-28"), 1)


HOURS = np.arange("2024-01-01", "2024-01-03", dtype="M8[h]").astype("M8[us]")
MONTHS = np.arange("2020-01", "2022-01", dtype="M8[M]").astype("M8[us]")
WORKDAYS = np.arange("2020-01-01", "2022-01-01", dtype="M8[D]")
WORKDAYS = WORKDAYS[np.is_busday(WORKDAYS)].astype("M8[us]")
IRREGULAR: list[tuple[Any, str]] = [
    ((HOURS, np.append(HOURS, HOURS[-1] + np.timedelta64(1, "us"))),
     r"'b': found the times 2024-01-02 23:00:00 and 2024-01-02 23:00:00.000001, 1e-06 seconds apart, where most steps"
     " are hourly; expected steps equally far apart"),
    ((MONTHS, MONTHS[::12]), None),  # two steps of a year among months may be a gap
    ((MONTHS, np.append(MONTHS, MONTHS[:1] + np.timedelta64(366 * 3, "D"))[[0, 12, 24]]), "'b': found the times"),
    ((MONTHS, MONTHS[::3]), "'b': found the times 2020-01-01 and 2020-04-01, as all of it, 3 steps apart where other"),
    ((HOURS, MONTHS), "'b': found the times 2020-01-01 and 2020-02-01, as all of it, 744 steps apart where other"),
    ((MONTHS, MONTHS, dates("2020-01-01", "2020-02-01", "2020-03-02")),
     "'c': found the times 2020-02-01 and 2020-03-02, which are not of one day of the month, as those of most"),
    (([1, 2, 3, 4, 5], [1, 3, 5]), "'b': found the times 1 and 3, as all of it, 2 steps apart where other series are"),
    (([20240131, 20240201],), "'a': found the times 20240131 and 20240201, whole numbers that are written as dates"),
    (([202311, 202312, 202401],), "'a': found the times 202311 and 202312, whole numbers that are written as dates"),
    ((WORKDAYS, WORKDAYS[::5]), "'b': found the times 2020-01-01 and 2020-01-08, as all of it, 5 steps apart where"),
    ((WORKDAYS, MONTHS[[3, 6, 8]]), "'b': found the times 2020-04-01 and 2020-07-01, as all of it, 65 steps apart"),
    (([0, 2, 4, 7, 9],), "'a': found the times 4 and 7, 3 apart, where most steps are whole numbers, 2 apart"),
    (([0.0, 1.0, 2.5, 3.5],), "'a': found the times 1.0 and 2.5, 1.5 apart, where most steps are 1 apart"),
    (([1, 3, 2],), "'a': found the times 3 and 2, which do not rise; expected"),
    (([1.0, 1.0],), "'a': found the times 1.0 and 1.0, which do not rise"),
    (([1.0, np.nan],), "'a': found the time nan; expected one at every step"),
    ((np.array(["2024-01-01", "NaT"], "M8[us]"),), "'a': found the time NaT"),
]  # fmt: skip


@pytest.mark.parametrize(("series", "message"), IRREGULAR)
def test_irregular_times_name_the_series_and_two_times(series: Any, message: str | None) -> None:
    times, offsets = joined(*series)
    if message is None:
        Frequency.infer(times, offsets, ["a", "b"])
        return
    with pytest.raises(DataError, match=message):
        Frequency.infer(times, offsets, ["a", "b", "c"])


def test_positions_refuse_times_of_another_frequency() -> None:
    daily = Frequency.infer(dates("2024-01-01", "2024-01-02"))
    with pytest.raises(DataError, match="'x': found the times 2024-01-01 and 2024-01-01 06:00:00, where steps are dai"):
        daily.positions(dates("2024-01-01", "2024-01-01 06:00"), ids=["x"])
    monthly = Frequency.infer(MONTHS)
    with pytest.raises(DataError, match="where steps are monthly"):
        monthly.positions(dates("2024-01-01", "2024-02-03"))
    with pytest.raises(DataError, match="where steps are of one step"):
        Frequency("unknown").positions(dates("2024-01-01", "2024-01-02"))
    business = Frequency("business_day")
    with pytest.raises(DataError, match="where steps are every business day"):
        business.positions(dates("2024-01-05", "2024-01-06"))
    for times, words in (([1, 2], "whole numbers"), ([0.5, 1.5], "numbers")):
        with pytest.raises(DataError, match=f"found {words} for times, such as .*; expected dates, daily"):
            daily.positions(times)
    with pytest.raises(TypeError, match="numbers or datetimes"):
        Frequency.infer(["a"])


def test_times_of_any_resolution_and_empty_series() -> None:
    for unit in ("D", "s", "ms", "ns"):
        assert Frequency.infer(dates("2024-01-01", "2024-01-02").astype(f"M8[{unit}]")).in_words == "daily"
    days = dates("2024-01-01", "2024-01-02")
    assert Frequency.infer(days, [0, 0, 2, 2]).in_words == "daily"
    assert Frequency.infer(days[:0], [0, 0]).unit == "unknown"


@pytest.mark.parametrize("change", [
    {"unit": "week"}, {"unit": 1}, {"step": 0}, {"step": 1.5}, {"step": True}, {"step": "1"}, {"day": 32}, {"day": 1.0},
    {"season": 0}, {"season": -1}, {"season": None}, {"more": 1}, {"unit": "microsecond", "day": 31},
    {"unit": "float", "step": float("inf")}, {"unit": "float", "step": float("nan")}, {"unit": "business_day"},
])  # fmt: skip
def test_what_is_no_frequency_is_refused(change: dict[str, Any]) -> None:
    content = {"unit": "month", "step": 3, "day": 31, "season": 4}
    assert Frequency.from_json(content) == Frequency("month", 3, 31)
    with pytest.raises((ValueError, TypeError, KeyError)):
        Frequency.from_json(content | change)
    with pytest.raises(KeyError):
        Frequency.from_json({"unit": "month"})


WORDS = ["4_seconds", "minutely", "10_minutes", "half_hourly", "hourly", "daily", "weekly", "4_weeks", "monthly",
         "quarterly", "yearly"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("start", ["2023-01-31 12-30-00", "2024-02-29", "2023-02-28", "1899-12-30"])
def test_the_frequency_that_a_file_names_is_that_of_its_times(word: str, start: str, tmp_path: Path) -> None:
    text = "@attribute start_timestamp date\n@attribute name string\n@frequency WORD\n@data\n"
    (tmp_path / "a.tsf").write_text(text.replace("WORD", word) + f"{start}:a:{','.join('1' * 40)}\n2001-03-30:b:1,2\n")
    sequences = jaxrnn.read(tmp_path / "a.tsf", id_column="name")
    times = sequences.steps["times"].values[:, 0]
    frequency = Frequency.of(sequences)
    assert frequency == Frequency.infer(times, sequences.offsets)
    assert frequency.positions(times[:40]).tolist() == list(range(40))
    assert frequency.continue_from(times[:35], 5).tolist() == times[35:40].tolist()


def test_a_file_may_name_a_frequency_without_times(tmp_path: Path) -> None:
    (tmp_path / "a.tsf").write_text("@attribute name string\n@frequency monthly\n@data\na:1,2,3\n")
    frequency = Frequency.of(jaxrnn.read(tmp_path / "a.tsf", id_column="name"))
    assert frequency == Frequency("none", season=12)
    (tmp_path / "a.tsf").write_text("@attribute start date\n@frequency monthly\n@data\n2024-01-31:1\n2024-01-05:2\n")
    sequences = jaxrnn.read(tmp_path / "a.tsf")
    found = Frequency.of(sequences).continue_each(sequences.steps["times"].values[:, 0], sequences.offsets, 1)
    assert found[:, 0].tolist() == dates("2024-02-29", "2024-02-05").tolist()
    table = pa.table({"year": [1950, 1951], "value": [1.0, 2.0]})
    assert Frequency.of(jaxrnn.read(table, time_column="year")) == Frequency("integer")
    assert Frequency.of(jaxrnn.read(table, input_columns="value")) == Frequency()


class TestJoined:
    """The frequency of series that are read one file after the other."""

    def test_of_one_frequency_it_stays(self):
        for frequency in (Frequency(), Frequency("integer", 2), Frequency("microsecond", 3600 * 10**6)):
            assert frequency.joined(frequency) == frequency

    def test_series_of_one_step_tell_nothing(self):
        monthly = Frequency("month", 1, day=31)
        assert Frequency("unknown").joined(monthly) == monthly.joined(Frequency("unknown")) == monthly
        assert Frequency("unknown").joined(Frequency("unknown")).unit == "unknown"

    def test_of_months_the_later_day_is_kept(self):
        days = [Frequency("month", 1, day=day) for day in (28, 31, 0)]
        assert days[0].joined(days[1]).joined(days[2]).day == 31

    @pytest.mark.parametrize(
        "other", [Frequency("month", 3), Frequency("microsecond", 86400 * 10**6), Frequency("month", 1, season=6)]
    )
    def test_of_two_it_is_refused(self, other):
        with pytest.raises(DataError, match=r"found series whose steps are .*; expected monthly, as those before"):
            Frequency("month", 1).joined(other)
