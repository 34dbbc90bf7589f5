"""Charts of predicted numbers: against the actual ones, and where the errors are large."""

import numpy as np

from jaxrnn.pages import markup
from jaxrnn.pages.charts import Series, chart_box, legend, line_chart, scatter_chart
from jaxrnn.pages.markup import Markup

MAX_GROUPS = 10
MEAN_COLOR, NINETY_COLOR = 0, 1


def scatters(actual: np.ndarray, predicted: np.ndarray, *, whats: str, label: str, title: str = "") -> list[Markup]:
    """Draws predicted against actual numbers, and errors against actual numbers.

    Args:
      actual: (rows,).
      predicted: (rows,).
      whats: What the numbers are, in the plural.
      label: What one of them is.
      title: What the headings begin with.
    """
    error = predicted - actual
    finite = np.isfinite(error)
    largest = np.abs(error[finite]).max() if finite.any() else np.nan
    against = scatter_chart(
        Series(actual, predicted),
        x_label=f"actual {label}",
        y_label="predicted",
        description=f"Predicted against actual {whats} of {len(actual)} rows, beside the line where both are equal;"
        f" the largest error is {largest:.4g}",
    )
    errors = scatter_chart(
        Series(actual, error, 1),
        x_label=f"actual {label}",
        y_label="predicted - actual",
        description=f"Errors of {len(actual)} rows by their actual {label}, from"
        f" {np.min(error, where=finite, initial=np.inf):.4g} to {np.max(error, where=finite, initial=-np.inf):.4g}",
        line="zero",
    )
    headings = ("Predicted against actual", "Error against actual")
    return [chart_box(f"{title}{name}", chart) for name, chart in zip(headings, (against, errors), strict=True)]


def errors_by_group(
    title: str, label: str, key: np.ndarray, error: np.ndarray, unit: str = "the data's units"
) -> Markup:
    """Draws mean and 90th percentile of the error over groups of alike keys, with the numbers folded below.

    Args:
      title: The heading.
      label: What the key is.
      key: (rows,).
      error: (rows,).
      unit: What the error is measured in.
    """
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
    numbers = markup.table([label, "rows", "mean", "90%", "largest"], rows, caption=f"{title}, in {unit}")
    return chart_box(title, chart, names, markup.folded("The numbers", numbers))


def _group(key: np.ndarray) -> np.ndarray:
    """Numbers groups of alike keys: each by itself where there are few, else about as many rows in each."""
    distinct, group = np.unique(key, return_inverse=True)
    if len(distinct) <= 2 * MAX_GROUPS and np.array_equal(distinct, np.round(distinct)):
        return group
    edges = np.unique(np.quantile(key, np.linspace(0, 1, MAX_GROUPS + 1)[1:-1], method="higher"))
    return np.unique(np.searchsorted(edges, key, side="right"), return_inverse=True)[1]
