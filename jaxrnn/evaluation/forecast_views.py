"""What is looked at of forecasts: which series, how much of their past, how far they are off, how sure they are."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import TIMES
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.series.units import say_time
from jaxrnn.evaluation.forecasting import MODEL, ForecastEvaluation

# Of the past so many horizons or seasons are drawn, whatever is longer; but no more than leave the horizon in sight.
HORIZONS_BEFORE, SEASONS_BEFORE = 3, 2
LEAST_BEFORE, MOST_HORIZONS_BEFORE, MOST_OF_SHORT_HORIZONS = 12, 12, 24
LEAST_BARS, MOST_BARS = 5, 20
MOST_OF_THE_USUAL = 3.0  # bars go up to so many times what 90% of the series do not exceed
MOST_BEYOND_BARS = 2.0  # where medians are drawn: up to so many times the end of the bars
MOST_RATIO = 30.0  # of errors that a linear axis shows beside each other
MAX_DOTTED = 24  # values that are forecast have dots, unless they are more
NUMBERED = "step"  # what the times are called where there are none
KINDS = ("best", "typical", "worst")


class ForecastView(NamedTuple):
    """The last forecast of a series' first target, and what was before it and came of it.

    Attributes:
      times: (steps,): dates, numbers, or the steps' numbers from 0.
      label: What the times are called.
      actual: (steps,): the values, NaN where they are not known.
      dotted: (steps,): whether the value has a dot: it is forecast, or a line would not show it.
      origin: The place among the steps that the forecast starts from.
      forecast: (1 + horizon, quantiles): at the origin its level, then the forecasts, from the place `origin` on.
      mase: Of all origins and targets; NaN where the series has none.
    """

    times: NDArray[np.generic]
    label: str
    actual: NDArray[np.float64]
    dotted: NDArray[np.bool_]
    origin: int
    forecast: NDArray[np.float64]
    mase: float

    @property
    def start(self) -> str:
        """The origin in words: its time, or the number of the step."""
        step = "step " if self.label == NUMBERED else ""
        return step + say_time(self.times[self.origin])


class StepErrors(NamedTuple):
    """The error of each step ahead.

    Attributes:
      figure: Its name.
      lines: (horizon,) of the model and of each baseline, by name.
      is_log: Whether they are too different for a linear axis.
    """

    figure: str
    lines: dict[str, NDArray[np.float64]]
    is_log: bool


class Bars(NamedTuple):
    """A histogram of the figure of each series.

    Attributes:
      edges: (bars + 1,).
      counts: (bars,): how many series; the last bar holds what is beyond it too.
      beyond: How many of its series are larger than the last edge.
      unknown: How many series have no figure.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    beyond: int
    unknown: int

    @property
    def furthest(self) -> float:
        """Up to where medians are drawn beside the bars."""
        return float(self.edges[-1]) * MOST_BEYOND_BARS


def view_series(evaluation: ForecastEvaluation, encoding: SeriesEncoding, series: int) -> ForecastView:
    """Returns what is drawn of a series.

    Args:
      evaluation: The forecasts.
      encoding: The model's.
      series: The number of the series.
    """
    values = evaluation.rows.series
    assert values is not None
    start, origin = int(evaluation.rows.offsets[series]), int(evaluation.origins[series, -1])
    first, end = max(0, origin + 1 - steps_before(encoding)), origin + 1 + encoding.horizon
    steps = slice(start + first, start + end)
    levels = encoding.restored(values.levels[steps, 0])
    field = evaluation.sequences.steps.get(TIMES)
    times = np.arange(first, end) if field is None else field.values[steps, 0]
    actual = np.where(values.is_known[steps, 0], levels, np.nan)
    is_forecast = (np.arange(end - first) > origin - first) & (encoding.horizon <= MAX_DOTTED)
    forecast = evaluation.predicted[series, -1, :, 0]
    level = np.full((1, forecast.shape[1]), levels[origin - first])
    return ForecastView(
        times,
        NUMBERED if field is None else field.names[0],
        actual,
        np.isfinite(actual) & (is_forecast | _stands_alone(actual)),
        origin - first,
        np.concatenate([level, forecast]),
        float(evaluation.by_series["mase"][series]),
    )


