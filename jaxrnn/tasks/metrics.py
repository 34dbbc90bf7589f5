"""Figures of merit as (sum, weight) pairs, so that batches of any size add up; divided at the very end.

All of them are about the last value of a row, predicted from the values before it, in the data's own units; only the
loss is what was minimised, in normalised units. Everything here works on NumPy and on JAX arrays alike.
"""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HALF = 0.5


class MetricSums(NamedTuple):
    """Sums over rows (of the loss: over targets), and what to divide them by.

    Attributes:
      loss: Sum of the loss.
      loss_weight: What to divide it by.
      rows: What the task's figures are made of, a tree of arrays. Of the next value (5,): sums of the relative,
        absolute and squared errors, of those within half a unit, and of the rows; or (5, rows of a batch), summed up
        over batches place by place, which leaves the last sum to the very end.
      lost: (2,): what rounding has taken from `loss` and `loss_weight`: hundreds of millions of targets, added batch by
        batch in float32, would be wrong by a tenth of a percent and more.
    """

    loss: Any
    loss_weight: Any
    rows: Any
    lost: Any = 0.0

    @classmethod
    def zero(cls, num_rows: int | None = None) -> "MetricSums":
        """Returns sums of nothing; of batches of `num_rows` rows, place by place."""
        shape = (5,) if num_rows is None else (5, num_rows)
        return cls(np.float32(0), np.float32(0), np.zeros(shape, np.float32), np.zeros(2, np.float32))

    def __add__(self, other: "MetricSums") -> "MetricSums":  # type: ignore[override]
        before = _pair(self.lost + other.lost)
        loss, loss_lost = _add(self.loss, other.loss, before[0])
        weight, weight_lost = _add(self.loss_weight, other.loss_weight, before[1])
        stack = np.stack if isinstance(loss_lost, np.generic | float) else jnp.stack
        rows = jax.tree.map(operator.add, self.rows, other.rows)
        return MetricSums(loss, weight, rows, stack([loss_lost, weight_lost]))

    def mean_loss(self) -> Any:
        """Returns the loss, averaged over its weight."""
        loss_lost, weight_lost = _pair(self.lost)
        return (self.loss + loss_lost) / (self.loss_weight + weight_lost)

    def compute(self) -> dict[str, Any]:
        """Returns loss, accuracy (the tutorial's: 1 - mean relative error), mae, rmse, within_half."""
        sums = self.rows if self.rows.ndim == 1 else self.rows.sum(axis=1)
        relative, absolute, squared, within_half, count = sums
        return {
            "loss": self.mean_loss(),
            "accuracy": 1 - relative / count,
            "mae": absolute / count,
            "rmse": (squared / count) ** 0.5,
            "within_half": within_half / count,
        }


def _pair(lost: Any) -> Any:
    return lost if np.ndim(lost) else (lost, lost)


def _add(a: Any, b: Any, lost: Any) -> tuple[Any, Any]:
    """Adds numbers, and what rounding took from earlier sums; returns the sum, and what rounding took from it.

    Source: Knuth, "The Art of Computer Programming", volume 2, 4.2.2, theorem B.
    """

    def add_two(a: Any, b: Any) -> tuple[Any, Any]:
        total = a + b
        part = total - a
        return total, (a - (total - part)) + (b - part)

    total, taken = add_two(a, b)
    return add_two(total, taken + lost)


def measure_rows(predicted: Any, actual: Any, weight: Any, *, accuracy_epsilon: float) -> Any:
    """Measures the prediction of every row's last value.

    Args:
      predicted: (batch,), in the data's units.
      actual: (batch,), in the data's units.
      weight: (batch,): 1 for a row that counts, 0 for one that fills a batch.
      accuracy_epsilon: What keeps the relative error finite at 0, in the data's units.

    Returns:
      (5, batch): what `MetricSums.rows` sums up.

    Raises:
      ValueError: The shapes differ.
    """
    if not predicted.shape == actual.shape == weight.shape:  # (rows, 1) - (rows,) would broadcast, wrongly
        raise ValueError(f"measure: got predicted {predicted.shape}, actual {actual.shape}, weight {weight.shape}")
    error = abs(predicted - actual)
    relative = error / (abs(actual) + accuracy_epsilon)
    stack = np.stack if isinstance(error, np.ndarray) else jnp.stack
    return weight[None] * stack([relative, error, error * error, error <= HALF, weight == weight])


def measure(
    predicted: Any,
    actual: Any,
    weight: Any,
    *,
    loss: tuple[Any, Any],
    accuracy_epsilon: float,
) -> MetricSums:
    """Sums what `measure_rows` measures; its arguments, and the sum and weight of the loss, in normalised units."""
    each = measure_rows(predicted, actual, weight, accuracy_epsilon=accuracy_epsilon)
    return MetricSums(loss[0], loss[1], each.sum(axis=1))


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
