"""Figures of forecasts, on the host in float64: of all series, by step ahead, and of each series; and baselines."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.series.ahead import a_season_before
from jaxrnn.data.series.levels import cumulate, naive_errors
from jaxrnn.data.series.series_encoding import FIRST_ORIGINS
from jaxrnn.settings.task_config import FURTHER_FIGURES
from jaxrnn.tasks.forecast import pinball

FIGURES = ("mase", *FURTHER_FIGURES["forecast"])
OF_SERIES = ("mase", "smape", "quantile_loss")  # means over series; the others are over values


class Answers(NamedTuple):
    """What forecasts are measured against.

    Attributes:
      actual: (series, origins, horizon, targets), in the data's units.
      is_known: Whether it is; where not, nothing counts.
      naive: The mean error of the naive forecast up to a series' first origin, (series, targets).
    """

    actual: NDArray[np.float64]
    is_known: NDArray[np.bool_]
    naive: NDArray[np.float64]


def rolling_origins(lengths: NDArray[np.int64], horizon: int, count: int) -> NDArray[np.int64]:
    """Returns the steps that forecasts start from, (series, count), the latest last; -1 where a series has no such.

    The last one has `horizon` steps behind it, and each other is one step before the next.
    """
    origins = (lengths - horizon - 1)[:, None] - np.arange(count)[::-1]
    # But for the last one, none so early that nothing was trained to forecast from there.
    origins[:, :-1] = np.where(origins[:, :-1] >= FIRST_ORIGINS, origins[:, :-1], -1)
    return np.maximum(origins, -1)


def collect_answers(
    values: NDArray[np.float64],
    is_known: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    origins: NDArray[np.int64],
    *,
    horizon: int,
    season: int,
) -> Answers:
    """Collects what was to be forecast.

    Args:
      values: The series, (steps, targets), in the data's units.
      is_known: Whether a value is one of the data's.
      offsets: Where each series starts.
      origins: As `rolling_origins` returns them.
      horizon: Steps ahead.
      season: Steps of a season, for MASE.
    """
    first = np.where(origins >= 0, origins, np.iinfo(np.int64).max).min(axis=1)
    seen = np.minimum(first + 1, np.diff(offsets))
    owner = np.repeat(np.arange(len(seen)), np.diff(offsets))
    is_seen = np.arange(len(values)) - offsets[owner] < seen[owner]
    naive = naive_errors(values[is_seen], is_known[is_seen], np.concatenate([[0], np.cumsum(seen)]), season)
    places = offsets[:-1, None, None] + np.maximum(origins, 0)[:, :, None] + np.arange(1, horizon + 1)
    places = np.minimum(places, len(values) - 1)
    # Before its first value a series has nothing to forecast from.
    has_value = cumulate(is_known.astype(np.float64), offsets)[offsets[:-1, None] + np.maximum(origins, 0)] > 0
    counts = is_known[places] & (origins >= 0)[:, :, None, None] & has_value[:, :, None]
    return Answers(values[places], counts, naive)


def measure_forecasts(
    forecasts: NDArray[np.float64], answers: Answers, quantiles: tuple[float, ...], axes: tuple[int, ...] = (1, 2, 3)
) -> dict[str, NDArray[np.float64]]:
    """Measures forecasts, over some of their axes: by default over everything of a series.

    MASE divides each absolute error by the series' naive one; it is NaN of a series that has not changed before its
    first origin. sMAPE is in percent, 0 to 200: Makridakis, "Accuracy measures", 1993. The quantile loss is twice the
    pinball loss, divided as in MASE, the mean over quantiles. The coverage is that of the outermost two quantiles.

    Args:
      forecasts: (series, origins, horizon, targets, quantiles).
      answers: What they are measured against.
      quantiles: The levels; 0.5 alone of forecasts of points.
      axes: What is averaged.

    Returns:
      Each figure, of the shape that is left; NaN where nothing counts.
    """
    actual, counts = answers.actual, answers.is_known
    point = forecasts[..., quantiles.index(0.5)]
    errors = actual - point
    scaled = np.where(answers.naive > 0, answers.naive, np.nan)[:, None, None, :]

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        is_there = counts & ~np.isnan(values)
        number = is_there.sum(axis=axes)
        total = np.where(is_there, values, 0.0).sum(axis=axes)
        return np.divide(total, number, out=np.full(np.shape(number), np.nan), where=number > 0)

    size = np.abs(actual) + np.abs(point)
    ratio = np.divide(np.abs(errors), size, out=np.zeros_like(size), where=size > 0)
    relative = 200 * np.where(np.isinf(point), 1.0, ratio)
    found = {
        "mase": mean(np.abs(errors) / scaled),
        "smape": mean(relative),
        "mae": mean(np.abs(errors)),
        "rmse": mean(errors**2) ** 0.5,
    }
    if len(quantiles) > 1:
        found["quantile_loss"] = mean(pinball(actual[..., None] - forecasts, quantiles) / scaled)
        is_inside = (forecasts[..., 0] <= actual) & (actual <= forecasts[..., -1])
        found["coverage"] = mean(is_inside.astype(np.float64))
    return found


def mean_figures(forecasts: NDArray[np.float64], answers: Answers, quantiles: tuple[float, ...]) -> dict[str, float]:
    """Returns the figures of all series: MASE, sMAPE and quantile loss as means over series, the others over values."""
    each = measure_forecasts(forecasts, answers, quantiles)
    together = measure_forecasts(forecasts, answers, quantiles, (0, 1, 2, 3))
    return {
        name: _nan_mean(each[name]) if name in OF_SERIES else float(together[name])
        for name in FIGURES
        if name in together
    }


def figures_by_step(
    forecasts: NDArray[np.float64], answers: Answers, quantiles: tuple[float, ...]
) -> dict[str, list[float]]:
    """Returns the figures of each step ahead, the first one first; MASE and quantile loss as means over values."""
    found = measure_forecasts(forecasts, answers, quantiles, (0, 1, 3))
    return {name: values.tolist() for name, values in found.items()}


def calibrate(forecasts: NDArray[np.float64], answers: Answers) -> NDArray[np.float64]:
    """Returns the share of actual values at or below each quantile, (quantiles,): as large as its level where it fits.

    Args:
      forecasts: (series, origins, horizon, targets, quantiles).
      answers: What they are measured against.

    Returns:
      NaN where nothing is known.
    """
    is_below = answers.actual[..., None] <= forecasts
    number = int(answers.is_known.sum())
    return is_below[answers.is_known].sum(axis=0) / number if number else np.full(forecasts.shape[-1], np.nan)


def baseline_forecasts(
    values: NDArray[np.float64],
    offsets: NDArray[np.int64],
    origins: NDArray[np.int64],
    *,
    horizon: int,
    season: int,
) -> dict[str, NDArray[np.float64]]:
    """Forecasts without training: the last value, the drift since the first, the last season, the mean so far.

    Args:
      values: The series, (steps, targets), what is missing filled.
      offsets: Where each series starts.
      origins: As `rolling_origins` returns them.
      horizon: Steps ahead.
      season: Steps of a season; 1 for none: then that baseline is left out.

    Returns:
      (series, origins, horizon, targets, 1) of each.
    """
    count, number = origins.shape
    at = np.maximum(origins, 0)
    starts = offsets[:-1, None]
    last, first = values[starts + at], values[np.broadcast_to(starts, at.shape)]
    steps = np.arange(1, horizon + 1)[:, None]
    slope = (last - first) / np.maximum(at, 1)[..., None]
    sums = np.stack([_means_up_to(values[start:end], places) for start, end, places in
                     zip(offsets[:-1], offsets[1:], at, strict=True)])  # fmt: skip
    shape = (count, number, horizon, values.shape[1])
    found = {
        "last_value": np.broadcast_to(last[:, :, None], shape),
        "drift": last[:, :, None] + slope[:, :, None] * steps,
    }
    if season > 1:
        back = np.array([a_season_before(step, season) for step in range(1, horizon + 1)])
        places = at[:, :, None] + back
        before = values[starts[:, :, None] + np.maximum(places, 0)]
        found["seasonal_naive"] = np.where((places >= 0)[..., None], before, last[:, :, None])
    found["mean"] = np.broadcast_to(sums[:, :, None], shape)
    return {name: forecasts[..., None] for name, forecasts in found.items()}


def _means_up_to(values: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([values[: place + 1].mean(axis=0) for place in places])


def _nan_mean(values: NDArray[np.float64]) -> float:
    is_there = ~np.isnan(values)
    return float(values[is_there].mean()) if is_there.any() else float("nan")
