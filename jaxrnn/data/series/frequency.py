"""How far apart the steps of series are: told from their times, continued, and numbered."""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxrnn.data.sequences import TIMES, Sequences
from jaxrnn.data.series import units
from jaxrnn.data.series.inference import REMEDY, Series, infer_step
from jaxrnn.data.series.units import DAY, HOUR, MINUTE, MONTH_END, SECOND, WEEK, Months, Unit, say_time
from jaxrnn.foundation.errors import DataError

_WORD = re.compile(r"(?:([1-9]\d{0,4})_)?([a-z_]+?)s?", re.ASCII)
_WORDS: dict[str, tuple[Unit, int]] = {
    "second": ("microsecond", SECOND), "secondly": ("microsecond", SECOND), "minute": ("microsecond", MINUTE),
    "minutely": ("microsecond", MINUTE), "half_hourly": ("microsecond", 30 * MINUTE), "hour": ("microsecond", HOUR),
    "hourly": ("microsecond", HOUR), "day": ("microsecond", DAY), "daily": ("microsecond", DAY),
    "business_daily": ("business_day", 1), "week": ("microsecond", WEEK), "weekly": ("microsecond", WEEK),
    "month": ("month", 1), "monthly": ("month", 1), "quarter": ("month", 3), "quarterly": ("month", 3),
    "year": ("month", 12), "yearly": ("month", 12),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Frequency:
    """How far apart the steps of series are.

    Args:
      unit: What times are counted in: "microsecond", "business_day" or "month" for dates, "integer" or "float" for
        numbers, "none" where there are no times and steps are numbered 0, 1, ..; "unknown" for dates of which no
        series has two.
      step: How many of it a step is.
      day: With months, the greatest day that a series keeps, 31 for their ends; 0 if no series has two steps.
      season: How many steps make the usual season; 0 takes that of the step.

    Raises:
      ValueError: The fields do not fit together.

    Example:
      >>> import numpy as np
      >>> times = np.array(["2023-11-30", "2023-12-31", "2024-01-31"], "M8[us]")
      >>> frequency = Frequency.infer(times)
      >>> frequency.in_words, frequency.season
      ('monthly', 12)
      >>> frequency.continue_from(times, 2).astype("M8[D]").astype(str).tolist()
      ['2024-02-29', '2024-03-31']
    """

    unit: Unit = "none"
    step: int | float = 1
    day: int = 0
    season: int = 0

    def __post_init__(self) -> None:
        if self.unit not in typing.get_args(Unit):
            raise ValueError("unit")
        is_number = isinstance(self.step, int | float) and not isinstance(self.step, bool)
        is_whole = is_number and (self.unit == "float" or isinstance(self.step, int))
        if not is_whole or not 0 < self.step < np.inf or (self.step != 1 and self.unit in ("none", "business_day")):
            raise ValueError("step")
        if not 0 <= self.day <= (MONTH_END if self.unit == "month" else 0):
            raise ValueError("day")
        if self.season < 0:
            raise ValueError("season")
        if not self.season:
            object.__setattr__(self, "season", units.season_of(self.unit, self.step))

    @classmethod
    def infer(
        cls, times: ArrayLike | None, offsets: ArrayLike | None = None, ids: Sequence[str] | None = None
    ) -> "Frequency":
        """Finds the step that all steps are whole multiples of; where one is more than one, steps are missing.

        Args:
          times: (steps,) integers, floats or datetimes of all series, one after the other; None if there are none.
          offsets: Where each series starts, and the last ends, (series + 1,); one series if left out.
          ids: What messages call the series; their numbers if left out.

        Raises:
          DataError: Steps are apart irregularly, or in one series otherwise than in others; names the series and two
            of its times.
          TypeError: The times are neither numbers nor datetimes.
        """
        if times is None:
            return cls()
        series = Series.of(times, offsets, ids)
        return cls(*infer_step(series))

    @classmethod
    def of(cls, sequences: Sequences) -> "Frequency":
        """Finds the frequency of sequences: the one that their file names, if it names one, else that of their times.

        Raises:
          DataError: As `infer` does.
        """
        word = sequences.schedule.frequency if sequences.schedule is not None else None
        named = None if word is None else cls.from_word(word)
        if TIMES not in sequences.steps:
            return cls(season=0 if named is None else named.season)
        times = sequences.steps[TIMES].values[:, 0]
        if named is None or times.dtype.kind != "M":
            ids = sequences.ids()
            return cls.infer(times, sequences.offsets, ids)
        if named.unit == "month" and (sequences.lengths > 1).any():
            series = Series.of(times, sequences.offsets)
            kept = Months.of(series.times).days_kept(series.offsets)
            named = dataclasses.replace(named, day=int(kept[np.diff(series.offsets) > 1].max()))
        return named

    @classmethod
    def from_word(cls, word: str) -> "Frequency | None":
        """Returns what a word of Monash's archive means, such as "monthly" or "10_minutes"; None of another word."""
        match = _WORD.fullmatch(word.lower())
        if match is None or match[2] not in _WORDS:
            return None
        unit, step = _WORDS[match[2]]
        return cls(unit, step * int(match[1] or 1))

    @property
    def in_words(self) -> str:
        """The frequency in words, such as "monthly"."""
        return units.in_words(self.unit, self.step)

    @property
    def has_dates(self) -> bool:
        """Whether times are datetimes."""
        return self.unit in ("microsecond", "business_day", "month", "unknown")

    def joined(self, other: "Frequency") -> "Frequency":
        """Returns the frequency of series of this one and of others: theirs, where those of this one have one step.

        Raises:
          DataError: They are of two frequencies.
        """
        if self.unit == "unknown" or other.unit == "unknown":
            return self if other.unit == "unknown" else other
        if other.unit != self.unit or dataclasses.replace(other, day=self.day) != self:
            raise DataError(
                f"found series whose steps are {other.in_words}; expected {self.in_words}, as those before; series of"
                " one frequency go together"
            )
        return dataclasses.replace(self, day=max(self.day, other.day))

    def count_from(self, start: np.datetime64, count: int) -> NDArray[np.datetime64]:
        """Returns times from a start on, (count,); with months all of its day, or of their last if they have no such.

        Raises:
          DataError: datetime64[us] cannot hold them.
          ValueError: The frequency is not one of dates.
        """
        if not self.has_dates or self.unit == "unknown":
            raise ValueError(f"unit: got {self.unit}; expected one of dates")
        steps = np.arange(count)[None]
        times = np.array([start], "M8[us]")
        return self._later(times, steps, Months.of(times).days if self.unit == "month" else None)[0]

    def continue_from(self, times: ArrayLike, count: int) -> NDArray[Any]:
        """Returns the times after a series.

        Args:
          times: The series' times, (steps,), or only the last. All of them tell whether a 28 February is an end of a
            month or a 28th; of a last one alone the frequency's `day` does. Without times, the last step's number.
          count: How many.

        Returns:
          (count,) of the type of the times.

        Raises:
          DataError: The frequency is not known, or not that of the times; or the times leave their type.
        """
        given = np.atleast_1d(np.asarray(times))
        return self.continue_each(given, [0, given.size], count)[0]

    def continue_each(
        self, times: ArrayLike | None, offsets: ArrayLike, count: int, ids: Sequence[str] | None = None
    ) -> NDArray[Any]:
        """Returns the times after each of several series, as `continue_from` does.

        Args:
          times: (steps,) of all series, one after the other; None if there are none: steps are numbered then.
          offsets: Where each series starts, and the last ends, (series + 1,); none is empty.
          count: How many.
          ids: What messages call the series; their numbers if left out.

        Returns:
          (series, count).

        Raises:
          DataError: As `continue_from` does.
        """
        steps = np.arange(1, count + 1)[None]
        offsets = np.asarray(offsets, np.int64)
        if times is None:
            return np.diff(offsets)[:, None] - 1 + steps
        series = self._series(times, offsets, ids)
        last = series.times[series.offsets[1:] - 1]
        if self.unit == "unknown":
            raise DataError(
                f"{series.names[0]}: found one step, at {say_time(last[0])}, as in all series; expected two steps"
                " in one of them, which tell how to go on; give more steps"
            )
        return self._later(last, steps, self._days(series))

    def times_after(
        self, times: ArrayLike, offsets: ArrayLike, places: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Returns the times some steps after steps of series.

        Args:
          times: (steps,) of all series, one after the other.
          offsets: Where each series starts, and the last ends, (series + 1,); none is empty.
          places: Steps, (count,).
          steps: How many steps after each, (count,).

        Raises:
          DataError: As `continue_from` does.
        """
        series = self._series(times, np.asarray(offsets, np.int64), None)
        days = self._days(series)
        if days is not None:
            days = days[np.searchsorted(series.offsets, places, side="right") - 1]
        return self._later(series.times[places], steps[:, None], days)[:, 0]

    def _days(self, series: Series) -> NDArray[np.int64] | None:
        """Returns the day of the month that each series keeps, if steps are months."""
        if self.unit != "month":
            return None
        months = Months.of(series.times)
        days = months.days_kept(series.offsets)
        # A step alone that is at its month's end may be of any later day; the other series tell.
        is_alone = (np.diff(series.offsets) == 1) & (days == MONTH_END)
        return np.where(is_alone, np.maximum(months.days[series.offsets[1:] - 1], self.day), days)

    def _later(self, times: NDArray[Any], steps: NDArray[np.int64], days: NDArray[np.int64] | None) -> NDArray[Any]:
        """Returns times by numbers of steps after (series,) times; with months of the days that each series keeps."""
        furthest = float(np.abs(steps).max(initial=0)) * float(self.step)
        if self.unit == "month":
            months = Months.of(times)
            units.require_years(furthest / 12 + float(np.abs(months.numbers).max(initial=0)) / 12)
            assert days is not None
            return units.times_of_months(months.numbers[:, None] + steps * self.step, days[:, None],
                                         months.within[:, None])  # fmt: skip
        if self.unit == "business_day":
            within = times.astype(np.int64) % DAY
            units.require_years(furthest / 260)
            return units.times_of_business_days(units.business_days(times)[:, None] + steps, within[:, None])
        if self.unit == "microsecond":
            most = furthest + float(np.abs(times.astype(np.int64)).max(initial=0))
            units.require_years(most / (365.2425 * DAY))
            return (times.astype(np.int64)[:, None] + steps * self.step).astype("M8[us]")
        if self.unit == "float":
            return np.asarray(times, np.float64)[:, None] + steps * self.step
        if furthest + float(np.abs(times.astype(np.float64)).max(initial=0)) >= 2**63:
            raise DataError(f"times: found {times.max()}; expected whole numbers that int64 holds when they go on;"
                            " mend the times")  # fmt: skip
        return times[:, None] + steps * self.step

    def positions(
        self, times: ArrayLike, offsets: ArrayLike | None = None, ids: Sequence[str] | None = None
    ) -> NDArray[np.int64]:
        """Returns the number of each step within its series, counted from 0 at its first; gaps are numbers left out.

        Args:
          times: (steps,) of one series, or of several one after the other.
          offsets: Where each series starts, and the last ends, (series + 1,); one series if left out.
          ids: What messages call the series; their numbers if left out.

        Raises:
          DataError: Times are not of this frequency; names the series and two of its times.
        """
        series = self._series(times, np.asarray([0, np.size(times)] if offsets is None else offsets), ids)
        lengths = np.diff(series.offsets)
        distances = series.distances()
        is_within = series.is_within
        if self.unit == "float":
            many = distances / self.step
            slack = 1e-6 + 8 * np.finfo(np.float64).eps * float(np.abs(series.times).max(initial=0)) / self.step
            is_bad = (np.abs(many - np.round(many)) > slack) | (np.round(many) < 1)
            steps = np.round(np.where(is_within & ~is_bad, many, 0)).astype(np.int64)
        else:
            if self.unit == "month":
                months = Months.of(series.times)
                distances = np.diff(months.numbers)
            elif self.unit == "business_day":
                is_off = units.is_weekend(series.times)
                distances = np.where(is_off[:-1] | is_off[1:], 0, np.diff(units.business_days(series.times)))
            steps, rest = np.divmod(distances, self.step)
            is_bad = (rest != 0) | (steps < 1)
            if self.unit == "unknown":  # a step was never seen
                is_bad[:] = True
            if self.unit == "business_day":
                within = series.times.astype(np.int64) % DAY
                is_bad |= np.diff(within) != 0
            if self.unit == "month":
                kept = np.repeat(months.days_kept(series.offsets), lengths)
                is_off = months.days != np.minimum(kept, months.lengths)
                is_bad |= is_off[1:] | is_off[:-1] | (np.diff(months.within) != 0)
        if (is_bad & is_within).any():
            series.refuse(int(np.argmax(is_bad & is_within)), f"where steps are {self.in_words}", remedy=REMEDY)
        counted = np.concatenate([[0], np.cumsum(np.where(is_within, steps, 0))]) if series.times.size else steps
        return counted - np.repeat(counted[series.offsets[:-1]], lengths)

    def _series(self, times: ArrayLike, offsets: NDArray[np.int64], ids: Sequence[str] | None) -> Series:
        series = Series.of(times, offsets, ids)
        kind = series.times.dtype.kind
        expected = "M" if self.has_dates else "f" if self.unit == "float" else "i"
        if kind != expected and series.times.size:
            kinds = {"M": "dates", "i": "whole numbers", "f": "numbers"}
            raise DataError(
                f"{series.names[0]}: found {kinds[kind]} for times, such as {say_time(series.times[0])}; expected"
                f" {kinds[expected]}, {self.in_words}; write all times in one form"
            )
        return series

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Frequency":
        """Returns the frequency that a checkpoint describes.

        Raises:
          ValueError, TypeError, KeyError: It is none.
        """
        if set(content) != {field.name for field in dataclasses.fields(cls)}:
            raise KeyError("fields")
        if not isinstance(content["unit"], str):
            raise TypeError("unit")
        for key in ("day", "season"):
            if not isinstance(content[key], int) or isinstance(content[key], bool):
                raise TypeError(key)
        if content["season"] < 1:
            raise ValueError("season")
        return cls(**content)
