"""How far apart the steps of series are, told from their times; or which two times are apart in another way."""

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.series import units
from jaxrnn.data.series.units import DAY, Months, Unit, say_time
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import quoted

# A distance that others are multiples of is the step, rather than a fault, if it makes this share of the distances.
_LEAST_SHARE = 0.25
_SLACK = 1e-6  # of a step: what sums of floats may be off
_SHORTEST_MONTH = 28 * DAY
REMEDY = (
    "mend the times, read series of different frequencies from files of their own, or leave --time-column out to take"
    " the steps as they stand"
)


class Step(NamedTuple):
    """What times are counted in, and how many of it make a step; the greatest day of months that a series keeps."""

    unit: Unit
    step: int | float
    day: int = 0


class Series(NamedTuple):
    """Times of several series, one after the other.

    Attributes:
      times: (steps,) int64, float64 or datetime64[us].
      offsets: Where each series starts, and the last ends, int64 (series + 1,); none is empty.
      names: What messages call each.
    """

    times: NDArray[Any]
    offsets: NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(cls, times: Any, offsets: Any = None, ids: Sequence[str] | None = None) -> "Series":
        """Takes times as they are read.

        Args:
          times: (steps,) numbers or datetimes.
          offsets: Where each series starts, and the last ends; one series if left out.
          ids: What the series are called; their numbers if left out.

        Raises:
          TypeError: The times are neither numbers nor datetimes.
          DataError: A time is none.
        """
        times = np.asarray(times)
        offsets = np.array([0, times.size]) if offsets is None else np.asarray(offsets, np.int64)
        kinds = {"i": np.int64, "u": np.int64, "f": np.float64, "M": "M8[us]"}
        if times.ndim != 1 or times.dtype.kind not in kinds:
            raise TypeError(f"times: got {times.dtype} of shape {times.shape}; expected (steps,) numbers or datetimes")
        times = times.astype(kinds[times.dtype.kind])
        is_kept = np.diff(offsets) > 0
        kept = np.flatnonzero(is_kept)
        names = [f"series {number}" if ids is None else f"series {quoted(ids[number])}" for number in kept.tolist()]
        series = cls(times, np.concatenate([offsets[:-1][is_kept], offsets[-1:]]), names)
        is_bad = np.isnat(times) if times.dtype.kind == "M" else ~np.isfinite(times)
        if is_bad.any():
            place = int(np.argmax(is_bad))
            raise DataError(
                f"{series.name_at(place)}: found the time {times[place]}; expected one at every step; mend it"
            )
        return series

    def name_at(self, place: int) -> str:
        """Returns what the series of a step is called."""
        return self.names[int(np.searchsorted(self.offsets, place, side="right")) - 1]

    @property
    def is_within(self) -> NDArray[np.bool_]:
        """Whether a step and the next are of one series, (steps - 1,)."""
        within = np.ones(max(self.times.size - 1, 0), bool)
        within[self.offsets[1:-1] - 1] = False
        return within

    def refuse(self, place: int, found: str, *, remedy: str = REMEDY) -> NoReturn:
        """Raises the complaint about a step and the next."""
        first, second = (say_time(time) for time in self.times[place : place + 2])
        raise DataError(
            f"{self.name_at(place)}: found the times {first} and {second}, {found}; expected steps equally far apart,"
            f" or whole multiples of that where some are missing; {remedy}"
        )

    def distances(self) -> NDArray[Any]:
        """Returns how far each step is from the next, int64 or float64 (steps - 1,), also from one series to another.

        Raises:
          DataError: The times of a series do not rise, or are too far apart.
        """
        times = self.times.astype(np.int64) if self.times.dtype.kind == "M" else self.times
        with np.errstate(over="ignore"):
            distances = np.diff(times)
        bad = self.is_within & ~((distances > 0) & np.isfinite(distances))
        if bad.any():
            place = int(np.argmax(bad))
            is_order = times[place + 1] <= times[place]
            self.refuse(place, "which do not rise" if is_order else "which are too far apart", remedy="mend the times")
        return distances


def infer_step(series: Series) -> Step:
    """Finds the step that most steps of the series are apart, and that all others are whole multiples of.

    Months and business days are taken where they explain every time.

    Raises:
      DataError: There is no such step; names the series and two of its times.
    """
    is_within = series.is_within
    kind = series.times.dtype.kind
    distances = series.distances()
    if not is_within.any():
        return Step({"i": "integer", "f": "float", "M": "unknown"}[kind], 1)  # type: ignore[arg-type]
    if kind == "f":
        step = _float_step(series, distances, is_within)
        return Step("float", step)
    if kind == "i":
        _refuse_dates(series, is_within)
        return Step("integer", _whole_step(series, distances, is_within, "integer"))
    are_months = np.zeros(len(series.offsets) - 1, bool)
    if (distances[is_within] >= _SHORTEST_MONTH).any():
        months = Months.of(series.times)
        are_months = _keep_their_day(series, months)
    if are_months.all():
        step = _whole_step(series, np.diff(months.numbers), is_within, "month")
        kept = months.days_kept(series.offsets)[np.diff(series.offsets) > 1]
        return Step("month", step, int(kept.max()))
    if _is_business(series, distances, is_within):
        days = np.diff(units.business_days(series.times))
        return Step("business_day", _whole_step(series, days, is_within, "business_day", are_months))
    return Step("microsecond", _whole_step(series, distances, is_within, "microsecond", are_months))


