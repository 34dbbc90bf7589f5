"""Pictures of forecasts: series with their bands; errors by step ahead, calibration, and errors of the series."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.sequences import ids_of
from jaxrnn.data.series.date_ticks import as_numbers, date_ticks
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.forecast_views import (
    KINDS,
    MAX_DOTTED,
    bars_of,
    choose_series,
    describe_band,
    errors_by_step,
    medians_of,
    view_series,
)
from jaxrnn.evaluation.forecasting import MODEL, ForecastEvaluation
from jaxrnn.evaluation.pictures.plots import (
    ACCENT_COLOR,
    TRAINING_COLOR,
    VALIDATION_COLOR,
    label_text,
    new_figure,
    save_figure,
    write_title,
)
from jaxrnn.tasks.figures import NO_FIGURE
from jaxrnn.tasks.forecast_figures import calibrate

NUM_DRAWN = 3  # series of a kind
COLORS = (TRAINING_COLOR, VALIDATION_COLOR, "#2ca02c", "#9467bd", "#d62728", "#8c564b")  # the model's first


def plot_forecasts(evaluation: ForecastEvaluation, encoding: SeriesEncoding, path: Path) -> None:
    """Draws the series with the smallest, typical and largest errors, a line of panels for each kind.

    Args:
      evaluation: Of series whose last steps are known.
      encoding: The model's.
      path: The PNG file's path.
    """
    chosen = choose_series(evaluation.by_series["mase"], NUM_DRAWN)
    kinds = [kind for kind in KINDS if kind in chosen]
    columns = max(map(len, chosen.values()))
    figure, grid = new_figure(columns, num_rows=len(kinds))
    panels = np.reshape(np.array(grid, object), (len(kinds), columns))
    for kind, line in zip(kinds, panels, strict=True):
        for axes in line[len(chosen[kind]) :]:
            axes.set_axis_off()
        for axes, series in zip(line, chosen[kind], strict=False):
            _draw_series(axes, evaluation, encoding, series, kind)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=7, loc="lower center", ncols=4,
                  frameon=False, columnspacing=1.0, handlelength=1.5)  # fmt: skip
    save_figure(figure, path)


def plot_forecast_errors(evaluation: ForecastEvaluation, path: Path) -> None:
    """Draws the error of each step ahead, the shares of values at or below the quantiles, and the series' errors.

    Args:
      evaluation: Of series whose last steps are known.
      path: The PNG file's path.
    """
    has_quantiles = len(evaluation.quantiles) > 1
    figure, all_axes = new_figure(3 if has_quantiles else 2)
    _draw_steps(all_axes[0], evaluation)
    _draw_bars(all_axes[-1], evaluation)
    if has_quantiles:
        _draw_calibration(all_axes[1], evaluation)
    save_figure(figure, path)


def _draw_series(axes: Any, evaluation: ForecastEvaluation, encoding: SeriesEncoding, series: int, kind: str) -> None:
    view = view_series(evaluation, encoding, series)
    times, middle = as_numbers(view.times), evaluation.quantiles.index(0.5)
    ahead = times[view.origin :]
    band = describe_band(evaluation.quantiles)
    if band:
        bounds = view.forecast[:, 0], view.forecast[:, -1]
        axes.fill_between(ahead, *bounds, color=TRAINING_COLOR, alpha=0.22, linewidth=0, label=band)
    axes.plot(times, view.actual, color=ACCENT_COLOR, linewidth=1.1, label="actual")
    axes.plot(times[view.dotted], view.actual[view.dotted], ".", color=ACCENT_COLOR, markersize=5)
    axes.plot(
        ahead,
        view.forecast[:, middle],
        color=TRAINING_COLOR,
        linewidth=1.4,
        label="median forecast" if band else "forecast",
    )
    axes.axvline(ahead[0], color=ACCENT_COLOR, linestyle=":", linewidth=0.9, label="origin")
    if view.times.dtype.kind == "M":
        places, names = date_ticks(view.times)
        axes.set_xticks(times[np.searchsorted(view.times, places)], names)
    else:
        axes.xaxis.get_major_locator().set_params(integer=view.times.dtype.kind == "i")
    given = ids_of(evaluation.sequences)[series]
    named = label_text(given, 24) if isinstance(given, str) else f"row {given}"
    said = f"{view.mase:.3g}" if np.isfinite(view.mase) else NO_FIGURE
    write_title(axes, f"{kind}, {named}: mase {said}, from {view.start} on", 8)
    several = len(encoding.targets.names) > 1
    axes.set_ylabel(label_text(encoding.targets.names[0], 30) + " (the first target)" * several, fontsize=7)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)


def _draw_steps(axes: Any, evaluation: ForecastEvaluation) -> None:
    figure, lines, is_log = errors_by_step(evaluation)
    steps = np.arange(1, len(lines[MODEL]) + 1)
    for (name, values), color in zip(lines.items(), itertools.cycle(COLORS), strict=False):
        kind = {"linewidth": 1.8} if name == MODEL else {"linewidth": 1.0, "linestyle": "--"}
        marker = "o" if len(steps) <= MAX_DOTTED else None
        axes.plot(steps, values, color=color, label=name, marker=marker, markersize=3, **kind)
    write_title(axes, f"{figure} by step ahead")
    axes.set_xlabel("steps ahead")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_yscale("log") if is_log else axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)


def _draw_calibration(axes: Any, evaluation: ForecastEvaluation) -> None:
    shares = calibrate(evaluation.predicted, evaluation.answers)
    axes.plot([0, 1], [0, 1], color=ACCENT_COLOR, linewidth=0.8, label="as it should be")
    axes.plot(evaluation.quantiles, shares, "o-", color=TRAINING_COLOR, label="the model")
    coverage, nominal = evaluation.figures["coverage"], evaluation.quantiles[-1] - evaluation.quantiles[0]
    write_title(axes, f"calibration: the band holds {coverage:.1%} of the values, should {nominal:.1%}")
    axes.set_xlabel("quantile")
    axes.set_ylabel("share of actual values at or below it")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.25)


def _draw_bars(axes: Any, evaluation: ForecastEvaluation) -> None:
    mase = evaluation.by_series["mase"]
    bars, known = bars_of(mase), mase[np.isfinite(mase)]
    axes.stairs(bars.counts, bars.edges, fill=True, color=TRAINING_COLOR, alpha=0.3)
    for (name, median), color in zip(medians_of(evaluation).items(), itertools.cycle(COLORS), strict=False):
        if median <= bars.furthest:
            kind = {"linewidth": 1.8} if name == MODEL else {"linewidth": 1.0, "linestyle": "--"}
            axes.axvline(median, color=color, label=f"{name}: median {median:.3g}", **kind)
    beyond = f", {bars.beyond:,} beyond in the last bar" * bool(bars.beyond)
    unknown = f", {bars.unknown:,} without" * bool(bars.unknown)
    write_title(axes, f"mase of {len(known):,} series{beyond}{unknown}")
    axes.set_xlabel("mase of a series")
    axes.set_ylabel("series")
    axes.yaxis.get_major_locator().set_params(integer=True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