def _stands_alone(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which values are between missing ones."""
    there = np.pad(np.isfinite(values), 1)
    return there[1:-1] & ~there[:-2] & ~there[2:]


def steps_before(encoding: SeriesEncoding) -> int:
    """Returns how many steps up to the origin are drawn."""
    horizon, season = encoding.horizon, encoding.season if encoding.season > 1 else 0
    wanted = max(HORIZONS_BEFORE * horizon, SEASONS_BEFORE * season, LEAST_BEFORE)
    return min(wanted, max(MOST_HORIZONS_BEFORE * horizon, MOST_OF_SHORT_HORIZONS))


def choose_series(mase: NDArray[np.float64], number: int) -> dict[str, list[int]]:
    """Chooses the series with the least MASE, about the median one, and with the largest, each kind in that order.

    Args:
      mase: (series,), NaN where there is none.
      number: How many of each kind, at most; no series is of two kinds.

    Returns:
      Numbers of series by kind. Series without a figure are chosen only where none has one, as typical ones.
    """
    order = np.argsort(mase, kind="stable")
    order = order[np.isfinite(mase[order])]
    if not len(order):
        return {"typical": list(range(min(number, len(mase))))}
    if len(order) < len(KINDS):
        found = {"best": order[:-1], "worst": order[-1:]} if len(order) > 1 else {"typical": order}
    else:
        count = min(number, len(order) // len(KINDS))
        middle = (len(order) - count) // 2
        found = {"best": order[:count], "typical": order[middle : middle + count], "worst": order[::-1][:count]}
    return {kind: chosen.tolist() for kind, chosen in found.items()}


def rank_series(mase: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the series that have a MASE, the worst first."""
    order = np.argsort(-mase, kind="stable")
    return order[np.isfinite(mase[order])]


def bars_of(mase: NDArray[np.float64]) -> Bars:
    """Counts how many series have which MASE, in bars of equal width."""
    known = mase[np.isfinite(mase)]
    if not len(known):
        return Bars(np.array([0.0, 1.0]), np.zeros(1, np.int64), 0, len(mase))
    top = min(float(known.max()), MOST_OF_THE_USUAL * float(np.quantile(known, 0.9, method="higher"))) or 1.0
    number = int(np.clip(2 * len(known) ** 0.5, LEAST_BARS, MOST_BARS))
    edges = np.linspace(0, top, number + 1)
    counts = np.histogram(np.minimum(known, top), edges)[0]
    return Bars(edges, counts, int((known > top).sum()), len(mase) - len(known))


def errors_by_step(evaluation: ForecastEvaluation) -> StepErrors:
    """Returns the MASE of each step ahead, or the absolute error where no series has a MASE."""
    by_step = evaluation.by_step
    figure = "mase" if np.isfinite(by_step[MODEL]["mase"]).any() else "mae"
    lines = {name: np.array(figures[figure]) for name, figures in by_step.items()}
    sizes = [values[np.isfinite(values)].mean() for values in lines.values() if np.isfinite(values).any()]
    return StepErrors(figure, lines, len(sizes) > 0 and max(sizes) > MOST_RATIO * min(sizes) > 0)


def medians_of(evaluation: ForecastEvaluation) -> dict[str, float]:
    """Returns the median MASE of the series by the model and each baseline, NaN where no series has one."""
    found = {}
    for name, figures in {MODEL: evaluation.by_series, **evaluation.baselines_by_series}.items():
        known = figures["mase"][np.isfinite(figures["mase"])]
        found[name] = float(np.median(known)) if len(known) else float("nan")
    return found


def describe_band(quantiles: tuple[float, ...]) -> str:
    """Says which quantiles a band lies between; nothing of points."""
    return f"band: {quantiles[0]:g} to {quantiles[-1]:g} quantile" if len(quantiles) > 1 else ""
