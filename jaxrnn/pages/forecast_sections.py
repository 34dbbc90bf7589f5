"""The part of the page about a run's forecasts: errors by step ahead, calibration, series, and the worst of them."""

import numpy as np

from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.forecast_views import (
    KINDS,
    MAX_DOTTED,
    ForecastView,
    bars_of,
    choose_series,
    describe_band,
    errors_by_step,
    medians_of,
    rank_series,
    steps_before,
    view_series,
)
from jaxrnn.evaluation.forecasting import MODEL, ForecastEvaluation
from jaxrnn.pages import markup
from jaxrnn.pages.charts import Area, Series, chart_box, legend, line_chart
from jaxrnn.pages.class_sections import name_of
from jaxrnn.pages.markup import Markup, element, paragraph
from jaxrnn.pages.predictions import TestedSequences
from jaxrnn.pages.sequence_drawings import name_sequence
from jaxrnn.tasks.figures import NO_FIGURE, format_figure
from jaxrnn.tasks.forecast_figures import calibrate

NUM_WORST, NUM_DRAWN = 10, 3
MAX_STEPS_LISTED = 48
MODEL_COLOR, ACTUAL_COLOR, EQUAL_COLOR = 0, 7, 7  # the baselines have the colours in between


def forecast_parts(tested: TestedSequences, evaluation: ForecastEvaluation) -> list[Markup]:
    """Returns the charts of a run's forecasts, the series that they are worst for, and some series.

    Args:
      tested: The run.
      evaluation: Its evaluation.
    """
    charts = [_by_step_chart(evaluation), _bars_chart(evaluation)]
    if len(evaluation.quantiles) > 1:
        charts.insert(1, _calibration_chart(evaluation))
    parts = [element("div", *charts, class_="charts"), _table_of_worst(tested, evaluation)]
    chosen = choose_series(evaluation.by_series["mase"], NUM_DRAWN)
    parts.append(_explain_drawings(tested, evaluation))
    headings = {"best": "The smallest errors", "typical": "Typical", "worst": "The largest errors"}
    for kind in reversed(KINDS):
        if kind in chosen:
            drawn = [draw_forecast(tested, evaluation, series, 5) for series in chosen[kind]]
            parts += [element("h4", headings[kind]), element("div", *drawn, class_="charts drawn")]
    return parts


def draw_forecast(tested: TestedSequences, evaluation: ForecastEvaluation, series: int, level: int) -> Markup:
    """Draws a series' forecast, the values before it and those that came, below a heading of this level."""
    encoding = _encoding_of(tested)
    view = view_series(evaluation, encoding, series)
    middle = evaluation.quantiles.index(0.5)
    times = view.times[view.origin :]
    numbers = np.concatenate([view.actual, view.forecast.ravel()])
    finite = numbers[np.isfinite(numbers)]
    ends = np.array([finite.min(), finite.max()]) if len(finite) else np.zeros(2)
    has_band = view.forecast.shape[1] > 1
    chart = line_chart(
        [
            Series(np.repeat(times[:1], 2), ends, ACTUAL_COLOR, is_dashed=True),
            Series(view.times, view.actual, ACTUAL_COLOR),
            Series(view.times, np.where(view.dotted, view.actual, np.nan), ACTUAL_COLOR, has_dots=True),
            Series(times, view.forecast[:, middle], MODEL_COLOR),
        ],
        x_label=name_of(view.label),
        y_label=name_of(encoding.targets.names[0]),
        description=f"Forecast of {name_sequence(tested, series)}: {_tell(view, middle)}",
        areas=[Area(times, view.forecast[:, 0], view.forecast[:, -1], MODEL_COLOR)] if has_band else [],
    )
    said = f"mase {_write('mase', view.mase)}, from {view.start} on"
    return chart_box(f"{name_sequence(tested, series)}: {said}", chart, level=level)


