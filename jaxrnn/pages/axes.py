"""Axes of a chart: from numbers to places on the page, with round ticks, linear or logarithmic, or with dates."""

import math
from typing import NamedTuple

import numpy as np

from jaxrnn.data.series.date_ticks import as_numbers, date_ticks

MAX_TICKS = 7


class Axis(NamedTuple):
    """One direction of a chart.

    Attributes:
      low: The value at `start`.
      high: The value at `end`.
      start: Place of the lowest value.
      end: Place of the highest value.
      is_log: Whether equal distances are equal ratios.
      is_whole: Whether ticks are whole numbers.
      marks: Ticks that are given, with what they are called; none for round ones.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_whole: bool = False
    marks: tuple[tuple[float, str], ...] = ()

    @classmethod
    def along(cls, values: np.ndarray, start: float, end: float) -> "Axis":
        """Returns an axis that holds some places: dates have ticks that are some of them, whole numbers whole ones."""
        axis = cls.around(as_numbers(values), start, end)
        if values.dtype.kind == "M":
            places, names = date_ticks(values)
            return axis._replace(marks=tuple(zip(as_numbers(places).tolist(), names, strict=True)))
        return axis._replace(is_whole=values.dtype.kind in "iu")

    @classmethod
    def around(
        cls, values: np.ndarray, start: float, end: float, *, is_log: bool = False, at_zero: bool = False
    ) -> "Axis":
        """Returns an axis that holds some values, with a little room at both ends.

        Args:
          values: Any; those that are not finite do not count, nor do those that a logarithm does not take.
          start: Place of the lowest value.
          end: Place of the highest value.
          is_log: Whether it is logarithmic; linear all the same where no value is positive.
          at_zero: Whether a linear axis begins at 0.
        """
        shown = values[np.isfinite(values)]
        positive = shown[shown > 0]
        is_log = is_log and len(positive) > 0
        if is_log:
            low, high = math.log10(positive.min()), math.log10(positive.max())
            margin = max(0.04 * (high - low), 0.05)
            return cls(10 ** max(low - margin, -300), 10 ** min(high + margin, 300), start, end, True)
        low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
        if at_zero:
            low = min(low, 0.0)
        margin = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
        return cls(low if at_zero and low == 0 else low - margin, high + margin, start, end)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Returns where values stand; nothing finite for those that a logarithm does not take."""
        values = np.asarray(values, np.float64)
        if self.is_log:
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.log10(values / self.low) / math.log10(self.high / self.low)
        else:
            share = (values - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns round values within the axis and how they are written."""
        if self.marks:
            return list(self.marks)
        if self.is_log:
            return _log_ticks(self.low, self.high)
        return _linear_ticks(self.low, self.high, least=1.0 if self.is_whole else 0.0)


def _linear_ticks(low: float, high: float, least: float = 0.0) -> list[tuple[float, str]]:
    power = 10.0 ** math.floor(math.log10((high - low) / MAX_TICKS))
    steps = (factor * power for factor in (1, 2, 5, 10, 20))
    step = next(step for step in steps if math.floor(high / step) - math.ceil(low / step) < MAX_TICKS)
    step = max(step, least)
    first, last = math.ceil(low / step), math.floor(high / step)
    values = [number * step for number in range(first, last + 1)]
    largest = max(map(abs, values), default=0)
    if step >= 1e-4 and largest < 1e7:
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(value, f"{value + 0.0:.{decimals}f}") for value in values]
    digits = max(1, math.ceil(math.log10(largest / step) + 1e-9)) if largest else 1
    return [(value, _shorten(f"{value:.{digits}e}") if value else "0") for value in values]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        every = -(-(last - first + 1) // MAX_TICKS)
        return [(10.0**power, _write_power(1, power)) for power in range(first, last + 1, every)]
    found = [
        (factor * 10.0**power, _write_power(factor, power))
        for power in range(first - 1, last + 1)
        for factor in (1, 2, 3, 5, 7)
        if low <= factor * 10.0**power <= high
    ]
    return found if len(found) >= 2 else _linear_ticks(low, high)


def _write_power(factor: int, power: int) -> str:
    return f"{factor * 10.0**power:g}" if -3 <= power <= 3 else f"{factor}e{power}"


def _shorten(text: str) -> str:
    mantissa, power = text.split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(power)}"
