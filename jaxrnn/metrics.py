"""Figures of merit as (sum, weight) pairs, so that batches of any size add up; divided at the very end.

All of them are about the last value of a row, predicted from the values before it, in the data's own units; only the
loss is what was minimised, in normalised units. Everything here works on NumPy and on JAX arrays alike.
"""

from typing import Any, NamedTuple

import numpy as np

HALF = 0.5
HIGHER_IS_BETTER = ("accuracy", "within_half")


class MetricSums(NamedTuple):
    """Sums over rows (of the loss: over targets), and what to divide them by."""

    loss: Any
    loss_weight: Any
    relative_error: Any
    absolute_error: Any
    squared_error: Any
    within_half: Any
    rows: Any

    @classmethod
    def zero(cls) -> "MetricSums":
        return cls(*[np.float32(0)] * len(cls._fields))

    def __add__(self, other: "MetricSums") -> "MetricSums":  # type: ignore[override]
        return MetricSums(*[a + b for a, b in zip(self, other, strict=True)])

    def compute(self) -> dict[str, Any]:
        """Returns loss, accuracy (the tutorial's: 1 - mean relative error), mae, rmse, within_half."""
        return {
            "loss": self.loss / self.loss_weight,
            "accuracy": 1 - self.relative_error / self.rows,
            "mae": self.absolute_error / self.rows,
            "rmse": (self.squared_error / self.rows) ** 0.5,
            "within_half": self.within_half / self.rows,
        }


def measure(
    predicted: Any,
    actual: Any,
    weight: Any,
    *,
    loss: tuple[Any, Any],
    accuracy_epsilon: float,
) -> MetricSums:
    """Measures predictions of rows' last values.

    Args:
      predicted: (batch,), in the data's units.
      actual: (batch,), in the data's units.
      weight: (batch,): 1 for a row that counts, 0 for one that fills a batch.
      loss: Sum and weight of the loss, in normalised units.
      accuracy_epsilon: What keeps the relative error finite at 0, in the data's units.

    Returns:
      The sums.

    Raises:
      ValueError: The shapes differ.
    """
    if not predicted.shape == actual.shape == weight.shape:  # (rows, 1) - (rows,) would broadcast, wrongly
        raise ValueError(f"measure: got predicted {predicted.shape}, actual {actual.shape}, weight {weight.shape}")
    error = abs(predicted - actual)
    return MetricSums(
        loss=loss[0],
        loss_weight=loss[1],
        relative_error=(weight * error / (abs(actual) + accuracy_epsilon)).sum(),
        absolute_error=(weight * error).sum(),
        squared_error=(weight * error * error).sum(),
        within_half=(weight * (error <= HALF)).sum(),
        rows=weight.sum(),
    )


def elementwise_loss(kind: str, predicted: Any, targets: Any) -> Any:
    """Returns the loss of every prediction: "mse", "mae", or "huber" (quadratic up to 1, then linear)."""
    error = abs(predicted - targets)
    if kind == "mse":
        return error * error
    if kind == "mae":
        return error
    quadratic = error.clip(max=1.0)
    return quadratic * (error - 0.5 * quadratic)


def as_floats(figures: dict[str, Any]) -> dict[str, float]:
    """Returns the figures as Python numbers."""
    return {name: float(value) for name, value in figures.items()}


def spread_over_members(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the mean and the sample standard deviation of figures of an ensemble, each of (members,)."""
    columns = {name: np.asarray(values, np.float64) for name, values in figures.items()}
    return {
        "mean": {name: float(values.mean()) for name, values in columns.items()},
        "std": {name: float(values.std(ddof=1)) if values.size > 1 else 0.0 for name, values in columns.items()},
    }
