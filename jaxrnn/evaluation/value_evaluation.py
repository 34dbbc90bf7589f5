"""Figures of predicted next values."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.tasks import metrics
from jaxrnn.tasks.metrics import spread_over_members


class Evaluation(NamedTuple):
    """Figures, and what they are made from.

    Attributes:
      figures: loss, accuracy, mae, rmse, within_half; of an ensemble those of its mean prediction.
      predicted: (rows,) predictions of the last values, in the data's units.
      actual: (rows,) the last values.
      members: Figures of each member by itself; of a single model its own.
    """

    figures: dict[str, float]
    predicted: np.ndarray
    actual: np.ndarray
    members: list[dict[str, float]]

    def __getitem__(self, key: Any) -> Any:
        """Returns a figure by its name, or a field by its number."""
        return self.figures[key] if isinstance(key, str) else tuple.__getitem__(self, key)

    def spread(self) -> dict[str, dict[str, float]]:
        """Returns the "mean" and the sample standard deviation, "std", of the members' figures."""
        return spread_over_members({name: [member[name] for member in self.members] for name in self.figures})


def predict_untrained(
    rows: Ragged, normalizer: Normalizer, loss: str
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any], tuple[Any, int]]]:
    """Yields the predictions that need no training: their names, they, what was to be predicted, and (loss, rows).

    Args:
      rows: In the data's units, of at least two values each.
      normalizer: Takes values to the units of the loss.
      loss: Its name.
    """
    ends = rows.offsets[1:]
    before, actual = rows.values[ends - 2], rows.values[ends - 1]
    step_known = rows.lengths >= 3
    step = np.where(step_known, before - rows.values[np.maximum(ends - 3, 0)], 0.0)
    for name, predicted in (("repeat_last", before), ("continue_step", before + step)):
        losses = metrics.elementwise_loss(loss, normalizer.normalize(predicted), normalizer.normalize(actual))
        yield name, predicted, actual, (losses.sum(), len(rows))
