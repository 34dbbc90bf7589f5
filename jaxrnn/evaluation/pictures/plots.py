"""Pictures of a run, as PNG files. Figures are made without pyplot: no window, no global state."""

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.escaping import printable, shorten
from jaxrnn.foundation.files import write_atomically
from jaxrnn.settings.task_config import FIGURES_OF_TASK, task_of_figures

DPI = 110
TRAINING_COLOR, VALIDATION_COLOR, ACCENT_COLOR = "#1f77b4", "#d95f02", "#444444"
LOWEST_ACCURACY_SHOWN = 0.0
WIDE_RANGE = 100  # highest by lowest loss, from which on small ticks stand at 2 and 5 alone


@functools.cache  # a process that trains again has already done so
def preload() -> None:
    """Imports matplotlib and finds its fonts, which takes a second, for a thread that has the time."""
    figure, axes = new_figure(2)
    write_title(axes[0], "x")
    axes[0].plot([1, 2], label="x")
    axes[0].legend()
    scale_by_logarithm(axes[1])
    figure.savefig(io.BytesIO(), format="png")


def new_figure(num_columns: int, *, num_rows: int = 1) -> tuple[Any, Any]:
    """Returns a figure and its axes, one or a row or a grid of them."""
    from matplotlib.figure import Figure

    width, height = 5.5 * num_columns, 4.2 * (1 if num_rows == 1 else 0.7 * num_rows)
    figure = Figure(figsize=(width, height), dpi=DPI)
    # By hand: matplotlib's layout engine takes as long as the drawing.
    left, right, bottom, top = 0.7 / width, 1 - 0.15 / width, 0.55 / height, 1 - 0.5 / height
    figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top, wspace=0.19, hspace=0.3)
    return figure, figure.subplots(num_rows, num_columns)


def write_title(axes: Any, text: str, size: float = 10) -> None:
    """Writes above axes, at a place that is not looked for: that takes as long as a third of the drawing."""
    axes.set_title(text, fontsize=size, y=1.0)


def scale_by_logarithm(axes: Any) -> None:
    """Makes the vertical axis logarithmic, with plain numbers: setting formulas takes a third of the drawing."""
    from matplotlib.ticker import LogFormatter, LogLocator

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axes.set_yscale("log")
    lowest, highest = axes.get_ylim()
    if highest > WIDE_RANGE * lowest:  # each tick takes half a millisecond
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter(Plain())
    axes.yaxis.set_minor_formatter(Plain(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def label_text(text: str, length: int) -> str:
    """Returns a text of others as a label: shortened, harmless, and no formula whatever it holds."""
    return printable(shorten(text, length)).replace("$", r"\$")


def save_figure(figure: Any, path: str | Path) -> None:
    """Writes a PNG file, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(Path(path), picture.getvalue())


def plot_curves(epochs: list[dict[str, Any]], best_epoch: int, path: str | Path) -> None:
    """Draws the task's first figure and the loss over the epochs; of an ensemble with a band of one std.

    Args:
      epochs: Lines of metrics.jsonl.
      best_epoch: Marked with a line.
      path: The PNG file's path.
    """
    figure, (figure_axes, loss_axes) = new_figure(2)
    numbers = [epoch["epoch"] for epoch in epochs]
    task = task_of_figures(epochs[0]["training"]) if epochs else "next"
    first = FIGURES_OF_TASK[task][1]
    for axes, name in ((figure_axes, first), (loss_axes, "loss")):
        for part, color in (("training", TRAINING_COLOR), ("validation", VALIDATION_COLOR)):
            mean = np.array([epoch[part][name] for epoch in epochs])
            if epochs and not np.isfinite(mean).any():  # no row validates
                continue
            axes.plot(numbers, mean, color=color, label=part, linewidth=1.2)
            if any(f"{part}_std" in epoch for epoch in epochs):  # of an ensemble
                std = np.array([epoch.get(f"{part}_std", {}).get(name, np.nan) for epoch in epochs])
                lowest = np.nanmin(mean) * 0.5 if name == "loss" else -np.inf  # for the logarithmic axis
                axes.fill_between(numbers, np.maximum(mean - std, lowest), mean + std, color=color, alpha=0.15)
        axes.axvline(
            best_epoch,
            color=ACCENT_COLOR,
            linestyle=":",
            linewidth=1,
            label=f"best epoch: {best_epoch}",
        )
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
    if first == "accuracy":
        # The next value's starts far below 0, since a small error at a target of 0 counts as a large relative one.
        figure_axes.set_ylim(LOWEST_ACCURACY_SHOWN, 1.01)
    title = "accuracy: 1 - mean(|y - p| / (|y| + epsilon))" if task == "next" else first
    write_title(figure_axes, title)
    figure_axes.legend(loc="lower right" if first == "accuracy" else "upper right", fontsize=9)
    losses = np.array([epoch[part]["loss"] for epoch in epochs for part in ("training", "validation")])
    if np.isfinite(losses).any() and not (losses <= 0).any():
        scale_by_logarithm(loss_axes)
    write_title(loss_axes, "loss, in normalised units")
    loss_axes.legend(loc="upper right", fontsize=9)
    save_figure(figure, path)


def plot_predictions(actual: np.ndarray, predicted: np.ndarray, path: str | Path) -> None:
    """Draws predicted against actual values, and the errors.

    Args:
      actual: (rows,) last values, in the data's units.
      predicted: (rows,).
      path: The PNG file's path.
    """
    figure, (value_axes, error_axes) = new_figure(2)
    value_axes.scatter(actual, predicted, s=6, alpha=0.4, color=TRAINING_COLOR, linewidths=0)
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    value_axes.plot(ends, ends, color=ACCENT_COLOR, linewidth=0.8, label="predicted = actual")
    value_axes.set_xlabel("actual last value")
    value_axes.set_ylabel("predicted")
    value_axes.legend(fontsize=9)
    error_axes.scatter(actual, predicted - actual, s=6, alpha=0.4, color=VALIDATION_COLOR, linewidths=0)
    error_axes.axhline(0, color=ACCENT_COLOR, linewidth=0.8)
    error_axes.set_xlabel("actual last value")
    error_axes.set_ylabel("predicted - actual")
    for axes in (value_axes, error_axes):
        axes.grid(alpha=0.25)
    figure.suptitle(f"predictions of {len(actual):,} rows", fontsize=11)
    save_figure(figure, path)


def plot_error_by_length(rows: Ragged, actual: np.ndarray, predicted: np.ndarray, path: str | Path) -> None:
    """Draws the mean and the 90th percentile of the absolute error for every row length.

    Args:
      rows: The rows that were predicted.
      actual: (rows,) last values, in the data's units.
      predicted: (rows,).
      path: The PNG file's path.
    """
    figure, axes = new_figure(1)
    error = np.abs(predicted - actual)
    lengths = rows.lengths
    distinct: Any = np.unique(lengths)
    if len(distinct) > 40:  # group long tails, so that a point stands for enough rows
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, 41), method="higher"))
        lengths = edges.astype(np.int64)[np.searchsorted(edges, lengths)]
        distinct = np.unique(lengths)
    groups = [error[lengths == length] for length in distinct]
    axes.plot(distinct, [group.mean() for group in groups], "o-", color=TRAINING_COLOR, label="mean")
    axes.plot(
        distinct,
        [np.quantile(group, 0.9) for group in groups],
        "o--",
        color=VALIDATION_COLOR,
        label="90%",
    )
    axes.set_xlabel("values in the row, the predicted one included")
    axes.set_ylabel("absolute error, in the data's units")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)
    save_figure(figure, path)