def _tell(view: ForecastView, middle: int) -> str:
    """Says in words what a drawing shows."""
    found, actual = view.forecast[1:, middle], view.actual[view.origin + 1 :]
    came = actual[np.isfinite(actual)]
    told = f"{came[0]:.4g} to {came[-1]:.4g}" if len(came) else "not known"
    return (
        f"{len(found):,} steps behind {view.start}, from {found[0]:.4g} to {found[-1]:.4g};"
        f" the actual values are {told}"
    )


def _explain_drawings(tested: TestedSequences, evaluation: ForecastEvaluation) -> Markup:
    encoding = _encoding_of(tested)
    band, is_of_points = describe_band(evaluation.quantiles), len(evaluation.quantiles) < 2
    names = legend(
        [
            ("actual values, with dots where they are forecast", ACTUAL_COLOR, False),
            ("forecast" if is_of_points else "median forecast", MODEL_COLOR, False),
            ("origin: the last step that the forecast knows", ACTUAL_COLOR, True),
        ],
        [(band, MODEL_COLOR)] if band else [],
    )
    notes = [f"Of each series at most {steps_before(encoding):,} steps before the forecast are drawn."]
    targets, origins = encoding.targets.names, evaluation.origins.shape[1]
    if len(targets) > 1:
        notes.append(f"Of {len(targets):,} targets the first is drawn, {name_of(targets[0])}; mase is of all.")
    if origins > 1:
        notes.append(f"Of {origins:,} origins of a series the last is drawn; mase is of all.")
    return markup.join([names, paragraph(" ".join(notes), class_="soft")])


def _by_step_chart(evaluation: ForecastEvaluation) -> Markup:
    """Draws the error of each step ahead, of the model and the baselines."""
    figure, lines, is_log = errors_by_step(evaluation)
    steps = np.arange(1, len(lines[MODEL]) + 1)
    model = lines[MODEL]
    chart = line_chart(
        [
            Series(steps, values, color, is_dashed=name != MODEL, has_dots=len(steps) <= MAX_DOTTED)
            for color, (name, values) in enumerate(lines.items())
        ],
        x_label="steps ahead",
        y_label=figure,
        description=f"{figure} by step ahead, of the model from {model[0]:.4g} at the first to {model[-1]:.4g} at the"
        " last; the table below has those of the baselines",
        is_log=is_log,
        at_zero=True,
    )
    names = legend([(_name_line(name), color, name != MODEL) for color, name in enumerate(lines)])
    listed = np.unique(np.linspace(0, len(steps) - 1, MAX_STEPS_LISTED).round().astype(int))
    rows = [[f"{steps[at]:,}", *[_write(figure, values[at]) for values in lines.values()]] for at in listed]
    caption = f"{figure} by step ahead, the mean over all values"
    numbers = markup.table(["step", *map(_name_line, lines)], rows, caption=caption)
    return chart_box("Error by step ahead", chart, names, markup.folded("The numbers", numbers))


def _calibration_chart(evaluation: ForecastEvaluation) -> Markup:
    """Draws how many values lie at or below each quantile, beside how many should."""
    levels, shares = np.array(evaluation.quantiles), calibrate(evaluation.predicted, evaluation.answers)
    ends = np.array([0.0, 1.0])
    told = "; ".join(f"{share:.1%} at or below the {level:g} quantile" for level, share in zip(levels, shares,
                                                                                              strict=True))  # fmt: skip
    chart = line_chart(
        [Series(ends, ends, EQUAL_COLOR, is_dashed=True), Series(levels, shares, MODEL_COLOR, has_dots=True)],
        x_label="quantile",
        y_label="share of actual values at or below it",
        description=f"Calibration of the quantiles: {told}",
    )
    names = legend([("the model", MODEL_COLOR, False), ("as it should be", EQUAL_COLOR, True)])
    coverage, nominal = evaluation.figures["coverage"], levels[-1] - levels[0]
    rows = [[f"at or below the {level:g} quantile", f"{level:.1%}", _percent(share)]
            for level, share in zip(levels, shares, strict=True)]  # fmt: skip
    rows.append([f"coverage, between {levels[0]:g} and {levels[-1]:g}", f"{nominal:.1%}", _percent(coverage)])
    numbers = markup.table(["", "should be", "is"], rows, caption="Shares of the actual values")
    return chart_box("Calibration", chart, names, numbers)


