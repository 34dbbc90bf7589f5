"""Figures of merit in words: how each is written, and what it is."""

from collections.abc import Mapping

ACCURACY_NOTE = (
    "accuracy is the tutorial's, 1 - mean(|y - p| / (|y| + {epsilon:g})): rows whose last value is near 0 rule it;"
    " mae and rmse are in the data's units, within_half is the share of rows off by at most 0.5"
)
FORECAST_NOTE = (
    "mase is the absolute error over that of the naive forecast (the value a season before) within the series' own"
    " past, and smape is 2 |y - p| / (|y| + |p|) in percent, 0 to 200, both means over the series; mae and rmse are in"
    " the data's units"
)
QUANTILES_NOTE = (
    "quantile_loss is twice the pinball loss, in the units of mase; coverage is the share of values between the"
    " outermost quantiles, which should be {nominal:.0%}"
)
NO_FIGURE = "-"  # of what has no such figure, as baselines have none of quantiles
PERCENT = ("within_half", "rows_right", "coverage")
IN_DATA_UNITS = ("mae", "rmse")


def format_figure(name: str, value: float) -> str:
    """Formats a figure of merit for people."""
    if name == "loss":
        return f"{value:.3g}"
    if name in PERCENT:
        return f"{value:.2%}"
    if name == "smape":
        return f"{value:.2f}%"
    if name in IN_DATA_UNITS and not (value == 0 or 1e-3 <= abs(value) < 1e7):
        return f"{value:.4g}"
    return f"{value:.4f}"


def write_figure(name: str, figures: Mapping[str, float]) -> str:
    """Writes one of some figures; a dash where they lack it."""
    return format_figure(name, figures[name]) if name in figures else NO_FIGURE


def explain_forecasts(quantiles: tuple[float, ...]) -> str:
    """Says what the figures of forecasts are.

    Args:
      quantiles: The levels that are forecast; those of points have no band.
    """
    if len(quantiles) < 2:
        return FORECAST_NOTE
    return f"{FORECAST_NOTE}; {QUANTILES_NOTE.format(nominal=quantiles[-1] - quantiles[0])}"
