"""Figures of predicted next values."""

from typing import Any, NamedTuple

import numpy as np

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