def _refuse_dates(series: Series, is_within: NDArray[np.bool_]) -> None:
    """Refuses whole numbers such as 20240131 or 202401: those after them are no dates."""
    for digits, example in ((100, "20240131"), (1, "202401")):
        years, rest = np.divmod(series.times, 100 * digits)
        months, days = np.divmod(rest, digits)
        are_days = (days >= 1) & (days <= 31) if digits > 1 else True
        if ((years >= 1700) & (years <= 2300) & (months >= 1) & (months <= 12) & are_days).all():
            series.refuse(
                int(np.argmax(is_within)),
                f"whole numbers that are written as dates such as {example} are",
                remedy="write dates as 2024-01-31, or leave --time-column out to take the steps as they stand",
            )


def _keep_their_day(series: Series, months: Months) -> NDArray[np.bool_]:
    """Whether the times of each series are of one day of different months, (series,)."""
    lengths = np.diff(series.offsets)
    kept = np.repeat(months.days_kept(series.offsets), lengths)
    within = np.repeat(months.within[series.offsets[:-1]], lengths)
    is_kept = (months.days == np.minimum(kept, months.lengths)) & (months.within == within)
    rises = np.concatenate([np.diff(months.numbers) > 0, [True]])
    rises[series.offsets[1:] - 1] = True
    return np.logical_and.reduceat(is_kept & rises, series.offsets[:-1])


def _is_business(series: Series, distances: NDArray[np.int64], is_within: NDArray[np.bool_]) -> bool:
    """Whether steps are days, and weekends were passed over but never met."""
    values, counts = np.unique(distances[is_within], return_counts=True)
    if values[np.argmax(counts)] != DAY or (values % DAY).any() or units.is_weekend(series.times).any():
        return False
    days = np.diff(units.business_days(series.times))
    return bool((days * DAY != distances)[is_within].any())


def _whole_step(
    series: Series,
    distances: NDArray[np.int64],
    is_within: NDArray[np.bool_],
    unit: Unit,
    are_months: NDArray[np.bool_] | None = None,
) -> int:
    values, counts = np.unique(distances[is_within], return_counts=True)
    most = int(values[np.argmax(counts)])
    step = most
    if (values % most).any() and not (values % values[0]).any() and counts[0] >= _LEAST_SHARE * counts.sum():
        step = int(values[0])
    bad = is_within & (distances % step != 0)
    if bad.any():
        place = int(np.argmax(bad))
        many = np.diff(series.offsets) - 1
        if are_months is not None and many[are_months].sum() > many.sum() / 2:
            _refuse_day(series, are_months)
        apart = units.duration(int(distances[place])) if unit == "microsecond" else f"{distances[place]}"
        apart = f"{apart} months" if unit == "month" else apart
        series.refuse(place, f"{apart} apart, where most steps are {units.in_words(unit, step)}")
    _refuse_coarser(series, distances // step, is_within, unit, step, are_months)
    return step


def _refuse_day(series: Series, are_months: NDArray[np.bool_]) -> NoReturn:
    """Names the two times of a series of months that are not of one day."""
    number = int(np.argmin(are_months))
    start, end = series.offsets[number : number + 2].tolist()
    for place in range(start, end - 1):
        pair = Series(series.times[place : place + 2], np.array([0, 2]), [""])
        if not _keep_their_day(pair, Months.of(pair.times)).all():
            series.refuse(place, "which are not of one day of the month, as those of most series are")
    series.refuse(start, "in a series that does not keep its day of the month, as most do")


def _refuse_coarser(
    series: Series,
    steps: NDArray[np.int64],
    is_within: NDArray[np.bool_],
    unit: Unit,
    step: float,
    are_months: NDArray[np.bool_] | None = None,
) -> None:
    """Refuses a series that steps evenly, and always further than the others do."""
    counts = np.diff(series.offsets)
    inner = np.append(np.where(is_within, steps, 0), 0)
    largest = np.maximum.reduceat(inner, series.offsets[:-1])
    smallest = np.minimum.reduceat(np.where(inner == 0, np.iinfo(np.int64).max, inner), series.offsets[:-1])
    is_even = largest == smallest
    if are_months is not None:
        is_even |= are_months
    coarser = (counts > 2) & (smallest > 1) & is_even
    if coarser.any():
        place = int(series.offsets[int(np.argmax(coarser))])
        series.refuse(place, f"as all of it, {steps[place]} steps apart where other series are "
                             f"{units.in_words(unit, step)}")  # fmt: skip


def _float_step(series: Series, distances: NDArray[np.float64], is_within: NDArray[np.bool_]) -> float:
    inner = distances[is_within]
    error = 8 * np.finfo(np.float64).eps * float(np.abs(series.times).max())

    def is_off(values: NDArray[np.float64], step: float) -> NDArray[np.bool_]:
        many = values / step
        is_whole = np.abs(many - np.round(many)) <= _SLACK + error / step
        return ~is_whole | (np.round(many) < 1) | (many > 2**53)

    most, least = float(np.partition(inner, (inner.size - 1) // 2)[(inner.size - 1) // 2]), float(inner.min())
    step = most
    share = (np.round(inner / least) == 1).mean()
    if is_off(inner, most).any() and share >= _LEAST_SHARE and not is_off(inner, least).any():
        step = least
    bad = is_within & is_off(distances, step)
    if bad.any():
        place = int(np.argmax(bad))
        series.refuse(place, f"{distances[place]:.6g} apart, where most steps are {step:.6g} apart")
    mean = float(inner.sum() / np.round(inner / step).sum())
    steps = np.round(np.where(is_within, distances, 0.0) / mean).astype(np.int64)
    _refuse_coarser(series, steps, is_within, "float", mean)
    return float(f"{mean:.12g}")
