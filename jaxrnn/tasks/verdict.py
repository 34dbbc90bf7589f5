"""Figures of whole parts, on the host in float64: by scikit-learn where it has them; baselines; what they are worth."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoded, Encoding
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import FIGURES_OF_TASK, FURTHER_FIGURES, HIGHER_IS_BETTER
from jaxrnn.tasks.bootstrap import mean_error_interval
from jaxrnn.tasks.judgement import compare_with_baselines, describe_interval
from jaxrnn.tasks.metrics import HALF, elementwise_loss

# The figure that a model and its baselines are compared by, and that has an interval.
MAIN_FIGURE = {"next": "mae", "classify": "accuracy", "regress": "mae", "tag": "accuracy", "forecast": "mase"}


class Verdict(NamedTuple):
    """What stands beside a model's figures on some rows.

    Attributes:
      interval: As `bootstrap.mean_error_interval` returns it, of the main figure.
      against_baselines: As `compare_with_baselines` returns it.
      notes: Lines about each.
    """

    interval: dict[str, Any]
    against_baselines: dict[str, Any]
    notes: list[str]


def class_figures(probabilities: NDArray[Any], rows: Encoded, encoding: Encoding, config: Config) -> dict[str, float]:
    """Measures probabilities of classes, as scikit-learn defines the figures.

    Classes that training has not seen count as wrong; log_loss, loss and roc_auc leave them out.

    Args:
      probabilities: (rows, classes), or of a task that tags (steps, classes).
      rows: What they were predicted from, with the classes.
      encoding: The classes.
      config: Says the task, and whether classes are weighted.
    """
    from sklearn import metrics

    targets = np.asarray(rows.targets)
    taken = probabilities.argmax(axis=1)
    is_known = targets >= 0
    known, given = targets[is_known], probabilities[is_known].astype(np.float64)
    each = -np.log(np.clip(given[np.arange(len(known)), known], np.finfo(np.float64).tiny, 1))
    weights = class_weights(encoding, config)[known]
    classes = range(probabilities.shape[1])
    figures = {
        "loss": float((weights * each).sum() / weights.sum()) if len(known) else float("nan"),
        "accuracy": float(metrics.accuracy_score(targets, taken)),
        "macro_f1": float(metrics.f1_score(targets, taken, average="macro", zero_division=0.0)),
    }
    if rows.every:
        wrong = np.concatenate([[0], np.cumsum(targets != taken)])
        return figures | {"rows_right": float((np.diff(wrong[rows.offsets]) == 0).mean())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes that no row has
        figures["balanced_accuracy"] = float(metrics.balanced_accuracy_score(targets, taken))
    figures["log_loss"] = float(metrics.log_loss(known, given, labels=classes)) if len(known) else float("nan")
    return figures | {"roc_auc": _roc_auc(known, given)}


def _roc_auc(targets: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Returns the area under the curve, the mean of one against the rest; NaN unless every class is there."""
    from sklearn import metrics

    number = probabilities.shape[1]
    if len(np.unique(targets)) < number:
        return float("nan")
    if number == 2:
        return float(metrics.roc_auc_score(targets, probabilities[:, 1]))
    sums = probabilities.sum(axis=1, keepdims=True)
    return float(metrics.roc_auc_score(targets, probabilities / sums, multi_class="ovr", labels=range(number)))


def class_weights(encoding: Encoding, config: Config) -> NDArray[np.float64]:
    """Returns the weight of each class in the loss, (classes,)."""
    counts = np.array(encoding.class_counts, np.float64)
    if config.task.class_weights == "none":
        return np.ones(len(counts))
    return counts.sum() / (len(counts) * counts)


def number_figures(predicted: NDArray[Any], rows: Encoded, encoding: Encoding, config: Config) -> dict[str, float]:
    """Measures predicted numbers, the mean over several targets.

    Args:
      predicted: (rows, targets), in the data's units.
      rows: What they were predicted from, with the targets.
      encoding: The targets' units.
      config: Says the loss.
    """
    from sklearn import metrics

    offsets, scales = encoding.targets.offsets, encoding.targets.scales
    normalized = np.asarray(rows.targets, np.float64)
    actual = encoding.targets.denormalize(normalized)
    losses = elementwise_loss(config.training.loss, (predicted - offsets) / scales, normalized)
    spread, error = np.ptp(actual, axis=0) > 0, np.abs(predicted - actual)
    return {
        "loss": float(losses.mean()),
        "accuracy": 1 - float((error / (np.abs(actual) + config.training.accuracy_epsilon)).mean()),
        "within_half": float((error <= HALF).mean()),
        "mae": float(metrics.mean_absolute_error(actual, predicted)),
        "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
        "r2": float(metrics.r2_score(actual, predicted)) if len(actual) > 1 and spread.all() else float("nan"),
    }


