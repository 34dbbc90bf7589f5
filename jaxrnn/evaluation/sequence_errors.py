"""How predictions of sequences go wrong: classes taken for each other, how sure they are, how far each one is off."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoded
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation
from jaxrnn.evaluation.trained_model import TrainedModel

NUM_BINS = 10


def reliability(probabilities: NDArray[Any], is_right: NDArray[np.bool_]) -> tuple[NDArray[Any], ...]:
    """Compares how sure predictions are with how often they are right.

    Args:
      probabilities: (rows,) of the classes that were chosen.
      is_right: (rows,): whether they were the true ones.

    Returns:
      ``(mean probability, share that is right, rows)`` of the bins of equal width that hold any rows.
    """
    bins = np.minimum((probabilities * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    held = counts > 0
    sure = np.bincount(bins, probabilities, NUM_BINS)[held] / counts[held]
    right = np.bincount(bins, is_right.astype(np.float64), NUM_BINS)[held] / counts[held]
    return sure, right, counts[held]


def error_of_each(evaluation: SequenceEvaluation, model: TrainedModel) -> NDArray[np.float64]:
    """Returns how wrong each sequence is: 1 - the true class's probability, the share of wrong steps, or the error."""
    rows, predicted, targets = evaluation.rows, evaluation.predicted, np.asarray(evaluation.rows.targets)
    if not model.classes:
        assert model.encoding is not None
        scales = model.encoding.targets.scales
        return np.abs((predicted - model.encoding.targets.offsets) / scales - targets).mean(axis=1)
    if not rows.every:
        return 1 - np.where(targets >= 0, predicted[np.arange(len(predicted)), targets], 0)
    wrong = np.concatenate([[0], np.cumsum(predicted.argmax(axis=1) != targets)])
    return np.diff(wrong[rows.offsets]) / np.maximum(rows.lengths, 1)


def count_confusions(probabilities: np.ndarray, rows: Encoded, num_classes: int) -> np.ndarray:
    """Counts how many of each true class were taken for each other: (classes, classes), true ones first.

    Args:
      probabilities: (rows or steps, classes).
      rows: What they were predicted from; classes that training has not seen are left out.
      num_classes: How many there are.
    """
    targets = np.asarray(rows.targets)
    is_known = targets >= 0
    pairs = targets[is_known].astype(np.int64) * num_classes + probabilities[is_known].argmax(axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
