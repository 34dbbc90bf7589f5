"""Sections of the page about single rows: predicted against actual, where the errors are large, the worst rows."""

import numpy as np

from jaxrnn.pages import markup
from jaxrnn.pages.charts import MAX_DOTS, Series, chart_box, legend, line_chart, scatter_chart
from jaxrnn.pages.markup import Markup, element, paragraph
from jaxrnn.pages.predictions import TestedRows
from jaxrnn.pages.result_sections import ReportedRun

MAX_GROUPS = 10
NUM_WORST = 10
NUM_VALUES_SHOWN = 9
MEAN_COLOR, NINETY_COLOR = 0, 1


def errors_section(runs: list[ReportedRun]) -> Markup:
    """Returns the charts and the worst rows of every run whose test rows could be predicted."""
    parts = [element("h2", "Predictions of the test rows")]
    for run in runs:
        if run.tested is None:
            parts.append(paragraph(f"{run.record.path}: none, for the reason above."))
            continue
        tested = run.tested
        parts.append(element("h3", f"{run.record.path}: {len(tested.rows):,} rows"))
        if not np.isfinite(tested.predicted).all():
            parts.append(paragraph("Predictions that are not finite are left out of the charts."))
        parts.append(element("div", *_scatters(tested), *_errors_by_group(tested), class_="charts"))
        parts.append(_worst_rows(tested))
    parts.append(
        paragraph(
            f"Dots that fall together are drawn once, and at most {MAX_DOTS:,} of a chart, drawn at random. A worst row"
            " that stands in the file several times is listed once, with its first place.",
            class_="soft",
        )
    )
    return element("section", *parts)


def _scatters(tested: TestedRows) -> list[Markup]:
    actual, error = tested.actual, tested.predicted - tested.actual
    finite = np.isfinite(error)
    largest = np.abs(error[finite]).max() if finite.any() else np.nan
    against = scatter_chart(
        Series(actual, tested.predicted),
        x_label="actual last value",
        y_label="predicted",
        description=f"Predicted against actual last values of {len(actual)} rows, beside the line where both are equal;"
        f" the largest error is {largest:.4g}",
    )
    errors = scatter_chart(
        Series(actual, error, 1),
        x_label="actual last value",
        y_label="predicted - actual",
        description=f"Errors of {len(actual)} rows by their actual last value, from"
        f" {np.min(error, where=finite, initial=np.inf):.4g} to {np.max(error, where=finite, initial=-np.inf):.4g}",
        line="zero",
    )
    return [chart_box("Predicted against actual", against), chart_box("Error against actual", errors)]


def _errors_by_group(tested: TestedRows) -> list[Markup]:
    error = np.abs(tested.predicted - tested.actual)
    lengths, magnitude = tested.rows.lengths, np.abs(tested.actual)
    return [
        _by_group("Error by row length", "values in the row", lengths, error),
        _by_group("Error by magnitude of the target", "|actual last value|", magnitude, error),
    ]


def _by_group(title: str, label: str, key: np.ndarray, error: np.ndarray) -> Markup:
    """Draws mean and 90th percentile of the error over groups of alike keys, with the numbers folded below."""
    group = _group(key)
    rows, places, means, nineties = [], [], [], []
    for number in range(group.max() + 1):
        keys, errors = key[group == number], error[group == number]
        places.append(float(np.median(keys)))
        means.append(errors.mean())
        nineties.append(np.quantile(errors, 0.9) if np.isfinite(errors).all() else np.nan)
        ends = (keys.min(), keys.max())
        name = f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:.6g} to {ends[1]:.6g}"
        rows.append([name, f"{len(keys):,}", f"{means[-1]:.4g}", f"{nineties[-1]:.4g}", f"{errors.max():.4g}"])
    x = np.array(places)
    chart = line_chart(
        [
            Series(x, np.array(means), MEAN_COLOR, has_dots=True),
            Series(x, np.array(nineties), NINETY_COLOR, is_dashed=True, has_dots=True),
        ],
        x_label=label,
        y_label="absolute error",
        description=f"{title}: mean absolute error of {len(rows)} groups, from {min(means):.4g} to"
        f" {max(means):.4g}; the table below has the numbers",
        at_zero=True,
    )
    names = legend([("mean", MEAN_COLOR, False), ("90th percentile", NINETY_COLOR, True)])
    numbers = markup.table([label, "rows", "mean", "90%", "largest"], rows, caption=f"{title}, in the data's units")
    return chart_box(title, chart, names, markup.folded("The numbers", numbers))


def _group(key: np.ndarray) -> np.ndarray:
    """Numbers groups of alike keys: each by itself where there are few, else about as many rows in each."""
    distinct, group = np.unique(key, return_inverse=True)
    if len(distinct) <= 2 * MAX_GROUPS and np.array_equal(distinct, np.round(distinct)):
        return group
    edges = np.unique(np.quantile(key, np.linspace(0, 1, MAX_GROUPS + 1)[1:-1], method="higher"))
    return np.unique(np.searchsorted(edges, key, side="right"), return_inverse=True)[1]


def _worst_rows(tested: TestedRows) -> Markup:
    error = np.abs(tested.predicted - tested.actual)
    order = np.argsort(np.where(np.isfinite(error), -error, -np.inf), kind="stable")
    _, first = np.unique(tested.row_ids[order], return_index=True)  # of copies one
    worst = order[np.sort(first)[:NUM_WORST]]
    rows = []
    for place, index in enumerate(worst, start=1):
        copies = np.flatnonzero(tested.row_ids == tested.row_ids[index])
        values = tested.rows[int(index)]
        shown = " ".join(f"{value:.6g}" for value in values[-NUM_VALUES_SHOWN:])
        more = len(values) - NUM_VALUES_SHOWN
        rows.append(
            [
                place,
                f"{tested.row_numbers[copies].min():,}",
                len(copies),
                f"{tested.actual[index]:.6g}",
                f"{tested.predicted[index]:.6g}",
                f"{error[index]:.4g}",
                f"({more:,} before) {shown}" if more > 0 else shown,
            ]
        )
    header = ["", "row of the file", "copies", "actual", "predicted", "error", "the row's values"]
    return markup.table(header, rows, caption=f"The {len(rows)} distinct rows with the largest errors")