def _bars_chart(evaluation: ForecastEvaluation) -> Markup:
    """Draws how many series have which MASE, with the medians of the model and the baselines."""
    mase = evaluation.by_series["mase"]
    bars, known = bars_of(mase), mase[np.isfinite(mase)]
    medians, top, high = medians_of(evaluation), bars.edges[-1], int(bars.counts.max())
    lines = [
        Series(np.full(2, median), np.array([0, high]), color, is_dashed=name != MODEL)
        for color, (name, median) in enumerate(medians.items())
        if median <= bars.furthest
    ]
    outline = np.repeat(bars.counts, 2)
    told = f"{medians[MODEL]:.4g}" if len(known) else "unknown"
    chart = line_chart(
        lines,
        x_label="mase of a series",
        y_label="series",
        description=f"How many series have which mase; the median is {told}",
        at_zero=True,
        areas=[Area(np.repeat(bars.edges, 2)[1:-1], np.zeros_like(outline), outline, MODEL_COLOR)],
    )
    said = {
        name: f"{_name_line(name)}: median {_write('mase', median)}" + ", beyond the chart" * (median > bars.furthest)
        for name, median in medians.items()
    }
    names = legend([(said[name], color, name != MODEL) for color, name in enumerate(medians)])
    notes = []
    if bars.beyond:
        notes.append(f"{bars.beyond:,} series have more than {top:.4g}: the last bar holds them.")
    if bars.unknown:
        why = "they do not change before it, or end in unknown values"
        notes.append(f"Series without a mase: {bars.unknown:,}; {why}.")
    ranges = list(zip(bars.edges[:-1], bars.edges[1:], bars.counts, strict=True))
    rows = [[f"{low:.4g} to {end:.4g}", f"{count:,}"] for low, end, count in ranges if count]
    if bars.beyond:
        rows[-1][0] = f"{ranges[-1][0]:.4g} or more"
    numbers = markup.table(["mase", "series"], rows, caption="How many series have which mase")
    note = paragraph(" ".join(notes), class_="soft") if notes else Markup("")
    return chart_box("Error of the series", chart, names, note, markup.folded("The numbers", numbers))


def _table_of_worst(tested: TestedSequences, evaluation: ForecastEvaluation) -> Markup:
    worst = rank_series(evaluation.by_series["mase"])[:NUM_WORST]
    lengths, shown = evaluation.rows.lengths, ("mase", "smape", "coverage")
    rows = []
    for place, series in enumerate(worst, start=1):
        figures = [
            _write(name, evaluation.by_series[name][series]) if name in evaluation.by_series else NO_FIGURE
            for name in shown
        ]
        rows.append([place, name_sequence(tested, series), f"{lengths[series]:,}", *figures])
    if not rows:
        return paragraph("No series has a mase: none changes before it is forecast.")
    of_all = f" of {len(lengths):,}" * (len(lengths) > len(rows))
    caption = f"The {len(rows)} series{of_all} with the largest mase; smape in percent, 0 to 200; coverage of the band"
    return markup.table(["", "series", "steps", *shown], rows, caption=caption)


def _encoding_of(tested: TestedSequences) -> SeriesEncoding:
    encoding = tested.model.encoding
    assert isinstance(encoding, SeriesEncoding)
    return encoding


def _name_line(name: str) -> str:
    return "the model" if name == MODEL else name


def _write(figure: str, value: float) -> str:
    return format_figure(figure, value) if np.isfinite(value) else NO_FIGURE


def _percent(share: float) -> str:
    return f"{share:.1%}" if np.isfinite(share) else NO_FIGURE
