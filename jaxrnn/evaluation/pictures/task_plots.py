"""Pictures of what a model makes of sequences: confusion matrix and reliability, or predicted against actual numbers;
and the sequences that it gets right and wrong most surely."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.encoding import Encoded
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.forecasting import ForecastEvaluation
from jaxrnn.evaluation.pictures.forecast_plots import plot_forecast_errors, plot_forecasts
from jaxrnn.evaluation.pictures.plots import (
    ACCENT_COLOR,
    TRAINING_COLOR,
    VALIDATION_COLOR,
    label_text,
    new_figure,
    save_figure,
    write_title,
)
from jaxrnn.evaluation.sequence_errors import count_confusions, error_of_each, reliability
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation
from jaxrnn.evaluation.trained_model import TrainedModel

MAX_CLASSES_NAMED = 30
MAX_FEATURES_DRAWN = 12
NUM_SEQUENCES_DRAWN = 3


def draw_task(evaluation: SequenceEvaluation, model: TrainedModel, directory: Path) -> list[Path]:
    """Draws the pictures of a task into a directory; returns their paths."""
    if isinstance(evaluation, ForecastEvaluation):
        assert isinstance(model.encoding, SeriesEncoding)
        drawn = [directory / "forecast_errors.png"]
        plot_forecast_errors(evaluation, drawn[0])
        if evaluation.rows.series is not None:  # else evaluated in pieces: what the network has read is gone
            drawn.insert(0, directory / "forecasts.png")
            plot_forecasts(evaluation, model.encoding, drawn[0])
        return drawn
    drawn = [directory / ("confusion.png" if model.classes else "predictions.png"), directory / "sequences.png"]
    if model.classes:
        plot_classes(evaluation, model.classes, drawn[0])
    else:
        plot_numbers(evaluation, model, drawn[0])
    rows = evaluation.rows
    if len(rows.inputs) < rows.offsets[-1]:  # evaluated in pieces: what the network has read is gone
        return drawn[:1]
    plot_sequences(evaluation, model, drawn[1])
    return drawn


def plot_classes(evaluation: SequenceEvaluation, classes: tuple[str, ...], path: Path) -> None:
    """Draws the confusion matrix, as shares of each true class, and how sure predictions are against how right.

    Args:
      evaluation: Of sequences whose classes are known.
      classes: The classes' texts.
      path: The PNG file's path.
    """
    targets, chosen = np.asarray(evaluation.rows.targets), evaluation.predicted.argmax(axis=1)
    counts = count_confusions(evaluation.predicted, evaluation.rows, len(classes))
    figure, (matrix_axes, sure_axes) = new_figure(2)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix_axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    matrix_axes.set_xlabel("predicted class")
    matrix_axes.set_ylabel("true class")
    if len(classes) <= MAX_CLASSES_NAMED:
        names = [label_text(text, 12) for text in classes]
        beside = 0.06 * max(map(len, names))  # inches
        width, height = figure.get_size_inches()
        figure.subplots_adjust(left=(0.65 + beside) / width, bottom=(0.5 + beside) / height)
        matrix_axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=8)
        matrix_axes.set_yticks(range(len(classes)), names, fontsize=8)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else ACCENT_COLOR
                matrix_axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7, color=color)
    sure, right, number = reliability(evaluation.predicted.max(axis=1), chosen == targets)
    sure_axes.plot([0, 1], [0, 1], color=ACCENT_COLOR, linewidth=0.8, label="as sure as right")
    sure_axes.scatter(sure, right, s=20 + 180 * number / number.max(), color=TRAINING_COLOR, alpha=0.7)
    sure_axes.set_xlabel("mean probability of the predicted class")
    sure_axes.set_ylabel("share that is right")
    sure_axes.set_xlim(0, 1.02)
    sure_axes.set_ylim(-0.02, 1.04)
    sure_axes.legend(fontsize=9, loc="upper left")
    sure_axes.grid(alpha=0.25)
    save_figure(figure, path)


def plot_numbers(evaluation: SequenceEvaluation, model: TrainedModel, path: Path) -> None:
    """Draws predicted against actual numbers, each target in a panel of its own.

    Args:
      evaluation: Of sequences whose numbers are known.
      model: The model that predicted them.
      path: The PNG file's path.
    """
    assert model.encoding is not None
    targets = model.encoding.targets
    actual = targets.denormalize(np.asarray(evaluation.rows.targets))
    figure, all_axes = new_figure(len(targets.names))
    for number, (axes, name) in enumerate(zip(np.atleast_1d(all_axes), targets.names, strict=True)):
        known, found = actual[:, number], evaluation.predicted[:, number]
        axes.scatter(known, found, s=8, alpha=0.5, color=TRAINING_COLOR, linewidths=0)
        ends = [min(known.min(), found.min()), max(known.max(), found.max())]
        axes.plot(ends, ends, color=ACCENT_COLOR, linewidth=0.8)
        axes.set_xlabel(f"actual {label_text(name, 40)}")
        axes.set_ylabel("predicted")
        axes.grid(alpha=0.25)
    save_figure(figure, path)


def plot_sequences(evaluation: SequenceEvaluation, model: TrainedModel, path: Path) -> None:
    """Draws the inputs of typical sequences and of the worst ones, with what was predicted.

    Args:
      evaluation: Of sequences whose answers are known.
      model: The model that predicted them.
      path: The PNG file's path.
    """
    assert model.encoding is not None
    rows, errors = evaluation.rows, error_of_each(evaluation, model)
    has_numbers = bool(rows.inputs.shape[1])
    names = model.encoding.inputs.names if has_numbers else [name for name, _ in model.encoding.categories]
    order = np.argsort(errors, kind="stable")
    number = min(NUM_SEQUENCES_DRAWN, len(order))
    middle = (len(order) - number) // 2
    chosen = [*order[middle : middle + number], *order[::-1][:number]]
    figure, grid = new_figure(number, num_rows=2)
    for place, (axes, sequence) in enumerate(zip(np.ravel(grid), chosen, strict=True)):
        steps = slice(rows.offsets[sequence], rows.offsets[sequence + 1])
        drawn = (rows.inputs if has_numbers else rows.categories)[steps, :MAX_FEATURES_DRAWN]
        for column, name in zip(drawn.T, names, strict=False):
            marker = "." if len(drawn) < 3 else None
            axes.plot(column, linewidth=0.9, marker=marker, label=label_text(name, 16))
        if place == 0 and len(names) > 1:
            axes.legend(fontsize=7)
        if place % number == 0:
            axes.set_ylabel("normalised" if has_numbers else "number of the category", fontsize=8)
        if rows.every:
            _shade_tags(axes, evaluation, rows, int(sequence))
        kind = "typical" if place < number else "worst"
        write_title(axes, f"{kind}, row {sequence}: {_words(evaluation, model, int(sequence))}", 8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    save_figure(figure, path)


def _words(evaluation: SequenceEvaluation, model: TrainedModel, sequence: int) -> str:
    rows, targets = evaluation.rows, np.asarray(evaluation.rows.targets)
    if rows.every:
        steps = slice(rows.offsets[sequence], rows.offsets[sequence + 1])
        right = evaluation.predicted[steps].argmax(axis=1) == targets[steps]
        return f"{int(right.sum())} of {right.size} steps right"
    if not model.classes:
        assert model.encoding is not None
        actual = model.encoding.targets.denormalize(targets[sequence])
        return f"{evaluation.predicted[sequence][0]:.4g}, actual {actual[0]:.4g}"
    probabilities, true = evaluation.predicted[sequence], int(targets[sequence])
    taken = model.classes[int(probabilities.argmax())]
    named = model.classes[true] if true >= 0 else "an unseen class"
    return f"{label_text(taken, 14)} ({probabilities.max():.0%}), true {label_text(named, 14)}"


def _shade_tags(axes: Any, evaluation: SequenceEvaluation, rows: Encoded, sequence: int) -> None:
    """Marks the steps whose tag is wrong."""
    start, end = int(rows.offsets[sequence]), int(rows.offsets[sequence + 1])
    wrong = evaluation.predicted[start:end].argmax(axis=1) != np.asarray(rows.targets)[start:end]
    for step in np.flatnonzero(wrong):
        axes.axvspan(step - 0.5, step + 0.5, color=VALIDATION_COLOR, alpha=0.2, linewidth=0)