def measure(predicted: NDArray[Any], rows: Encoded, encoding: Encoding, config: Config) -> dict[str, float]:
    """Returns the figures of predictions, probabilities or numbers in the data's units, in the task's order."""
    found = (class_figures if encoding.classes else number_figures)(predicted, rows, encoding, config)
    task = config.task.task
    return {name: found[name] for name in (*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task])}


def baselines(rows: Encoded, encoding: Encoding, config: Config) -> dict[str, dict[str, float]]:
    """Measures what needs no training: the classes' shares in the training rows, mean and median, or the last values.

    Args:
      rows: Rows with what is to be predicted.
      encoding: What the training rows say.
      config: Says the task.
    """
    count = len(np.asarray(rows.targets))
    if config.task.task == "next":
        return {
            name: measure(predicted, rows, encoding, config) for name, predicted in _from_before(rows, encoding).items()
        }
    if config.task.task == "regress":
        constants = {"training_mean": encoding.target_means, "training_median": encoding.target_medians}
    else:
        shares = np.array(encoding.class_counts) / sum(encoding.class_counts)
        constants = {"most_frequent": tuple(shares)}
    return {
        name: measure(np.tile(np.array(constant), (count, 1)), rows, encoding, config)
        for name, constant in constants.items()
    }


def _from_before(rows: Encoded, encoding: Encoding) -> dict[str, NDArray[np.float64]]:
    """Returns the value before, that value plus the step that led to it, and the mean of the training rows."""
    assert rows.before is not None
    latest, earlier = np.moveaxis(encoding.targets.denormalize(rows.before), 1, 0)
    step = np.where(np.isnan(earlier), 0.0, latest - earlier)
    mean = np.tile(np.array(encoding.target_means), (len(latest), 1))
    return {"repeat_last": latest, "continue_step": latest + step, "training_mean": mean}


def interval_of(errors: NDArray[Any], groups: NDArray[Any], *, are_named: bool) -> dict[str, Any]:
    """Returns what `mean_error_interval` does; with named groups it says, as "drawn", that these were drawn."""
    return mean_error_interval(errors, groups) | ({"drawn": "groups"} if are_named else {})


def judge_predictions(
    predicted: NDArray[Any],
    rows: Encoded,
    encoding: Encoding,
    *,
    figure: str,
    figures: dict[str, float],
    groups: NDArray[Any],
    are_named: bool = False,
    against: dict[str, dict[str, float]],
) -> Verdict:
    """Judges predictions.

    Args:
      predicted: As `measure` takes them.
      rows: What they were predicted from.
      encoding: The classes, or the targets' units.
      figure: The name of the main figure.
      figures: The predictions' own.
      groups: (rows,): rows of the same number are drawn together.
      are_named: Whether the groups are those of a column; else rows of a group hold the same.
      against: The baselines' figures.
    """
    each = _each(predicted, rows, encoding)
    if rows.every:
        groups = np.repeat(groups, rows.lengths)
    interval = interval_of(each, groups, are_named=are_named)
    others = {baseline: found[figure] for baseline, found in against.items()}
    is_higher_better = figure in HIGHER_IS_BETTER
    compared = compare_with_baselines(figures[figure], others, figure=figure, higher_is_better=is_higher_better)
    notes = [describe_interval(interval, figure=figure), compared["sentence"]]
    if encoding.classes:
        unseen = int((np.asarray(rows.targets) < 0).sum())
        if unseen:
            what = "steps" if rows.every else "rows"
            notes.append(f"{unseen:,} {what} have a class that no training row has: they count as wrong")
    return Verdict(interval, compared, notes)


def _each(predicted: NDArray[Any], rows: Encoded, encoding: Encoding) -> NDArray[np.float64]:
    """Returns what the main figure is the mean of."""
    targets = np.asarray(rows.targets)
    if encoding.classes:
        return (predicted.argmax(axis=1) == targets).astype(np.float64)
    return np.abs(predicted - encoding.targets.denormalize(targets)).mean(axis=1)
